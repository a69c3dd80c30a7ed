"""The lifecycle in words: every type is told, causes are found both ways, rollbacks know where to."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from api.cli.lifecycle import History, Step, command_line
from api.cli.model import chain_of, previous_champion
from api.cli.prose import tell, tell_cause, title
from api.cli.story import print_step, without_repetition
from api.http.examples import example_bytes
from schemas import lifecycle as lc
from schemas.codec import decode_event, decode_payload
from schemas.envelope import Event
from schemas.lifecycle_state import ACCEPTED, apply
from schemas.registry import EVENT_TYPES, EventType
from schemas.tenant_state import LifecycleState
from schemas.topics import LIFECYCLE
from tests.lifecycle_events import event, rollout, whole_story

TYPES = [t for t in EVENT_TYPES if t.topic == LIFECYCLE]


def history_of(events: list[Event]) -> History:
    state, steps = LifecycleState(), []
    for each in events:
        state, outcome = apply(state, each)
        steps.append(Step(each, decode_payload(each), outcome))
    return History(tuple(steps), state)


def printed(history: History, width: int = 80) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    for step, note in without_repetition(history.steps):
        print_step(console, step, history, note)
    return out.getvalue()


@pytest.mark.parametrize("event_type", TYPES, ids=[t.short for t in TYPES])
def test_every_type_is_told_with_what_it_is_about(event_type: EventType) -> None:
    example = decode_event(example_bytes(event_type))
    payload = decode_payload(example)
    step = Step(example, payload, ACCEPTED)
    text = tell(step)
    assert text.endswith(".")
    assert "  " not in text
    assert "None" not in text
    assert title(step) == event_type.short
    named = getattr(payload, "version", None) or getattr(payload, "experiment", None)
    if named:
        assert named in text


def test_the_story_has_causes_and_figures() -> None:
    text = printed(history_of(whole_story()))
    assert "Cause: drift.detected of" in text
    assert "+0.1000 [+0.0500, +0.1500]" in text
    assert "ignored" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_an_ignored_step_says_why() -> None:
    again = event(lc.TrainingRequested(champion="1.0.0"), "t2", cause="d1")
    text = printed(history_of([*whole_story()[:5], again]))
    assert "training.requested  ignored" in text
    assert "This did not count: a training is open already." in text


def test_of_measurements_the_last_is_told() -> None:
    measured = [
        event(lc.ExperimentMeasured(experiment="ab", excluded_units=n), f"m{n}") for n in range(1, 15)
    ]
    text = " ".join(printed(history_of(measured)).split())
    assert text.count("experiment.measured") == 1
    assert "14 units were seen in two arms" in text
    assert "The last of 14 measurements." in text


def test_causes_and_consequences() -> None:
    history = history_of(whole_story())
    assert [step.event.id for step in history.causes("c1")] == [
        "d1",
        "t1",
        "f1",
        "x1",
        "p1",
        "j1",
        "o1",
        "c1",
    ]
    assert [step.event.id for step in history.consequences(["f1"])] == [
        "x0",
        "x1",
        "p1",
        "j1",
        "r1",
        "o1",
        "c1",
    ]
    assert history.causes("nobody") == []
    assert history.consequences(["nobody"]) == []


def test_causes_end_where_they_go_in_a_circle() -> None:
    circle = [
        event(lc.AlertRaised(alert="a", summary="s"), "1", cause="2"),
        event(lc.AlertRaised(alert="b", summary="s"), "2", cause="1"),
    ]
    assert [step.event.id for step in history_of(circle).causes("2")] == ["1", "2"]


def test_why_a_version_is_there() -> None:
    history = history_of(whole_story())
    assert [step.event.id for step in chain_of(history, "1.1.0")] == [
        *("d1", "t1", "f1", "x0", "x1", "p1", "j1", "r1", "o1", "c1")
    ]
    # of the base: how it came, and what took its place with what led to that
    assert [step.event.id for step in chain_of(history, "1.0.0")][:3] == ["p0", "r0", "c0"]


def test_a_person_and_a_command_are_named() -> None:
    ordered = event(
        lc.TrainingRequested(champion="1.0.0", reason="command"), "t9", cause="ratchet train --seed 4"
    )
    step = Step(ordered, decode_payload(ordered), ACCEPTED)
    assert tell_cause(step, history_of([])) == "Command: ratchet train --seed 4"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["train", "--reason", "a b"], "ratchet train --reason 'a b'"),
        (["-C", "/secret", "train"], "ratchet train"),
        (["-C/secret", "train"], "ratchet train"),
        (["--directory=/secret", "train"], "ratchet train"),
        (["--directory", "/secret", "canary", "1.1.0"], "ratchet canary 1.1.0"),
    ],
)
def test_the_command_is_kept_without_the_directory(
    typed: list[str], kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/bin/ratchet", *typed])
    assert command_line() == kept


def test_where_a_rollback_goes() -> None:
    story = whole_story()
    assert previous_champion(history_of(story[:3])) is None
    assert previous_champion(history_of(story)) == "1.0.0"
    back = event(lc.VersionRolledBack(version="1.1.0", to="1.0.0", reason="r"), "b1", cause="c1")
    assert previous_champion(history_of([*story, back])) is None
    lost = event(lc.VersionRolledBack(version="1.1.0", to="1.0.0", reason="r"), "b2", cause="o1")
    assert previous_champion(history_of([*story[:-1], lost])) is None
    assert rollout().challenger == "1.1.0"
