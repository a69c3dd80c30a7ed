"""What the learner reads from the store: queries in their order, and what an experiment's units did."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from infra.clickhouse.connection import LIVE, Databases, explain
from learners.ports import ExperimentUnits, ObservedQuery, Offsets, UnitMeasure
from schemas.interactions import Exposure, FeedbackGiven
from schemas.registry import BY_PAYLOAD

#: Times travel as microseconds since 1970: exact, and the same whatever the client's time zone. The page is
#: found on narrow columns; wide ones are read by key. Feedback counts by when it was received: its own time
#: is the client's, who may send yesterday's clicks; nobody saw those when the query was first looked at.
_QUERIES: Final = """
WITH
    page AS
    (
        SELECT query_id
        FROM {views}.episodes
        WHERE tenant = {{tenant:String}} AND has_query
            AND first_received_at <= fromUnixTimestamp64Micro({{until:Int64}}, 'UTC')
            AND (first_received_at, query_id)
                > (fromUnixTimestamp64Micro({{after:Int64}}, 'UTC'), {{after_id:String}})
        ORDER BY first_received_at, query_id
        LIMIT {{page:UInt32}}
    ),
    received AS
    (
        SELECT
            query_id,
            groupArray((source, event_id)) AS identities,
            groupArray(received_time) AS times
        FROM {views}.events
        WHERE tenant = {{tenant:String}} AND query_id IN (SELECT query_id FROM page)
            AND type = {{feedback:String}}
        GROUP BY query_id
    ),
    arrayFilter(
        f -> f.2 = 'human' AND f.5 <= first_received_at + toIntervalMillisecond({{settle_ms:UInt32}}),
        arrayZip(
            feedback_kind, feedback_rater, feedback_rank, feedback_value,
            arrayMap(
                identity -> times[indexOf(identities, identity)],
                arrayZip(feedback_source, feedback_id)))) AS told
SELECT
    asked.query_id,
    toUnixTimestamp64Micro(first_received_at) AS received_us,
    text,
    unit,
    pipeline_version,
    exposures_experiment,
    exposures_arm,
    hit_scores,
    arrayMin(arrayMap(
        f -> ifNull(f.3, 0), arrayFilter(f -> f.1 = 'click' AND f.3 > 0, told))) AS clicked_rank,
    arrayCount(f -> f.1 = 'thumb' AND f.4 > 0, told) AS up,
    arrayCount(f -> f.1 = 'thumb' AND f.4 < 0, told) AS down
FROM
(
    SELECT *
    FROM {views}.episodes
    WHERE tenant = {{tenant:String}} AND query_id IN (SELECT query_id FROM page)
) AS asked
LEFT JOIN received ON received.query_id = asked.query_id
ORDER BY first_received_at, asked.query_id
"""

_COUNT: Final = """
SELECT count()
FROM {views}.episodes
WHERE tenant = {{tenant:String}} AND has_query
    AND first_received_at > fromUnixTimestamp64Micro({{since:Int64}}, 'UTC')
    AND first_received_at <= fromUnixTimestamp64Micro({{until:Int64}}, 'UTC')
"""

_UNITS: Final = """
SELECT unit, arm, excluded, measure, queries, value
FROM {views}.experiment_units
WHERE tenant = {{tenant:String}} AND experiment = {{experiment:String}}
    AND measure IN {{measures:Array(String)}}
"""

#: Every query has this measure, so it counts the units that were exposed.
_EVERY_QUERY: Final = "queries"
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


class ClickHouseQueryFeed:
    """`QueryFeed` over the view `episodes`.

    A query is given once its feedback is stored, too: the worker may be behind by minutes (a rebuild, an
    outage), and a query whose clicks are still in the log looks like one that nobody clicked on. Only
    feedback of the first `settle_s` counts: an old query has had longer to collect clicks than a recent one,
    which would look like drift, and a replay after a restart would see more than the first look did.
    """

    def __init__(
        self,
        client: Client,
        settle_s: float,
        stored_until: Callable[[], Awaitable[dt.datetime | None]],
        databases: Databases = LIVE,
    ) -> None:
        """`stored_until`: the moment up to which all interactions are stored, None if that is not known."""
        self._client = client
        self._settle = dt.timedelta(seconds=settle_s)
        self._stored_until = stored_until
        self._sql = _QUERIES.format(views=databases.views)
        self._count_sql = _COUNT.format(views=databases.views)

    async def after(
        self, tenant: str, cursor: tuple[dt.datetime, str] | None, until: dt.datetime, limit: int
    ) -> Sequence[ObservedQuery]:
        """The next queries by (received time, query_id). Raises Retryable, Fatal."""
        received, query_id = cursor or (_EPOCH, "")
        stored = await self._stored_until()
        if stored is None:
            return []
        until = min(until, stored - self._settle)
        rows = await _rows(
            self._client,
            self._sql,
            {
                "tenant": tenant,
                "until": (until - _EPOCH) // _MICROSECOND,
                "after": (received - _EPOCH) // _MICROSECOND,
                "after_id": query_id,
                "feedback": BY_PAYLOAD[FeedbackGiven].name,
                "settle_ms": self._settle // dt.timedelta(milliseconds=1),
                "page": limit,
            },
            "reading queries for the watch",
        )
        return [_observed(row) for row in rows]

    async def count_since(self, tenant: str, since: dt.datetime, until: dt.datetime) -> int:
        """Queries received after `since` and until `until`, as far as they are given by `after`.

        Raises Retryable, Fatal.
        """
        stored = await self._stored_until()
        if stored is None:
            return 0
        until = min(until, stored - self._settle)
        parameters = {
            "tenant": tenant,
            "since": (since - _EPOCH) // _MICROSECOND,
            "until": (until - _EPOCH) // _MICROSECOND,
        }
        ((count,),) = await _rows(self._client, self._count_sql, parameters, "counting queries")
        return int(count)


class ClickHouseUnitMeasures:
    """`UnitMeasures` over the view `experiment_units`."""

    def __init__(
        self, client: Client, committed: Callable[[], Awaitable[Offsets]], databases: Databases = LIVE
    ) -> None:
        self._client = client
        self._committed = committed
        self._sql = _UNITS.format(views=databases.views)

    async def __call__(self, tenant: str, experiment: str, measures: Sequence[str]) -> ExperimentUnits:
        """What the units did. Offsets are read first: the figures hold all they name. Raises Retryable."""
        offsets = await self._committed()
        wanted = sorted({*measures, _EVERY_QUERY})
        rows = await _rows(
            self._client,
            self._sql,
            {"tenant": tenant, "experiment": experiment, "measures": wanted},
            f"reading the units of {experiment}",
        )
        found: dict[str, list[UnitMeasure]] = {measure: [] for measure in wanted}
        excluded: set[str] = set()
        for unit, arm, is_excluded, measure, queries, value in rows:
            if is_excluded:
                excluded.add(unit)
            else:
                found[measure].append(
                    UnitMeasure(unit=unit, arm=arm, queries=int(queries), total=float(value))
                )
        exposed: dict[str, int] = {}
        for row in found[_EVERY_QUERY]:
            exposed[row.arm] = exposed.get(row.arm, 0) + 1
        return ExperimentUnits(
            measures={measure: tuple(found[measure]) for measure in measures},
            exposed=exposed,
            excluded_units=len(excluded),
            offsets=offsets,
        )


def _observed(row: Sequence[Any]) -> ObservedQuery:
    query_id, received_us, text, unit, version, experiments, arms, scores, rank, up, down = row
    return ObservedQuery(
        query_id=query_id,
        received_at=_EPOCH + int(received_us) * _MICROSECOND,
        text=text,
        unit=unit or None,
        pipeline_version=version,
        exposures=tuple(Exposure(e, a) for e, a in zip(experiments, arms, strict=True)),
        scores=tuple(float(score) for score in scores if score is not None),
        clicked_rank=int(rank) or None,
        thumbs_up=int(up),
        thumbs_down=int(down),
    )


async def _rows(client: Client, sql: str, parameters: dict[str, Any], doing: str) -> Sequence[Sequence[Any]]:
    try:
        result = await asyncio.to_thread(client.query, sql, parameters)
    except Exception as error:
        raise explain(error, doing) from error
    rows: Sequence[Sequence[Any]] = result.result_rows
    return rows
