"""What `ratchet doctor` makes of its figures: a pure function, so that every finding can be tried."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from api.cli.examination import Figures
from learners.freeze.readiness import Need
from learners.freeze.settings import FreezeSettings

_ASKED: Final = "ratchet.query.asked.v1"
_SERVED: Final = "ratchet.retrieval.served.v1"
_FEEDBACK: Final = "ratchet.feedback.given.v1"
#: Feedback normally comes minutes after its query at most; later, the query was never reported.
_WAITING_LONG_S: Final = 600

Level = Literal["problem", "hint", "good"]


class Finding(Struct, frozen=True):
    """Something that holds learning up, or would help it, and what to do about it."""

    level: Level
    what: str
    todo: str = ""


def training_needs(figures: Figures, settings: FreezeSettings) -> tuple[Need, ...]:
    """What the next training needs, as far as it can be counted without the embedder.

    Questions are counted by their text, and spread over the splits by their shares; the learner groups
    similar ones, so that it may count fewer.
    """
    needed = (
        settings.minimum_train_questions,
        settings.minimum_validation_groups,
        settings.minimum_judge_groups,
    )
    splits = zip(("training", "validation", "the judge"), settings.shares, needed, strict=True)
    return tuple(
        Need(
            what=f"questions with a positive pair for {split}",
            have=int(figures.positive_questions * share),
            needed=least,
        )
        for split, share, least in splits
    )


def find(figures: Figures, settings: FreezeSettings) -> list[Finding]:
    """What is missing for learning, the most important first; one `good` finding if nothing is."""
    findings = [
        *_of_arriving(figures),
        *_of_queries(figures),
        *_of_feedback(figures),
        *_of_training(figures, settings),
    ]
    findings.sort(key=lambda finding: finding.level == "hint")
    return findings or [Finding("good", "nothing is missing: the next training has what it needs")]


def _of_arriving(f: Figures) -> list[Finding]:
    found = []
    if f.lag_events is None:
        found.append(
            Finding(
                "problem",
                "Kafka does not answer, so nothing below may be up to date",
                "`ratchet status` shows what runs, `ratchet up` starts it",
            )
        )
    elif f.lag_events:
        found.append(
            Finding(
                "hint",
                f"{f.lag_events:,} events are acknowledged and not in ClickHouse yet",
                "look again in a moment; if the number grows, read the log of process streams",
            )
        )
    for row in f.rejected:
        where = f" at {row.field}" if row.field else ""
        found.append(
            Finding(
                "problem",
                f"{row.entries:,} rejected as {row.reason}{where}: {row.message}",
                f"mend the sender; `ratchet rejected show {row.example[:12]}` says how to send it again",
            )
        )
    if not f.documents:
        found.append(
            Finding(
                "problem", "there are no documents", "`ratchet documents load PATH`, or POST /v1/documents"
            )
        )
    doubted = sum(row.time_doubted for row in f.events)
    if doubted:
        found.append(
            Finding(
                "hint",
                f"{doubted:,} events have a time > 5 minutes ahead or > 7 days behind: their received time "
                "counts",
                "set the sender's clock; load old events with `ratchet import`, which believes their times",
            )
        )
    return found


def _of_queries(f: Figures) -> list[Finding]:
    q = f.queries
    if not q.total:
        return [
            Finding(
                "problem",
                "no query has been reported",
                "POST /v1/search reports its own; with an index of your own send POST /v1/queries "
                f"({_ASKED}) for each search",
            )
        ]
    found = []
    if q.with_list < q.total:
        found.append(
            Finding(
                "problem" if q.with_list < q.total / 2 else "hint",
                f"{_share(q.total - q.with_list, q.total)} of the queries have no result list",
                f"send POST /v1/retrievals ({_SERVED}) with the same query_id and the hits in order",
            )
        )
    elif q.with_hits < q.total * 0.9:
        found.append(
            Finding(
                "hint",
                f"{_share(q.total - q.with_hits, q.total)} of the queries found nothing",
                "documents for these questions may be missing: "
                '`ratchet sql "SELECT text FROM episodes WHERE empty(hit_document_ids)"`',
            )
        )
    if q.with_hits and q.with_propensities < q.with_hits:
        found.append(
            Finding(
                "hint",
                f"{_share(q.with_hits - q.with_propensities, q.with_hits)} of the lists have no propensities",
                "an index of your own may go without (ranks are used then); if it explores, send each hit's "
                "`propensity`",
            )
        )
    if q.with_units < q.total:
        found.append(
            Finding(
                "problem" if q.with_units < q.total / 2 else "hint",
                f"{_share(q.total - q.with_units, q.total)} of the queries name no user, session or device",
                "send an opaque `user` (or `session`) with each query: without it no canary can decide",
            )
        )
    if f.unknown.hit_documents:
        found.append(
            Finding(
                "problem",
                f"{f.unknown.hit_documents:,} documents were shown that do not stand "
                f"({_examples(f.unknown.hit_examples)})",
                "load them (`ratchet documents load PATH`) under the ids that the hits use: nothing can be "
                "learned about a document without its text",
            )
        )
    return found


def _of_feedback(f: Figures) -> list[Finding]:
    found = []
    if f.queries.total and not f.queries.with_feedback:
        found.append(
            Finding(
                "problem",
                "no query has feedback",
                f"send POST /v1/feedback ({_FEEDBACK}) with the query_id when somebody clicks or rates",
            )
        )
    if f.waiting.feedback:
        long = f.waiting.oldest_age_s > _WAITING_LONG_S
        found.append(
            Finding(
                "problem" if long else "hint",
                f"feedback waits for its query: {f.waiting.feedback:,} for "
                f"{f.waiting.queries:,} that did not come, the oldest for {age(f.waiting.oldest_age_s)} "
                f"({_examples(f.waiting.examples)})",
                "report the query under exactly this query_id; feedback may come first, and joins later",
            )
        )
    if f.unknown.not_shown:
        found.append(
            Finding(
                "problem" if f.unknown.not_shown > f.queries.with_feedback / 10 else "hint",
                f"{f.unknown.not_shown:,} pieces of feedback name a document that their query was not shown "
                f"(queries {_examples(f.unknown.not_shown_examples)}): they make no pair",
                "use the same document ids in hits and feedback, and report every list that is shown",
            )
        )
    if f.unknown.feedback_documents:
        found.append(
            Finding(
                "hint",
                f"{f.unknown.feedback_documents:,} documents with feedback do not stand "
                f"({_examples(f.unknown.feedback_examples)})",
                "load them, or ignore this if they were removed",
            )
        )
    return found


def _of_training(f: Figures, settings: FreezeSettings) -> list[Finding]:
    found = [
        Finding(
            "hint",
            f"the next training needs more {need.what}: {need.have:g} of {need.needed:g}",
            "collect more feedback",
        )
        for need in training_needs(f, settings)
        if not need.met
    ]
    if f.last_abandoned:
        found.append(
            Finding(
                "hint",
                f"the last training ended without a version: {f.last_abandoned}",
                "`ratchet story` tells more",
            )
        )
    if not f.champion:
        found.append(
            Finding(
                "hint",
                "no version serves yet",
                "`ratchet up` (with the extra `learn`) starts search, which makes the base",
            )
        )
    return found


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if part * 200 >= whole else f"{part:,} of {whole:,}"


def _examples(names: tuple[str, ...]) -> str:
    return "such as " + ", ".join(names) if names else "none named"


def age(seconds: int) -> str:
    """A duration in its largest unit."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} seconds"
