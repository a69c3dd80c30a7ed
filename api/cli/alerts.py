"""The alerts that are raised, asked of the process `alerts`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.cli.project import http_url
from api.settings import Settings

if TYPE_CHECKING:
    from api.http.alerts import ShownAlerts


def read_alerts(settings: Settings) -> ShownAlerts | None:
    """What is raised; None if the process does not answer."""
    import httpx
    import msgspec

    from api.http.alerts import ShownAlerts

    try:
        answer = httpx.get(f"{http_url(settings.alerts_http)}/alerts", timeout=2.0, trust_env=False)
        return msgspec.json.decode(answer.raise_for_status().content, type=ShownAlerts)
    except (httpx.HTTPError, msgspec.MsgspecError):
        return None
