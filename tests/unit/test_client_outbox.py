"""The outbox against a server by script, and against the real application: what becomes of every event."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ratchet_client import ClientError, Limits, Outbox, OutboxFull, Refusal
from ratchet_client.spill import SET_ASIDE

from tests.unit.client_bridge import Bridge
from tests.unit.http_door import Site

CLIENT = Path(__file__).parents[2] / "api" / "client"
Handler = Callable[[httpx.Request], httpx.Response]
QUICK = Limits(batch_age_s=0.01, longest_wait_s=0.05, full_wait_s=0.05)
PROBLEM = {"type": "urn:ratchet:problem:too-large", "detail": "expected less"}


class Server:
    """Answers by script, the last answer for ever; keeps what was accepted, by id, and every request."""

    def __init__(self, *script: Handler) -> None:
        self.script: Sequence[Handler] = script
        self.requests: list[list[dict[str, Any]]] = []
        self.times: list[float] = []
        self.stored: list[str] = []

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        events = json.loads(request.content)
        self.requests.append(events)
        self.times.append(time.monotonic())
        answer = (self.script or (accept,))[min(len(self.requests), len(self.script) or 1) - 1](request)
        if answer.status_code in (202, 207, 422, 503) and "results" in answer.json():
            self.stored += [
                result["id"] for result in answer.json()["results"] if result["status"] == "accepted"
            ]
        return answer


def results(request: httpx.Request, of: Mapping[str, str], code: int = 207, **headers: str) -> httpx.Response:
    """An answer by event: the status of these ids, accepted for all others."""
    found = [
        {
            "index": index,
            "id": event["id"],
            "source": event["source"],
            "status": of.get(event["id"], "accepted"),
            "reason": "too_old",
        }
        for index, event in enumerate(json.loads(request.content))
    ]
    return httpx.Response(code, headers=headers, json={"results": found})


def accept(request: httpx.Request) -> httpx.Response:
    return results(request, {}, 202)


def status(code: int, body: object = None, **headers: str) -> Handler:
    return lambda _request: httpx.Response(code, headers=headers, json=body or {"detail": f"no {code}"})


def cut_off(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def only(*of: str) -> Handler:
    """413 for every request but those that hold one event, or one of these alone is too large, too."""

    def handle(request: httpx.Request) -> httpx.Response:
        ids = [event["id"] for event in json.loads(request.content)]
        return httpx.Response(413, json=PROBLEM) if len(ids) > 2 or set(ids) & set(of) else accept(request)

    return handle


def events(count: int, name: str = "e") -> list[dict[str, Any]]:
    return [
        {"type": "ratchet.query.asked.v1", "id": f"{name}{n}", "data": {"query_id": f"q{n}", "text": "x"}}
        for n in range(count)
    ]


def ids(count: int, name: str = "e") -> list[str]:
    return [f"{name}{n}" for n in range(count)]


@pytest.fixture
def make() -> Iterator[Callable[..., Outbox]]:
    made: list[Outbox] = []

    def outbox(server: Server, **options: Any) -> Outbox:
        options = {"limits": QUICK, **options}
        made.append(Outbox("http://ratchet", "k", transport=server.transport(), **options))
        return made[-1]

    yield outbox
    for one in made:
        one.close(0)


Make = Callable[..., Outbox]


def record_until_full(outbox: Outbox, many: Sequence[dict[str, Any]]) -> tuple[int, OutboxFull]:
    """How many found room, and what the first said that did not."""
    for number, event in enumerate(many):
        try:
            outbox.record([event])
        except OutboxFull as full:
            return number, full
    raise AssertionError("all found room")


def test_it_returns_at_once_and_sends_in_batches(make: Make) -> None:
    server = Server()
    outbox = make(server, limits=Limits(batch_events=100, batch_age_s=0.05))
    assert outbox.record(events(250)) == tuple(ids(250))
    assert outbox.flush() == 0
    assert server.stored == ids(250)
    assert [len(request) for request in server.requests] == [100, 100, 50]
    figures = outbox.figures()
    assert (figures.recorded, figures.accepted, figures.pending, figures.trouble) == (250, 250, 0, "")


def test_without_a_flush_a_batch_goes_by_its_age(make: Make) -> None:
    server = Server()
    outbox = make(server, limits=Limits(batch_age_s=0.05))
    outbox.record(events(3))
    deadline = time.monotonic() + 5
    while outbox.figures().pending and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (server.stored, len(server.requests)) == (ids(3), 1)


@pytest.mark.parametrize("spilled", [False, True])
@pytest.mark.parametrize("durable", [False, True])
def test_every_attempt_has_the_same_ids_until_it_passes(
    make: Make, tmp_path: Path, spilled: bool, durable: bool
) -> None:
    server = Server(cut_off, status(503), status(502), status(429), accept)
    options = {"spill": tmp_path, "durable": durable} if spilled or durable else {}
    outbox = make(server, **options)
    sent = outbox.query("how do I pay", user="u")
    assert outbox.flush() == 0
    assert len(server.requests) == 5
    assert all(request == server.requests[0] for request in server.requests)
    assert server.stored == [sent.id]
    assert [path.name for path in tmp_path.iterdir()] == []


def test_retry_after_is_kept_to(make: Make) -> None:
    server = Server(status(503, **{"retry-after": "1"}), accept)
    outbox = make(server)
    outbox.record(events(1))
    assert outbox.flush() == 0
    assert server.times[1] - server.times[0] >= 1


def test_of_an_unconfirmed_request_only_the_unconfirmed_go_again(make: Make) -> None:
    told: list[str] = []
    server = Server(lambda request: results(request, {"e1": "unconfirmed", "e2": "rejected"}, 503), accept)
    outbox = make(server, on_refused=lambda refusal, _event: told.append(refusal.id))
    outbox.record(events(4))
    assert outbox.flush() == 0
    assert [[event["id"] for event in request] for request in server.requests] == [ids(4), ["e1"]]
    assert (told, sorted(server.stored)) == (["e2"], ["e0", "e1", "e3"])


def test_what_is_refused_is_told_and_never_sent_again(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[Refusal, Mapping[str, Any]]] = []
    server = Server(lambda request: results(request, {"e1": "rejected"}))
    outbox = make(server, on_refused=lambda refusal, event: told.append((refusal, event)))
    outbox.record(events(3))
    assert outbox.flush() == 0
    ((refusal, event),) = told
    assert (refusal.id, refusal.reason, event["data"]) == ("e1", "too_old", {"query_id": "q1", "text": "x"})
    assert len(server.requests) == 1
    assert outbox.figures().refused == 1
    quiet = make(Server(lambda request: results(request, {"e0": "rejected"}, 422)))
    quiet.record(events(1))
    assert quiet.flush() == 0
    assert "'e0'" in caplog.text
    assert "too_old" in caplog.text


def test_a_callback_that_fails_stops_nothing(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_refusal: Refusal, _event: Mapping[str, Any]) -> None:
        raise KeyError("oops")

    server = Server(lambda request: results(request, {"e0": "rejected"}))
    outbox = make(server, on_refused=fail)
    outbox.record(events(2))
    assert outbox.flush() == 0
    assert "on_refused failed" in caplog.text


def test_a_request_that_is_too_large_is_halved_and_an_event_alone_is_set_aside(
    make: Make, tmp_path: Path
) -> None:
    told: list[str] = []
    server = Server(only("e5"))
    outbox = make(server, spill=tmp_path, on_refused=lambda refusal, _: told.append(refusal.reason))
    outbox.record(events(11))
    assert outbox.flush() == 0
    assert server.stored == [name for name in ids(11) if name != "e5"]
    assert told == ["too_large"]
    outbox.close()
    (aside,) = tmp_path.iterdir()
    assert aside.name == SET_ASIDE
    assert json.loads(aside.read_bytes())["id"] == "e5"


@pytest.mark.parametrize("code", [401, 403, 404, 500, 200, 302])
@pytest.mark.parametrize("spilled", [False, True])
def test_a_wrong_key_or_url_loses_nothing_and_is_said_once(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int, spilled: bool
) -> None:
    server = Server(*[status(code)] * 4, accept)
    outbox = make(server, **({"spill": tmp_path} if spilled else {}))
    with caplog.at_level(logging.WARNING, "ratchet_client"):
        outbox.record(events(3))
        assert outbox.flush() == 0
    assert len(server.requests) == 5
    assert sorted(server.stored) == ids(3)
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in said] == [
        f"events are kept and not sent until this is mended: HTTP {code}: no {code}"
    ]


def test_a_wrong_key_shows_and_what_it_kept_goes_out_with_the_right_one(tmp_path: Path) -> None:
    site = Site()
    wrong = Outbox("http://ratchet", "guess", spill=tmp_path, limits=QUICK, transport=Bridge(site))
    sent = wrong.query("how do I pay")
    assert wrong.flush(0.3) == 1
    assert "unknown or revoked" in wrong.figures().trouble
    assert wrong.close(0) == 1
    assert not site.events()
    with Outbox("http://ratchet", "acme-key", spill=tmp_path, limits=QUICK, transport=Bridge(site)) as right:
        assert right.flush() == 0
    assert [event.id for event in site.events()] == [sent.id]


def test_a_bad_request_of_one_event_is_told_but_not_of_another_server(make: Make, tmp_path: Path) -> None:
    told: list[str] = []
    server = Server(status(400, {"type": "urn:ratchet:problem:unparseable", "detail": "deep"}))
    outbox = make(server, on_refused=lambda refusal, _: told.append(f"{refusal.id} {refusal.reason}"))
    outbox.record(events(3))
    assert outbox.flush() == 0
    assert told == ["e0 http_400", "e1 http_400", "e2 http_400"]
    other = make(Server(status(400)))
    other.record(events(3))
    assert other.flush(0.2) == 3


@pytest.mark.parametrize("when_full", ["block", "raise", "drop"])
def test_what_happens_at_the_bound_is_a_choice(make: Make, when_full: str) -> None:
    server = Server(cut_off)
    limits = Limits(memory_bytes=1000, full_wait_s=0.1, longest_wait_s=0.05, batch_age_s=0.01)
    outbox = make(server, when_full=when_full, limits=limits)
    many = events(60)
    start = time.monotonic()
    if when_full == "drop":
        for event in many:
            outbox.record([event])
        figures = outbox.figures()
        assert figures.recorded == 60
        assert figures.dropped + figures.pending == 60
        assert figures.dropped > 40
        return
    recorded, full = record_until_full(outbox, many)
    assert (time.monotonic() - start >= 0.1) == (when_full == "block")
    assert "no room" in str(full)
    assert [event["id"] for event in full.events] == [many[recorded]["id"]]
    assert outbox.figures().pending == recorded


def test_who_waits_for_room_goes_on_when_there_is_some(make: Make) -> None:
    server = Server(*[cut_off] * 3, accept)
    outbox = make(server, limits=Limits(memory_bytes=1000, full_wait_s=10, longest_wait_s=0.05))
    for event in events(60):
        outbox.record([event])
    assert outbox.flush() == 0
    assert sorted(set(server.stored)) == sorted(ids(60))
    assert len(server.stored) == 60


def test_memory_that_is_full_goes_on_in_the_folder(make: Make, tmp_path: Path) -> None:
    server = Server(cut_off)
    limits = Limits(memory_bytes=1000, longest_wait_s=0.05, full_wait_s=0.05, spill_bytes=20_000)
    outbox = make(server, spill=tmp_path, limits=limits)
    recorded, _ = record_until_full(outbox, events(1000))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 19_000 < size <= 20_000
    assert outbox.figures().spill_bytes == size
    server.script = (accept,)
    assert outbox.flush() == 0
    assert sorted(set(server.stored)) == sorted(ids(recorded))


def test_close_leaves_the_rest_in_the_folder_for_the_next(make: Make, tmp_path: Path) -> None:
    away = Server(cut_off)
    first = make(away, spill=tmp_path)
    first.record(events(5))
    assert first.close(0.1) == 5
    with pytest.raises(ClientError, match="closed"):
        first.record(events(1))
    server = Server()
    second = make(server, spill=tmp_path)
    # It needs no new event to send what it found.
    assert second.flush() == 0
    assert server.stored == ids(5)
    assert not list(tmp_path.iterdir())


def test_close_sends_what_it_can(make: Make) -> None:
    server = Server(status(503), accept)
    outbox = make(server, limits=Limits(batch_age_s=60))
    outbox.record(events(3))
    assert outbox.close() == 0
    assert server.stored == ids(3)


def test_without_a_folder_what_is_lost_is_said(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    outbox = make(Server(cut_off))
    outbox.record(events(3))
    assert outbox.close(0.05) == 3
    assert "3 events are lost" in caplog.text


def test_close_in_the_middle_of_a_segment_keeps_only_the_rest(make: Make, tmp_path: Path) -> None:
    limits = Limits(batch_events=10, longest_wait_s=0.05)
    outbox = make(Server(accept, cut_off), spill=tmp_path, durable=True, limits=limits)
    outbox.record(events(30))
    assert outbox.flush(0.3) == 20
    assert outbox.close(0) == 20
    server = Server()
    assert make(server, spill=tmp_path).flush() == 0
    assert server.stored == ids(30)[10:]


def test_a_folder_that_takes_nothing_is_no_end_while_memory_has_room(make: Make, tmp_path: Path) -> None:
    server = Server(cut_off, cut_off, accept)
    outbox = make(server, spill=tmp_path, limits=Limits(spill_bytes=10, longest_wait_s=0.05))
    outbox.record(events(3))
    assert outbox.flush() == 0
    assert server.stored == ids(3)


def test_what_is_no_json_is_refused_before_anything_is_recorded(make: Make) -> None:
    outbox = make(Server())
    with pytest.raises(ClientError, match="cannot be written as JSON"):
        outbox.record([*events(2), {"type": "t", "id": "bad", "data": {"value": float("nan")}}])
    assert outbox.figures().recorded == 0
    with pytest.raises(ClientError, match="spill"):
        Outbox("http://ratchet", "k", durable=True)
    for url, key in (
        ("ftp://ratchet", "k"),
        ("ratchet", "k"),
        ("http://ratchet", "kéy"),
        ("http://r", "k\n"),
    ):
        with pytest.raises(ClientError, match="expected a"):
            Outbox(url, key)


def test_many_threads_record_and_each_event_is_there_once(make: Make, tmp_path: Path) -> None:
    server = Server(accept, status(503), accept, cut_off, accept)
    limits = Limits(batch_events=50, batch_age_s=0.01, memory_bytes=8_000, longest_wait_s=0.02)
    outbox = make(server, spill=tmp_path, limits=limits)

    def record(name: str) -> None:
        for event in events(100, name):
            outbox.record([event])

    threads = [threading.Thread(target=record, args=(f"t{n}-",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outbox.flush() == 0
    assert sorted(server.stored) == sorted(name for n in range(8) for name in ids(100, f"t{n}-"))
    figures = outbox.figures()
    assert (figures.recorded, figures.accepted, figures.pending) == (800, 800, 0)


@given(
    st.lists(st.sampled_from([accept, cut_off, status(503), status(401)]), max_size=12),
    st.sampled_from([None, 700, 100_000]),
    st.booleans(),
    st.sampled_from([1, 7, 500]),
)
@settings(max_examples=25)
def test_what_one_thread_records_is_sent_in_its_order(
    script: list[Handler], spill_bytes: int | None, durable: bool, batch_events: int
) -> None:
    """So the later of two texts of one document stays the later one."""
    server = Server(*script, accept)
    with tempfile.TemporaryDirectory() as folder:
        limits = Limits(
            batch_events=batch_events,
            batch_age_s=0.001,
            memory_bytes=900,
            spill_bytes=spill_bytes or 1,
            segment_bytes=300,
            full_wait_s=10,
            longest_wait_s=0.002,
        )
        durable = durable and spill_bytes is not None
        spill = None if spill_bytes is None else folder
        with Outbox(
            "http://ratchet", "k", spill=spill, durable=durable, limits=limits, transport=server.transport()
        ) as outbox:
            for event in events(40):
                outbox.record([event])
            assert outbox.flush() == 0
        assert server.stored == ids(40)
        assert not list(Path(folder).iterdir())


def test_a_forked_child_sends_its_own_events_and_not_its_parents(tmp_path: Path) -> None:
    """In a process of its own: a fork of the test runner would carry the runner's threads."""
    done = run_child(
        """
import json, os, sys
import httpx
from ratchet_client import Limits, Outbox

def accept(request):
    events = json.loads(request.content)
    with open(sys.argv[2], "a") as file:
        file.writelines(f"{os.getpid()} {event['id']}\\n" for event in events)
    results = [{"index": n, "id": e["id"], "status": "accepted"} for n, e in enumerate(events)]
    return httpx.Response(202, json={"results": results})

outbox = Outbox("http://ratchet", "k", spill=sys.argv[1], limits=Limits(batch_age_s=60),
                transport=httpx.MockTransport(accept))
outbox.record([{"id": "p0"}])
outbox.flush()
outbox.record([{"id": "p1"}])
child = os.fork()
outbox.record([{"id": "c1" if child == 0 else "p2"}])
if child == 0:
    sys.exit(outbox.figures().recorded)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
print(os.getpid(), child)
""",
        tmp_path / "spill",
        tmp_path / "sent",
    )
    parent, child = done.split()
    lines = (tmp_path / "sent").read_text().split("\n")[:-1]
    assert sorted(lines) == sorted([f"{parent} p0", f"{parent} p1", f"{parent} p2", f"{child} c1"])
    assert not list((tmp_path / "spill").iterdir())


def run_child(code: str, *args: object) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, args)],
        env={"PYTHONPATH": str(CLIENT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_end_of_the_interpreter_flushes(tmp_path: Path) -> None:
    code = """
import json, sys
import httpx
from ratchet_client import Limits, Outbox

def accept(request):
    events = json.loads(request.content)
    with open(sys.argv[1], "a") as file:
        file.writelines(f"{event['id']}\\n" for event in events)
    results = [{"index": n, "id": e["id"], "status": "accepted"} for n, e in enumerate(events)]
    return httpx.Response(202, json={"results": results})

def main():
    transport = httpx.MockTransport(accept)
    outbox = Outbox("http://ratchet", "k", limits=Limits(batch_age_s=60), transport=transport)
    outbox.record({"id": f"e{n}"} for n in range(3))

main()
"""
    run_child(code, tmp_path / "sent")
    assert (tmp_path / "sent").read_text().split() == ids(3)


async def test_recording_from_asyncio_does_not_stop_the_loop(make: Make, tmp_path: Path) -> None:
    server = Server(cut_off)
    limits = Limits(memory_bytes=500, full_wait_s=0.3, longest_wait_s=0.05)
    outbox = make(server, limits=limits)
    laps = 0

    async def count() -> None:
        nonlocal laps
        while True:
            await asyncio.sleep(0.01)
            laps += 1

    counting = asyncio.create_task(count())
    many = [{**event, "data": {"text": "x" * 400}} for event in events(2)]
    await outbox.record_async(many[:1])
    with pytest.raises(OutboxFull):
        await outbox.record_async(many[1:])
    counting.cancel()
    assert laps > 5
    kept = make(Server(), spill=tmp_path, durable=True)
    assert await kept.record_async(events(3)) == tuple(ids(3))
    assert await asyncio.to_thread(kept.flush) == 0


def test_an_error_of_our_own_loses_nothing(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError("a defect")

    server = Server(broken, accept)
    outbox = make(server)
    outbox.record(events(2))
    assert outbox.flush() == 0
    assert server.stored == ids(2)
    assert "goes on after an error" in caplog.text


def test_each_kind_has_a_source_of_its_own_unless_the_application_names_one(make: Make) -> None:
    site = Site()
    with Outbox("http://ratchet", "acme-key", transport=Bridge(site)) as outbox:
        asked = outbox.query("how", id="r-1")
        outbox.retrieval(asked.query_id, ["d"], id="r-1")
        outbox.answer(asked.query_id, "so", id="r-1")
        outbox.click(asked.query_id, "d", id="r-1")
        outbox.retract(asked.query_id, "r-1", id="r-1")
        outbox.record([{"type": "ratchet.query.asked.v1", "data": {"query_id": "q", "text": "x"}}])
    found = site.events()
    assert len({event.identity for event in found}) == 6
    assert [event.source.removeprefix("urn:ratchet:client") for event in found] == [
        ":query.asked", ":retrieval.served", ":answer.given", "", ":feedback.retracted", ":query.asked",
    ]  # fmt: skip
    retraction = json.loads(bytes(found[4].data))
    assert (retraction["feedback_source"], retraction["feedback_id"]) == ("urn:ratchet:client", "r-1")
