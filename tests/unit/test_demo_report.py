"""The demo's report: the keys that were promised, causes in order, and a result that fits a terminal."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from infra.demo import prove
from infra.demo.dataset import load_bank
from infra.demo.errors import DemoError
from infra.demo.evaluation import Evaluated, Measured, Score, evaluate
from infra.demo.figures import Value, shown, shown_difference
from infra.demo.memory import MemoryWatch
from infra.demo.place import Place, truth_beside
from infra.demo.plan import Plan, stack_settings
from infra.demo.report import (
    Canary,
    Events,
    Report,
    arm_of,
    links_of,
    quality_of,
    slices_of,
    write_report,
)
from infra.demo.result import print_result
from infra.demo.run import challenger_of
from infra.demo.stack import Stack
from infra.demo.story import Step, Story, tell


def _step(name: str, id: str, cause: str, **data: Any) -> Step:
    return Step(
        type=f"ratchet.{name}.v1", id=id, causation_id=cause, time="2026-03-02T09:30:00.000000Z", data=data
    )


_MEASURE = {"metric": "ndcg@10", "estimate": 0.05, "low": 0.02, "high": 0.08}
_STEPS = [
    _step("version.promoted", "base", "p0", version="1.0.0", by="first", reason="first"),
    _step("drift.detected", "d1", "base", window=2, reference_queries=400, signals=[]),
    _step("training.requested", "t1", "d1", champion="1.0.0"),
    _step("experiment.measured", "other", "experiment:x", experiment="x", results=[]),
    _step("dataset.frozen", "f1", "t1", dataset_id="abc", queries={"train": 10}, pairs={"train": 90}),
    _step(
        "trial.finished",
        "r1",
        "f1",
        number=0,
        state="complete",
        seconds=2.0,
        value=0.5,
        parameters={"train": False},
    ),
    _step("version.proposed", "v1", "r1", version="1.1.0", trial=0, validation=0.5),
    _step(
        "version.judged",
        "j1",
        "v1",
        version="1.1.0",
        champion="1.0.0",
        verdict="admitted",
        reason="no worse",
        measure=_MEASURE,
    ),
    _step(
        "rollout.started",
        "o1",
        "j1",
        rollout="c",
        challenger="1.1.0",
        share=0.5,
        metric="reciprocal_rank",
        alpha=0.05,
    ),
    _step("experiment.measured", "m1", "o1", experiment="c", results=[]),
    _step("version.promoted", "w1", "o1", version="1.1.0", by="canary", reason="higher"),
    _step("drift.detected", "d2", "w1", window=1, reference_queries=400, signals=[]),
]


def _story(steps: list[Step]) -> Story:
    story = Story(Stack(Path("nowhere")), lambda _: None)
    story.steps += steps
    return story


def test_the_chain_goes_from_the_drift_to_the_verdict() -> None:
    story = _story(_STEPS)
    assert [step.id for step in story.chain] == ["d1", "t1", "f1", "r1", "v1", "j1", "o1", "w1"]
    assert story.verdict is story.steps[10]
    assert (story.champion, challenger_of(story)) == ("1.1.0", "1.1.0")
    links = links_of(story.chain)
    known = {link.id for link in links}
    assert all(link.causation_id in known for link in links[1:])


@pytest.mark.parametrize(("end", "challenger"), [(1, None), (6, None), (9, "1.1.0")])
def test_without_a_verdict_the_judged_version_is_the_challenger(end: int, challenger: str | None) -> None:
    story = _story(_STEPS[:end])
    assert story.verdict is None
    assert (story.champion, challenger_of(story)) == ("1.0.0", challenger)


def test_an_abandoned_training_is_a_verdict() -> None:
    story = _story([*_STEPS[:3], _step("training.abandoned", "a1", "t1", reason="too little agreement")])
    assert story.verdict is not None
    assert story.verdict.name == "training.abandoned"
    assert challenger_of(story) is None


def test_every_step_is_told_in_a_line() -> None:
    lines = [tell(step) for step in _STEPS]
    assert lines[0] == ""
    assert "1.1.0" in lines[6]
    assert "+0.050 [+0.020, +0.080]" in lines[7]
    assert all("\n" not in line for line in lines)


def _measured(estimate: float) -> Measured:
    return Measured(
        metric="ndcg@10",
        estimate=estimate,
        low=estimate - 0.01,
        high=estimate + 0.01,
        alpha=0.05,
        horizon="fixed",
        resampled="question group",
    )


def _report(challenger: str | None) -> Report:
    scores = []
    for name, questions in (("all", 3080), ("moved", 800), ("unmoved", 1880), ("moved, apart", 380)):
        for version in ("1.0.0", "1.1.0")[: 1 if challenger is None else 2]:
            values = {metric: _measured(0.4) for metric in ("ndcg@10", "mrr@10")}
            differences = values if version != "1.0.0" else {}
            scores.append(
                Score(
                    version=version, slice=name, questions=questions, values=values, differences=differences
                )
            )
    evaluated = Evaluated(scores=tuple(scores))
    rows = [
        {"arm": "champion", "measure": "queries", "units": 120, "queries": 360, "total": 360},
        {"arm": "champion", "measure": "clicked", "units": 120, "queries": 360, "total": 270},
        {"arm": "challenger", "measure": "queries", "units": 110, "queries": 330, "total": 330},
    ]
    canary = Canary()
    if challenger is not None:
        canary = Canary(
            champion=arm_of(rows, "champion"),
            challenger=arm_of(rows, "challenger"),
            difference={"clicked": Value(value=0.05, low=0.01, high=0.09)},
            decided_by="clicked",
        )
    return Report(
        seed=1,
        control="none",
        promoted=challenger is not None,
        alarmed=True,
        reason="clicked is higher by +0.0500 [+0.0100, +0.0900] and this reason goes on and on and on",
        before_version="1.0.0",
        after_version=challenger,
        quality=quality_of(evaluated, "1.0.0", challenger),
        canary=canary,
        events=Events(
            sent=1005,
            acknowledged=1000,
            refused=5,
            stored=1000,
            rejected=5,
            unconfirmed=0,
            sendings=1015,
            total_stored=3000,
            total_rejected=5,
        ),
        chain=links_of(_story(_STEPS).chain),
        slices=slices_of(evaluated),
        traffic={},
        topics={},
        trials=[],
        judged=None,
    ).completed(
        seconds={"install": None, "start": 20.04, "total": 400.0},
        peak_memory_bytes=4_000_000_000,
        memory_at_peak_bytes={},
        machine={},
    )


def test_the_promised_keys_are_there(tmp_path: Path) -> None:
    write_report(_report("1.1.0"), tmp_path / "report.json")
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes())
    for part in ("before", "after", "difference", "unmoved_difference"):
        for metric in ("ndcg@10", "mrr@10"):
            assert report["quality"][part][metric]["value"] == 0.4
            assert report["quality"][part][metric]["low"] < 0.4 < report["quality"][part][metric]["high"]
            assert "question group resampled" in report["quality"][part][metric]["interval_from"]
    assert {"champion", "challenger", "difference"} <= report["canary"].keys()
    assert report["canary"]["champion"]["clicked"] == 0.75
    assert report["canary"]["challenger"]["clicked"] is None
    assert {"sent", "acknowledged", "refused", "stored", "rejected"} <= report["events"].keys()
    assert all(link.keys() == {"type", "id", "causation_id", "time"} for link in report["chain"])
    assert report["seconds"] == {"install": None, "start": 20.0, "total": 400.0}
    assert (report["peak_memory_bytes"], report["seed"], report["control"]) == (4_000_000_000, 1, "none")


def test_what_was_not_measured_is_no_figure() -> None:
    quality = _report(None).quality
    assert quality.before["ndcg@10"].value == 0.4
    for table in (quality.after, quality.difference, quality.unmoved_difference):
        assert table["ndcg@10"] == Value()
    assert (shown(Value()), shown_difference(None), shown(Value(value=0.5))) == ("–", "–", "0.500")


@pytest.mark.parametrize("challenger", ["1.1.0", None])
def test_the_result_fits_a_terminal(challenger: str | None) -> None:
    written = io.StringIO()
    console = Console(file=written, width=80, force_terminal=True, color_system=None)
    print_result(_report(challenger), console, "/a/place/report.json")
    text = written.getvalue()
    tables = [line for line in text.splitlines() if line.startswith(("moved", "unmoved", "all", "clicked  "))]
    assert tables
    assert max(len(line.rstrip()) for line in tables) <= 80
    assert "1,000 acknowledged, 5 refused" in text
    assert ("1.1.0 was promoted" in text) is (challenger is not None)


def test_prove_prints_what_is_there(tmp_path: Path) -> None:
    write_report(_report("1.1.0"), tmp_path / "none-2.json")
    write_report(msgspec.structs.replace(_report(None), control="nodrift"), tmp_path / "nodrift-1.json")
    written = io.StringIO()
    prove.print_table(prove.read_reports(tmp_path), Console(file=written, width=80))
    rows = written.getvalue().splitlines()
    assert len(rows) == 4
    assert len({row.count("|") for row in rows}) == 1
    assert "yes, 1.1.0" in rows[2]
    assert "| nodrift | 1 | yes | no | 0.400 | – | – |" in rows[3]


def test_a_place_is_for_one_run_at_a_time(tmp_path: Path) -> None:
    place = Place(tmp_path / "demo")
    with place.taken(), pytest.raises(DemoError, match="already"), Place(tmp_path / "demo").taken():
        pass
    with place.taken():
        place.make_project(stack_settings(Plan()))
        place.make_project(stack_settings(Plan()))


@pytest.mark.service
async def test_known_answers_stay_neither_after_an_evaluation_nor_after_a_killed_one(tmp_path: Path) -> None:
    place = Place(tmp_path / "demo")
    with place.taken():
        place.make_project(stack_settings(Plan()))
        bank = load_bank(1)
        with pytest.raises(DemoError, match=r"no version 9\.9\.9"):
            await evaluate(Stack(place.project), bank, ["9.9.9"], bank.split("test")[:3], str, seed=1)
        truth = truth_beside(place.project)
        assert not truth.exists()
        truth.mkdir()
        place.make_project(stack_settings(Plan()))
        assert not truth.exists()


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "ratchet.toml").write_text("# mine\n", encoding="utf-8")
    with pytest.raises(DemoError, match="not made by the demo"):
        Place(tmp_path).make_project("")
    assert (tmp_path / "project" / "ratchet.toml").read_text(encoding="utf-8") == "# mine\n"


def test_the_settings_are_settings_and_know_nothing_of_customers(tmp_path: Path) -> None:
    from api.settings import load_settings

    plan = Plan()
    (tmp_path / "ratchet.toml").write_text(stack_settings(plan), encoding="utf-8")
    settings = load_settings(tmp_path, environ={}).settings
    assert settings.tenants["default"].mode == "auto"
    assert settings.search.base_dense_weight == 1.0
    assert settings.learner.gather_queries == plan.gather_queries
    assert settings.watch.settle_s == plan.settle_s


@pytest.mark.service
def test_memory_counts_children() -> None:
    watch = MemoryWatch()
    before = watch.sample()
    program = (
        "import sys; held = bytearray(b'x') * 50_000_000; print(len(held), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"50000000\n"
        during = watch.sample()
        child.communicate(b"")
    assert during - before > 45_000_000
    assert watch.peak_bytes == during
    assert sum(watch.at_peak.values()) == during
