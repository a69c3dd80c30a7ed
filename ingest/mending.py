"""How a rejected original is mended: renamed, mapped, set, dropped and patched members of its JSON. Pure.

A path is dotted: `data.hits.0.rank`; a number is the index of a list. A member whose name has a dot in it is
reached by a patch only.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ingest.refusals import DECODER_ERRORS, refuse_json
from ingest.strict_json import MAX_NESTING
from schemas.codec import canonical_json
from schemas.errors import Reason, Rejectable

_decode: Final = msgspec.json.Decoder().decode
_NOTHING: Final = object()


class Mend(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to change, in this order: `whole`, `rename`, `values`, `set`, `drop`, `patch`.

    `rename`, `values` and `drop` leave alone what does not have the member: one mend serves many entries.
    """

    #: Takes the place of the original: for what is no JSON, or was not kept whole.
    whole: Raw | UnsetType = UNSET
    #: Old path → new path.
    rename: dict[str, str] = {}
    #: Path → value (a text as it is, all else as JSON) → what stands there instead.
    values: dict[str, dict[str, Any]] = {}
    #: Path → value; objects on the way are made.
    set: dict[str, Any] = {}
    drop: tuple[str, ...] = ()
    #: A JSON merge patch (RFC 7396).
    patch: Any | UnsetType = UNSET

    @property
    def empty(self) -> bool:
        """Changes nothing."""
        return self.whole is UNSET and not self._changes

    @property
    def _changes(self) -> bool:
        return bool(self.rename or self.values or self.set or self.drop) or self.patch is not UNSET

    def apply(self, original: bytes) -> bytes:
        """The mended bytes; the very same bytes if there is nothing to change. Raises Rejectable."""
        if self.whole is not UNSET:
            original = bytes(self.whole)
        if not self._changes:
            return original
        try:
            value = _decode(original)
        except DECODER_ERRORS as error:
            why = refuse_json(error, field="")
            raise Rejectable(
                Reason.INVALID_JSON,
                f"the original is no JSON, so nothing in it can change ({why.message}): give the whole event",
            ) from error
        for path in (*self.rename.values(), *self.set):
            if path.count(".") >= MAX_NESTING:
                raise Rejectable(
                    Reason.INVALID_VALUE, f"expected a path of at most {MAX_NESTING} steps", field=path[:100]
                )
        for old, new in self.rename.items():
            moved = _take(value, old)
            if moved is not _NOTHING:
                _put(value, new, moved)
        for path, mapping in self.values.items():
            found = _look(value, path)
            if found is not _NOTHING and (name := _value_name(found)) in mapping:
                _put(value, path, mapping[name])
        for path, wanted in self.set.items():
            _put(value, path, wanted)
        for path in self.drop:
            _take(value, path)
        if self.patch is not UNSET:
            value = merge_patch(value, self.patch)
        try:
            return msgspec.json.encode(value)
        except (RecursionError, ValueError) as error:  # what came was nested deeper than anything we take
            raise Rejectable(
                Reason.INVALID_VALUE, f"the mended original cannot be written as JSON: {error}"
            ) from error


def merge_patch(target: Any, patch: Any) -> Any:
    """The target with a JSON merge patch applied (RFC 7396 §2): null removes, lists are replaced whole."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _index(step: str) -> int | None:
    return int(step) if step.isdecimal() and len(step) < 10 else None


def _value_name(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value).decode()


def _look(value: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and (index := _index(step)) is not None and index < len(value):
            value = value[index]
        else:
            return _NOTHING
    return value


def _take(value: Any, path: str) -> Any:
    """Removes and returns what stands at the path."""
    above, _, last = path.rpartition(".")
    parent = _look(value, above) if above else value
    if isinstance(parent, dict):
        return parent.pop(last, _NOTHING)
    if isinstance(parent, list) and (index := _index(last)) is not None and index < len(parent):
        return parent.pop(index)
    return _NOTHING


def _put(value: Any, path: str, wanted: Any) -> None:
    *above, last = path.split(".")
    for done, step in enumerate(above, 1):
        inner = _look(value, step)
        if inner is _NOTHING and isinstance(value, dict):
            inner = value[step] = {}
        if not isinstance(inner, dict | list):
            raise _unreachable(path, ".".join(above[:done]))
        value = inner
    if isinstance(value, dict):
        value[last] = wanted
    elif isinstance(value, list) and (index := _index(last)) is not None and index <= len(value):
        value[index : index + 1] = [wanted]
    else:
        raise _unreachable(path, ".".join(above))


def _unreachable(path: str, where: str) -> Rejectable:
    return Rejectable(
        Reason.INVALID_VALUE,
        f"{path} cannot be set: {where or 'the original'} is no object, and no list that reaches so far",
        field=path,
    )
