"""The command line as a person uses it: one real stack, every command a process of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from api.cli.project import Project
from infra.clickhouse.connection import open_client
from infra.kafka.producer import KafkaEventLog
from schemas.codec import decode_payload, seal_event
from schemas.envelope import Event
from tests.lifecycle_events import whole_story

pytestmark = [pytest.mark.service, pytest.mark.timeout(240)]

TENANTS = ("shop", "old", "story", "tests", "elsewhere")


class Shell:
    """Runs `ratchet` in one project, far away from the checkout."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("RATCHET_")}
        self.environment["COLUMNS"] = "100"

    def run(self, *arguments: str, stdin: str = "", expect: int = 0) -> subprocess.CompletedProcess[str]:
        """The finished command. An AssertionError shows its output if the exit code is another."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "api.cli", "-C", str(self.directory), *arguments],
            cwd=self.directory,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def sql(self, statement: str) -> list[dict[str, Any]]:
        out = self.run("sql", statement, "--format", "JSONEachRow").stdout
        return [json.loads(line) for line in out.splitlines()]

    def until(self, statement: str, rows: list[dict[str, Any]]) -> None:
        """Ask until the statement gives these rows."""
        deadline = time.monotonic() + 30
        while (found := self.sql(statement)) != rows:
            assert time.monotonic() < deadline, f"{statement}: {found}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    directory = tmp_path_factory.mktemp("a project")
    lines = [f'[tenants.{tenant}]\nkey = "key-of-{tenant}"' for tenant in TENANTS]
    (directory / "ratchet.toml").write_text("\n".join(lines))
    shell = Shell(directory)
    try:
        shell.run("up", "--no-learn")
        yield shell
    finally:
        shell.run("down")


# ---------------------------------------------------------------- sql


def test_sql(shell: Shell) -> None:
    assert "episodes" in shell.run("sql", "SHOW TABLES").stdout.splitlines()
    assert shell.run("sql", "SELECT 1 AS a, 'x,y' AS b", "-f", "CSVWithNames").stdout == '"a","b"\n1,"x,y"\n'
    assert shell.run("sql", stdin="SELECT 7 AS a").stdout == "a\n7\n"
    assert shell.run("sql", "SELECT 1 AS a FORMAT JSONEachRow").stdout == '{"a":1}\n'


@pytest.mark.parametrize(
    "statement",
    [
        "SELEC 1",
        "SELECT nothing FROM events",
        "SELECT * FROM ratchet_store.events",
        "SELECT * FROM file('/etc/passwd')",
        "DROP VIEW events",
        "",
    ],
)
def test_a_refused_statement_is_one_sentence(shell: Shell, statement: str) -> None:
    done = shell.run("sql", statement, expect=1)
    assert done.stdout == ""
    assert done.stderr.startswith("ratchet: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 600


# ---------------------------------------------------------------- documents


def document_ids(shell: Shell) -> list[str]:
    out = shell.run("documents", "list", "--tenant", "shop", "--json").stdout
    return [json.loads(line)["document_id"] for line in out.splitlines()]


def test_documents(shell: Shell) -> None:
    path = shell.directory / "documents.jsonl"
    good = [
        {"id": "b", "title": "Returns", "text": "Send it back within 30 days.", "lang": "en"},
        {"_id": "a/1 'x' \\", "text": "An odd id."},
    ]
    bad = '{"id": "c"}\nnonsense\n' + json.dumps({"id": "long", "text": "x" * 600_000}) + "\n"
    path.write_text("\n".join(map(json.dumps, good)) + "\n" + bad)

    load = ("documents", "load", str(path), "--tenant", "shop")
    first = shell.run(*load, expect=1)
    assert first.stdout == "2 documents stored and visible, 0 unchanged, 3 bad\n"
    assert "line 3: needs a `text`" in first.stderr
    assert "line 4: expected JSON" in first.stderr
    assert "line 5: too_large" in first.stderr
    assert shell.run(*load, expect=1).stdout == "0 documents stored, 2 unchanged, 3 bad\n"
    assert document_ids(shell) == ["a/1 'x' \\", "b"]

    shown = json.loads(shell.run("documents", "show", "b", "--tenant", "shop", "--json").stdout)
    assert shown["text"] == "Send it back within 30 days."
    assert shown["fields"] == {"lang": "en"}
    assert "Send it back" in shell.run("documents", "show", "b", "--tenant", "shop").stdout

    # what changes is replaced, an old text can come back, and so can what was removed
    texts = ["Within 60 days.", "Send it back within 30 days."]
    for text in texts:
        path.write_text(json.dumps(good[0] | {"text": text}) + "\n")
        assert shell.run(*load).stdout == "1 document stored and visible, 0 unchanged\n"
        shown = json.loads(shell.run("documents", "show", "b", "--tenant", "shop", "--json").stdout)
        assert shown["text"] == text
    removed = shell.run("documents", "remove", "b", "a/1 'x' \\", "--tenant", "shop")
    assert removed.stdout == "2 documents removed\n"
    assert document_ids(shell) == []
    assert "has no document 'b'" in shell.run("documents", "show", "b", "--tenant", "shop", expect=1).stderr
    assert shell.run(*load).stdout == "1 document stored and visible, 0 unchanged\n"
    assert document_ids(shell) == ["b"]


def test_many_documents_and_repeated_ids(shell: Shell) -> None:
    path = shell.directory / "many.csv"
    rows = [f"m{n % 450},text {n},{n}" for n in range(500)]
    path.write_text("\n".join(["id,text,number", *rows]) + "\n")
    done = shell.run("documents", "load", str(path), "--tenant", "tests")
    assert done.stdout == "500 documents stored and visible, 0 unchanged\n"
    # the last line of an id stands
    assert shell.sql(
        "SELECT count() AS n, countIf(toInt32(substring(text, 6)) >= 450) AS late FROM documents "
        "WHERE tenant = 'tests'"
    ) == [{"n": 450, "late": 50}]


def test_documents_with_a_key_of_their_own_are_not_compared_with_this_tenants(shell: Shell) -> None:
    path = shell.directory / "elsewhere.jsonl"
    path.write_text('{"id": "[/x]", "text": "old"}\n{"id": "[/x]", "text": "new"}\n')
    load = ("documents", "load", str(path))
    where = "SELECT tenant FROM documents WHERE document_id = '[/x]' ORDER BY tenant"
    mine = shell.run(*load)
    assert mine.stdout == "1 document stored and visible, 0 unchanged\n"
    # an id is no markup
    assert "line 2 replaces line 1: both are document [/x]" in mine.stderr
    assert shell.run(*load).stdout == "0 documents stored, 1 unchanged\n"

    other = Shell(shell.directory)
    other.environment["RATCHET_KEY"] = "key-of-elsewhere"
    for _ in range(2):
        done = other.run(*load)
        assert done.stdout == "1 document stored, 0 unchanged\n"
        assert "RATCHET_URL or RATCHET_KEY lead to another API or tenant" in done.stderr
    shell.until(where, [{"tenant": "default"}, {"tenant": "elsewhere"}])
    assert other.run("documents", "remove", "[/x]").stdout == "1 document removed (acknowledged)\n"
    shell.until(where, [{"tenant": "default"}])

    # the same address and key, given once more, lead nowhere else
    api = json.loads(shell.run("status", "--json").stdout)["api"]
    other.environment |= {"RATCHET_URL": api["url"], "RATCHET_KEY": api["key"]}
    assert other.run(*load).stdout == "0 documents stored, 1 unchanged\n"
    assert other.run("documents", "remove", "[/x]").stdout == "1 document removed\n"
    shell.until(where, [])


def test_an_unknown_tenant_gets_nothing(shell: Shell) -> None:
    path = shell.directory / "one.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n')
    for command in (("documents", "load"), ("import", "cloudevents")):
        done = shell.run(*command, str(path), "--tenant", "shpo", expect=2)
        assert (
            "no tenant 'shpo' in the settings; there are: default, elsewhere, old, shop, story, tests"
            in done.stderr
        )


# ---------------------------------------------------------------- import, trace, doctor


def old_event(id_: str, type_: str, data: dict[str, Any], time_: str = "2024-03-01T09:00:00Z") -> str:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": id_,
            "source": "urn:old",
            "type": f"ratchet.{type_}.v1",
            "time": time_,
            "data": data,
        }
    )


@pytest.fixture(scope="module")
def imported(shell: Shell) -> Shell:
    hits = [{"document_id": "d1", "rank": 1}, {"document_id": "gone", "rank": 2}]
    click = {"kind": "click", "target": {"kind": "document", "document_id": "d1"}}
    lines = [
        old_event("v1", "document.stored", {"document_id": "d1", "text": "first text"}),
        old_event("v2", "document.stored", {"document_id": "d1", "text": "second text"}),
        old_event("a1", "query.asked", {"query_id": "q1", "text": "close my account", "user": "dora"}),
        old_event("r1", "retrieval.served", {"query_id": "q1", "retrieval_id": "R1", "hits": hits}),
        old_event("c1", "feedback.given", {"query_id": "q1"} | click),
        old_event("c9", "feedback.given", {"query_id": "q9"} | click),
        "nonsense",
        old_event("x1", "query.asked", {"query_id": "q2"}),
        "",
    ]
    path = shell.directory / "old.jsonl"
    path.write_text("\n".join(lines))
    dry = shell.run("import", "cloudevents", str(path), "--tenant", "old", "--dry-run", expect=1)
    assert dry.stdout == "6 events are good, 2 bad; nothing was written\n"
    for _ in range(2):
        done = shell.run("import", "cloudevents", str(path), "--tenant", "old", expect=1)
        assert done.stdout == "6 events imported, 2 bad (kept in `rejected`)\n"
        assert "line 7: invalid_json" in done.stderr
        assert "line 8: missing_field at data.text" in done.stderr
    return shell


def test_import_keeps_times_and_counts_nothing_twice(imported: Shell) -> None:
    assert imported.sql(
        "SELECT count() AS n, sum(time_doubted) AS doubted, toString(max(effective_time)) AS latest "
        "FROM events WHERE tenant = 'old'"
    ) == [{"n": 4, "doubted": 0, "latest": "2024-03-01 09:00:00.000000"}]
    assert imported.sql("SELECT sum(clicks) AS n FROM episodes WHERE tenant = 'old' AND has_query") == [
        {"n": 1}
    ]
    assert imported.sql("SELECT text FROM documents WHERE tenant = 'old'") == [{"text": "second text"}]
    assert imported.sql(
        "SELECT reason, count() AS n FROM rejected WHERE tenant = 'old' GROUP BY reason ORDER BY reason"
    ) == [{"reason": "invalid_json", "n": 1}, {"reason": "missing_field", "n": 1}]


@pytest.mark.parametrize(
    ("id_", "says"),
    [
        (
            "q1",
            ["query q1", "close my account", "dora (user)", "click on d1", "training pair", "interactions/"],
        ),
        ("c1", ["event c1", "feedback.given", "door file", "query q1", "training pair"]),
        ("R1", ["list or an answer of query q1", "training pair"]),
        ("q9", ["waits for its query", "No training pair"]),
        ("d1", ["document d1", "to 1 queries, of which 1 have feedback on it"]),
        ("gone", ["It does not stand", "1 queries were shown it"]),
        ("x1", ["rejected entry", "missing_field at data.text", "replayable"]),
    ],
)
def test_trace(imported: Shell, id_: str, says: Sequence[str]) -> None:
    out = imported.run("trace", id_, "--tenant", "old").stdout
    for text in says:
        assert text in out


def test_trace_of_nothing(imported: Shell) -> None:
    out = imported.run("trace", "q1", "--tenant", "shop", expect=1).stdout
    assert "Nothing is known of 'q1' for tenant shop" in out


def test_doctor(imported: Shell) -> None:
    body = json.loads(imported.run("doctor", "--tenant", "old", "--json").stdout)
    assert {(row["type"], row["source"]): row["events"] for row in body["events"]} == {
        ("ratchet.query.asked.v1", "urn:old"): 1,
        ("ratchet.retrieval.served.v1", "urn:old"): 1,
        ("ratchet.feedback.given.v1", "urn:old"): 2,
    }
    assert body["queries"]["total"] == body["queries"]["with_hits"] == body["queries"]["with_units"] == 1
    assert body["queries"]["with_propensities"] == 0
    assert body["waiting"]["feedback"] == 1
    assert body["waiting"]["examples"] == ["q9"]
    assert body["unknown"]["hit_examples"] == ["gone"]
    assert {row["reason"] for row in body["rejected"]} == {"invalid_json", "missing_field"}
    assert [need["needed"] for need in body["training_needs"]] == [200, 30, 50]
    assert body["lag_events"] == 0
    text = imported.run("doctor", "--tenant", "old").stdout
    for finding in body["findings"]:
        assert " ".join(finding["what"].split()[:4]) in " ".join(text.split())
    entry = body["rejected"][0]["example"]
    assert "rejected entry" in imported.run("trace", entry, "--tenant", "old").stdout


def test_doctor_before_anything_has_come(shell: Shell) -> None:
    out = shell.run("doctor", "--tenant", "story").stdout
    assert "no query has been reported" in out
    assert "there are no documents" in out


# ---------------------------------------------------------------- lifecycle


def append(shell: Shell, events: Sequence[Event]) -> None:
    """Write lifecycle events as the learner would."""
    bootstrap = Project(shell.directory).settings.kafka.bootstrap
    now = dt.datetime.now(dt.UTC)

    async def write() -> None:
        async with KafkaEventLog(bootstrap) as log:
            sealed = [
                seal_event(
                    decode_payload(event),
                    id=event.id,
                    source=event.source,
                    tenant="story",
                    recordedtime=now,
                    door="learner",
                    causationid=event.causationid,
                )
                for event in events
            ]
            assert all(result.confirmed for result in await log.append(sealed))

    asyncio.run(write())


def test_a_person_and_the_lifecycle(shell: Shell) -> None:
    def run(*arguments: str, expect: int = 0) -> str:
        done = shell.run(*arguments, "--tenant", "story", expect=expect)
        return done.stdout if expect == 0 else done.stderr

    assert "Nothing has happened yet" in run("story")
    assert "no version serves yet" in run("train", expect=1)
    assert "no version serves yet" in run("model", "rollback", "--reason", "r", expect=1)
    append(shell, whole_story()[:11])

    versions = json.loads(run("model", "list", "--json"))
    assert [(v["version"], v["stage"], v["champion"]) for v in versions] == [
        ("1.0.0", "champion", True),
        ("1.1.0", "admitted", False),
    ]
    assert "a training is open already" in run("train", "--reason", "now", expect=1)
    assert "no version '9.9.9'" in run("canary", "9.9.9", expect=1)
    assert "50% of the units get 1.1.0" in run("canary", "1.1.0")
    assert "a rollout is running" in run("train", expect=1)
    assert "1.1.0 is taken out; 1.0.0 serves" in run("model", "rollback", "--reason", "complaints")
    assert "ignored" in run("canary", "1.1.0", expect=1)
    assert "1.1.0 is the champion" in run("model", "promote", "1.1.0", "--reason", "I looked")
    assert "1.1.0 is taken out; 1.0.0 serves" in run("model", "rollback", "--reason", "worse after all")
    assert "requested against champion 1.0.0" in run("train", "--reason", "new season")
    assert "not on this machine" in run("model", "export", "1.0.0", str(shell.directory / "x"), expect=1)

    why = " ".join(run("model", "why", "1.1.0").split())
    for text in ("drift.detected", "trial.finished", "version.judged", "+0.1000", "I looked", "Ordered by"):
        assert text in why
    story = " ".join(run("story").split())
    assert "Command: ratchet train --reason 'new season'" in story
    assert "This did not count: a rollout is running." in story
    chain = run("trace", "d1")
    assert "What followed from it" in chain
    assert "rollout.started" in chain

    shell.until(
        "SELECT count() AS ordered, countIf(causation_id = '') AS uncaused FROM lifecycle "
        "WHERE tenant = 'story' AND startsWith(source, 'urn:ratchet:person:')",
        [{"ordered": 8, "uncaused": 0}],
    )


def test_experiments(shell: Shell) -> None:
    def run(*arguments: str, expect: int = 0) -> str:
        done = shell.run("experiment", *arguments, "--tenant", "tests", expect=expect)
        return done.stdout if expect == 0 else done.stderr

    halves = ("--arm", "short=.5", "--arm", "long=.5")
    assert "must sum to 1" in run("define", "ab", "--arm", "a=.5", "--arm", "b=.6", expect=1)
    assert "no measure 'klicks'" in run("define", "ab", *halves, "--metric", "klicks", expect=2)
    assert "an experiment cannot be like this" in run("define", "ab", "--arm", "a=1", expect=2)
    assert "is defined" in run("define", "ab", *halves, "--metric", "clicked")
    assert "is defined already" in run("define", "ab", *halves, expect=1)
    assert "no experiment 'cd'" in run("start", "cd", expect=1)
    assert "runs" in run("start", "ab")
    assert "running" in run("list")
    assert "has not been measured yet" in run("results", "ab")
    assert "is stopped" in run("stop", "ab", "--reason", "seen enough")
    assert "was stopped" in run("start", "ab", expect=1)


# ---------------------------------------------------------------- rebuild


def worker(shell: Shell) -> dict[str, Any]:
    body = json.loads(shell.run("status", "--json").stdout)
    (found,) = [process for process in body["processes"] if process["name"] == "streams"]
    return dict(found)


def test_rebuild(imported: Shell) -> None:
    before = worker(imported)["pid"]
    done = imported.run("rebuild")
    assert "swapped" in done.stdout
    assert "differs" not in done.stdout
    assert "the worker runs again" in done.stderr
    now = worker(imported)
    assert now["ready"]
    assert now["pid"] != before
    assert imported.sql("SELECT count() AS n FROM events WHERE tenant = 'old'") == [{"n": 4}]

    # a damaged table is found, left alone, and replaced only when a person says so
    client = open_client(Project(imported.directory).settings.clickhouse)
    client.command(
        "ALTER TABLE ratchet_store.documents DELETE WHERE tenant = 'old' SETTINGS mutations_sync = 1"
    )
    client.close()
    refused = imported.run("rebuild", expect=1)
    assert "not swapped: documents differ" in " ".join(refused.stdout.split())
    assert worker(imported)["ready"]
    assert imported.sql("SELECT count() AS n FROM documents WHERE tenant = 'old'") == [{"n": 0}]
    assert "swapped" in imported.run("rebuild", "--accept-difference").stdout
    assert imported.sql("SELECT text FROM documents WHERE tenant = 'old'") == [{"text": "second text"}]


def test_a_kept_store_is_read_by_name_until_it_is_dropped(imported: Shell) -> None:
    count = "SELECT count() AS n FROM events WHERE tenant = 'old'"

    def of(store: str, statement: str, expect: int = 0) -> str:
        done = imported.run("sql", statement, "--store", store, "-f", "TabSeparated", expect=expect)
        return done.stderr if expect else done.stdout

    kept = imported.run("rebuild", "--into", "whole")
    assert "`ratchet sql --store whole` reads it" in " ".join(kept.stdout.split())
    imported.run("rebuild", "--into", "before", "--as-of", "2000-01-01T00:00:00Z")
    assert [of(store, count) for store in ("whole", "before", "live")] == ["4\n", "0\n", "4\n"]
    assert "episodes" in of("whole", "SHOW TABLES").splitlines()
    both = (
        "SELECT count() FROM ratchet.episodes AS a LEFT ANTI JOIN episodes AS b USING (tenant, query_id) "
        "WHERE tenant = 'old'"
    )
    assert of("whole", both) == "0\n"
    assert int(of("before", both)) > 0
    for statement in ("SELECT * FROM ratchet_store_whole.events", "DROP VIEW events"):
        assert "Analysts may not use" in of("whole", statement, expect=1)
    differ = imported.run("diff", "before", "whole", expect=1).stdout
    assert "to look into it: `ratchet sql --store before`, `ratchet sql --store whole`" in differ
    assert "no store 'wholly' is kept beside; there are: live, before, whole" in of("wholly", count, expect=1)
    for name in ("whole", "before"):
        imported.run("rebuild", "--drop", name)
    assert "no store 'whole' is kept beside; there are: live" in of("whole", count, expect=1)


def test_without_a_stack_each_command_says_so(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.environment |= {
        "RATCHET_CLICKHOUSE__URL": "http://127.0.0.1:1",
        "RATCHET_KAFKA__BOOTSTRAP": "127.0.0.1:1",
        "RATCHET_API__PORT": "1",
        "RATCHET_TENANTS__DEFAULT__KEY": "k",
    }
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n')
    for arguments in (
        ("sql", "SELECT 1"),
        ("documents", "list"),
        ("documents", "load", str(path)),
        ("import", "cloudevents", str(path)),
        ("doctor",),
        ("story",),
        ("train",),
        ("trace", "x"),
        ("rebuild", "--worker-is-stopped"),
    ):
        done = shell.run(*arguments, expect=1)
        assert "127.0.0.1:1" in done.stderr, arguments
        assert len(done.stderr.splitlines()) <= 2, done.stderr
