"""A query as `ratchet trace` shows it: its events, its episode, its pairs, the datasets that saw it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.cli.lifecycle import History
from api.cli.prose import moment
from api.cli.store import AnalystStore
from schemas import lifecycle as lc

_EVENT_COLUMNS: Final = (
    "query_id, source, event_id, type, effective_time, event_time, received_time, time_doubted, door, topic, "
    "partition, offset"
)


def print_heading(console: Console, text: str) -> None:
    """A line in bold."""
    console.print(Text(text, style="bold"))


def print_block(console: Console, lines: dict[str, str]) -> None:
    """Names and values below each other; what is empty is left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines.items():
        if value:
            table.add_row(f"  {name}", Text(value))
    console.print(table)
    console.print()


class QueryTrace:
    """Looks for queries and their events, and prints what it found."""

    def __init__(self, console: Console, store: AnalystStore, tenant: str, history: History) -> None:
        self._console = console
        self._store = store
        self._tenant = tenant
        self._history = history

    def _rows(self, sql: str, **values: str) -> list[dict[str, Any]]:
        return self._store.rows(sql, tenant=self._tenant, **values)

    def print(self, id_: str) -> bool:
        """The query, or the query of the event, list or answer, with this id."""
        of_query = self._events("query_id = {id:String}", id_)
        if of_query:
            self._query(id_, of_query, ())
            return True
        own = self._events("event_id = {id:String}", id_)
        for query_id in dict.fromkeys(row["query_id"] for row in own):
            named = [row for row in own if row["query_id"] == query_id]
            for row in named:
                self._event(row)
            self._query(query_id, self._events("query_id = {id:String}", query_id), named)
        if own:
            return True
        inner = self._rows(
            "SELECT query_id FROM episodes WHERE tenant = {tenant:String} AND "
            "(has(retrieval_ids, {id:String}) OR has(answer_ids, {id:String})) LIMIT 10",
            id=id_,
        )
        for row in inner:
            query_id = row["query_id"]
            self._console.print(f"{id_} is a list or an answer of query {query_id}.\n")
            self._query(query_id, self._events("query_id = {id:String}", query_id), ())
        return bool(inner)

    def _events(self, condition: str, id_: str) -> list[dict[str, Any]]:
        return self._rows(
            f"SELECT {_EVENT_COLUMNS} FROM events WHERE tenant = {{tenant:String}} AND {condition} "
            "ORDER BY effective_time, received_time",
            id=id_,
        )

    def _event(self, row: dict[str, Any]) -> None:
        print_heading(self._console, f"event {row['event_id']}")
        lines = {
            "type": row["type"],
            "source": row["source"],
            "log": _position(row),
            "time": _times(row),
            "received": f"{row['received_time'][:23]} UTC through door {row['door']}",
            "table": "events",
            "query": row["query_id"],
        }
        print_block(self._console, lines)

    def _query(
        self, query_id: str, events: Sequence[dict[str, Any]], named: Sequence[dict[str, Any]]
    ) -> None:
        print_heading(self._console, f"query {query_id}")
        rows = self._rows(
            "SELECT * FROM episodes WHERE tenant = {tenant:String} AND query_id = {id:String}", id=query_id
        )
        episode = rows[0] if rows else None
        if episode is None:
            self._console.print("  its events are stored, its episode is not yet: ask again in a moment\n")
        else:
            print_block(self._console, _episode_lines(episode))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("time", "event", "id", "log"):
            table.add_column(column, overflow="fold")
        own = {(row["source"], row["event_id"]) for row in named}
        for row in events:
            style = "green" if (row["source"], row["event_id"]) in own else ""
            short = row["type"].removeprefix("ratchet.").rpartition(".")[0]
            fate = "" if episode is None else _fate(episode, row)
            table.add_row(
                row["effective_time"][:19],
                Text(short + fate, style=style),
                Text(row["event_id"], style=style),
                _position(row),
            )
        self._console.print(table)
        self._console.print()
        self._pairs(query_id, own)
        self._datasets(events)

    def _pairs(self, query_id: str, own: set[tuple[str, str]]) -> None:
        rows = self._rows(
            "SELECT document_id, label, weight, kind, events, pipeline_version FROM pairs "
            "WHERE tenant = {tenant:String} AND query_id = {id:String}",
            id=query_id,
        )
        if not rows:
            self._console.print("No training pair follows: no feedback that stands names a shown document.\n")
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("training pair", "label", "weight", "from", "events"):
            table.add_column(column, overflow="fold")
        for row in rows:
            refs = [(ref["source"], ref["id"]) for ref in row["events"]]
            style = "green" if own.intersection(refs) else ""
            table.add_row(
                Text(row["document_id"], style=style),
                str(row["label"]),
                f"{row['weight']:.3g}",
                row["kind"],
                Text(", ".join(id_ for _, id_ in refs)),
            )
        self._console.print(table)
        self._console.print()

    def _datasets(self, events: Iterable[dict[str, Any]]) -> None:
        """Datasets that were frozen when these events were in the log, and the versions made of them."""
        places = [(row["topic"], str(row["partition"]), row["offset"]) for row in events]
        for step in self._history.steps:
            if not (isinstance(step.payload, lc.DatasetFrozen) and step.outcome.accepted):
                continue
            offsets = step.payload.offsets
            inside = [place for place in places if offsets.get(place[0], {}).get(place[1], 0) > place[2]]
            if not inside:
                continue
            made = [
                other.payload.version
                for other in self._history.steps
                if isinstance(other.payload, lc.VersionProposed)
                and other.outcome.accepted
                and other.payload.dataset_id == step.payload.dataset_id
            ]
            self._console.print(
                f"{len(inside)} of {len(places)} events lie before the offsets of dataset "
                f"{step.payload.dataset_id[:12]}, frozen {moment(step.event.recordedtime)}"
                + (f"; version {', '.join(made)} was made of it." if made else ".")
            )


def _position(row: dict[str, Any]) -> str:
    return f"{row['topic']}/{row['partition']}@{row['offset']}"


def _times(row: dict[str, Any]) -> str:
    if row["event_time"] is None:
        return "none given: the received time counts"
    doubted = ", not believed: the received time counts" if row["time_doubted"] else ""
    return f"{row['event_time'][:23]} UTC{doubted}"


def _episode_lines(episode: dict[str, Any]) -> dict[str, str]:
    if not episode["has_query"]:
        waiting = episode["waiting_feedback"]
        return {
            "state": f"waits for its query; feedback that waits with it: {waiting}",
            "since": f"{episode['first_received_at'][:19]} UTC",
        }
    shown = ", ".join(episode["hit_document_ids"][:5])
    more = len(episode["hit_document_ids"]) - 5
    return {
        "text": episode["text"],
        "asked": f"{(episode['asked_at'] or '')[:19]} UTC",
        "unit": f"{episode['unit']} ({episode['unit_kind']})"
        if episode["unit"]
        else "none: it counts in no experiment",
        "exposed": ", ".join(
            f"{name}: {arm}"
            for name, arm in zip(episode["exposures_experiment"], episode["exposures_arm"], strict=True)
        ),
        "served": f"{shown}{f' and {more} more' if more > 0 else ''}"
        + (f" by version {episode['pipeline_version']}" if episode["pipeline_version"] else ""),
        "feedback": ", ".join(
            f"{kind} on {document}" if document else kind
            for kind, document in zip(episode["feedback_kind"], episode["feedback_document_id"], strict=True)
        ),
        "repeated": f"{episode['repeats']:,} records repeat an event and count nothing"
        if episode["repeats"]
        else "",
    }


def _fate(episode: dict[str, Any], row: dict[str, Any]) -> str:
    """Why an event does not count, if it does not."""
    ref = (row["source"], row["event_id"])

    def among(kind: str) -> bool:
        return ref in zip(episode[f"{kind}_source"], episode[f"{kind}_id"], strict=True)

    if among("retracted"):
        return " (retracted)"
    if among("superseded"):
        return " (another came first)"
    if among("conflict"):
        return " (others conflict with it)"
    return ""
