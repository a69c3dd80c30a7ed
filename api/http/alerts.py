"""What is raised, for `ratchet status` and whoever has no Prometheus."""

from __future__ import annotations

import datetime as dt

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from msgspec import json as msgspec_json

from api.alerts.watch import AlertWatch


class ShownAlert(Struct, frozen=True):
    """One alert that is raised. `value` is None if it was raised before the process began."""

    alert: str
    severity: str
    labels: dict[str, str]
    summary: str
    runbook: str
    value: float | None
    since: dt.datetime


class ShownAlerts(Struct, frozen=True):
    """All that is raised as of `evaluated_at`; None before the first look."""

    evaluated_at: dt.datetime | None
    alerts: tuple[ShownAlert, ...]


def alert_routes(watch: AlertWatch) -> list[HTTPRouteHandler]:
    """The routes of this module."""

    @get("/alerts", sync_to_thread=False)
    def get_alerts() -> Response[bytes]:
        shown = ShownAlerts(
            None if watch.looked_at_s is None else dt.datetime.fromtimestamp(watch.looked_at_s, dt.UTC),
            tuple(
                ShownAlert(
                    one.alert.name,
                    one.alert.severity,
                    dict(one.labels),
                    one.summary,
                    one.alert.runbook,
                    one.value,
                    dt.datetime.fromtimestamp(one.since_s, dt.UTC),
                )
                for _, one in sorted(watch.raised.items())
            ),
        )
        return Response(msgspec_json.encode(shown), media_type="application/json")

    return [get_alerts]
