"""`WaitingLookup` over ClickHouse, and how much waits, for the worker's gauges."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from clickhouse_connect.driver.binding import format_query_value
from clickhouse_connect.driver.client import Client

from infra.clickhouse.connection import LIVE, Databases, explain
from schemas.errors import Retryable
from schemas.waiting import NAMED, REFERRED
from streams.ports import ReferenceKey

log = logging.getLogger(__name__)

#: Above this many references in a statement it is cheaper to send another.
_REFERENCES_A_STATEMENT: Final = 5_000
_MAX_QUERY_BYTES: Final = 64 << 20


class ClickHouseWaitingLookup:
    """Reads `waiting` back by primary key, before or after merges: an insert that returned is seen."""

    def __init__(self, client: Client, databases: Databases = LIVE) -> None:
        self._client = client
        self._table = f"{databases.store}.waiting"

    async def names_of(self, references: Collection[ReferenceKey]) -> dict[ReferenceKey, bytes]:
        """The first stored name of each of these references. Raises Retryable, Fatal."""
        return {
            key: record
            for part in _parts(references)
            for key, record in await self._read(
                f"SELECT tenant, reference, argMin(record, offset) FROM {self._table} "
                f"WHERE {_condition(NAMED, part)} GROUP BY tenant, reference"
            )
        }

    async def referred_to(self, references: Collection[ReferenceKey]) -> dict[ReferenceKey, list[bytes]]:
        """Stored feedback on these references. Raises Retryable, Fatal."""
        found: dict[ReferenceKey, list[bytes]] = {}
        for part in _parts(references):
            for key, record in await self._read(
                f"SELECT tenant, reference, record FROM {self._table} WHERE {_condition(REFERRED, part)}"
            ):
                found.setdefault(key, []).append(record)
        return found

    async def waiting_references(self, limit: int) -> set[ReferenceKey]:
        """References with feedback and without a name. Raises Retryable, Fatal."""
        referred = f"SELECT tenant, reference FROM {self._table} WHERE type = '{REFERRED}'"
        rows = await self._read(
            f"SELECT DISTINCT tenant, reference, '' FROM {self._table} WHERE type = '{REFERRED}' "
            f"AND (tenant, reference) NOT IN (SELECT tenant, reference FROM {self._table} "
            f"WHERE type = '{NAMED}' AND (tenant, reference) IN ({referred})) LIMIT {int(limit)}"
        )
        return {key for key, _ in rows}

    async def _read(self, sql: str) -> list[tuple[ReferenceKey, bytes]]:
        rows = await asyncio.to_thread(_rows, self._client, sql, "looking up what waits")
        return [((tenant.decode(), reference.decode()), record) for tenant, reference, record in rows]


async def report_waiting(
    client: Client,
    *,
    interval_s: float,
    observe: Callable[[int, float | None], None],
    databases: Databases = LIVE,
) -> None:
    """Call `observe` with how much feedback waits, and since when, every `interval_s`; cancel it to stop.

    The time is in seconds since 1970, None if nothing waits. A round that fails is left out.
    """
    while True:
        try:
            observe(*await asyncio.to_thread(count_waiting, client, databases))
        except Retryable as error:
            log.warning("waiting feedback not counted", extra={"why": str(error)})
        await asyncio.sleep(interval_s)


def count_waiting(client: Client, databases: Databases = LIVE) -> tuple[int, float | None]:
    """Feedback that waits, and when the oldest was received (seconds since 1970). Raises Retryable, Fatal."""
    ((events, oldest_us),) = _rows(
        client,
        f"SELECT count(), toUnixTimestamp64Micro(min(received_time)) FROM {databases.views}.waiting",
        "counting what waits",
    )
    return int(events), int(oldest_us) / 1e6 if events else None


def _parts(references: Collection[ReferenceKey]) -> Iterable[Sequence[ReferenceKey]]:
    wanted = sorted(references)
    for start in range(0, len(wanted), _REFERENCES_A_STATEMENT):
        yield wanted[start : start + _REFERENCES_A_STATEMENT]


def _condition(event_type: str, references: Sequence[ReferenceKey]) -> str:
    of_tenant: dict[str, list[str]] = {}
    for tenant, reference in references:
        of_tenant.setdefault(tenant, []).append(str(format_query_value(reference)))
    # one condition a tenant: a set of single strings prunes granules at half the cost of a set of pairs
    tenants = " OR ".join(
        f"(tenant = {format_query_value(tenant)} AND type = '{event_type}' "
        f"AND reference IN ({', '.join(literals)}))"
        for tenant, literals in of_tenant.items()
    )
    return f"({tenants})"


def _rows(client: Client, sql: str, doing: str) -> Sequence[Sequence[Any]]:
    try:
        return client.query(  # type: ignore[no-any-return]
            sql, query_formats={"String": "bytes"}, settings={"max_query_size": _MAX_QUERY_BYTES}
        ).result_rows
    except Exception as error:
        raise explain(error, doing) from error
