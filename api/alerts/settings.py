"""Settings of the evaluation inside."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class AlertSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alerts that are evaluated without Prometheus, and who is told of them."""

    interval_s: Annotated[float, Meta(gt=0, le=60, description="between two looks at all processes")] = 15.0
    timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="a process or a webhook that takes longer has not answered")
    ] = 5.0
    targets: Annotated[
        dict[str, tuple[str, ...]],
        Meta(description="job → base URLs of its processes; {}: one process of each, where settings say"),
    ] = {}
    thresholds: Annotated[
        dict[str, float], Meta(description="alert → threshold, instead of that in its rule")
    ] = {}
    webhook_url: Annotated[
        str, Meta(description="gets a POST, as Alertmanager sends it; '': nobody is told")
    ] = ""
    webhook_secret: Annotated[
        str, Meta(description="signs it, HMAC-SHA256; '': unsigned. As a file: `…WEBHOOK_SECRET_FILE`")
    ] = ""
    repeat_s: Annotated[float, Meta(gt=0, description="an alert that stays is told again after this")] = (
        14_400.0
    )
