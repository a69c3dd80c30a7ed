"""`ratchet trace`: where something is, and what followed from it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.text import Text

from api.cli.door import tenant_option
from api.cli.lag import read_lag
from api.cli.lifecycle import History, Step, read_history
from api.cli.model import chain_of
from api.cli.project import Project
from api.cli.query_trace import QueryTrace, print_block, print_heading
from api.cli.store import AnalystStore
from api.cli.story import print_step, without_repetition
from schemas.topics import DOCUMENTS

_MAX_ORIGINAL: Final = 400
_HASH: Final = re.compile(r"\A[0-9a-f]{8,64}\Z")


@click.command()
@click.argument("id_", metavar="ID")
@tenant_option
@click.pass_obj
def trace(project: Project, id_: str, tenant: str) -> None:
    """Where ID is, and what followed from it.

    ID may name an event, a query, a retrieval, an answer, a document, a rejected entry, a step of the
    lifecycle, a version, a dataset, an experiment or a rollout; of entries and datasets 8 letters are enough.
     Exit code 1 if nothing is known of it.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    history = read_history(project.settings, tenant)
    tracing = Tracing(console, AnalystStore(project.settings.clickhouse), tenant, history)
    found = [tracing.query(id_), tracing.document(id_), tracing.rejected(id_), tracing.lifecycle(id_)]
    if any(found):
        return
    console.print(
        f"Nothing is known of {id_!r} for tenant {tenant}: it is in no table and not in the lifecycle."
    )
    if lag := read_lag(project.settings):
        console.print(
            f"The worker is {lag:,} events behind, and it may be among them: ask again in a moment."
        )
    else:
        console.print("Was it acknowledged (2xx)? If so, by this stack, with this tenant's key?")
    sys.exit(1)


class Tracing:
    """Looks in one place after the other; each method prints what it found and says whether it did."""

    def __init__(self, console: Console, store: AnalystStore, tenant: str, history: History) -> None:
        self._console = console
        self._store = store
        self._tenant = tenant
        self._history = history
        self.query = QueryTrace(console, store, tenant, history).print

    def _rows(self, sql: str, **values: str) -> list[dict[str, Any]]:
        return self._store.rows(sql, tenant=self._tenant, **values)

    def document(self, id_: str) -> bool:
        """The document with this id, or that this event stored."""
        rows = self._rows(
            "SELECT document_id, title, source, event_id, received_time, text_hash FROM documents "
            "WHERE tenant = {tenant:String} AND (document_id = {id:String} OR event_id = {id:String})",
            id=id_,
        )
        shown = self._rows(
            "SELECT count() AS lists, countIf(has(feedback_document_id, {id:String})) AS rated FROM episodes "
            "WHERE tenant = {tenant:String} AND has(hit_document_ids, {id:String})",
            id=rows[0]["document_id"] if rows else id_,
        )[0]
        if not rows:
            if not shown["lists"]:
                return False
            print_heading(self._console, f"document {id_}")
            self._console.print(
                f"  It does not stand (never stored, or removed); {shown['lists']:,} queries were shown it.\n"
            )
            return True
        row = rows[0]
        print_heading(self._console, f"document {row['document_id']}")
        print_block(
            self._console,
            {
                "title": row["title"],
                "stored": f"{row['received_time'][:19]} UTC by event {row['event_id']} from {row['source']}",
                "table": DOCUMENTS,
                "shown": f"to {shown['lists']:,} queries, of which {shown['rated']:,} have feedback on it",
                "text hash": row["text_hash"],
            },
        )
        return True

    def rejected(self, id_: str) -> bool:
        """Rejected entries with this id, or of the event with this id."""
        rows = self._rows(
            "SELECT * FROM rejected WHERE tenant = {tenant:String} "
            "AND (entry_id = {id:String} OR event_id = {id:String} OR startsWith(entry_id, {prefix:String}))",
            id=id_,
            prefix=_prefix(id_),
        )
        for row in rows:
            print_heading(self._console, f"rejected entry {row['entry_id']}")
            original = row["original"]
            cut = "…" if len(original) > _MAX_ORIGINAL else ""
            print_block(
                self._console,
                {
                    "reason": row["reason"] + (f" at {row['field']}" if row["field"] else ""),
                    "message": row["message"],
                    "event": " ".join(
                        part for part in (row["event_type"], row["event_id"], row["event_source"]) if part
                    ),
                    "received": f"{row['received_time'][:19]} UTC",
                    "replayable": "yes, the original is kept whole" if row["replayable"] else "no",
                    "original": original[:_MAX_ORIGINAL] + cut,
                },
            )
        return bool(rows)

    def lifecycle(self, id_: str) -> bool:
        """The chain of a step both ways; of a version, dataset, experiment … all that is about it."""
        history = self._history
        if history.find(id_) is not None:
            chain = history.causes(id_)
            before, after = chain[:-1], history.consequences([id_])
            self._steps("What led to it", before)
            self._steps("It", chain[-1:])
            self._steps("What followed from it", after)
            return True
        if id_ in history.state.versions:
            self._steps(f"Version {id_}", chain_of(history, id_))
            return True
        prefix = _prefix(id_)
        about = [
            step
            for step in history.steps
            if any(name == id_ or name.startswith(prefix) for name in _names(step.payload))
        ]
        self._steps(f"Steps that name {id_}", about)
        return bool(about)

    def _steps(self, heading: str, steps: Sequence[Step]) -> None:
        if not steps:
            return
        self._console.rule(Text(heading, style="bold"), align="left", style="dim")
        for step, note in without_repetition(steps):
            print_step(self._console, step, self._history, note)


def _prefix(id_: str) -> str:
    """The beginning of a hash, if it may be one; else what nothing begins with."""
    return id_ if _HASH.match(id_) else "\0"


def _names(payload: msgspec.Struct) -> set[str]:
    """What a step is about, beside versions."""
    return {
        value
        for name in (
            "dataset_id",
            "experiment",
            "rollout",
            "key_id",
            "entry_id",
            "event_id",
            "metric",
            "alert",
        )
        if isinstance(value := getattr(payload, name, None), str)
    }
