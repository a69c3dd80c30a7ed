"""Where the outside systems are. Loaded by `api/settings.py` only."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class KafkaSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log."""

    bootstrap: Annotated[str, Meta(description="host:port of the brokers, comma-separated")] = (
        "127.0.0.1:9092"
    )
    replication: Annotated[int, Meta(ge=1, description="copies of each topic; 3 outside a laptop")] = 1
    allow_forgetting: Annotated[bool, Meta(description="start although a log topic deletes records")] = False


class ClickHouseSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The analytical store: a server, or the engine process of a local stack."""

    url: Annotated[str, Meta(description="its HTTP interface")] = "http://127.0.0.1:8123"
    user: Annotated[str, Meta(description="account that migrates and writes")] = "ratchet"
    password: Annotated[str, Meta(description="of that account")] = ""
    cluster: Annotated[
        str,
        Meta(pattern="^[A-Za-z0-9_.-]*$", description="name of its cluster in ClickHouse; empty: one server"),
    ] = ""
    analyst_user: Annotated[str, Meta(description="account that may only read the promised views")] = (
        "analyst"
    )
    analyst_password: Annotated[str, Meta(description="of that account")] = ""


class ArtifactSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where versions and datasets lie."""

    directory: Annotated[str, Meta(description="of learner and search; relative to the data directory")] = (
        "artifacts"
    )
