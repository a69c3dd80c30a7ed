"""What the steps of the lifecycle's state machine are made of: refuse, or change the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from schemas.envelope import Event
from schemas.tenant_state import LifecycleState, VersionState

_T = TypeVar("_T")

#: State, event and its payload → the state after it. Pure. Raises IllegalStep.
Step = Callable[[LifecycleState, Event, Any], LifecycleState]
#: Payload type → its step.
Steps = Mapping[type[Struct], Step]


class IllegalStep(Exception):
    """The step is not legal now; the text says why."""


def require(condition: bool, reason: str) -> None:
    """Raises IllegalStep with this reason unless the condition holds."""
    if not condition:
        raise IllegalStep(reason)


def known_version(state: LifecycleState, version: str) -> VersionState:
    """What is known of the version. Raises IllegalStep: it was never proposed."""
    require(version in state.versions, f"no version {version!r} was proposed")
    return state.versions[version]


def change(state: LifecycleState, **changes: object) -> LifecycleState:
    """The state with these fields replaced."""
    return msgspec.structs.replace(state, **changes)


def put(mapping: Mapping[str, _T], key: str, value: _T) -> Mapping[str, _T]:
    """The mapping with `value` under `key`."""
    return MappingProxyType({**mapping, key: value})


def put_version(state: LifecycleState, version: str, **changes: object) -> Mapping[str, VersionState]:
    """The state's versions, this one with these fields replaced."""
    return put(state.versions, version, msgspec.structs.replace(state.versions[version], **changes))
