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
class Arm:
    """An arm of a rule. `version` is what its units are served; '' changes nothing."""

    name: str
    weight: float
    version: str = ""


@dataclass(frozen=True)
class Rule:
    """An experiment that units are assigned to, with what the assignment hash needs (see `assignment`)."""

    experiment: str
    seed: str
    arms: tuple[Arm, ...]
    coverage: float = 1.0


@dataclass(frozen=True)
class Serving:
    """What to serve to a unit, and which versions to prepare (the champion first).

    `rules` is what was asked for without a unit: all that assigns units. None if a unit was named, and from a
    server that does not tell.
    """

    version: str | None
    exposures: tuple[Exposure, ...] = ()
    prepare: tuple[str, ...] = ()
    rules: tuple[Rule, ...] | None = None


def known_fields(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The members that this version of the client knows; a newer server may say more."""
    return {name: values[name] for name in kind.__dataclass_fields__ if name in values}


def read_exposures(values: Mapping[str, Any]) -> tuple[Exposure, ...]:
    """The exposures of an answer."""
    return tuple(Exposure(**known_fields(Exposure, value)) for value in values.get("exposures", ()))


def read_rules(values: Mapping[str, Any]) -> tuple[Rule, ...] | None:
    """The rules of an answer; None if it has none."""
    if values.get("rules") is None:
        return None
    return tuple(
        Rule(
            **{
                **known_fields(Rule, rule),
                "arms": tuple(Arm(**known_fields(Arm, arm)) for arm in rule["arms"]),
            }
        )
        for rule in values["rules"]
    )


def serving_of(values: Mapping[str, Any]) -> Serving:
    """The answer of `GET /v1/serving`."""
    prepare = tuple(values.get("prepare", ()))
    return Serving(values["version"], read_exposures(values), prepare, read_rules(values))


def sent_of(event: Mapping[str, Any]) -> Sent:
    """What a report is known by."""
    data = {name: value for name, value in event["data"].items() if name in _NAMES}
    return Sent(event["id"], event["source"], **data)


_NAMES = ("query_id", "retrieval_id", "answer_id", "document_id")
