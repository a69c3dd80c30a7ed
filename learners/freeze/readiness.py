"""Is there enough feedback to learn from? What the next training needs, in numbers that `ratchet doctor`
shows.
"""

from __future__ import annotations

from msgspec import Struct

from learners.freeze.settings import FreezeSettings


class FeedbackCounts(Struct, frozen=True, kw_only=True):
    """What a log holds for a training."""

    #: Questions of train with a positive.
    train_questions: int
    #: Groups of validation and of judge with a graded question.
    validation_groups: int
    judge_groups: int
    #: `relevance.agreement` over the questions of train, and over those of judge.
    train_agreement: float
    judge_agreement: float


class Need(Struct, frozen=True, kw_only=True):
    """One thing that a training needs."""

    what: str
    have: float
    needed: float

    @property
    def met(self) -> bool:
        return self.have >= self.needed

    @property
    def sentence(self) -> str:
        """For people: what is there and what is missing."""
        missing = "enough" if self.met else f"{self.needed - self.have:g} more needed"
        return f"{self.what}: {self.have:g} of {self.needed:g} ({missing})"


def readiness(counts: FeedbackCounts, settings: FreezeSettings) -> tuple[Need, ...]:
    """What the next training needs; it can start when every need is met."""
    return (
        Need(
            what="train questions with a likely relevant document",
            have=counts.train_questions,
            needed=settings.minimum_train_questions,
        ),
        Need(
            what="validation groups with graded documents",
            have=counts.validation_groups,
            needed=settings.minimum_validation_groups,
        ),
        Need(
            what="judge groups with graded documents",
            have=counts.judge_groups,
            needed=settings.minimum_judge_groups,
        ),
        Need(
            what="agreement of similar questions' feedback in train (standard deviations)",
            have=round(counts.train_agreement, 2),
            needed=settings.minimum_agreement,
        ),
        Need(
            what="agreement of similar questions' feedback in judge (standard deviations)",
            have=round(counts.judge_agreement, 2),
            needed=settings.minimum_judge_agreement,
        ),
    )


def too_little(counts: FeedbackCounts, settings: FreezeSettings) -> str:
    """Why a training cannot start, '' if it can."""
    return "; ".join(need.sentence for need in readiness(counts, settings) if not need.met)
