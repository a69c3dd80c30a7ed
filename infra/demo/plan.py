"""How much of everything, and the settings of the stack that the demo starts. A budget for two cores."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from infra.demo.customers import Control

#: First line of the settings file, by which a run knows an earlier one's directory.
WRITTEN_BY_DEMO: Final = "# Written by the demo."


class Plan(Struct, frozen=True, kw_only=True):
    """One run."""

    seed: int = 1
    control: Control = "none"

    moved_topics: int = 20
    unseen_topics: int = 10
    #: Train questions of a topic on which the base is measured before the topics are chosen.
    probes_per_topic: int = 20

    #: Test questions of a topic in the report; there are 40.
    tested_per_topic: int = 40
    #: Whether the report sets test questions apart that have no near train question.
    apart_from_train: bool = True

    baseline_queries: int = 800
    #: Asked at most until the training is requested.
    moved_queries: int = 2200
    #: Share of each moved topic's questions that only the canary's customers ask.
    canary_question_share: float = 0.3
    canary_queries: int = 20_000
    questions_per_customer: int = 3
    #: Customers who wait for an answer at a time.
    concurrency: int = 6

    reference_queries: int = 400
    window_queries: int = 200
    settle_s: float = 6.0
    gather_queries: int = 1200
    #: A late alarm leaves fewer questions than are to be gathered: the training then starts with what came.
    gather_timeout_s: float = 90.0
    trials: int = 8
    trial_timeout_s: float = 90.0
    max_training_questions: int = 600
    canary_deadline_s: float = 150.0
    canary_minimum_units: int = 200
    canary_tuning_units: int = 1000

    #: The demo goes on to its report when the next step does not come for so long.
    drift_timeout_s: float = 120.0
    learn_timeout_s: float = 600.0


def stack_settings(plan: Plan) -> str:
    """`ratchet.toml` of the stack. Nothing in it knows of topics, questions or how customers behave."""
    return f"""\
{WRITTEN_BY_DEMO} The learner decides alone, and quickly: minutes stand for weeks.
[tenants.default]
mode = "auto"

[search]
base_dense_weight = 1.0  # the base starts with its best arm alone

[watch]
reference_queries = {plan.reference_queries}
window_queries = {plan.window_queries}
settle_s = {plan.settle_s}  # clicks come at once here

[learner]
poll_s = 1.0
gather_queries = {plan.gather_queries}
gather_timeout_s = {plan.gather_timeout_s}
trials = {plan.trials}
trial_timeout_s = {plan.trial_timeout_s}
trial_memory_bytes = 3_500_000_000
max_training_questions = {plan.max_training_questions}
canary_deadline_s = {plan.canary_deadline_s}
canary_minimum_units = {plan.canary_minimum_units}
canary_tuning_units = {plan.canary_tuning_units}
measure_interval_s = 5.0
"""
