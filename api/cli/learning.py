"""`ratchet train` and `ratchet canary`."""

from __future__ import annotations

import click
from msgspec import Struct

from api.cli.door import known_tenant, tenant_option
from api.cli.lifecycle import History, carry_out
from api.cli.project import Project
from api.cli.prose import moment
from api.processes.identity import now
from schemas.lifecycle import RolloutStarted, TrainingRequested


@click.command()
@tenant_option
@click.option("--reason", help="Why; kept with the request.")
@click.option("--seed", default=0, show_default=True, help="Of the study and of all that is random in it.")
@click.pass_obj
def train(project: Project, tenant: str, reason: str | None, seed: int) -> None:
    """Request a training now, drift or no drift.

    The learner freezes a dataset, runs its trials, proposes the best version and has it judged; `ratchet
    story --follow` tells it while it happens. Exit code 1 if the request was ignored, with the reason.
    """
    del reason  # it is part of the command line, which is the cause that the event names

    def order(history: History) -> tuple[Struct, str]:
        champion = history.state.champion
        if champion is None:
            raise click.ClickException(
                "no version serves yet, so there is nothing to improve on: start search (`ratchet up`), or "
                "promote one"
            )
        return TrainingRequested(champion=champion, reason="command", seed=seed), ""

    history = carry_out(project.settings, known_tenant(project.settings, tenant), order)
    training = history.state.training
    click.echo(
        f"training {training.id if training else ''} requested against champion {history.state.champion}: "
        "`ratchet story --follow`"
    )


@click.command()
@click.argument("version")
@tenant_option
@click.pass_obj
def canary(project: Project, version: str, tenant: str) -> None:
    """Try VERSION, which the judge admitted, on some of the users.

    The rule is written down first (settings learner.canary_*): one interval decides, guardrails protect, a
    deadline ends it.
    """
    settings = project.settings

    def order(history: History) -> tuple[Struct, str]:
        known = history.state.versions.get(version)
        if known is None:
            raise click.ClickException(
                f"no version {version!r} was proposed: `ratchet model list` shows what there is"
            )
        if history.state.champion is None:
            raise click.ClickException(
                f"no version serves yet: `ratchet model promote {version}` makes it the first"
            )
        return _plan(project, version, history.state.champion), known.judged_by or known.proposed_by

    history = carry_out(settings, known_tenant(settings, tenant), order)
    assert history.state.rollout is not None
    plan = history.state.rollout.started
    click.echo(
        f"{plan.share:.0%} of the units get {version} instead of {plan.champion}; {plan.metric} decides, "
        f"until {moment(plan.deadline)}: `ratchet experiment results {plan.rollout}`"
    )


def _plan(project: Project, version: str, champion: str) -> RolloutStarted:
    try:
        from learners.daemon.rolling import plan_rollout
    except ImportError as error:
        raise click.ClickException(
            f"a canary's rule comes from the learner, which is not installed ({error.name} is missing): "
            "install ratchet-platform[learn]"
        ) from error
    return plan_rollout(version, champion, project.settings.learner, now())
