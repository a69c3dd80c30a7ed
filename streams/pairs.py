"""The label model: what one query's evidence says about its documents.

Behaviour (click, copy, dwell) is evidence about what was shown: without a list that showed the document it
makes no pair. A judgement (thumb, stars, label on a document) is about the question and the document: it
makes a pair wherever the document stood, with rank 0 if it was not shown. A score has no known scale and
makes no pair. Contradicting evidence stays: a document may have a pair of label 1 and one of label 0. What
needs other queries (position bias, neighbours, spam) is decided when a dataset is frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from schemas.episodes import EpisodeAnswer, EpisodeFeedback, EpisodeRetrieval, TrainingPair
from schemas.ids import EventRef
from schemas.interactions import Rater, Target
from streams.attribution import Resolution, attribute


class Evidence(Struct, frozen=True):
    """A kind of pair. `weight` is that of a person; another rater's is multiplied by `RATER_FACTOR`."""

    kind: str
    labels: tuple[int, ...]
    weight: float
    meaning: str


EVIDENCE: Final[dict[str, Evidence]] = {
    e.kind: e
    for e in (
        Evidence("label", (0, 1), 1.0, "A relevance judgement: 1 relevant, 0 not."),
        Evidence("thumb", (0, 1), 1.0, "A thumb on the document: up 1, down 0."),
        Evidence(
            "stars", (0, 1), 1.0, "Stars on the document: 5 → 1, 1 → 0; 4 and 2 at half weight; 3 no pair."
        ),
        Evidence("copy", (1,), 0.9, "Text of the shown document was copied."),
        Evidence("dwell", (1,), 0.8, "The shown document was read for at least 30 s."),
        Evidence("click", (1,), 0.7, "The shown document was opened."),
        Evidence("bounce", (0,), 0.3, "The shown document was left within 5 s."),
        Evidence("citation", (1,), 0.2, "A shown document is cited by an answer that got a thumb up."),
        Evidence(
            "skip", (0,), 0.1, "Shown above the lowest click of its list, and not clicked in this query."
        ),
    )
}

#: A judgement of a model or a rule is worth half a person's.
RATER_FACTOR: Final[dict[Rater, float]] = {"human": 1.0, "llm": 0.5, "code": 0.5}

#: Dwell from which a click counts as satisfied (Fox et al. 2005, "Evaluating implicit measures").
SATISFIED_DWELL_S: Final = 30.0
BOUNCE_DWELL_S: Final = 5.0

#: What makes two pieces of evidence one pair: (retrieval_id, rank, document_id, kind, label).
_PairKey = tuple[str, int, str, str, int]


class Attributed(NamedTuple):
    """Feedback that stands, and what it was resolved to."""

    feedback: EpisodeFeedback
    resolution: Resolution


class _Draft:
    """A pair in the making: evidence of one kind joins, the heaviest gives the weight."""

    __slots__ = ("about", "context", "refs", "weight")

    def __init__(self, weight: float, about: Resolution) -> None:
        self.weight = weight
        self.about = about
        self.refs: set[EventRef] = set()
        self.context: set[EventRef] = set()


def label_pairs(
    query: str,
    query_ref: EventRef,
    retrievals: Sequence[EpisodeRetrieval],
    answers: Sequence[EpisodeAnswer],
    attributed: Sequence[Attributed],
) -> tuple[TrainingPair, ...]:
    """The pairs of one query: one for each (retrieval_id, rank, document_id, kind, label), in that order.

    `retrievals` and `answers` come in the order of their effective time.
    """
    drafts: dict[_PairKey, _Draft] = {}
    clicked: list[Attributed] = []
    for item in attributed:
        feedback, resolution = item
        if feedback.target.kind == "answer" and feedback.kind == "thumb":
            _credit_citations(drafts, feedback, retrievals, answers)
            continue
        if not resolution.document_id:
            continue
        evidence = _read_evidence(feedback, shown=resolution.attribution == "shown")
        if evidence is not None:
            _draft(drafts, evidence, feedback, resolution)
        if feedback.kind == "click" and resolution.attribution == "shown":
            clicked.append(item)
    _add_skips(drafts, clicked)
    return tuple(_finish(query, query_ref, key, drafts[key]) for key in sorted(drafts))


def _read_evidence(feedback: EpisodeFeedback, *, shown: bool) -> tuple[str, int, float] | None:
    """Kind, label and share of the kind's weight; None if the feedback says nothing about its document."""
    kind, value = feedback.kind, feedback.value
    if kind in ("click", "copy"):
        return (kind, 1, 1.0) if shown else None
    if value is None:
        return None
    if kind == "dwell" and shown:
        if value >= SATISFIED_DWELL_S:
            return "dwell", 1, 1.0
        return ("bounce", 0, 1.0) if value < BOUNCE_DWELL_S else None
    if kind == "thumb":
        return ("thumb", int(value > 0), 1.0) if value else None
    if kind == "label":
        return ("label", int(value), 1.0) if value in (0, 1) else None
    if kind == "stars" and value != 3:
        return "stars", int(value > 3), 1.0 if value in (1, 5) else 0.5
    return None


def _draft(
    drafts: dict[_PairKey, _Draft],
    evidence: tuple[str, int, float],
    feedback: EpisodeFeedback,
    about: Resolution,
) -> _Draft:
    kind, label, share = evidence
    weight = EVIDENCE[kind].weight * share * RATER_FACTOR[feedback.rater]
    rank = about.hit.rank if about.hit is not None and about.attribution == "shown" else 0
    key = (about.retrieval_id, rank, about.document_id, kind, label)
    draft = drafts.get(key)
    if draft is None:
        draft = drafts[key] = _Draft(weight, about)
    elif weight > draft.weight:
        draft.weight = weight
    draft.refs.add(feedback.ref)
    return draft


def _credit_citations(
    drafts: dict[_PairKey, _Draft],
    feedback: EpisodeFeedback,
    retrievals: Sequence[EpisodeRetrieval],
    answers: Sequence[EpisodeAnswer],
) -> None:
    """A thumb up on an answer (the one named, else the latest) credits the shown documents that it cites.

    A thumb down does not say which of them was at fault, so it makes no pair.
    """
    if feedback.value is None or feedback.value <= 0:
        return
    named = feedback.target.answer_id
    answer = next((a for a in reversed(answers) if named is None or a.answer_id == named), None)
    if answer is None:
        return
    list_named = feedback.target.retrieval_id
    for citation in answer.citations:
        about = attribute(Target(retrieval_id=list_named, document_id=citation.document_id), retrievals)
        if about.attribution == "shown":
            _draft(drafts, ("citation", 1, 1.0), feedback, about).context.add(answer.ref)


def _add_skips(drafts: dict[_PairKey, _Draft], clicked: Sequence[Attributed]) -> None:
    """Whoever clicked at rank n has seen what stands above it and passed it by."""
    documents = {item.resolution.document_id for item in clicked}
    lowest: dict[str, int] = {}
    for _, about in clicked:
        assert about.hit is not None
        lowest[about.retrieval_id] = max(lowest.get(about.retrieval_id, 0), about.hit.rank)
    for feedback, about in clicked:
        assert about.retrieval is not None
        assert about.hit is not None
        if about.hit.rank < lowest[about.retrieval_id]:
            continue
        for hit in about.retrieval.hits:
            if hit.rank < about.hit.rank and hit.document_id not in documents:
                passed = about._replace(document_id=hit.document_id, hit=hit)
                _draft(drafts, ("skip", 0, 1.0), feedback, passed)


def _finish(query: str, query_ref: EventRef, key: _PairKey, draft: _Draft) -> TrainingPair:
    retrieval_id, rank, document_id, kind, label = key
    retrieval, hit = draft.about.retrieval, draft.about.hit
    lists = () if retrieval is None else (retrieval.ref,)
    return TrainingPair(
        query=query,
        document_id=document_id,
        text_hash=None if hit is None else hit.text_hash,
        label=label,
        weight=draft.weight,
        kind=kind,
        retrieval_id=retrieval_id,
        pipeline_version="" if retrieval is None else retrieval.pipeline_version,
        rank=rank,
        propensity=hit.propensity if hit is not None and rank else None,
        events=(*sorted(draft.refs), *lists, *sorted(draft.context), query_ref),
    )
