"""The golden log of schema version 1: today's code reads it, and folds it as its fold version promises."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest

from schemas import topics
from schemas.codec import canonical_json, content_hash, decode_event, decode_payload, encode_event
from schemas.registry import BY_NAME
from streams.fold import FOLD_VERSION
from tests.golden.make_events_v1 import EVENTS, episodes_file, fold_log
from tests.reference_model import expected_episode

LINES = EVENTS.read_bytes().splitlines()

#: SHA-256 of the file: whoever must change this is about to lose somebody's log.
EVENTS_SHA256 = "cc9eb4f4d85aae05829196b7ee4cf3305c815903698549cdd4f0a1b85bf8e018"


def test_the_log_was_not_rewritten() -> None:
    assert hashlib.sha256(EVENTS.read_bytes()).hexdigest() == EVENTS_SHA256


def test_the_log_holds_all_types_of_version_1_and_today_knows_them() -> None:
    held = {decode_event(line).type for line in LINES}
    assert held <= set(BY_NAME)
    assert len(held) == 33


@pytest.mark.parametrize("line", LINES, ids=[f"line{n}" for n in range(1, len(LINES) + 1)])
def test_a_record_is_read_and_written_back_whole(line: bytes) -> None:
    event = decode_event(line)
    payload = decode_payload(event)
    assert isinstance(payload, BY_NAME[event.type].payload)
    assert canonical_json(payload) == bytes(event.data)
    assert json.loads(encode_event(event)) == json.loads(line)
    assert content_hash(event.type, event.time, bytes(event.data)) == event.contenthash


def test_the_log_folds_into_the_episodes_of_this_fold_version() -> None:
    path = episodes_file(FOLD_VERSION)
    assert path.exists(), (
        f"a new fold version: run `python -m tests.golden.make_events_v1` and read {path.name}"
    )
    folded = [json.loads(msgspec.json.encode(episode)) for episode in fold_log(LINES)]
    assert folded == [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_expected_episodes_are_those_of_the_plain_model() -> None:
    queries: dict[tuple[str, str], list[bytes]] = {}
    for line in LINES:
        event = decode_event(line)
        if BY_NAME[event.type].topic == topics.INTERACTIONS:
            queries.setdefault((event.tenant, event.subject or ""), []).append(line)
    expected = [expected_episode(queries[key]) for key in sorted(queries)]
    assert [json.loads(line) for line in episodes_file(FOLD_VERSION).read_bytes().splitlines()] == expected
