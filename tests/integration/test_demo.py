"""The demo in small, on real parts: the loop once around, with the truth out of the stack's reach."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from rich.console import Console

from infra.demo.dataset import DATA
from infra.demo.phases import PHASES
from infra.demo.place import Place, truth_beside
from infra.demo.plan import Plan
from infra.demo.run import run_demo
from infra.demo.telling import Teller
from infra.local.stack import status
from tests.live_services import wait_for

pytestmark = [pytest.mark.service, pytest.mark.model, pytest.mark.timeout(600)]

_SMALL = Plan(
    probes_per_topic=5,
    tested_per_topic=5,
    apart_from_train=False,
    baseline_queries=640,
    moved_queries=2400,
    gather_queries=300,
    trials=2,
    trial_timeout_s=200.0,
    max_training_questions=60,
    canary_deadline_s=15.0,
    canary_minimum_units=40,
)

#: Python runs this at the start of every process of the stack. Whoever opens the truth is refused and noted;
#: only `ratchet evaluate`, which the report calls, may read what the report hands to it.
_GUARD = """
import os, sys
forbidden = os.environ["GUARD_FORBIDDEN"].split(os.pathsep)
log = os.environ["GUARD_LOG"]

def refuse(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if any(part in path for part in forbidden):
            with open(log, "a") as file:
                print(path, sys.orig_argv, file=file)
            raise PermissionError(path)

if not any("evaluat" in argument for argument in sys.orig_argv):
    sys.addaudithook(refuse)
"""


def _running_in(directory: Path) -> list[str]:
    """Command lines that name this directory."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        if str(directory) in command:
            found.append(command)
    return found


async def test_the_loop_once_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(_GUARD, encoding="utf-8")
    opened = guard / "opened.txt"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(guard), os.environ.get("PYTHONPATH", "")]))
    place = Place(tmp_path / "demo")
    monkeypatch.setenv("GUARD_FORBIDDEN", os.pathsep.join([str(DATA), str(truth_beside(place.project))]))
    monkeypatch.setenv("GUARD_LOG", str(opened))
    # The guard works: a process of ours cannot read the truth.
    tried = subprocess.run(
        [sys.executable, "-P", "-c", f"open({str(DATA / 'qrels.tsv')!r})"], capture_output=True, check=False
    )
    assert b"PermissionError" in tried.stderr
    opened.unlink()

    told = io.StringIO()
    with place.taken():
        report = await run_demo(_SMALL, place, Teller(Console(file=told, width=100)))

    assert not opened.exists(), f"a process of the stack looked for the truth: {opened.read_text()}"
    assert _running_in(place.directory) == []
    assert report.alarmed
    kinds = [link.type.removeprefix("ratchet.").removesuffix(".v1") for link in report.chain]
    assert kinds[:3] == ["drift.detected", "training.requested", "dataset.frozen"], told.getvalue()
    assert kinds.count("trial.finished") == _SMALL.trials
    assert {trial["state"] for trial in report.trials} == {"complete"}
    assert kinds[-1] in ("version.promoted", "version.rejected", "version.rolled_back"), told.getvalue()
    known = {link.id for link in report.chain}
    assert all(link.causation_id in known for link in report.chain[1:])
    assert report.promoted is (kinds[-1] == "version.promoted")
    assert report.after_version == "1.1.0"
    assert report.judged is not None

    events = report.events
    assert events.adds_up, events
    assert events.unconfirmed == 0
    assert events.refused > 0
    assert events.sendings > events.sent == events.acknowledged + events.refused
    # The search process reports query and list of each search itself.
    asked = sum(phase["queries"] for phase in report.traffic.values())
    assert events.total_stored >= events.stored + 2 * asked

    for table in (report.quality.before, report.quality.after, report.quality.difference):
        assert table["ndcg@10"].value is not None
    assert report.slices["moved"].questions == 100
    before = report.slices["moved"].versions["1.0.0"]["ndcg@10"].value
    well = report.slices["unmoved"].versions["1.0.0"]["ndcg@10"].value
    assert before is not None
    assert well is not None
    assert before < well
    assert 1e9 < report.peak_memory_bytes < 6e9
    # without the judge's word there is no canary
    assert all(report.seconds[name] for name in (*PHASES, "total") if name != "canary")
    assert report.seconds.keys() >= {*PHASES, "install", "total"}
    assert msgspec.json.decode(place.report.read_bytes())["seed"] == _SMALL.seed
    assert "drift" in told.getvalue()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Who runs tests in the background of a shell has SIGINT ignored, and so would every child."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_demo_that_is_ended_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    directory = tmp_path / "demo"
    command = [sys.executable, "-P", "-m", "infra.demo", "--directory", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as demo:
        data = directory / "project" / "var"
        wait_for(
            "the stack's supervisor",
            lambda: demo.poll() is not None or (data.exists() and status(data).supervisor_pid is not None),
        )
        demo.send_signal(number)
        assert demo.stderr is not None
        said = demo.stderr.read()
        assert demo.wait(120) == code, said
    wait_for("the end of the stack", lambda: _running_in(directory) == [], limit_s=90.0)
    assert status(data).supervisor_pid is None
    if number == signal.SIGINT:
        assert b"interrupted" in said
