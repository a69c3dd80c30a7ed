"""A first mapping, guessed from the names of a table's columns: for a person to correct."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

#: Field of ours → names that tables have for it, joined by `_`, in lower case.
_NAMES: Final[Mapping[str, Sequence[str]]] = {
    "id": ("id", "event_id", "row_id", "uuid", "log_id"),
    "time": ("time", "timestamp", "ts", "created_at", "created", "date", "datetime", "event_time", "at"),
    "query_id": ("query_id", "qid", "search_id", "request_id", "trace_id", "question_id"),
    "text": ("query", "question", "text", "user_query", "search", "search_term", "q", "prompt", "query_text"),
    "user": ("user", "user_id", "userid", "uid", "customer_id", "client_id"),
    "session": ("session", "session_id", "sessionid", "sid"),
    "hits": ("hits", "results", "document_ids", "doc_ids", "result_ids", "retrieved"),
    "answer": ("answer", "response", "completion", "output", "answer_text"),
    "document_id": (
        "document_id",
        "doc_id",
        "docid",
        "clicked",
        "clicked_document_id",
        "item_id",
        "clicked_id",
    ),
    "rank": ("rank", "position", "ordinal"),
    "value": ("rating", "score", "value", "stars", "feedback", "thumb", "label"),
    "comment": ("comment", "note", "remark", "feedback_text"),
}
_BETWEEN: Final = re.compile(r"[^a-z0-9]+")


def starter_mapping(columns: Sequence[str]) -> str:
    """TOML that reads as a mapping of these columns; what is guessed wrong is for a person to correct."""
    found = _guess(columns)
    rest = [column for column in columns if column not in found.values()]
    lines = [
        "# What a row says, as events. Columns: " + ", ".join(map(_quote, columns)),
        '# A field is a column: text = "question"; or a table: { constant = "click" },',
        '# { column = "rating", values = { good = 1, bad = -1 } }, { column = "docs", split = ";" },',
        '# { column = "meta", as = "json" }. Event types and their fields: GET /v1/schemas, docs/events.md.',
        'source = "urn:import:table"',
        f"id = {_quote(found['id'])}"
        if "id" in found
        else '# id = "COLUMN"  (names the row; without it equal rows are one event)',
        f'time = {{ column = {_quote(found["time"])}, format = "iso", zone = "UTC" }}'
        "  # or s, ms, us, ns, or as of strptime"
        if "time" in found
        else '# time = { column = "COLUMN", format = "iso" }  (without it: the moment of the import)',
    ]
    for event in _events(found, rest):
        lines += ["", *event]
    return "\n".join(lines) + "\n"


def _guess(columns: Sequence[str]) -> dict[str, str]:
    plain = {_BETWEEN.sub("_", column.strip().lower()).strip("_"): column for column in reversed(columns)}
    found: dict[str, str] = {}
    for field, names in _NAMES.items():
        column = next((plain[name] for name in names if name in plain), None)
        if column is not None and column not in found.values():
            found[field] = column
    return found


def _events(found: Mapping[str, str], rest: Sequence[str]) -> list[list[str]]:
    query_id = _quote(found.get("query_id", found.get("id", "COLUMN")))
    events: list[list[str]] = []

    def event(type_: str, when: str, **data: str) -> None:
        lines = ["[[event]]", f'type = "{type_}"']
        lines += [f"when = {_quote(when)}"] if when else []
        lines += [f"data.query_id = {query_id}"]
        events.append(lines + [f"data.{field.replace('__', '.')} = {value}" for field, value in data.items()])

    def of(*fields: str) -> dict[str, str]:
        return {field: _quote(found[field]) for field in fields if field in found}

    if "text" in found or not found.keys() & {"hits", "answer", "document_id", "value", "comment"}:
        event("query.asked", "", **{"text": _quote("COLUMN"), **of("text", "user", "session")})
        events[-1] += [f"data.{_quote(f'attributes.{column}')} = {_quote(column)}" for column in rest]
    if "hits" in found:
        hits = f'{{ column = {_quote(found["hits"])}, split = ";" }}'
        event("retrieval.served", found["hits"], retrieval_id=query_id, hits=hits)
    if "answer" in found:
        event("answer.given", found["answer"], answer_id=query_id, text=_quote(found["answer"]))
    if "document_id" in found:
        target = {"target__document_id": _quote(found["document_id"])}
        target |= {"target__rank": _quote(found["rank"])} if "rank" in found else {}
        about = {"kind": '{ constant = "click" }', "target__kind": '{ constant = "document" }'}
        event("feedback.given", found["document_id"], **about, **target)
        events[-1].insert(2, 'name = "click"')
    if "value" in found:
        event("feedback.given", found["value"], kind='{ constant = "score" }', value=_quote(found["value"]))
        events[-1].insert(2, 'name = "score"')
    if "comment" in found:
        event(
            "feedback.given", found["comment"], kind='{ constant = "comment" }', text=_quote(found["comment"])
        )
        events[-1].insert(2, 'name = "comment"')
    return events


def _quote(text: str) -> str:
    """A basic string of TOML; JSON's escapes are its own."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
