"""Doors that nobody calls: the inbox, which applications write, and files. As those of `tests.doors`."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import gzip
import io
import json
import tomllib
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from rich.console import Console

from api.cli.import_files import Csv, Unit, read_lines
from api.cli.import_progress import ImportProgress
from api.cli.import_state import Progress
from api.cli.importing import Importing, cut_batches
from ingest.formats.pieces import Format
from ingest.formats.registry import FORMATS
from ingest.formats.tables import read_mapping, table_format
from ingest.inbox import InboxTaker
from ingest.intake import Intake
from ingest.memory import MemoryInbox
from ingest.ports import InboxRecord
from ingest.settings import IngestSettings
from tests.doors import (
    DOORS,
    Door,
    Send,
    Story,
    Telling,
    cloud_event,
)
from tests.unit.http_door import Site


def _intake(site: Site) -> Intake:
    return Intake(site.event_log, IngestSettings(), code_version="0.1.0")


# ---------------------------------------------------------------- the inbox


def _inbox(*, binary: bool) -> Send:
    async def send(telling: Telling, story: Story) -> None:
        inbox = MemoryInbox()
        for offset, (part, told) in enumerate(story.items()):
            event = cloud_event(part, told, source=f"urn:app größe {binary}")
            data = json.dumps(event.pop("data")).encode()
            headers = [(f"ce_{name}", str(value).encode()) for name, value in event.items()]
            value = data if binary else json.dumps({**event, "data": json.loads(data)}).encode()
            inbox.put(
                InboxRecord(
                    tenant="acme",
                    topic="inbox.acme",
                    partition=0,
                    offset=offset,
                    value=value,
                    headers=(
                        *(headers if binary else ()),
                        ("content-type", b"application/json" if binary else b"application/cloudevents+json"),
                    ),
                    appended=telling.start if binary else None,
                )
            )
        taker = InboxTaker(_intake(telling.site), now=lambda: telling.start, pause=asyncio.sleep)
        await taker.take(await inbox.fetch(0))
        assert not telling.site.rejections()

    return send


# ---------------------------------------------------------------- files


async def _import(telling: Telling, format: Format, units: list[Unit]) -> None:
    console = Console(file=io.StringIO())
    # a file that says what another door was told is received after it
    later = telling.start + dt.timedelta(minutes=1)
    importing = Importing(format, "acme", IngestSettings(), console, now=lambda: later)
    shown = ImportProgress(console, "file", None)
    await importing.run(cut_batches(iter(units)), _intake(telling.site), Progress(None), shown)
    assert importing.bad == 0
    assert importing.good > 0


async def _lines(telling: Telling, story: Story) -> None:
    events = [cloud_event(part, told, source="urn:file") for part, told in reversed(list(story.items()))]
    packed = io.BytesIO(gzip.compress(b"\n".join(json.dumps(event).encode() for event in events)))
    with gzip.GzipFile(fileobj=packed) as plain:
        units = list(read_lines(plain))  # type: ignore[arg-type]
    await _import(telling, FORMATS["cloudevents"], units)


class _Body(Telling):
    """Keeps what a door would send over HTTP."""

    async def post(
        self, path: str, body: bytes, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        bodies.append(body)


bodies: Final[list[bytes]] = []


def _format(door_name: str, format: str) -> Send:
    """A file with what a door of HTTP is sent."""
    door = next(door for door in DOORS if door.name == door_name)

    async def send(telling: Telling, story: Story) -> None:
        bodies.clear()
        await door.send(_Body(telling.site, telling.start), story)
        await _import(telling, FORMATS[format], list(read_lines(io.BytesIO(b"\n".join(bodies)))))

    return send


_MAPPING: Final = """
source = "urn:table"
id = "row"
time = "at"
[[event]]
type = "query.asked"
when = "text"
data = { query_id = "query", text = "text", user = "user", session = "session" }
[[event]]
type = "retrieval.served"
when = "list"
data.query_id = "query"
data.retrieval_id = "list"
data.hits = { column = "hits", split = " " }
[[event]]
type = "answer.given"
when = "answer"
data.query_id = "query"
data.answer_id = "answer"
data.text = "said"
data.generator = "model"
data.input_tokens = "read"
data.output_tokens = "written"
data.latency_ms = "took"
[[event]]
type = "feedback.given"
when = "what"
data.query_id = "query"
data.kind = { column = "what", values = { clicked = "click", liked = "thumb", noted = "comment" } }
data.name = "name"
data.value = { column = "what", values = { liked = 1 }, otherwise = "" }
data.text = "said"
data.target.kind = { column = "what", values = { clicked = "document" }, otherwise = "" }
data.target.document_id = "document"
data.target.rank = "rank"
"""
_COLUMNS: Final = (
    *("row", "at", "query", "text", "user", "session", "list", "hits", "answer", "said", "model", "read"),
    *("written", "took", "what", "name", "document", "rank"),
)
_WHAT: Final = {"click": "clicked", "thumb": "liked", "comment": "noted"}


async def _csv(telling: Telling, story: Story) -> None:
    content = io.StringIO()
    writer = csv.DictWriter(content, _COLUMNS, restval="")
    writer.writeheader()
    for part, told in story.items():
        assert told.time is not None
        row = {"row": part, "at": told.time.isoformat(), "query": told.payload.query_id}
        writer.writerow(row | _cells(told.payload))
    with closing(Csv(io.BytesIO(content.getvalue().encode()))) as table:
        format = table_format("csv", read_mapping(tomllib.loads(_MAPPING)), table.columns)
        await _import(telling, format, list(table))


def _cells(payload: Any) -> dict[str, Any]:
    kind = type(payload).__name__
    if kind == "QueryAsked":
        return {"text": payload.text, "user": payload.user, "session": payload.session}
    if kind == "RetrievalServed":
        return {"list": payload.retrieval_id, "hits": " ".join(hit.document_id for hit in payload.hits)}
    if kind == "AnswerGiven":
        return {
            "answer": payload.answer_id,
            "said": payload.text,
            "model": payload.generator,
            "read": payload.input_tokens,
            "written": payload.output_tokens,
            "took": payload.latency_ms,
        }
    about = {"document": payload.target.document_id, "rank": payload.target.rank}
    return {"what": _WHAT[payload.kind], "name": payload.name, "said": payload.text, **about}


_NO_LATENCY: Final = {"retrieval": ("latency_ms", "scores")}

DOORS_BESIDE_HTTP: Final = (
    Door("kafka structured", _inbox(binary=False)),
    Door("kafka binary", _inbox(binary=True)),
    Door("file of cloudevents", _lines),
    Door("file of otlp", _format("otlp", "otlp"), says=("query", "retrieval", "answer", "thumb")),
    Door(
        "file of ubi",
        _format("ubi", "ubi"),
        says=("query", "retrieval", "click", "thumb"),
        without=_NO_LATENCY,
    ),
    Door("file of langfuse", _format("langfuse traces", "langfuse"), says=("query", "answer")),
    Door(
        "file of a table",
        _csv,
        says=("query", "retrieval", "answer", "click", "thumb", "note"),
        without=_NO_LATENCY,
    ),
)
