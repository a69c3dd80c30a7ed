"""What JSON may hold here beyond its grammar: how deep it nests, and which numbers there are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Final

from msgspec import Raw

from schemas.errors import Reason, Rejectable

#: Objects and lists inside one another. What we take is at most 6 deep.
MAX_NESTING: Final = 64
#: In a longer input the field of a bad number is not looked for.
_MAX_SEARCHED_BYTES: Final = 1024 * 1024

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_BRACKET: Final = bytes(set(range(256)) - set(b"[]{}"))
_CONSTANT: Final = re.compile(rb"NaN|Infinity")


def nested_deeper(body: bytes | Raw, limit: int) -> bool:
    """Whether brackets outside of texts are open more than `limit` deep, anywhere in the input."""
    brackets = _STRING.sub(b"", bytes(body)).translate(None, _NO_BRACKET)
    depth = 0
    for bracket in brackets:
        if bracket in b"[{":
            depth += 1
            if depth > limit:
                return True
        else:
            depth -= 1
    return False


def refuse_nesting() -> Rejectable:
    """The refusal for what is nested deeper than MAX_NESTING."""
    return Rejectable(
        Reason.TOO_LARGE,
        f"expected objects and lists at most {MAX_NESTING} deep, got more; nothing that is taken here needs "
        "that: send it flatter",
    )


def refuse_number(body: bytes | Raw) -> Rejectable | None:
    """The refusal for a number that JSON does not have (NaN, Infinity), with its field; None without one."""
    if memoryview(body).nbytes > _MAX_SEARCHED_BYTES or not _CONSTANT.search(bytes(body)):
        return None
    try:
        field, value = next(_not_finite(json.loads(bytes(body)), ""))
    except (ValueError, RecursionError, StopIteration):
        return None
    return Rejectable(
        Reason.INVALID_VALUE,
        f"{field or 'the value'}: expected a finite number, got {_name(value)}, which JSON does not have; "
        "send a number, or leave the field out",
        field=field,
    )


def _name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _not_finite(value: object, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path.removeprefix("."), value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _not_finite(member, f"{path}.{name[:100]}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _not_finite(member, f"{path}.{index}")
