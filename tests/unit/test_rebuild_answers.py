"""What a person says to a rebuild, and what it says while it works."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from api.cli.as_of import parse_time
from api.cli.progress import counted_steps
from infra.clickhouse.beside import databases_named
from schemas.errors import Fatal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-06-01T12:00:00Z", "2026-06-01T12:00:00+00:00"),
        ("2026-06-01", "2026-06-01T00:00:00+00:00"),
        ("2026-06-01T12:00:00+02:00", "2026-06-01T12:00:00+02:00"),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, expected: str) -> None:
    assert parse_time(text).isoformat() == expected


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(Fatal, match=r"expected offsets .* or a time such as"):
        parse_time("yesterday")


@pytest.mark.parametrize("name", ["store", "store_x", "next", "A", "a-b", "1a", "a" * 33, "a;", ""])
def test_names_that_could_meet_other_databases_are_refused(name: str) -> None:
    with pytest.raises(Fatal, match="expected a name"):
        databases_named(name)


def test_names_give_databases_of_their_own() -> None:
    assert databases_named("live").store == "ratchet_store"
    kept = databases_named("july")
    assert (kept.store, kept.views) == ("ratchet_store_july", "ratchet_july")


def test_without_a_terminal_progress_is_a_line_every_few_seconds_with_pace_and_rest() -> None:
    seconds = iter([0.0, 1.0, 10.0, 12.0, 20.0])
    out = io.StringIO()
    with counted_steps(Console(file=out), clock=lambda: next(seconds)) as show:
        for done in (0, 1_000, 10_000, 12_000, 20_000):
            show("fold", done, 20_000)
    assert out.getvalue().splitlines() == [
        "fold: 10,000 of 20,000 · 1,000/s · 10 s left",
        "fold: 20,000 of 20,000 · 1,000/s",
    ]
