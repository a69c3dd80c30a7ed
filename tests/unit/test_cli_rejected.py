"""`ratchet rejected` in words: 80 columns, the field marked, a next command that the command line takes."""

from __future__ import annotations

import datetime as dt
import io
import json
import shlex
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from api.cli.rejected import rejected
from api.cli.rejected_options import parse_time, read_mapping
from api.cli.rejected_text import (
    next_commands,
    print_diff,
    print_entry,
    print_list,
    print_results,
    print_stats,
)
from api.processes.identity import now
from ingest.admission import Admission, Rejection
from ingest.mending import Mend
from ingest.replay import Kept, Trial, told
from ingest.settings import IngestSettings
from schemas.errors import Reason
from schemas.interactions import FeedbackKind, TargetKind
from schemas.rejections import CONFLICT, EntryCount, RejectedEntry, rejection_entry_id

NOW = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
SETTINGS = IngestSettings()
GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "f-1",
    "source": "https://shop.example/search/with/a/long/path/that/nobody/cuts",
    "type": "ratchet.feedback.given.v1",
    "data": {
        "query_id": "q-1",
        "kind": "thumb",
        "value": 1,
        "target": {"kind": "document", "document_id": "d", "rank": 3},
    },
}


def console(width: int = 80) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, highlight=False, markup=False, emoji=False), out


def entry_of(original: bytes, **fields: Any) -> RejectedEntry:
    """The entry that admission makes of these bytes."""
    why = Admission(SETTINGS).admit(original, tenant="acme", door="http", received=NOW)
    found: dict[str, Any] = {"reason": CONFLICT}
    if isinstance(why, Rejection):
        found = {"reason": why.reason.value, "field": why.field, "message": why.message}
        found |= {"event_source": why.source, "event_id": why.id, "event_type": why.type}
    return RejectedEntry(
        entry_id=rejection_entry_id("acme", original),
        **{
            "door": "http",
            "received_time": NOW,
            "last_received_time": NOW,
            "original_length": len(original),
            **found,
            **fields,
        },
    )


def with_data(**data: Any) -> bytes:
    return json.dumps(GOOD | {"data": GOOD["data"] | data}).encode()


CASES = {
    "unknown_field": with_data(valeu=1),
    "missing_field": json.dumps(GOOD | {"data": {"query_id": "q-1", "target": {"kind": "query"}}}).encode(),
    "invalid_value": with_data(kind="thumbs"),
    "deep": with_data(target={"kind": "document", "document_id": "d", "rank": "third"}),
    "unknown_type": json.dumps(GOOD | {"type": "ratchet.feedback.give.v1"}).encode(),
    "time": json.dumps(GOOD | {"time": "1890-01-01T00:00:00Z"}).encode(),
    "no_json": b'{"id": "\xff',
    "large": json.dumps(GOOD | {"x": "y" * 600_000}).encode(),
    "deep_json": b"[" * 5000,
}


def shown(original: bytes, tenant: str = "default", standing: bytes | None = None, **fields: Any) -> str:
    screen, out = console()
    print_entry(screen, entry_of(original, **fields), original, standing, tenant)
    return out.getvalue()


@pytest.mark.parametrize("name", CASES)
def test_an_entry_says_why_what_came_and_what_to_do(name: str) -> None:
    original = CASES[name]
    text = shown(original)
    entry = entry_of(original)
    assert entry.reason in text
    assert Reason(entry.reason).meaning[:20] in text
    assert "counts once" in text
    assert f"ratchet rejected discard {entry.entry_id[:12]}" in text
    assert len(text) < 12_000


@pytest.mark.parametrize("name", CASES)
def test_the_next_commands_are_taken_by_the_command_line(name: str) -> None:
    original = CASES[name]
    runner = CliRunner()
    for command, does in next_commands(entry_of(original), original, "other"):
        program, group, verb, *arguments = shlex.split(command)
        assert (program, group) == ("ratchet", "rejected")
        assert "other" in arguments
        assert does
        with_files = ["/dev/null" if one == "FILE" else one for one in arguments]
        with rejected.commands[verb].make_context(verb, with_files) as made:
            assert made.params
        assert runner.invoke(rejected, [verb, "--help"]).exit_code == 0


def test_the_field_is_marked_or_where_it_should_be() -> None:
    assert '▶       "kind": "thumbs",   ◀ here' in shown(CASES["invalid_value"]).replace("\n▶ ", "\n▶   ")
    marked = [line for line in shown(CASES["deep"]).splitlines() if line.startswith("▶")]
    assert len(marked) == 1
    assert '"rank": "third"' in marked[0]
    missing = [line for line in shown(CASES["missing_field"]).splitlines() if line.startswith("▶")]
    assert len(missing) == 1
    assert '"data": {' in missing[0]
    assert "kind is not here" in missing[0]


def test_a_misspelt_field_gets_the_exact_command_that_mends_it() -> None:
    original = CASES["unknown_field"]
    entry = entry_of(with_data(valeu=1))
    first = next(iter(next_commands(entry, original, "default")))[0]
    assert "--rename data.valeu=data.value" in first
    assert first.startswith(f"ratchet rejected fix {entry.entry_id[:12]} ")
    assert first.endswith("--dry-run")


def test_a_wrong_choice_is_answered_with_all_that_there_are_and_the_likely_mend() -> None:
    entry = entry_of(CASES["invalid_value"])
    kinds = get_args(FeedbackKind)
    expected = f"expected one of {', '.join(kinds)}, got 'thumbs' (did you mean 'thumb'?)"
    assert entry.message == f"data.kind: {expected}; see GET /v1/schemas/ratchet.feedback.given.v1"
    first = next(iter(next_commands(entry, CASES["invalid_value"], "default")))[0]
    assert "--set data.kind=thumb --dry-run" in first
    deep = entry_of(with_data(target={"kind": "dokument", "document_id": "d"}))
    assert f"data.target.kind: expected one of {', '.join(get_args(TargetKind))}, got" in deep.message
    odd = entry_of(with_data(kind="zzz"))
    assert "did you mean" not in odd.message
    assert any("--set data.kind=VALUE" in command for command, _ in next_commands(odd, b"{}", "default"))


def test_a_conflict_shows_both_and_asks_for_a_new_id() -> None:
    original = json.dumps(GOOD).encode()
    text = shown(original, standing=b'{"kind":"copy"}')
    assert "its new id follows from the entry" in " ".join(text.split())
    assert "keeps its source and id" not in " ".join(text.split())
    assert "What stands under the same source and id" in text
    assert '"copy"' in text
    assert "--new-id" in text
    assert "stands" in text


def test_what_was_cut_cannot_be_replayed_and_says_so() -> None:
    text = shown(b'{"specversion": "1.0", "da', replayable=False, original_length=5_000_000)
    assert "5,000,000 bytes, of which the first 26 are kept" in text
    assert "--with FILE" in text


def test_a_score_of_another_tool_is_marked_in_its_own_words() -> None:
    score = json.dumps({"id": "s", "traceId": "t", "name": "x", "value": "much"}).encode()
    text = shown(score, reason="invalid_value", field="value", headers={"format": "langfuse"})
    assert [line for line in text.splitlines() if line.startswith("▶")] == ['▶   "value": "much"   ◀ here']


@pytest.mark.parametrize("width", [80, 120])
def test_lists_and_counts_fit_and_nothing_is_cut(width: int) -> None:
    screen, out = console(width)
    entries = [entry_of(original, times=12_345) for original in CASES.values()]
    print_list(screen, entries, more=True)
    print_stats(screen, {"source": [EntryCount(GOOD["source"], 3, 12_345), EntryCount("", 1, 1)]})
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for one in entries:
        assert one.entry_id[:12] in text
    assert "time_out_of_range" in text
    assert "12,345" in text


def test_a_mend_is_shown_as_a_difference_and_its_outcome_in_words() -> None:
    original = CASES["invalid_value"]
    kept = Kept(entry_of(original), original)
    trial = Trial(SETTINGS)
    screen, out = console()
    tried = [
        trial.attempt(kept, tenant="acme", received=NOW, mend=mend)
        for mend in (Mend(set={"data.kind": "thumb"}), Mend(set={"data.kind": "toe"}))
    ]
    print_diff(screen, tried[0])
    print_results(screen, [told(one) for one in tried], dry_run=True)
    text = out.getvalue()
    assert '-    "kind": "thumbs",' in text
    assert '+    "kind": "thumb",' in text
    assert "would pass as feedback.given f-1" in text
    assert "would not pass invalid_value at data.kind:" in text
    assert "1 would pass, 1 would not pass" in text


def test_times_and_mappings_are_read(tmp_path: Path) -> None:
    ago = parse_time("--since", "7d")
    assert ago is not None
    assert abs(now() - dt.timedelta(days=7) - ago) < dt.timedelta(minutes=1)
    assert parse_time("--since", "2026-03-02T09:30") == dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
    with pytest.raises(click.UsageError, match="yesterday"):
        parse_time("--since", "yesterday")
    toml = tmp_path / "mend.toml"
    toml.write_text('[rename]\n"data.typ" = "data.kind"\n[values."data.kind"]\nup = "thumb"\n')
    assert read_mapping(toml) == Mend(rename={"data.typ": "data.kind"}, values={"data.kind": {"up": "thumb"}})
    wrong = tmp_path / "mend.json"
    wrong.write_text('{"renames": {}}')
    with pytest.raises(click.UsageError, match="renames"):
        read_mapping(wrong)


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay"],
        ["replay", "--all", "abcdefgh"],
        ["replay", "--all", "--reason", "too_large"],
        ["discard", "abcdefgh"],
        ["discard", "--because", "x"],
        ["fix", "abcdefgh"],
        ["fix", "abcdefgh", "--set", "novalue"],
        ["fix", "abcdefgh", "--patch", "{"],
        ["list", "--since", "soon"],
    ],
)
def test_what_is_meant_must_be_said(arguments: list[str]) -> None:
    result = CliRunner().invoke(rejected, arguments)
    assert result.exit_code == 2
    assert "Error" in result.output
