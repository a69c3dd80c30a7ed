"""Evidently's tests in their own process. Each start of it imports for seconds, so starts are shared."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import uvloop

from learners.watch.follow import follow
from learners.watch.settings import WatchSettings
from learners.watch.state import WatchState
from learners.watch.tester import TwoSampleProcess
from learners.watch.two_sample import WindowTest, answer
from schemas.errors import Retryable
from tests.unit.watch_streams import CHAMPION, ks_p_values, stream

pytestmark = [pytest.mark.service, pytest.mark.timeout(240)]


def question(window: int, shift: float) -> WindowTest:
    rng = np.random.default_rng(window)
    return WindowTest(
        window=window,
        threshold=0.001,
        reference={
            # More than 1,000 rows: there Evidently's own choice of a test would be another.
            "top_score": tuple(rng.normal(0, 1, 1_500).tolist()),
            "reciprocal_rank": tuple(rng.choice([0.0, 0.5, 1.0], 400).tolist()),
        },
        current={
            "top_score": tuple(rng.normal(shift, 1, 200).tolist()),
            "reciprocal_rank": tuple(rng.choice([0.0, 0.5, 1.0], 200).tolist()),
        },
    )


async def test_p_values_are_those_of_the_named_test() -> None:
    async with TwoSampleProcess(WatchSettings(tester_idle_s=120.0)) as test:
        for asked in (question(1, 0.0), question(2, 0.5)):
            assert await test(asked) == pytest.approx(ks_p_values(asked))
        with pytest.raises(Retryable, match="two-sample test of window 5"):
            await test(WindowTest(window=5, threshold=0.01, reference={"a": ()}, current={"a": (1.0,)}))
        settings = WatchSettings(reference_queries=100, window_queries=50)
        rng = np.random.default_rng(3)
        queries = stream(rng, 200, click_rate=0.7, top_score=0.75)
        queries += stream(rng, 200, click_rate=0.7, top_score=0.2, start=200)
        state, taken = await follow(WatchState(champion=CHAMPION), queries[:150], settings, test)
        assert (state.windows, taken, state.alarm) == (1, 150, None)
        state, taken = await follow(state, queries[150:], settings, test)
        assert state.alarm is not None
        assert 50 < taken <= 100


async def ask_before_and_after_the_child_went() -> None:
    async with TwoSampleProcess(WatchSettings(tester_idle_s=1.0)) as test:
        first = await test(question(3, 0.0))
        child = test._child
        assert child is not None
        await child.wait()  # nobody asked for a second
        assert await test(question(3, 0.0)) == first
        assert test._child is not child


async def test_a_child_that_went_idle_is_replaced() -> None:
    await ask_before_and_after_the_child_went()


def test_a_child_that_went_idle_is_replaced_in_the_loop_of_the_processes() -> None:
    # uvloop has another error for a pipe whose other end has gone
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask_before_and_after_the_child_went())


async def test_a_slow_child_is_an_error_and_does_not_stay() -> None:
    test = TwoSampleProcess(WatchSettings(tester_timeout_s=0.2))
    with pytest.raises(Retryable, match=r"expected an answer within 0\.2 s"):
        await test(question(4, 0.0))
    assert test._child is None


async def test_a_cancelled_question_leaves_no_child() -> None:
    test = TwoSampleProcess(WatchSettings())
    asking = asyncio.create_task(test(question(7, 0.0)))
    while test._child is None and not asking.done():
        await asyncio.sleep(0)
    child = test._child
    assert child is not None
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert child.returncode is not None


def test_the_child_ends_with_its_input() -> None:
    command = [sys.executable, "-P", "-m", "learners.watch.two_sample", "--idle-s", "100"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=True)
    assert done.stdout == b""


def test_the_watch_imports_nothing_heavy() -> None:
    code = (
        "import sys, learners.watch.follow, learners.watch.tester, learners.freeze.freeze;"
        "print([m for m in ('evidently', 'pandas', 'torch', 'optuna', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_an_undecodable_question_is_no_answer() -> None:
    with pytest.raises(msgspec.DecodeError):
        answer(b"not json")
