"""Strict twins of the payload types: what doors let in is narrower than what readers understand.

A twin accepts exactly the fields of its original, recursively, and bounds what the schema leaves open:
names and ids, counts, and integers (they end in 32- and 64-bit columns). It only checks; the payload
itself is decoded by the original type.
"""

from __future__ import annotations

import functools
import operator
import types
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

#: Characters of an id, a source, a name, or a key of `attributes`.
MAX_NAME_CHARACTERS: Final = 256
#: Entries of a list in `data`.
MAX_ENTRIES: Final = 1000
#: Entries of `attributes` or `fields`.
MAX_ATTRIBUTES: Final = 200
MAX_INT: Final = 2**31 - 1
# Types that are put together at run time: to a type checker they are values.
_TUPLE: Any = tuple
_DICT: Any = dict
_BIG_INT: Final = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_BOUNDS: Final = ("gt", "ge", "lt", "le", "pattern", "min_length", "max_length", "tz")
_NAMES: Final = frozenset(
    {"user", "session", "device", "experiment", "arm", "name", "pipeline_version", "generator"}
)


@functools.cache
def strict_twin(payload: type[Struct]) -> type[Struct]:
    """The strict form of a payload type, to decode with. Same field names, required where the original is."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(payload):
        narrowed = _narrow(field.type, field.name)
        if field.required:
            fields.append((field.encode_name, narrowed))
        else:  # the default does not matter in a type that only checks
            fields.append((field.encode_name, narrowed | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct(
        payload.__name__, fields, kw_only=True, frozen=True, forbid_unknown_fields=True, gc=False
    )


def _annotated(narrowed: Any, metas: list[Any]) -> Any:
    """`narrowed` with the schema's own bounds; where both set one, the schema's holds."""
    bounds = {}
    if get_origin(narrowed) is Annotated:
        narrowed, *ours = get_args(narrowed)
        metas = [*ours, *metas]
    for meta in metas:
        if isinstance(meta, Meta):
            bounds.update({name: getattr(meta, name) for name in _BOUNDS if getattr(meta, name) is not None})
    return Annotated[narrowed, Meta(**bounds)]


def _narrow(annotation: Any, name: str) -> Any:
    """The type of a field with our bounds added."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return strict_twin(annotation)
    if origin is Annotated:
        inner, *metas = get_args(annotation)
        return _annotated(_narrow(inner, name), metas)
    if origin in (Union, types.UnionType):
        members = get_args(annotation)
        numeric = float in members
        return functools.reduce(
            operator.or_, (_BIG_INT if numeric and m is int else _narrow(m, name) for m in members)
        )
    if origin is tuple:
        return Annotated[_TUPLE[_narrow(get_args(annotation)[0], ""), ...], Meta(max_length=MAX_ENTRIES)]
    if origin is dict:
        key = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
        return Annotated[_DICT[key, _narrow(get_args(annotation)[1], "")], Meta(max_length=MAX_ATTRIBUTES)]
    if annotation is int:
        return Annotated[int, Meta(le=MAX_INT)]
    if annotation is str and name.endswith(("_id", "_source")):
        return Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
    if annotation is str and name in _NAMES:
        return Annotated[str, Meta(max_length=MAX_NAME_CHARACTERS)]
    if origin is Literal or annotation in (str, float, bool, type(None)):
        return annotation
    raise TypeError(f"no strict form is defined for {annotation!r} (field {name!r}): add it here")
