"""What the learner does, read from the view `lifecycle`: the steps, their causes, and the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from infra.demo.stack import Stack

_POLL_S: Final = 0.7
#: Between two looks at whether the stack is well.
_CHECK_S: Final = 15.0
_PREFIX, _SUFFIX = "ratchet.", ".v1"

#: Steps that end a training, one way or another.
VERDICTS: Final = frozenset(
    {"version.promoted", "version.rejected", "version.rolled_back", "training.abandoned"}
)
#: Looks that decide nothing are no link of the chain.
_LOOKS: Final = frozenset({"experiment.measured", "rollout.advanced"})


class Step(Struct, frozen=True, kw_only=True):
    """An accepted lifecycle event."""

    type: str
    id: str
    causation_id: str
    #: ISO 8601, UTC: when it was received.
    time: str
    data: dict[str, Any]

    @property
    def name(self) -> str:
        """`version.promoted` of `ratchet.version.promoted.v1`."""
        return self.type.removeprefix(_PREFIX).removesuffix(_SUFFIX)


class Story:
    """The steps so far, in the order of the log. `look` reads on; `until` looks until something is there."""

    def __init__(self, stack: Stack, on_step: Callable[[Step], None]) -> None:
        self._stack = stack
        self._on_step = on_step
        self._offset = -1
        self.steps: list[Step] = []

    async def look(self) -> None:
        """Read what is new. Raises DemoError."""
        rows = await self._stack.rows(
            "SELECT offset, type, event_id, causation_id, outcome, data, "
            "formatDateTime(received_time, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC') AS time "
            f"FROM lifecycle WHERE tenant = 'default' AND offset > {self._offset} ORDER BY offset"
        )
        for row in rows:
            self._offset = row["offset"]
            if row["outcome"] == "accepted":
                step = Step(
                    type=row["type"],
                    id=row["event_id"],
                    causation_id=row["causation_id"],
                    time=row["time"],
                    data=msgspec.json.decode(row["data"]),
                )
                self.steps.append(step)
                self._on_step(step)

    async def until(self, found: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it came in time. Raises DemoError."""
        deadline = time.monotonic() + timeout_s
        checked = time.monotonic()
        while True:
            await self.look()
            if time.monotonic() - checked >= _CHECK_S:
                await self._stack.check()
                checked = time.monotonic()
            if found():
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)

    def last(self, *names: str) -> Step | None:
        """The latest step of one of these names."""
        return next((step for step in reversed(self.steps) if step.name in names), None)

    def first(self, name: str) -> Step | None:
        """The earliest step of this name."""
        return next((step for step in self.steps if step.name == name), None)

    @property
    def champion(self) -> str | None:
        """The version that serves."""
        step = self.last("version.promoted", "version.rolled_back")
        if step is None:
            return None
        version: str = step.data["version" if step.name == "version.promoted" else "to"]
        return version

    @property
    def chain(self) -> list[Step]:
        """From the first drift to the verdict: every step that follows from that drift, in order."""
        drift = self.first("drift.detected")
        if drift is None:
            return []
        known = {drift.id}
        chain = [drift]
        for step in self.steps[self.steps.index(drift) + 1 :]:
            if step.causation_id in known and step.name not in _LOOKS:
                known.add(step.id)
                chain.append(step)
                if step.name in VERDICTS:
                    break
        return chain

    @property
    def verdict(self) -> Step | None:
        """The chain's last step, if it is a verdict."""
        chain = self.chain
        return chain[-1] if chain and chain[-1].name in VERDICTS else None


def tell(step: Step) -> str:
    """One line for a person; '' for steps that need none."""
    teller = _TELLERS.get(step.name)
    return teller(step.data) if teller else ""


def _drift(data: dict[str, Any]) -> str:
    fired = [
        f"{signal['column']} ({signal['method'].split(':')[0]}: {_number(signal['statistic'])}, "
        f"alarm at {_number(signal['threshold'])})"
        for signal in data.get("signals", ())
        if signal.get("fired")
    ]
    return (
        f"drift: window {data['window']} after {data['reference_queries']} normal queries: {', '.join(fired)}"
    )


def _frozen(data: dict[str, Any]) -> str:
    questions = ", ".join(f"{count:,} {name}" for name, count in sorted(data.get("queries", {}).items()))
    return f"dataset {data['dataset_id'][:12]}: {questions}; {sum(data.get('pairs', {}).values()):,} pairs"


def _trial(data: dict[str, Any]) -> str:
    if data["state"] != "complete":
        return f"trial {data['number']}: failed after {data['seconds']:.0f} s: {data.get('error', '')}"
    parameters = data.get("parameters", {})
    if not parameters.get("train"):
        how = "no training, fusion tuned"
    else:
        shown = {name: value for name, value in parameters.items() if name != "train"}
        how = ", ".join(f"{name} {_number(value)}" for name, value in shown.items())
    return f"trial {data['number']}: nDCG@10 {data['value']:.3f} in {data['seconds']:.0f} s ({how})"


def _proposed(data: dict[str, Any]) -> str:
    if data.get("origin") == "base":
        return f"version {data['version']} is the base"
    value = data.get("validation")
    return f"version {data['version']} proposed, of trial {data.get('trial')}" + (
        f": nDCG@10 {value:.3f} on validation groups" if value is not None else ""
    )


def _judged(data: dict[str, Any]) -> str:
    verdict = data["verdict"].replace("_", " ")
    why = "" if data["verdict"] == "admitted" else f": {data['reason']}"
    return f"judge: {verdict}: nDCG@10 {interval_of(data['measure'])} against {data['champion']}{why}"


def _rollout(data: dict[str, Any]) -> str:
    return (
        f"canary: {data['challenger']} for {data['share']:.0%} of customers; decided by {data['metric']} "
        f"at alpha {data['alpha']:g}"
    )


def _measured(data: dict[str, Any]) -> str:
    for result in data.get("results", ()):
        always = result.get("always")
        if always and always.get("low") is None:
            return f"canary: {result['metric']} {interval_of(always)}"
        if always:
            return (
                f"canary: {result['metric']} {interval_of(always)}, {result['units']:,} customers in the arm"
            )
    return ""


def _promoted(data: dict[str, Any]) -> str:
    if data.get("by") == "first":
        return ""
    return f"promoted: {data['version']}: {data['reason']}"


_TELLERS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "drift.detected": _drift,
    "training.requested": lambda data: f"training requested (champion {data['champion']})",
    "dataset.frozen": _frozen,
    "trial.finished": _trial,
    "training.abandoned": lambda data: f"training abandoned: {data['reason']}",
    "version.proposed": _proposed,
    "version.judged": _judged,
    "version.ready": lambda data: f"version {data['version']} is ready to serve",
    "rollout.started": _rollout,
    "experiment.measured": _measured,
    "version.promoted": _promoted,
    "version.rejected": lambda data: f"rejected: {data['version']}: {data['reason']}",
    "version.rolled_back": lambda data: f"rolled back: {data['version']}: {data['reason']}",
}


def interval_of(measure: dict[str, Any]) -> str:
    """`+0.053 [+0.021, +0.085]`, or why there is none."""
    estimate, low, high = (measure.get(name) for name in ("estimate", "low", "high"))
    if estimate is None:
        return str(measure.get("note") or "nothing can be said")
    if low is None or high is None:
        return f"{estimate:+.3f}"
    return f"{estimate:+.3f} [{low:+.3f}, {high:+.3f}]"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
