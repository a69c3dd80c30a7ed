"""Settings of the stream worker."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class StreamSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the worker reads, folds and writes."""

    group: Annotated[str, Meta(min_length=1, description="consumer group; its offsets say what is done")] = (
        "ratchet-streams"
    )
    instance: Annotated[
        str, Meta(description="static member id: a restarted worker takes its partitions back at once")
    ] = "worker-1"
    workers: Annotated[
        int, Meta(ge=1, le=32, description="of a local stack; elsewhere start more, each with an instance")
    ] = 1
    batch_events: Annotated[int, Meta(ge=1, le=10_000, description="most events in one batch")] = 9000
    batch_wait_s: Annotated[float, Meta(gt=0, le=5, description="longest wait for a batch to fill")] = 0.2
    commit_interval_s: Annotated[float, Meta(gt=0, le=60, description="between commits of offsets")] = 1.0
    session_timeout_s: Annotated[
        float, Meta(ge=6, le=60, description="after this long without a heartbeat another worker takes over")
    ] = 6.0
    retry_for_s: Annotated[
        float,
        Meta(gt=0, description="a store that stays down this long ends the process; a statement has half"),
    ] = 30.0
    known_bytes: Annotated[
        int, Meta(ge=0, description="stored records kept in memory, so that late feedback needs no look-up")
    ] = 64 * 1024 * 1024
    lag_interval_s: Annotated[float, Meta(gt=0, le=300, description="how often `lag` is written")] = 2.0
