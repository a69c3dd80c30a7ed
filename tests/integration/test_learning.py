"""A real training on a living stack; the learner is killed in the middle and goes on from the last event."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from ratchet_client import AsyncRatchet

from tests.integration.conftest import LiveStack
from tests.live_services import wait_for

pytestmark = [pytest.mark.service, pytest.mark.timeout(600)]
DATA = Path(__file__).parents[2] / "infra" / "demo" / "data" / "banking77_faq"
QUESTIONS = 700
TOPICS = 12
TENANT = "learning"


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


async def use(stack: LiveStack) -> None:
    """Load the corpus, ask questions, click: top hits that answer, now and then one that does not."""
    status = stack.status()
    rng = random.Random(5)
    corpus = read("corpus.jsonl")
    topic = {document["_id"]: document["_id"].partition("#")[0] for document in corpus}
    # few topics, so that similar questions share clicks, as in any application with some traffic
    asked_about = set(rng.sample(sorted(set(topic.values())), TOPICS))
    train = [q for q in read("queries.jsonl") if q["split"] == "train" and q["group"] in asked_about]
    questions = rng.sample(train, QUESTIONS)
    limit = asyncio.Semaphore(4)
    async with AsyncRatchet(
        status["api"]["url"], "key-of-learning", search_url=status["search"]["url"], timeout_s=60
    ) as client:
        await client.documents([{"document_id": d["_id"], "text": d["text"]} for d in corpus])

        async def ask(number: int, question: dict[str, Any]) -> None:
            async with limit:
                found = await client.search(question["text"], user=f"u{number % 200}", k=10)
                for hit in found.hits:
                    answers = topic[hit.document_id] == question["group"]
                    if rng.random() < (0.9 if answers else 0.1) / hit.rank:
                        await client.click(found.query_id, hit.document_id)

        async with asyncio.timeout(120):
            while len((await client.search(corpus[0]["text"], k=10)).hits) < 10:
                await asyncio.sleep(0.2)
        await asyncio.gather(*(ask(n, q) for n, q in enumerate(questions)))


def lifecycle(stack: LiveStack) -> list[dict[str, Any]]:
    """The tenant's steps that count, in the order of the log."""
    return stack.sql(
        "SELECT event_id, causation_id, type, data FROM lifecycle"
        f" WHERE tenant = '{TENANT}' AND outcome = 'accepted' ORDER BY offset"
    )


def ended(stack: LiveStack, kind: str) -> bool:
    """Whether a step of this kind is there; fails at once if the training was given up."""
    steps = {
        row["type"].removeprefix("ratchet.").removesuffix(".v1"): row["data"] for row in lifecycle(stack)
    }
    assert "training.abandoned" not in steps, steps["training.abandoned"]
    return kind in steps


def test_a_killed_learner_goes_on_and_repeats_no_finished_trial(stack: LiveStack) -> None:
    asyncio.run(use(stack))
    stack.run("train", "--tenant", TENANT)
    wait_for("a finished trial", lambda: ended(stack, "trial.finished"), limit_s=180)
    (learner,) = (p for p in stack.status()["processes"] if p["name"] == "learner")
    os.kill(learner["pid"], signal.SIGKILL)
    wait_for("a verdict of the judge", lambda: ended(stack, "version.judged"), limit_s=240)

    steps = lifecycle(stack)
    trials = [json.loads(row["data"])["number"] for row in steps if "trial.finished" in row["type"]]
    assert trials == [0, 1]
    ids = {row["event_id"]: row for row in steps}
    chain = [next(row for row in reversed(steps) if "version.judged" in row["type"])]
    while chain[-1]["causation_id"] in ids:
        chain.append(ids[chain[-1]["causation_id"]])
    assert [row["type"].split(".")[1] + "." + row["type"].split(".")[2] for row in chain] == [
        "version.judged",
        "version.proposed",
        "trial.finished",
        "dataset.frozen",
        "training.requested",
    ]
    proposed = json.loads(chain[1]["data"])
    version = stack.directory / "var" / "artifacts" / TENANT / "versions" / proposed["version"]
    assert (version / "pipeline.json").is_file()
    told = stack.run("story", "--tenant", TENANT)
    assert proposed["version"] in told
    assert proposed["version"] in stack.run("model", "list", "--tenant", TENANT)
