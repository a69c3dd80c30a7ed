"""The lifecycle in words: one paragraph for each type of step, with its figures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from api.cli.lifecycle import History, Step
from schemas import lifecycle as lc
from schemas.registry import BY_PAYLOAD

_PERSON: Final = "urn:ratchet:person:"


def title(step: Step) -> str:
    """`drift.detected` for a step."""
    return BY_PAYLOAD[type(step.payload)].short


def moment(time: dt.datetime) -> str:
    """A time as people here read it."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def tell(step: Step) -> str:
    """What happened, with its figures."""
    return _TELL[type(step.payload)](step.payload)


def tell_cause(step: Step, history: History) -> str:
    """Why it happened: the step before it, or who ordered it. '' if nothing caused it."""
    source, cause = step.event.source, step.event.causationid
    said = []
    if source.startswith(_PERSON):
        said.append(f"Ordered by {source.removeprefix(_PERSON)}.")
    if cause:
        before = history.find(cause)
        if before is not None:
            said.append(f"Cause: {title(before)} of {moment(before.event.recordedtime)}.")
        elif cause.startswith("ratchet "):
            said.append(f"Command: {cause}")
        else:
            said.append(f"Cause: {cause}.")
    return " ".join(said)


def figure(value: float | None) -> str:
    """Four digits behind the point, or a dash."""
    return "–" if value is None else f"{value:.4f}"


def tell_measure(measure: lc.Measure | None) -> str:
    """A measure with its interval, and what the interval means."""
    if measure is None:
        return ""
    if measure.estimate is None:
        return f"{measure.metric}: {measure.note or 'cannot say'}."
    text = f"{measure.metric} differs by {measure.estimate:+.4f}"
    if measure.low is not None and measure.high is not None:
        text += f" [{measure.low:+.4f}, {measure.high:+.4f}]"
    about = []
    if measure.units:
        about.append(f"{measure.units:,} units")
    if measure.alpha is not None:
        about.append(f"alpha {measure.alpha:.3g}")
    if measure.horizon:
        about.append("always-valid" if measure.horizon == "always" else "fixed-horizon")
    if measure.resampled:
        about.append(f"over {measure.resampled}")
    return text + (f" ({', '.join(about)})." if about else ".")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items()) or "none"


def _sentence(text: str) -> str:
    """A reason as a sentence."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


def _configured(p: lc.TenantConfigured) -> str:
    far = {
        "propose": "proposes versions and waits for a person before any user sees them",
        "auto": "tries admitted versions on some users and promotes those that win, on its own",
    }
    return f"Mode is {p.mode}: the learner {far[p.mode]}."


def _drift(p: lc.DriftDetected) -> str:
    fired = [s for s in p.signals if s.fired]
    signs = "; ".join(
        f"{s.column} reached {s.statistic:.4g} against {s.threshold:.4g}"
        + ("" if s.p_value is None else f" (p = {s.p_value:.3g})")
        + f" by {s.method}"
        for s in fired
    )
    return (
        f"The queries that champion {p.champion} gets are no longer what they were: window {p.window} of "
        f"{p.window_queries:,} queries differs from the reference of {p.reference_queries:,}. "
        + (f"{_sentence(signs)} " if signs else "")
        + f"A watch without drift raises this at most {p.alpha:.0%} of the time."
    )


def _requested(p: lc.TrainingRequested) -> str:
    why = {"drift": "because of drift", "command": "by command", "schedule": "by schedule"}[p.reason]
    return f"A training against champion {p.champion} was requested {why} (seed {p.seed})."


def _frozen(p: lc.DatasetFrozen) -> str:
    events = sum(p.offsets.get("interactions", {}).values())
    text = (
        f"Dataset {p.dataset_id[:12]} is fixed: the first {events:,} records of interactions. "
        f"Questions: {_counts(p.queries)}; pairs: {_counts(p.pairs)}"
    )
    return text + (f"; left out: {_counts(p.dropped)}." if p.dropped else ".")


def _trial(p: lc.TrialFinished) -> str:
    if p.state == "failed":
        return f"Trial {p.number} failed after {p.seconds:.0f} s: {_sentence(p.error)}"
    chosen = ", ".join(f"{name} {_short(value)}" for name, value in p.parameters.items())
    return (
        f"Trial {p.number} took {p.seconds:.0f} s and reached {figure(p.value)} nDCG@10 on the validation "
        f"questions" + (f" with {chosen}." if chosen else ".")
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _proposed(p: lc.VersionProposed) -> str:
    origin = {
        "base": "It is the base: a model that nothing was learned for yet",
        "trained": f"It was trained from {p.parent or 'nothing'} on dataset {p.dataset_id[:12]}",
        "imported": "It was brought from elsewhere",
    }[p.origin]
    trial = "" if p.trial is None else f", trial {p.trial}"
    validation = "" if p.validation is None else f", nDCG@10 {figure(p.validation)} on validation"
    return f"Version {p.version} exists, complete and checked. {origin}{trial}{validation}."


def _judged(p: lc.VersionJudged) -> str:
    verdict = {
        "admitted": "admits it: it may be tried on users",
        "refused": "refuses it",
        "cannot_say": "cannot say, so the champion stays",
    }[p.verdict]
    return (
        f"The judge compared version {p.version} with champion {p.champion} on questions that nobody trained "
        f"on and {verdict}. {_sentence(p.reason)} {tell_measure(p.measure)} Down to {-p.margin:+.3g} counts "
        f"as no worse; {p.unlabelled_ratio:.0%} of what was found had no label."
    )


def _rollout(p: lc.RolloutStarted) -> str:
    guards = "; ".join(
        f"{name} may {'fall' if change >= 0 else 'rise'} by {abs(change):.0%}"
        for name, change in p.guardrails.items()
    )
    return (
        f"{p.share:.0%} of the units get version {p.challenger} instead of {p.champion} "
        f"(rollout {p.rollout}). The rule: one always-valid interval of {p.metric} at alpha {p.alpha:.3g}, "
        f"from {p.minimum_units:,} units an arm on, decides; until {moment(p.deadline)}"
        + (f"; guardrails: {guards}." if guards else ".")
    )


def _promoted(p: lc.VersionPromoted) -> str:
    by = {"canary": "won its canary", "person": "was promoted by a person", "first": "is the first"}[p.by]
    return " ".join(
        part
        for part in (
            f"Version {p.version} {by} and is the champion from now on"
            + (f", in place of {p.previous}." if p.previous else "."),
            _sentence(p.reason),
            tell_measure(p.measure),
        )
        if part
    )


def _rejected(p: lc.VersionRejected) -> str:
    said = f"Version {p.version} will not serve; the champion stays."
    return " ".join(part for part in (said, _sentence(p.reason), tell_measure(p.measure)) if part)


def _rolled_back(p: lc.VersionRolledBack) -> str:
    said = f"Version {p.version} was taken out and {p.to} serves."
    return " ".join(part for part in (said, _sentence(p.reason), tell_measure(p.measure)) if part)


def _defined(p: lc.ExperimentDefined) -> str:
    arms = ", ".join(
        f"{arm.name} {arm.weight:.0%}" + (f" on version {arm.version}" if arm.version else "")
        for arm in p.arms
    )
    share = "" if p.coverage == 1 else f" {p.coverage:.0%} of the units take part."
    return (
        f"Experiment {p.experiment} has the arms {arms} ({p.arms[0].name} is the control) and measures "
        f"{', '.join(p.metrics)} at alpha {p.alpha:.3g}.{share}"
    )


def _key_issued(p: lc.KeyIssued) -> str:
    name = f" ({p.name})" if p.name else ""
    return f"Key {p.key_id}{name} was issued; it may {', '.join(p.scopes)}."


def _measured(p: lc.ExperimentMeasured) -> str:
    said = []
    for result in p.results:
        text = f"{result.metric} of {result.arm} is {figure(result.mean)} over {result.units:,} units"
        if result.always is not None:
            text += f": {tell_measure(result.always).rstrip('.')}"
        said.append(text + ".")
    if p.excluded_units:
        said.append(f"{p.excluded_units:,} units were seen in two arms and left out.")
    if p.sample_ratio_p is not None and p.sample_ratio_p < 0.01:
        said.append(f"The arms did not get their shares (p = {p.sample_ratio_p:.2g}): trust no comparison.")
    return f"Experiment {p.experiment} was measured. " + " ".join(said)


_TELL: Final[dict[type[Struct], Callable[[Any], str]]] = {
    lc.TenantConfigured: _configured,
    lc.DriftDetected: _drift,
    lc.TrainingRequested: _requested,
    lc.DatasetFrozen: _frozen,
    lc.TrialFinished: _trial,
    lc.TrainingAbandoned: lambda p: f"The training ended without a version. {_sentence(p.reason)}",
    lc.VersionProposed: _proposed,
    lc.VersionJudged: _judged,
    lc.VersionReady: lambda p: f"{_sentence(p.by).rstrip('.')} says that version {p.version} can serve.",
    lc.RolloutStarted: _rollout,
    lc.RolloutAdvanced: lambda p: (
        f"Rollout {p.rollout} goes on"
        + ("" if p.share is None else f" with {p.share:.0%} of the units")
        + f". {tell_measure(p.measure)}"
    ),
    lc.VersionPromoted: _promoted,
    lc.VersionRejected: _rejected,
    lc.VersionRolledBack: _rolled_back,
    lc.ExperimentDefined: _defined,
    lc.ExperimentStarted: lambda p: f"Units are assigned to experiment {p.experiment} from now on.",
    lc.ExperimentStopped: lambda p: (
        f"Experiment {p.experiment} assigns nobody any more. {_sentence(p.reason)}"
    ),
    lc.ExperimentMeasured: _measured,
    lc.MetricDefined: lambda p: f"Metric {p.metric} means {p.expression}.",
    lc.KeyIssued: _key_issued,
    lc.KeyRevoked: lambda p: f"Key {p.key_id} is void.",
    lc.RejectionReplayed: lambda p: (
        f"Rejected entry {p.entry_id[:12]} was mended and sent again as event {p.event_id} "
        f"of {p.event_source}."
    ),
    lc.RejectionDiscarded: lambda p: f"Rejected entry {p.entry_id[:12]} was set aside. {_sentence(p.reason)}",
    lc.TopicClosed: lambda p: (
        f"Doors take nothing for topic {p.topic}" + (f": {p.reason}." if p.reason else ".")
    ),
    lc.TopicOpened: lambda p: (
        f"Doors take events for topic {p.topic} again; it has {p.partitions} partitions."
    ),
    lc.AlertRaised: lambda p: (
        f"Alert {p.alert}: {_sentence(p.summary)}" + ("" if p.value is None else f" Value {p.value:.4g}.")
    ),
    lc.AlertCleared: lambda p: f"Alert {p.alert} is over.",
}
