"""The first version of a tenant: a pipeline around a model that nobody here trained."""

from __future__ import annotations

import datetime as dt
from typing import Final

from msgspec import Struct

from learners.artifacts import Artifacts
from learners.pipeline.manifest import hash_file
from learners.pipeline.publish import create_base_version
from learners.search.settings import SearchSettings
from schemas.codec import seal_event
from schemas.envelope import Event
from schemas.ids import derive_id, step_id
from schemas.lifecycle import VersionPromoted, VersionProposed, VersionReady
from schemas.tenant_state import LifecycleState
from schemas.versions import MANIFEST_NAME, FusionSettings

BASE_VERSION: Final = "1.0.0"
_SOURCE: Final = "ratchet/search"


def propose_base(
    tenant: str, state: LifecycleState, artifacts: Artifacts, settings: SearchSettings, now: dt.datetime
) -> tuple[Event, ...]:
    """Publish the base version's directory and return the events that make it champion.

    Their ids are derived, so that doing this twice, or in two processes, makes one base.
    """
    directory = artifacts.version(tenant, BASE_VERSION)
    if not directory.exists():  # settings may have changed since; the base that serves does not
        create_base_version(
            directory,
            model=settings.base_model,
            version=BASE_VERSION,
            fusion=FusionSettings(method="convex", dense_weight=settings.base_dense_weight),
        )
    proposed_id = derive_id("base", tenant)
    steps: tuple[tuple[Struct, str, str | None], ...] = (
        (
            VersionProposed(
                version=BASE_VERSION, manifest_hash=hash_file(directory / MANIFEST_NAME), origin="base"
            ),
            proposed_id,
            None,
        ),
        (VersionReady(version=BASE_VERSION), step_id(proposed_id, "version.ready"), proposed_id),
        (
            VersionPromoted(version=BASE_VERSION, by="first", reason="the first version of this tenant"),
            step_id(proposed_id, "version.promoted"),
            proposed_id,
        ),
    )
    if state.base is not None:
        steps = steps[1:]
    return tuple(
        seal_event(
            payload, id=id, source=_SOURCE, tenant=tenant, recordedtime=now, door="search", causationid=cause
        )
        for payload, id, cause in steps
    )
