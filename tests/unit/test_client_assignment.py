"""One file of vectors for both sides of the hash, and the client's rules against the server's word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
from hypothesis import given
from hypothesis import strategies as st
from ratchet_client import Arm, Ratchet, Rule, Serving
from ratchet_client import assign as assign_here
from ratchet_client.assignment import arm_of
from ratchet_client.assignment import assignment_hash as hash_here

from schemas import lifecycle as lc
from schemas.assignment import assign_arm, assignment_hash
from schemas.serving import assign
from schemas.tenant_state import Experiment, LifecycleState, Rollout
from tests.unit.client_bridge import Bridge
from tests.unit.http_door import NOW, Site, champion

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "assignment_v1.json").read_text(encoding="utf-8")
)


def test_both_sides_answer_as_growthbook_does() -> None:
    assert len(VECTORS["vectors"]) > 100
    for vector in VECTORS["vectors"]:
        seed, unit = vector["seed"], vector["unit"]
        assert assignment_hash(seed, unit) == vector["hash"], vector
        assert hash_here(seed, unit) == vector["hash"], vector
        for split, arm in zip(VECTORS["splits"], vector["arms"], strict=True):
            weights, coverage = split["weights"], split["coverage"]
            assert assign_arm(seed, unit, weights, coverage=coverage) == arm, vector
            arms = tuple(Arm(str(number), weight) for number, weight in enumerate(weights))
            assert arm_of(Rule("e", seed, arms, coverage), unit) == arm, vector


@given(st.text(), st.text())
def test_the_two_hashes_are_one(seed: str, unit: str) -> None:
    assert hash_here(seed, unit) == assignment_hash(seed, unit)


def state_of(
    shares: list[list[float]], coverage: float, canary: float | None, versions: bool
) -> LifecycleState:
    """Running experiments, of which the first may serve versions, and a canary."""
    experiments = {
        f"e{number}": Experiment(
            defined=lc.ExperimentDefined(
                experiment=f"e{number}",
                arms=tuple(
                    lc.Arm(f"a{index}", share, f"2.{index}.0" if versions and number == 0 else "")
                    for index, share in enumerate(weights)
                ),
                coverage=coverage,
            ),
            running=number != 1,
        )
        for number, weights in enumerate(shares)
    }
    rollout = None
    if canary is not None:
        started = lc.RolloutStarted(
            rollout="r-1", challenger="1.1.0", champion="1.0.0", share=canary, metric="clicked",
            started_at=NOW, deadline=NOW,
        )  # fmt: skip
        rollout = Rollout(id="r", started=started, share=canary)
    return msgspec.structs.replace(champion("1.0.0"), experiments=experiments, rollout=rollout)


splits = st.sampled_from([[0.5, 0.5], [0.9, 0.1], [0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]])


@given(
    st.builds(
        state_of,
        st.lists(splits, max_size=4),
        st.sampled_from([1.0, 0.5, 0.07]),
        st.none() | st.floats(0.01, 0.99),
        st.booleans(),
    ),
    st.lists(st.text(min_size=1), min_size=1),
)
def test_a_unit_gets_here_what_the_server_says(state: LifecycleState, units: list[str]) -> None:
    answer = httpx.Response(200, content=msgspec.json.encode(assign(state, None)))
    transport = httpx.MockTransport(lambda _request: answer)
    with Ratchet("http://ratchet", "k", transport=transport) as client:
        told = client.serving()
    for unit in [*units, "u-1", "Jürgen 👩‍🔬"]:
        here, there = assign_here(told, unit), assign(state, unit)
        assert here.version == there.version
        assert here.prepare == there.prepare
        assert [(e.experiment, e.arm) for e in here.exposures] == [
            (e.experiment, e.arm) for e in there.exposures
        ]
    assert (
        assign_here(told, None)
        == assign_here(told, "")
        == msgspec.convert({"version": told.version, "prepare": told.prepare}, type(told))
    )


def test_the_real_application_tells_the_rules_to_who_names_no_unit() -> None:
    site = Site()
    site.serving.states["acme"] = state_of([[0.5, 0.5]], 1.0, 0.25, versions=False)
    with Ratchet("http://ratchet", "acme-key", transport=Bridge(site)) as client:
        told = client.serving()
        assert [(rule.experiment, rule.seed) for rule in told.rules or ()] == [("e0", "e0"), ("r-1", "r-1")]
        for unit in ("u0", "u1", "ünï", "👩‍🔬"):
            asked = client.serving(unit)
            assert asked == assign_here(told, unit)
            assert asked.rules is None


def test_an_arm_without_a_version_keeps_the_one_before() -> None:
    rules = (Rule("e", "e", (Arm("a", 1.0, "2.0.0"),)), Rule("f", "f", (Arm("b", 1.0),)))
    told = Serving("1.0.0", rules=rules)
    assert assign_here(told, "u").version == "2.0.0"
