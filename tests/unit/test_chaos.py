"""Chaos without breaking anything: its plan, its clients' books, its count, and the directory it works in."""

from __future__ import annotations

import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

import pytest

from infra.chaos import events, plan
from infra.chaos.compare import Counts, Tables, compare
from infra.chaos.events import ASKED, FEEDBACK, RETRACTED, Made
from infra.chaos.ledger import Ledger, Sent, Truth
from infra.chaos.place import MARK, Place
from infra.chaos.plan import plan_rounds
from infra.chaos.report import Struck, over_target
from infra.chaos.scene import ChaosError
from ingest.admission import Admission
from ingest.settings import IngestSettings
from schemas.envelope import Event

NAMES = ("kafka", "clickhouse", "streams", "api", "search", "learner")
OTHERS = (plan.PAUSE_WORKER, plan.SLOW_STORE, plan.FULL_STORE, plan.MOVE_PARTITIONS)
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
SOURCE = "urn:chaos:0"


# --- the plan


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_kills_everything_alone_and_together(seed: int) -> None:
    rounds = plan_rounds(50, seed, NAMES, OTHERS)
    assert rounds == plan_rounds(50, seed, NAMES, OTHERS)
    kinds = [fault.kind for one in rounds for fault in one.faults]
    assert 50 <= sum(fault.is_kill for one in rounds for fault in one.faults) < 54
    killed = {f"kill {name}" for name in (*NAMES, "supervisor", "second worker")}
    assert set(kinds) == killed | set(OTHERS)
    assert set(kinds) == {one.faults[0].kind for one in rounds if len(one.faults) == 1}
    for one in rounds:
        assert len({fault.kind for fault in one.faults}) == len(one.faults)
        delays = [fault.after_s for fault in one.faults]
        assert delays == sorted(delays)
        assert delays[0] == 0
    assert max(len(one.faults) for one in rounds) >= 3
    assert rounds != plan_rounds(50, seed + 1, NAMES, OTHERS)


def test_a_plan_without_misfortunes_has_kills_only() -> None:
    assert all(f.is_kill for one in plan_rounds(20, 1, NAMES, ()) for f in one.faults)


def test_only_lone_kills_are_held_to_their_target() -> None:
    slow = Struck(kind="kill api", at_s=1.0, recovery_s=3.5, alone=True)
    together = Struck(kind="kill api", at_s=1.0, recovery_s=35.0, alone=False)
    quick = Struck(kind="kill streams", at_s=1.0, recovery_s=9.0, alone=True)
    no_target = Struck(kind="kill kafka", at_s=1.0, recovery_s=99.0, alone=True)
    assert over_target((slow, together, quick, no_target)) == (slow,)


# --- what clients send


def admitted(made: Made) -> Any:
    raw = json.dumps(made.body).encode()
    return Admission(IngestSettings()).admit(raw, tenant="default", door="http", received=NOW)


def test_clients_compute_the_hash_that_is_stored() -> None:
    dice = random.Random(1)
    made = [make(SOURCE, "q-1", NOW, dice) for make in (events.ask, events.serve, events.reply)]
    made += [events.rate(SOURCE, "q-1", number, NOW, dice) for number in range(20)]
    made += [events.retract(SOURCE, made[-1].sent, NOW), events.contradict(made[0], SOURCE, NOW)]
    for one in made:
        event = admitted(one)
        assert isinstance(event, Event), event
        assert (event.subject, event.id, event.contenthash, event.type) == one.sent


def test_nonsense_is_refused_whatever_it_is() -> None:
    dice = random.Random(1)
    good = events.rate(SOURCE, "q-1", 1, NOW, dice)
    reasons = {admitted(events.spoil(good, dice)).reason for _ in range(60)}
    assert len(reasons) == 4


# --- what clients know, and the count


def truth_of(tmp_path: Path, *lines: tuple[list[Sent], dict[int, str]], torn: bool = False) -> Truth:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
    ledger = Ledger(path)
    for number, (sent, statuses) in enumerate(lines):
        ledger.sent(number, sent)
        ledger.answered(number, statuses)
    if torn:
        with path.open("a") as file:
            file.write('["sent", 99, [["q", "torn", "h", "t"]]')
    truth = Truth()
    truth.read(path, SOURCE)
    return truth


QUERY = Sent("q-1", "q-1-asked", "hash-q", ASKED)
CLICK = Sent("q-1", "q-1-f1", "hash-c", FEEDBACK)
OTHER_CLICK = Sent("q-1", "q-1-f1", "hash-d", FEEDBACK)
BAD = Sent("q-1", "q-1-bad", "", FEEDBACK)
TAKEN: tuple[list[Sent], dict[int, str]] = (
    [QUERY, CLICK, BAD],
    {0: "accepted", 1: "accepted", 2: "rejected"},
)


def row(sent: Sent, *named: str) -> list[str]:
    return [SOURCE, sent.query_id, sent.id, sent.hash, sent.type, *(named or ("", ""))]


ENTRY = [SOURCE, "", BAD.id, "unknown_type", ""]
EPISODE: list[Any] = ["q-1", [SOURCE], [CLICK.id]]
GOOD = Tables(events=[row(QUERY), row(CLICK)], rejected=[ENTRY], episodes=[EPISODE])


def test_a_good_ending_is_clean(tmp_path: Path) -> None:
    counts = compare(truth_of(tmp_path, TAKEN, torn=True), GOOD)
    assert counts.clean
    assert (counts.sent, counts.acknowledged, counts.stored, counts.refused) == (2, 2, 2, 1)
    assert counts.examples == {}


def faults_of(tmp_path: Path, tables: Tables, *lines: tuple[list[Sent], dict[int, str]]) -> dict[str, int]:
    counts: Counts = compare(truth_of(tmp_path, *(lines or (TAKEN,))), tables)
    names = ("lost", "doubled", "never_sent", "displaced", "answers_out_of_place")
    assert counts.clean == (not counts.examples)
    return {name: getattr(counts, name) for name in names if getattr(counts, name)}


def test_every_kind_of_fault_is_counted(tmp_path: Path) -> None:
    def but(**changes: Any) -> Tables:
        return Tables(
            **({"events": GOOD.events, "rejected": GOOD.rejected, "episodes": GOOD.episodes} | changes)
        )

    twice = [row(QUERY), row(CLICK), row(CLICK)]
    assert faults_of(tmp_path, but(events=[row(CLICK)])) == {"lost": 1}
    assert faults_of(tmp_path, but(rejected=[])) == {"lost": 1}
    assert faults_of(tmp_path, but(events=twice)) == {"doubled": 1}
    assert faults_of(tmp_path, but(episodes=[["q-1", [SOURCE] * 2, [CLICK.id] * 2]])) == {"doubled": 1}
    assert faults_of(tmp_path, but(episodes=[])) == {"doubled": 1}
    stranger = Sent("q-2", "x", "hash-x", ASKED)
    episodes = [EPISODE, ["q-2", [], []]]
    assert faults_of(tmp_path, but(events=[*GOOD.events, row(stranger)], episodes=episodes)) == {
        "never_sent": 1
    }
    entries = [ENTRY, [SOURCE, "", "strange", "unknown_type", ""]]
    assert faults_of(tmp_path, but(rejected=entries)) == {"never_sent": 1}
    wrong = ([QUERY, BAD], {0: "rejected", 1: "accepted"})
    assert faults_of(tmp_path, but(), TAKEN, wrong) == {"answers_out_of_place": 2}


def test_a_conflict_is_kept_and_the_first_stands(tmp_path: Path) -> None:
    later: tuple[list[Sent], dict[int, str]] = ([OTHER_CLICK], {0: "accepted"})
    conflict = [SOURCE, "q-1", CLICK.id, "conflict", "hash-d"]
    kept = Tables(events=GOOD.events, rejected=[ENTRY, conflict], episodes=[EPISODE])
    assert faults_of(tmp_path / "a", kept, TAKEN, later) == {}
    assert faults_of(tmp_path / "b", GOOD, TAKEN, later) == {"lost": 1}
    turned = Tables(
        events=[row(QUERY), row(OTHER_CLICK)],
        rejected=[ENTRY, [*conflict[:4], "hash-c"]],
        episodes=[EPISODE],
    )
    assert faults_of(tmp_path / "c", turned, TAKEN, later) == {"displaced": 1}


def test_what_nobody_confirmed_may_be_stored_or_not(tmp_path: Path) -> None:
    unknown: tuple[list[Sent], dict[int, str]] = ([QUERY, CLICK], {})
    assert faults_of(tmp_path / "a", Tables([row(QUERY)], [], [["q-1", [], []]]), unknown) == {}
    assert faults_of(tmp_path / "b", Tables([], [], []), unknown) == {}


def test_retracted_feedback_does_not_count(tmp_path: Path) -> None:
    retraction = Sent("q-1", "q-1-f1-retracted", "hash-r", RETRACTED)
    sent: tuple[list[Sent], dict[int, str]] = (
        [QUERY, CLICK, retraction],
        dict.fromkeys(range(3), "accepted"),
    )
    rows = [row(QUERY), row(CLICK), row(retraction, SOURCE, CLICK.id)]
    assert faults_of(tmp_path / "a", Tables(rows, [], [["q-1", [], []]]), sent) == {}
    assert faults_of(tmp_path / "b", Tables(rows, [], [EPISODE]), sent) == {"doubled": 1}


# --- the directory


def test_only_a_directory_of_its_own_is_used(tmp_path: Path) -> None:
    theirs = tmp_path / "project"
    (theirs / "var").mkdir(parents=True)
    (theirs / "ratchet.toml").write_text("")
    with pytest.raises(ChaosError, match="did not make"), Place(theirs).taken():
        pass
    assert (theirs / "ratchet.toml").exists()
    assert not (theirs / MARK).exists()
    place = Place(tmp_path / "scratch")
    with place.taken():
        (place.project / "old").touch()
        with pytest.raises(ChaosError, match="already"), Place(place.directory).taken():
            pass
    with Place(place.directory).taken():
        assert not (place.project / "old").exists()
