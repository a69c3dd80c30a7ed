"""Whatever arrives, the machine keeps its promises."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Event
from schemas.lifecycle_state import apply
from schemas.tenant_state import LifecycleState
from tests.lifecycle_events import fold, whole_story

STORY = whole_story()


def check_promises(state: LifecycleState) -> None:
    champions = [v.version for v in state.versions.values() if v.stage == "champion"]
    assert champions == ([state.champion] if state.champion else [])
    canaries = [v.version for v in state.versions.values() if v.stage == "canary"]
    assert canaries == ([state.rollout.started.challenger] if state.rollout else [])
    assert state.rollout is None or state.rollout.started.champion == state.champion
    assert state.training is None or state.training.champion in state.versions


@given(st.lists(st.sampled_from(STORY), max_size=40))
def test_any_sequence_keeps_one_champion_and_one_canary(events: list[Event]) -> None:
    state = LifecycleState()
    for each in events:
        state, _ = apply(state, each)
        check_promises(state)


@given(st.lists(st.integers(0, len(STORY) - 1), max_size=30))
def test_duplicates_anywhere_leave_the_story_as_it_is(places: list[int]) -> None:
    events = list(STORY)
    for place in sorted(places, reverse=True):
        events.insert(place + 1, STORY[place])
    assert fold(events)[0] == fold(STORY)[0]


@given(st.data())
def test_a_second_learner_interleaved_does_no_harm(data: st.DataObject) -> None:
    """Two learners that derive the same ids: any interleaving that keeps each one's order ends alike."""
    left, right, merged = list(STORY), list(STORY), []
    while left or right:
        take_left = bool(left) and (not right or data.draw(st.booleans()))
        merged.append((left if take_left else right).pop(0))
    state, _ = fold(merged)
    check_promises(state)
    assert state == fold(STORY)[0]
