"""docs/events.md is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.http.reference import BEGIN, END, event_reference, renewed
from ingest.settings import IngestSettings
from ingest.shortcuts import DOCUMENTS, REMOVALS, SINGLE
from ingest.strict import MAX_ATTRIBUTES, MAX_ENTRIES, MAX_NAME_CHARACTERS
from schemas.envelope import Event
from schemas.errors import Reason
from schemas.registry import BY_NAME, EVENT_TYPES

PATH = Path(__file__).parents[2] / "docs" / "events.md"


@pytest.fixture(scope="module")
def document() -> str:
    return PATH.read_text(encoding="utf-8")


def test_the_generated_part_is_current(document: str) -> None:
    assert renewed(document) == document, f"run: python -P -m api.http.reference {PATH}"


def test_it_names_every_type_and_reason() -> None:
    reference = event_reference()
    for event_type in EVENT_TYPES:
        assert f"### {event_type.short}\n" in reference
    for reason in Reason:
        assert f"| `{reason.value}` | " in reference


def test_the_hand_written_part_names_what_is_there(document: str) -> None:
    text = document.partition(BEGIN)[0]
    for shortcut in (*SINGLE, DOCUMENTS, REMOVALS):
        assert shortcut.path in text
        assert f"`{BY_NAME[shortcut.type].short}`" in text
    for name in Event.__struct_fields__:
        assert f"`{name}`" in text
    settings = IngestSettings()
    assert f"{settings.max_events:,} events" in text
    assert f"{settings.max_body_bytes // 2**20} MiB" in text
    assert f"{settings.max_event_bytes // 1024} KiB" in text
    assert f"{settings.max_string_bytes // 1024} KiB" in text
    assert f"{settings.max_kept_bytes // 1024} KiB" in text
    for number in (MAX_NAME_CHARACTERS, f"{MAX_ENTRIES:,}", MAX_ATTRIBUTES):
        assert f"at most {number}" in text.replace("\n", " ")


def test_a_document_without_marks_is_refused() -> None:
    for text in ("", BEGIN, END + BEGIN):
        with pytest.raises(ValueError, match="expected the marks"):
            renewed(text)
