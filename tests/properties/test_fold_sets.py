"""L3: an episode is a function of a set: order, repetition and batch cuts cannot be seen in it."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.codec import decode_event, encode_event
from schemas.episodes import Episode
from streams.columns import contribution_columns, episode_columns
from streams.fold import fold_episode
from streams.records import Record, RecordKey, collect_records, decode_record
from tests.properties.fold_strategies import received_again, record_values
from tests.reference_model import expected_episode


def fold_values(values: Sequence[bytes]) -> Episode:
    return fold_episode([decode_record(value) for value in values])


def row_bytes(episode: Episode) -> bytes:
    """The rows of an episode, whole."""
    columns = [episode_columns([episode]), contribution_columns([episode])]
    return msgspec.msgpack.encode(episode) + repr(columns).encode()


@given(record_values())
@settings(max_examples=400, deadline=None)
def test_the_fold_agrees_with_the_plain_model(values: list[bytes]) -> None:
    assert json.loads(msgspec.json.encode(fold_values(values))) == expected_episode(values)


@given(record_values(), st.randoms(use_true_random=False), st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_order_and_repetition_change_no_byte(values: list[bytes], dice: random.Random, extra: int) -> None:
    shuffled = values + dice.choices(values, k=extra)
    dice.shuffle(shuffled)
    assert row_bytes(fold_values(shuffled)) == row_bytes(fold_values(values))


@given(record_values(max_size=4))
@settings(max_examples=30, deadline=None)
def test_every_order_of_a_small_set_gives_one_row(values: list[bytes]) -> None:
    orders = itertools.islice(itertools.permutations(values), 130)
    assert len({row_bytes(fold_values(order)) for order in orders}) == 1


@pytest.mark.parametrize("batch", [1, 7, 1000])
@given(values=record_values(max_size=16), dice=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_batch_cuts_change_no_byte(batch: int, values: list[bytes], dice: random.Random) -> None:
    """Each batch joins the stored set, as the worker's does; the last row is that of the whole set."""
    delivered = values + dice.choices(values, k=len(values) // 2)
    dice.shuffle(delivered)
    stored: dict[RecordKey, Record] = {}
    versions: list[int] = []
    row = b""
    for start in range(0, len(delivered), batch):
        collect_records(map(decode_record, delivered[start : start + batch]), stored)
        episode = fold_episode(stored.values())
        row = row_bytes(episode)
        assert row == row_bytes(fold_values(delivered[: start + batch]))
        versions.append(episode.record_count)
    assert row == row_bytes(fold_values(values))
    assert versions == sorted(versions)


@given(record_values(), record_values())
@settings(max_examples=100, deadline=None)
def test_the_version_grows_with_the_set_and_with_nothing_else(old: list[bytes], new: list[bytes]) -> None:
    before, after = fold_values(old), fold_values(old + new)
    grown = {decode_record(v).key for v in new} - {decode_record(v).key for v in old}
    assert after.record_count == before.record_count + len(grown)
    if not grown:
        assert row_bytes(after) == row_bytes(before)


@given(record_values(), st.integers(21, 1000))
@settings(max_examples=100, deadline=None)
def test_receiving_everything_again_later_only_counts(values: list[bytes], late_s: int) -> None:
    again = [encode_event(received_again(decode_event(value), late_s)) for value in values]
    before, after = fold_values(values), fold_values(values + again)
    more = len({decode_record(v).key for v in again})
    assert after.record_count == before.record_count + more
    assert after.repeats + len(after.conflicts) == before.repeats + len(before.conflicts) + more
    assert (
        replace(
            after,
            record_count=before.record_count,
            repeats=before.repeats,
            conflicts=before.conflicts,
        )
        == before
    )


@given(record_values(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_two_tenants_with_equal_ids_never_meet(values: list[bytes], dice: random.Random) -> None:
    records = [decode_record(value) for value in values]
    others = [Record(replace(r.event, tenant="umbrella"), r.payload) for r in records]
    mixed = records + others
    dice.shuffle(mixed)
    with pytest.raises(ValueError, match="one of"):
        fold_episode(mixed)
    rows: dict[str, list[Record]] = {}
    for record in mixed:
        rows.setdefault(record.event.tenant, []).append(record)
    ours, theirs = fold_episode(rows["acme"]), fold_episode(rows["umbrella"])
    assert row_bytes(ours) == row_bytes(fold_episode(records))
    assert replace(theirs, tenant="acme") == ours
    assert msgspec.msgpack.encode(theirs) != msgspec.msgpack.encode(ours)


@given(record_values())
@settings(max_examples=150, deadline=None)
def test_every_pair_leads_back_to_records_that_stand(values: list[bytes]) -> None:
    episode = fold_values(values)
    refs = {decode_event(value).ref for value in values}
    keys = [(p.retrieval_id, p.rank, p.document_id, p.kind, p.label) for p in episode.pairs]
    assert keys == sorted(set(keys))
    standing = {f.ref for f in episode.feedback}
    for pair in episode.pairs:
        assert pair.label in (0, 1)
        assert 0 < pair.weight <= 1
        assert set(pair.events) <= refs - set(episode.retracted)
        assert pair.events[0] in standing
        assert pair.events[-1] == episode.query_ref


@given(record_values(max_size=5))
@settings(max_examples=50, deadline=None)
def test_what_the_key_does_not_cover_depends_on_no_order(values: list[bytes]) -> None:
    """One key, two doors: the same record stays in whichever order they come."""
    records = [decode_record(value) for value in values]
    twins = [Record(replace(r.event, door="file", timetrusted=True), r.payload) for r in records]
    forth, back = collect_records(records + twins), collect_records(twins + records)
    assert forth == back
    assert row_bytes(fold_episode(records + twins)) == row_bytes(fold_episode(twins + records))
