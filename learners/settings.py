"""Settings of the learner and of search, one struct each."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from learners.search.settings import SearchSettings

__all__ = ["LearnerSettings", "SearchSettings"]


class LearnerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The learner's pace and its rules. What decides a promotion is copied into `rollout.started`."""

    poll_s: Annotated[float, Meta(gt=0, description="pause between looks")] = 5.0
    gather_queries: Annotated[
        int,
        Meta(ge=0, description="queries to wait for after a drift, so that there is something to learn from"),
    ] = 1000
    gather_timeout_s: Annotated[float, Meta(ge=0, description="the training starts at last after this")] = (
        7 * 86400.0
    )
    trials: Annotated[int, Meta(ge=1, description="trials of a study; the first trains nothing")] = 8
    trial_timeout_s: Annotated[float, Meta(gt=0, description="a trial that runs longer has failed")] = 600.0
    trial_memory_bytes: Annotated[int, Meta(gt=0, description="a trial that takes more has failed")] = (
        6_000_000_000
    )
    max_training_questions: Annotated[int, Meta(ge=1, description="questions a trial trains on, at most")] = (
        20_000
    )
    judge_margin: Annotated[float, Meta(ge=0, description="nDCG@10 that counts as no worse")] = 0.01
    judge_alpha: Annotated[float, Meta(gt=0, lt=1, description="spent over all challengers of a tenant")] = (
        0.10
    )
    canary_share: Annotated[float, Meta(gt=0, lt=1, description="units that get the challenger")] = 0.5
    canary_metric: Annotated[str, Meta(description="built-in measure, higher is better")] = "reciprocal_rank"
    canary_alpha: Annotated[float, Meta(gt=0, lt=1, description="of the interval that decides")] = 0.05
    canary_minimum_units: Annotated[int, Meta(ge=2, description="units an arm needs")] = 100
    canary_tuning_units: Annotated[int, Meta(ge=2, description="units at which the interval is tightest")] = (
        2000
    )
    canary_deadline_s: Annotated[float, Meta(gt=0, description="then the canary cannot say")] = (
        14 * 24 * 3600.0
    )
    canary_guardrails: Annotated[
        dict[str, float], Meta(description="measure → relative fall (negative: rise) that is too much")
    ] = field(default_factory=lambda: {"clicked": 0.05, "thumbs_down": -0.5})
    canary_beside: Annotated[
        tuple[str, ...], Meta(description="measures that are published, too, and decide nothing")
    ] = ("thumbs_up",)
    measure_interval_s: Annotated[float, Meta(gt=0, description="how often experiments are measured")] = 60.0
