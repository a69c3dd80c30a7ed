"""The rules at hand: asked for in the background, kept while the server is away."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from ratchet_client import Assigner, ClientError, Exposure, Serving

RULES = {"experiment": "exp-1", "seed": "exp-1", "coverage": 1.0, "added": "later"}
ARMS = [{"name": "a", "weight": 0.5}, {"name": "b", "weight": 0.5, "version": "2.0.0"}]


class Server:
    """Tells these rules, or nothing."""

    def __init__(self) -> None:
        self.away = False
        self.version = "1.0.0"
        self.rules: object = [{**RULES, "arms": ARMS}]
        self.asked = 0

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        assert (request.url.path, request.url.query) == ("/v1/serving", b"")
        self.asked += 1
        if self.away:
            raise httpx.ConnectError("refused", request=request)
        told = {"version": self.version, "exposures": [], "prepare": [self.version]}
        return httpx.Response(200, json=told if self.rules is None else {**told, "rules": self.rules})


@pytest.fixture
def server() -> Server:
    return Server()


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def test_it_assigns_without_asking(server: Server) -> None:
    with Assigner("http://ratchet", "k", transport=server.transport()) as assigner:
        # Recorded from the growthbook SDK: u0 → .8263, u3 → .1354.
        assert assigner.assign("u0") == Serving("2.0.0", (Exposure("exp-1", "b"),), ("1.0.0",))
        assert assigner.assign("u3") == Serving("1.0.0", (Exposure("exp-1", "a"),), ("1.0.0",))
        assert assigner.assign(None) == Serving("1.0.0", (), ("1.0.0",))
        assert server.asked == 1
        assert assigner.age_s < 60


def test_it_asks_again_and_keeps_the_last_answer_while_nobody_answers(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "ratchet_client"),
        Assigner("http://ratchet", "k", refresh_s=0.01, transport=server.transport()) as assigner,
    ):
        server.version = "1.1.0"
        until(lambda: assigner.assign(None).version == "1.1.0")
        server.away = True
        before = server.asked
        until(lambda: server.asked > before + 5)
        assert assigner.assign("u0").version == "2.0.0"
        assert len([r for r in caplog.records if "last answer holds" in r.getMessage()]) == 1
        server.away, server.rules = False, []
        until(lambda: assigner.assign("u0").exposures == ())
    assert assigner.assign("u0").version == "1.1.0"


def test_a_start_without_a_server_uses_the_last_runs_answer(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "rules.json"
    with Assigner("http://ratchet", "k", cache=cache, transport=server.transport()) as assigner:
        before = assigner.assign("u0")
    assert [path.name for path in tmp_path.iterdir()] == ["rules.json"]
    server.away = True
    with Assigner("http://ratchet", "k", cache=cache, transport=server.transport()) as assigner:
        assert (assigner.assign("u0"), assigner.age_s) == (before, float("inf"))
    with pytest.raises(ClientError, match="refused"):
        Assigner("http://ratchet", "k", transport=server.transport())
    cache.write_text(json.dumps({"version": "1.0.0", "rules": [{"arms": 7}]}))
    with pytest.raises(ClientError, match="refused"):
        Assigner("http://ratchet", "k", cache=cache, transport=server.transport())


def test_a_cache_that_cannot_be_written_stops_nothing(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "gone" / "rules.json"
    with Assigner("http://ratchet", "k", cache=cache, transport=server.transport()) as assigner:
        assert assigner.assign("u0").version == "2.0.0"


def test_a_server_that_tells_no_rules_is_named(server: Server) -> None:
    server.rules = None
    with pytest.raises(ClientError, match="does not tell its rules"):
        Assigner("http://ratchet", "k", transport=server.transport())


def test_a_forked_child_asks_for_itself(server: Server) -> None:
    with Assigner("http://ratchet", "k", refresh_s=0.01, transport=server.transport()) as assigner:
        child = os.fork()
        if child == 0:
            server.version = "3.0.0"
            deadline = time.monotonic() + 5
            while assigner.assign(None).version != "3.0.0" and time.monotonic() < deadline:
                time.sleep(0.01)
            os._exit(0 if assigner.assign(None).version == "3.0.0" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert assigner.assign(None).version == "1.0.0"
