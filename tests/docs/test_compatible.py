"""The page on other tools names every route and every format that there is."""

from __future__ import annotations

import re
from pathlib import Path

from api.http.compatible import compatible_operations
from ingest.formats.registry import FORMATS
from tests.clients.record import CLIENTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "compatible.md").read_text(encoding="utf-8")


def test_every_route_is_named() -> None:
    shown = set(re.findall(r"/[a-z0-9_/{}.]+[a-z0-9_}]", PAGE))
    assert {operation.path for operation in compatible_operations()} <= shown


def test_every_format_is_named_with_its_source() -> None:
    shown = dict(re.findall(r"^\| `([a-z]+)` \| `(urn:[a-z:]+)` \|$", PAGE, re.M))
    others = ("cloudevents", "otlp")
    assert shown == {name: one.source for name, one in FORMATS.items() if name not in others}


def test_every_recording_is_of_a_client_that_can_be_driven() -> None:
    recorded = {path.stem for path in (ROOT / "tests" / "golden" / "clients").glob("*.json")}
    assert recorded == set(CLIENTS)
