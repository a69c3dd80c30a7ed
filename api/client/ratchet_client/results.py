"""What the methods return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Attribute = str | int | float | bool


@dataclass(frozen=True)
class Sent:
    """A stored event: its id and source, and what it names ('' where it names none)."""

    id: str
    source: str
    query_id: str = ""
    retrieval_id: str = ""
    answer_id: str = ""
    document_id: str = ""


@dataclass(frozen=True)
class Receipt:
    """Events that are stored, by id, in the order of sending."""

    ids: tuple[str, ...]

    @property
    def accepted(self) -> int:
        """How many."""
        return len(self.ids)


@dataclass(frozen=True)
class Exposure:
    """An arm of an experiment that a unit is shown."""

    experiment: str
    arm: str


@dataclass(frozen=True)
class Hit:
    """A document at a rank (1 is the top) of a result list that the application served."""

    document_id: str
    rank: int
    score: float | None = None
    text_hash: str | None = None
    propensity: float | None = None


@dataclass(frozen=True)
class FoundDocument:
    """A hit of a search."""

    document_id: str
    rank: int
    score: float
    title: str = ""
    text: str = ""
    fields: Mapping[str, Attribute] = field(default_factory=dict)
    propensity: float | None = None


@dataclass(frozen=True)
class Found:
    """The answer to a search. Name `query_id` and `retrieval_id` in feedback."""

    query_id: str
    retrieval_id: str
    version: str
    hits: tuple[FoundDocument, ...]
    exposures: tuple[Exposure, ...] = ()
    exploration: bool = False
    latency_ms: float | None = None


@dataclass(frozen=True)
class Serving:
    """What to serve to a unit, and which versions to prepare (the champion first)."""

    version: str | None
    exposures: tuple[Exposure, ...] = ()
    prepare: tuple[str, ...] = ()


def known_fields(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The members that this version of the client knows; a newer server may say more."""
    return {name: values[name] for name in kind.__dataclass_fields__ if name in values}


def read_exposures(values: Mapping[str, Any]) -> tuple[Exposure, ...]:
    """The exposures of an answer."""
    return tuple(Exposure(**known_fields(Exposure, value)) for value in values.get("exposures", ()))
