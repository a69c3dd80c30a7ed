"""The example of each event type, as it lies in `schemas/examples`."""

from __future__ import annotations

import functools
from importlib import resources

from schemas.registry import EventType


@functools.cache
def example_bytes(event_type: EventType) -> bytes:
    """The example's JSON: as an application sends it, or for the platform's own types as it is stored.

    Raises FileNotFoundError if a type has none; a test sees to it that each has one.
    """
    return (resources.files("schemas") / "examples" / f"{event_type.short}.json").read_bytes()
