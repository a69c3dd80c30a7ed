"""Rejected entries over HTTP: who may, what is asked wrongly, what is sent again and what is not."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from api.http.ports import RejectedEntries
from schemas.codec import decode_payload
from schemas.envelope import Event
from schemas.errors import Retryable
from schemas.lifecycle import RejectionDiscarded, RejectionReplayed
from schemas.rejections import EntryAnswer, EntryCount, EntryFilter, EventRejected, RejectedEntry
from tests.unit.http_door import ACME, ADMIN, NOW, OTHER, Site, query


class LogRejected:
    """`RejectedEntries` over the log of a site: what was rejected and not answered."""

    def __init__(self) -> None:
        self.site: Site | None = None

    def _events(self, tenant: str, topic: str) -> list[Event]:
        assert self.site is not None
        return [event for event in self.site.events(topic) if event.tenant == tenant]

    def _kept(self, tenant: str) -> dict[str, tuple[RejectedEntry, bytes]]:
        found: dict[str, tuple[RejectedEntry, bytes]] = {}
        for event in self._events(tenant, "rejected"):
            payload = decode_payload(event)
            assert isinstance(payload, EventRejected)
            times = found[payload.entry_id][0].times + 1 if payload.entry_id in found else 1
            entry = RejectedEntry(
                entry_id=payload.entry_id,
                reason=payload.reason,
                message=payload.message,
                field=payload.field,
                event_source=payload.event_source,
                event_id=payload.event_id,
                event_type=payload.event_type,
                door=event.door,
                received_time=event.recordedtime,
                last_received_time=event.recordedtime,
                times=times,
                original_length=payload.original_length,
                headers=payload.headers,
                replayable=payload.replayable,
            )
            found[payload.entry_id] = entry, payload.original
        for answer in self._answers(tenant):
            found.pop(answer.entry_id, None)
        return found

    def _answers(self, tenant: str) -> list[EntryAnswer]:
        found = []
        for event in self._events(tenant, "lifecycle"):
            payload = decode_payload(event)
            if isinstance(payload, RejectionReplayed):
                found.append(
                    EntryAnswer(
                        entry_id=payload.entry_id,
                        replayed=True,
                        event_source=payload.event_source,
                        event_id=payload.event_id,
                        received_time=event.recordedtime,
                    )
                )
            elif isinstance(payload, RejectionDiscarded):
                found.append(
                    EntryAnswer(
                        entry_id=payload.entry_id,
                        replayed=False,
                        reason=payload.reason,
                        received_time=event.recordedtime,
                    )
                )
        return found

    async def entries(self, tenant: str, chosen: EntryFilter, limit: int) -> list[RejectedEntry]:
        passing = [
            one
            for one, _ in self._kept(tenant).values()
            if chosen.reason in ("", one.reason) and chosen.source in ("", one.event_source)
        ]
        return passing[::-1][:limit]

    async def named(self, tenant: str, ids: Sequence[str]) -> list[RejectedEntry]:
        return [one for one, _ in self._kept(tenant).values() if one.entry_id.startswith(tuple(ids))]

    async def answers(self, tenant: str, ids: Sequence[str]) -> list[EntryAnswer]:
        return [one for one in self._answers(tenant) if one.entry_id.startswith(tuple(ids))]

    async def lengths(self, tenant: str, chosen: EntryFilter, limit: int) -> list[tuple[str, int]]:
        found = (await self.entries(tenant, chosen, 10_000))[::-1]
        return [(one.entry_id, one.original_length) for one in found[:limit]]

    async def originals(self, tenant: str, ids: Sequence[str]) -> dict[str, bytes]:
        return {id_: original for id_, (_, original) in self._kept(tenant).items() if id_ in ids}

    async def counts(
        self,
        tenant: str,
        chosen: EntryFilter,
        side: Literal["reason", "source", "door", "type", "day"],
        limit: int,
    ) -> list[EntryCount]:
        found = await self.entries(tenant, chosen, 10_000)
        names = {"source": "event_source", "type": "event_type", "day": "received_time"}
        counted = Counter(str(getattr(one, names.get(side, side)))[:100] for one in found)
        return [EntryCount(value, number, number) for value, number in counted.most_common(limit)]

    async def stored(
        self, tenant: str, names: Sequence[tuple[str, str, str]]
    ) -> dict[tuple[str, str, str], tuple[str, bytes]]:
        return {
            (event.subject or "", event.source, event.id): (event.contenthash, bytes(event.data))
            for event in reversed(self._events(tenant, "interactions"))
            if (event.subject or "", event.source, event.id) in names
        }


class Away(LogRejected):
    """A store that does not answer."""

    def _kept(self, tenant: str) -> dict[str, tuple[RejectedEntry, bytes]]:
        raise Retryable("away", retry_after_s=2.0)


def site_with(rejected: LogRejected) -> Site:
    site = Site(rejected=rejected)
    rejected.site = site
    return site


@pytest.fixture
def site() -> Site:
    return site_with(LogRejected())


async def refused(site: Site, number: int = 1, **data: Any) -> str:
    """An event without a text was refused; the id of its entry."""
    bad = query(number, data={"query_id": f"q-{number}", "txt": "how", **data})
    assert (await site.send("POST", "/v1/events", bad)).status_code == 422
    return site.rejections()[-1].entry_id


MEND = {"rename": {"data.txt": "data.text"}}


async def test_list_show_try_fix_and_again(site: Site) -> None:
    entry_id = await refused(site)
    (listed,) = (await site.send("GET", "/v1/rejected")).json()["entries"]
    assert (listed["entry_id"], listed["field"]) == (entry_id, "data.txt")
    assert "original" not in listed
    shown = (await site.send("GET", f"/v1/rejected/{entry_id[:10]}")).json()
    assert shown["original"]["data"]["txt"] == "how"
    assert shown["remedy"]
    stats = (await site.send("GET", "/v1/rejected/stats?reason=unknown_field")).json()
    assert stats["reason"] == [{"value": "unknown_field", "entries": 1, "times": 1}]

    body = {"entries": [entry_id], "mend": MEND, "dry_run": True}
    tried = (await site.send("POST", "/v1/rejected/replay", body, ADMIN)).json()
    assert tried["counts"] == {"would_pass": 1}
    assert not site.events()
    done = (await site.send("POST", "/v1/rejected/replay", {**body, "dry_run": False}, ADMIN)).json()
    assert done["counts"] == {"replayed": 1}
    (event,) = site.events()
    assert (event.id, event.source, event.door, event.recordedtime) == ("e-1", "urn:app", "replay", NOW)
    (step,) = site.events("lifecycle")
    assert (step.source, step.causationid) == ("urn:ratchet:http", "urn:ratchet:key:settings")

    again = (await site.send("POST", "/v1/rejected/replay", {**body, "dry_run": False}, ADMIN)).json()
    assert again["counts"] == {"answered": 1}
    assert len(site.events()) == len(site.events("lifecycle")) == 1
    gone = await site.send("GET", f"/v1/rejected/{entry_id}")
    assert (gone.status_code, gone.json()["answers"][0]["event_id"]) == (404, "e-1")


async def test_a_filter_mends_many_and_what_does_not_pass_stays(site: Site) -> None:
    for number in range(1, 4):
        await refused(site, number)
    bad = await refused(site, 4, extra=1)
    body = {"filter": {"reason": "unknown_field"}, "mend": MEND}
    done = (await site.send("POST", "/v1/rejected/replay", body, ADMIN)).json()
    assert done["counts"] == {"replayed": 3, "would_fail": 1}
    assert [one["field"] for one in done["entries"] if one["status"] == "would_fail"] == ["data.extra"]
    assert [one["entry_id"] for one in (await site.send("GET", "/v1/rejected")).json()["entries"]] == [bad]
    dropped = {"filter": {}, "reason": "not ours"}
    done = (await site.send("POST", "/v1/rejected/discard", dropped, ADMIN)).json()
    assert done["discarded"] == [bad]
    assert (await site.send("GET", "/v1/rejected")).json()["entries"] == []


async def test_tenants_see_and_replay_their_own_only(site: Site) -> None:
    entry_id = await refused(site)
    other = {"authorization": "Bearer other-admin"}
    assert (await site.send("GET", "/v1/rejected", headers=OTHER)).json()["entries"] == []
    assert (await site.send("GET", f"/v1/rejected/{entry_id}", headers=OTHER)).status_code == 404
    done = (await site.send("POST", "/v1/rejected/replay", {"entries": [entry_id]}, other)).json()
    assert done["counts"] == {"unknown": 1}
    assert not site.events()


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/v1/rejected", None, {}, 401),
        ("GET", "/v1/rejected", None, ADMIN, 403),
        ("POST", "/v1/rejected/replay", {"filter": {}}, ACME, 403),
        ("POST", "/v1/rejected/discard", {"filter": {}, "reason": "x"}, ACME, 403),
        ("POST", "/v1/rejected/replay", {}, ADMIN, 400),
        ("POST", "/v1/rejected/replay", {"filter": {}, "entries": ["a" * 8]}, ADMIN, 400),
        ("POST", "/v1/rejected/replay", {"entries": ["abc"]}, ADMIN, 400),
        ("POST", "/v1/rejected/replay", {"filter": {"since": "0001-01-01T00:00:00Z"}}, ADMIN, 400),
        ("POST", "/v1/rejected/replay", {"filter": {}, "mend": {"sets": {}}}, ADMIN, 400),
        ("POST", "/v1/rejected/discard", {"filter": {}}, ADMIN, 400),
        ("GET", "/v1/rejected?limit=0", None, ACME, 400),
        ("GET", "/v1/rejected?limit=%C2%B2", None, ACME, 400),
        ("GET", "/v1/rejected?since=yesterday", None, ACME, 400),
        ("GET", "/v1/rejected?since=9999-12-31T23:59:59-23:00", None, ACME, 400),
        ("GET", "/v1/rejected/abc", None, ACME, 400),
        ("GET", "/v1/rejected/abcdefgh", None, ACME, 404),
        ("GET", "/v1/rejected?since=2026-03-01T00:00:00+01:00", None, ACME, 200),
    ],
)
async def test_what_is_asked_wrongly_is_a_problem(
    site: Site, method: str, path: str, body: object, headers: dict[str, str], status: int
) -> None:
    answer = await site.send(method, path, body, headers)
    assert answer.status_code == status
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]
    assert not site.log.records


@pytest.mark.parametrize("rejected", [None, Away()])
async def test_without_its_store_it_is_503_and_nothing_is_written(rejected: LogRejected | None) -> None:
    ports: RejectedEntries | None = rejected
    site = Site(rejected=ports)
    if rejected is not None:
        rejected.site = site
    asked: list[tuple[str, str, object, dict[str, str]]] = [
        ("GET", "/v1/rejected", None, ACME),
        ("GET", "/v1/rejected/stats", None, ACME),
        ("GET", "/v1/rejected/abcdefgh", None, ACME),
        ("POST", "/v1/rejected/replay", {"filter": {}}, ADMIN),
        ("POST", "/v1/rejected/replay", {"entries": ["abcdefgh"]}, ADMIN),
        ("POST", "/v1/rejected/discard", {"filter": {}, "reason": "x"}, ADMIN),
    ]
    for method, path, body, headers in asked:
        answer = await site.send(method, path, body, headers)
        assert answer.status_code == 503, path
        assert int(answer.headers["retry-after"]) >= 1
    assert not site.log.records


async def test_an_unconfirmed_replay_is_503_and_may_be_asked_again(site: Site) -> None:
    entry_id = await refused(site)
    body = {"entries": [entry_id], "mend": MEND}
    site.log.confirming = False
    answer = await site.send("POST", "/v1/rejected/replay", body, ADMIN)
    assert (answer.status_code, answer.json()["counts"]) == (503, {"unconfirmed": 1})
    site.log.confirming = True
    assert (await site.send("POST", "/v1/rejected/replay", body, ADMIN)).json()["counts"] == {"replayed": 1}
    first, second = site.events()
    assert first.contenthash == second.contenthash


async def test_a_large_original_is_kept_whole_up_to_a_mebibyte(site: Site) -> None:
    for length, whole in ((900_000, True), (1_100_000, False)):
        big = query(1, data={"query_id": "q", "text": "x" * length})
        assert (await site.send("POST", "/v1/events", big)).status_code == 422
        kept = site.rejections()[-1]
        assert (kept.replayable, kept.original_length) == (whole, len(json.dumps(big)))
        assert len(kept.original) == (len(json.dumps(big)) if whole else 64 * 1024)


async def test_a_filter_by_time_in_json_is_a_time(site: Site) -> None:
    since = (NOW - dt.timedelta(days=1)).isoformat()
    body = {"filter": {"since": since}, "dry_run": True}
    answer = await site.send("POST", "/v1/rejected/replay", body, ADMIN)
    assert (answer.status_code, answer.json()["entries"]) == (200, [])


async def test_what_could_not_be_decoded_keeps_its_names(site: Site) -> None:
    names = {"ce-specversion": "1.0", "ce-id": "b-1", "ce-source": "urn:app", "ce-type": "t"}
    answer = await site.send("POST", "/v1/events", b"{nonsense", {**ACME, **names})
    assert answer.status_code == 422
    (kept,) = site.rejections()
    assert (kept.event_id, kept.event_source, kept.event_type) == ("b-1", "urn:app", "t")
