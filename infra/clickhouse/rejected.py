"""The entries that still stand, read under the analysts' account: the promised view and nothing else."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self, TypeVar

import httpx
import msgspec
from msgspec import Struct

from infra.settings import ClickHouseSettings
from schemas.errors import Retryable
from schemas.rejections import EntryAnswer, EntryCount, EntryFilter, RejectedEntry

Side = Literal["reason", "source", "door", "type", "day"]
_T = TypeVar("_T")
Value = str | int | Sequence[str]

_DATABASE: Final = "ratchet"
#: Characters that a beginning of an entry id needs to name it.
SHORTEST_ID: Final = 8
_WHOLE_ID: Final = 64
_COLUMNS: Final = (
    "entry_id, reason, message, field, event_source, event_id, event_type, subject, door, "
    "formatDateTime(received_time, '%Y-%m-%dT%H:%i:%S.%fZ') AS received_time, "
    "formatDateTime(last_received_time, '%Y-%m-%dT%H:%i:%S.%fZ') AS last_received_time, "
    "times, original_length, headers, toBool(replayable) AS replayable, code_version"
)
_CONDITIONS: Final = {
    "reason": "reason = {reason:String}",
    "source": "event_source = {source:String}",
    "door": "door = {door:String}",
    "type": "event_type = {type:String}",
    "since": "last_received_time >= toDateTime64({since:String}, 6, 'UTC')",
    "until": "last_received_time < toDateTime64({until:String}, 6, 'UTC')",
}
_SIDES: Final[dict[Side, str]] = {
    "reason": "reason",
    "source": "event_source",
    "door": "door",
    "type": "event_type",
    "day": "toString(toDate(last_received_time))",
}
_ESCAPES: Final = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "'": "\\'"}
)


class _Row(RejectedEntry, frozen=True, kw_only=True):
    """`headers` are JSON within JSON here."""

    headers: str = "{}"  # type: ignore[assignment]


class _Original(Struct, frozen=True):
    entry_id: str
    original: str


class _Weight(Struct, frozen=True):
    entry_id: str
    length: int


class _Stored(Struct, frozen=True):
    query_id: str
    source: str
    event_id: str
    content_hash: str
    data: str


class AnalystRejected:
    """`RejectedEntries` over HTTP. Safe to call from many tasks of one loop; an async context manager.

    Every method raises Retryable if the store does not answer within `timeout_s`, or not as expected: a store
    that has not been brought to this version's layout yet refuses.
    """

    def __init__(self, settings: ClickHouseSettings, *, timeout_s: float = 30.0) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(timeout=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def entries(self, tenant: str, chosen: EntryFilter, limit: int) -> list[RejectedEntry]:
        """The entries that came last, at most `limit`, the latest first."""
        where, values = _where(tenant, chosen)
        rows = await self._rows(
            f"SELECT {_COLUMNS} FROM (SELECT * FROM rejected WHERE {where} "
            "ORDER BY last_received_time DESC, entry_id LIMIT {limit:UInt32})",
            {**values, "limit": limit},
            _Row,
        )
        return [_entry(row) for row in rows]

    async def named(self, tenant: str, ids: Sequence[str]) -> list[RejectedEntry]:
        """The entries whose id begins with one of these; one that is too short names none."""
        long = [id_ for id_ in ids if len(id_) >= SHORTEST_ID]
        if not long:
            return []
        # whole ids are looked up by the key, beginnings are searched for
        whole = all(len(id_) == _WHOLE_ID for id_ in long)
        match = "entry_id IN" if whole else "arrayExists(id -> startsWith(entry_id, id),"
        rows = await self._rows(
            f"SELECT {_COLUMNS} FROM rejected WHERE tenant = {{tenant:String}} "
            f"AND {match} {{ids:Array(String)}}{'' if whole else ')'} ORDER BY received_time, entry_id",
            {"tenant": tenant, "ids": long},
            _Row,
        )
        return [_entry(row) for row in rows]

    async def lengths(self, tenant: str, chosen: EntryFilter, limit: int) -> list[tuple[str, int]]:
        """(id, kept bytes) of the oldest entries that pass, at most `limit`."""
        where, values = _where(tenant, chosen)
        rows = await self._rows(
            f"SELECT entry_id, length(original) AS length FROM rejected WHERE {where} "
            "ORDER BY received_time, entry_id LIMIT {limit:UInt32}",
            {**values, "limit": limit},
            _Weight,
        )
        return [(row.entry_id, row.length) for row in rows]

    async def originals(self, tenant: str, ids: Sequence[str]) -> dict[str, bytes]:
        """What is kept of these entries (whole ids); ask for few at once: each may be 1 MiB."""
        rows = await self._rows(
            "SELECT entry_id, base64Encode(original) AS original FROM rejected "
            "WHERE tenant = {tenant:String} AND entry_id IN {ids:Array(String)}",
            {"tenant": tenant, "ids": list(ids)},
            _Original,
        )
        return {row.entry_id: base64.b64decode(row.original) for row in rows}

    async def counts(self, tenant: str, chosen: EntryFilter, side: Side, limit: int) -> list[EntryCount]:
        """Entries by one of their sides, the most frequent first; days in their order, the last ones."""
        where, values = _where(tenant, chosen)
        order = "value DESC" if side == "day" else "times DESC, value"
        rows = await self._rows(
            f"SELECT {_SIDES[side]} AS value, count() AS entries, sum(seen) AS times "
            f"FROM (SELECT *, rejected.times AS seen FROM rejected WHERE {where}) "
            f"GROUP BY value ORDER BY {order} LIMIT {{limit:UInt32}}",
            {**values, "limit": limit},
            EntryCount,
        )
        return rows[::-1] if side == "day" else rows

    async def answers(self, tenant: str, ids: Sequence[str]) -> list[EntryAnswer]:
        """What was decided on entries whose id begins with one of these, in order."""
        long = [id_ for id_ in ids if len(id_) >= SHORTEST_ID]
        if not long:
            return []
        fields = ("entry_id", "event_source", "event_id", "subject", "reason")
        return await self._rows(
            f"SELECT {', '.join(f'JSONExtractString(data, {name!r}) AS {name}' for name in fields)}, "
            "toBool(type = 'ratchet.rejection.replayed.v1') AS replayed, source, "
            "formatDateTime(received_time, '%Y-%m-%dT%H:%i:%S.%fZ') AS received_time FROM "
            "(SELECT type, data, source, received_time, offset FROM lifecycle "
            "WHERE tenant = {tenant:String} AND outcome = 'accepted' "
            "AND type IN ('ratchet.rejection.replayed.v1', 'ratchet.rejection.discarded.v1')) "
            "WHERE arrayExists(id -> startsWith(JSONExtractString(data, 'entry_id'), id), "
            "{ids:Array(String)}) ORDER BY offset",
            {"tenant": tenant, "ids": long},
            EntryAnswer,
        )

    async def stored(
        self, tenant: str, names: Sequence[tuple[str, str, str]]
    ) -> dict[tuple[str, str, str], tuple[str, bytes]]:
        """(query, source, id) → content hash and data of the event that has this identity."""
        if not names:
            return {}
        rows = await self._rows(
            "SELECT query_id, source, event_id, content_hash, data FROM events "
            "WHERE tenant = {tenant:String} "
            "AND query_id IN {queries:Array(String)} AND event_id IN {ids:Array(String)}",
            {
                "tenant": tenant,
                "queries": sorted({query for query, _, _ in names}),
                "ids": sorted({id_ for _, _, id_ in names}),
            },
            _Stored,
        )
        wanted = set(names)
        found = {
            (row.query_id, row.source, row.event_id): (row.content_hash, row.data.encode()) for row in rows
        }
        return {name: event for name, event in found.items() if name in wanted}

    async def _rows(self, sql: str, values: Mapping[str, Value], kind: type[_T]) -> list[_T]:
        settings = self._settings
        parts = {"query": sql} | {f"param_{name}": _parameter(value) for name, value in values.items()}
        try:
            answer = await self._client.post(
                settings.url,
                params={
                    "database": _DATABASE,
                    "default_format": "JSONEachRow",
                    "wait_end_of_query": "1",
                    "output_format_json_quote_64bit_integers": "0",
                },
                headers={
                    "X-ClickHouse-User": settings.analyst_user,
                    "X-ClickHouse-Key": settings.analyst_password,
                },
                files={name: (None, text.encode("utf-8", "replace")) for name, text in parts.items()},
            )
        except httpx.TransportError as error:
            raise Retryable(
                f"ClickHouse does not answer at {settings.url} ({type(error).__name__}); what is rejected is "
                "safe in the log, and shown when it is back",
                retry_after_s=2.0,
            ) from error
        if answer.status_code != 200:
            text = " ".join(answer.text.split())[:300]
            raise Retryable(f"ClickHouse does not say what is rejected: {text}", retry_after_s=5.0)
        decoder = msgspec.json.Decoder(kind)
        return [decoder.decode(line) for line in answer.content.splitlines() if line]


def _where(tenant: str, chosen: EntryFilter) -> tuple[str, dict[str, Value]]:
    values: dict[str, Value] = {"tenant": tenant}
    conditions = ["tenant = {tenant:String}"]
    for name, condition in _CONDITIONS.items():
        value = getattr(chosen, name)
        if value:
            values[name] = _moment(value) if isinstance(value, dt.datetime) else value
            conditions.append(condition)
    return " AND ".join(conditions), values


def _moment(time: dt.datetime) -> str:
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f}"


def _entry(row: _Row) -> RejectedEntry:
    fields: dict[str, Any] = msgspec.structs.asdict(row)
    fields["headers"] = msgspec.json.decode(row.headers, type=dict[str, str])
    return RejectedEntry(**fields)


def _parameter(value: Value) -> str:
    """A value as a parameter's text: escaped like a tab-separated field, a list like an array literal."""
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if isinstance(value, int):
        return str(value)
    return "[" + ", ".join(f"'{one.translate(_ESCAPES)}'" for one in value) + "]"
