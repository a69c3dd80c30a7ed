"""Importing files without a broker: reading, batches, going on, bad lines, what the command says."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from api.cli import import_files
from api.cli.import_files import Csv, Parquet, Unit, Unreadable, open_plain, read_lines
from api.cli.import_progress import ImportProgress
from api.cli.import_state import Progress
from api.cli.importing import Importing, cut_batches
from api.cli.imports import import_events, wait_folded
from api.cli.project import Project
from api.settings import Settings
from infra.settings import KafkaSettings
from ingest.formats.pieces import Format
from ingest.formats.registry import FORMATS
from ingest.intake import Intake
from ingest.memory import MemoryEventLog
from ingest.ports import Appended
from ingest.settings import IngestSettings
from schemas.codec import decode_event
from schemas.envelope import Event
from schemas.errors import Reason, Retryable
from tests.unit.http_door import NOW, query

MAPPING = """
[[event]]
type = "query.asked"
time = "at"
data = { query_id = "qid", text = "question" }
"""


def lines_of(number: int) -> list[bytes]:
    return [json.dumps(query(n)).encode() for n in range(number)]


def units_of(content: bytes) -> list[Unit]:
    return list(read_lines(io.BytesIO(content)))


# ---------------------------------------------------------------- reading


@given(st.lists(st.sampled_from([b"", b"  ", b"{}", b"nonsense", b"\xff"]), max_size=60))
def test_every_line_that_is_not_blank_is_in_one_batch(contents: list[bytes]) -> None:
    units = units_of(b"\n".join(contents))
    numbered = [(n, line) for n, line in enumerate(contents, 1) if line.strip()]
    assert [(one.number, one.content) for one in units] == numbered
    assert [unit for batch in cut_batches(iter(units)) for unit in batch] == units


def test_batches_are_bounded_by_lines_and_by_bytes() -> None:
    many = [Unit(number, b"{}") for number in range(2_500)]
    assert [len(batch) for batch in cut_batches(iter(many))] == [1_000, 1_000, 500]
    large = [Unit(number, b"x" * 1_500_000) for number in range(5)]
    assert [len(batch) for batch in cut_batches(iter(large))] == [2, 2, 1]


def test_a_line_that_is_too_long_is_refused_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_files, "MAX_LINE_BYTES", 64)
    units = units_of(b'{"a": 1}\n' + b"x" * 1_000 + b'\n{"b": 2}\n')
    assert [(one.number, one.why is None) for one in units] == [(1, True), (2, False), (3, True)]
    assert units[1].why is not None
    assert units[1].why.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "pack",
    [
        lambda plain: plain,
        lambda plain: b"\xef\xbb\xbf" + plain,
        gzip.compress,
        lambda plain: gzip.compress(plain[:7]) + gzip.compress(plain[7:]),
        zstandard.compress,
        lambda plain: zstandard.compress(plain[:7]) + zstandard.compress(plain[7:]),
    ],
    ids=["plain", "with a mark", "gzip", "gzip, two members", "zstd", "zstd, two frames"],
)
def test_packed_files_are_read_as_they_come(pack: Any, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(pack(b"\n".join(lines_of(3_000))))
    read: list[int] = []
    units = list(read_lines(open_plain(str(path), read.append)))
    assert [unit.content for unit in units] == lines_of(3_000)
    assert read[-1] == path.stat().st_size


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_of_a_file_that_ends_early_all_before_is_taken(pack: Any, tmp_path: Path) -> None:
    path = tmp_path / "x"
    varied = b"".join(b'{"n": %d, "h": %d}\n' % (n, hash((n, "x"))) for n in range(30_000))
    path.write_bytes(pack(varied)[:-1_000])
    taken: list[Unit] = []

    def take() -> None:
        for batch in cut_batches(read_lines(open_plain(str(path)))):
            taken.extend(batch)

    with pytest.raises(Unreadable, match="cannot be read beyond line"):
        take()
    assert len(taken) > 15_000


def csv_of(text: bytes, delimiter: str = "") -> Csv:
    stream: BinaryIO = io.BytesIO(text)
    return Csv(stream, delimiter)


def test_rows_of_csv() -> None:
    table = csv_of(b'\xef\xbb\xbfa;"b c";d\r\n1;"x;\r\n""y""";\r\n\r\n2;z;w\r\n')
    assert table.columns == ["a", "b c", "d"]
    rows = list(table)
    assert [(one.number, json.loads(one.content)) for one in rows] == [
        (2, {"a": "1", "b c": 'x;\r\n"y"', "d": None}),
        (5, {"a": "2", "b c": "z", "d": "w"}),
    ]


@pytest.mark.parametrize(
    ("bad", "says"),
    [(b"1\n", "got 1"), (b"1,2,3\n", "got 3"), (b"1,\xff\n", "UTF-8"), (b'1,"a"b\n', "no row of CSV")],
)
def test_a_bad_row_is_refused_with_its_bytes_and_the_next_is_read(bad: bytes, says: str) -> None:
    first, refused, last = csv_of(b"a,b\n1,2\n" + bad + b"5,6\n")
    assert (first.number, refused.number, last.number) == (2, 3, 4)
    assert first.why is None
    assert last.why is None
    assert refused.why is not None
    assert says in refused.why.message
    assert refused.content == bad


@pytest.mark.parametrize("header", [b"", b"a,a\n", b"a,,b\n"])
def test_a_table_without_a_header_is_refused(header: bytes) -> None:
    with pytest.raises(Unreadable, match="expected a header"):
        csv_of(header, ",")


def test_rows_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    moments = pyarrow.array([1_719_817_200_123_456_789, None], pyarrow.timestamp("ns"))
    table = pyarrow.table(
        {"at": moments, "n": [1, 2], "score": [0.5, float("nan")], "docs": [["a", "b"], None]}
    )
    pyarrow.parquet.write_table(table, path)
    read: list[int] = []
    rows = Parquet(str(path), read.append)
    assert (rows.columns, rows.rows) == (["at", "n", "score", "docs"], 2)
    assert [(one.number, json.loads(one.content)) for one in rows] == [
        (1, {"at": "2024-07-01T07:00:00.123456", "n": 1, "score": 0.5, "docs": ["a", "b"]}),
        (2, {"at": None, "n": 2, "score": None, "docs": None}),
    ]
    assert read == [2]
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(Unreadable, match="cannot be read as Parquet"):
        Parquet(str(path))


# ---------------------------------------------------------------- taking in


class Stopped(Exception):
    """What a kill is here."""


class Flaky(MemoryEventLog):
    """A log that is away for a while, or whose importer is killed."""

    def __init__(self, away: int = 0, killed_at: int = 0) -> None:
        super().__init__()
        self._away = away
        self._killed_at = killed_at
        self.appends = 0

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        self.appends += 1
        if self.appends == self._killed_at:
            raise Stopped
        self.confirming = self.appends > self._away
        return await super().append(events)


class Import:
    """An import of lines into a log in memory; `places` is where it keeps its own."""

    def __init__(self, places: Path | None, name: str = "cloudevents") -> None:
        self.format: Format = FORMATS[name]
        self.out = io.StringIO()
        self.errors = io.BytesIO()
        self._console = Console(file=self.out, width=200)
        self._places = places
        self.pauses = 0
        self.found = 0

    async def _pause(self, _seconds: float) -> None:
        self.pauses += 1

    def run(self, content: bytes, log: MemoryEventLog, now: dt.datetime = NOW) -> Importing:
        def begin() -> Iterator[Unit]:
            return read_lines(io.BytesIO(content))

        progress = Progress(self._places, "acme", self.format.name, "file")
        units = progress.resume(begin)
        self.found = progress.found.number
        settings = IngestSettings()
        importing = Importing(
            self.format, "acme", settings, self._console, errors=self.errors, now=lambda: now
        )
        importing.go_on(progress)
        intake = Intake(log, settings, code_version="1")
        shown = ImportProgress(self._console, "file", None)
        ticks = iter(range(0, 100_000, 30))
        asyncio.run(
            importing.run(
                cut_batches(units),
                intake,
                progress,
                shown,
                pause=self._pause,
                clock=lambda: float(next(ticks)),
            )
        )
        progress.finish()
        return importing


def events_of(log: MemoryEventLog, topic: str = "interactions") -> list[Event]:
    return [decode_event(value) for _, value in log.records.get(topic, ())]


def test_an_import_that_was_killed_goes_on_and_ends_with_the_same_counts(tmp_path: Path) -> None:
    content = b"\n".join([*lines_of(1_500), b"nonsense", *lines_of(3_000)[1_500:]])
    killed = Flaky(killed_at=3)
    with pytest.raises(Stopped):
        Import(tmp_path).run(content, killed)
    assert len(events_of(killed)) == 1_999
    log, second = MemoryEventLog(), Import(tmp_path)
    importing = second.run(content, log)
    assert second.found == 2_000
    assert len(events_of(log)) == 1_001
    assert (importing.good, importing.bad) == (3_000, 1)
    ids = {event.id for event in (*events_of(killed), *events_of(log))}
    assert len(ids) == 3_000
    # done: the next one begins anew, and its events are the same
    third, whole = Import(tmp_path), MemoryEventLog()
    third.run(content, whole)
    assert third.found == 0
    assert {event.id for event in events_of(whole)} == ids
    assert len(events_of(whole)) == 3_000


def test_another_file_of_the_same_name_begins_anew(tmp_path: Path) -> None:
    content = b"\n".join(lines_of(3_000))
    with pytest.raises(Stopped):
        Import(tmp_path).run(content, Flaky(killed_at=2))
    changed = content.replace(b"e-7", b"e-x", 1)
    log, again = MemoryEventLog(), Import(tmp_path)
    assert again.run(changed, log).good == 3_000
    assert again.found == 0
    assert len(events_of(log)) == 3_000


def test_a_file_that_grew_goes_on_where_it_was(tmp_path: Path) -> None:
    lines = lines_of(2_500)
    with pytest.raises(Stopped):
        Import(tmp_path).run(b"\n".join(lines[:2_000]), Flaky(killed_at=2))
    again = Import(tmp_path)
    assert again.run(b"\n".join(lines), MemoryEventLog()).good == 2_500
    assert again.found == 1_000


def test_while_the_log_is_away_it_waits_and_sends_the_same_bytes() -> None:
    log, one = Flaky(away=3), Import(None)
    assert one.run(b"\n".join(lines_of(5)), log).good == 5
    assert one.pauses == 3
    assert len(set(log.records["interactions"])) == 5


def test_it_gives_up_with_the_line_to_go_on_from() -> None:
    with pytest.raises(Retryable, match="at line 1; all before it is imported: run the same import again"):
        Import(None).run(b"\n".join(lines_of(5)), Flaky(away=99))


def test_a_batch_is_received_after_the_one_before_it() -> None:
    log = MemoryEventLog()
    Import(None).run(b"\n".join(lines_of(2_500)), log)
    times = [event.recordedtime for event in events_of(log)]
    assert times == sorted(set(times))
    assert all(event.timetrusted and event.door == "file" for event in events_of(log))


@pytest.mark.parametrize(
    ("name", "line", "bad", "field"),
    [
        (
            "ubi",
            {"action_name": "click", "query_id": "q", "timestamp": "2024-01-01T00:00:00Z",
             "event_attributes": {"object": {"object_id": "d"}}},
            {"action_name": "click", "timestamp": "2024-01-01T00:00:00Z"},
            "query_id",
        ),
        ("langfuse", {"name": "s", "value": 1, "traceId": "t"}, {"name": "s", "value": 1}, "traceId"),
    ],
)  # fmt: skip
def test_other_formats_are_read_line_by_line(
    name: str, line: dict[str, Any], bad: dict[str, Any], field: str
) -> None:
    log, one = MemoryEventLog(), Import(None, name)
    lines = [line, bad, {"action_name": "impression", "timestamp": "2024-01-01T00:00:00Z"}, line]
    importing = one.run(b"\n".join(json.dumps(each).encode() for each in lines), log)
    # two equal lines are one event
    assert len({event.id for event in events_of(log)}) == 1
    assert importing.good == 2
    assert importing.bad + importing.ignored == 2
    written = [json.loads(error) for error in one.errors.getvalue().splitlines()]
    assert written[0]["line"] == 2
    assert written[0]["field"] == field
    assert f"line 2: missing_field at {field}" in one.out.getvalue()
    (entry, *_) = events_of(log, "rejected")
    assert json.loads(bytes(entry.data))["headers"]["format"] == name


# ---------------------------------------------------------------- the command


def run(directory: Path, *arguments: str, stdin: bytes = b"") -> Result:
    (directory / "ratchet.toml").write_text(
        '[kafka]\nbootstrap = "127.0.0.1:1"\n[tenants.default]\nkey = "k"\n'
    )
    return CliRunner().invoke(import_events, arguments, obj=Project(directory), input=stdin)


def test_a_dry_run_needs_no_broker_and_names_every_bad_line(tmp_path: Path) -> None:
    path, errors = tmp_path / "x.jsonl", tmp_path / "errors.jsonl"
    path.write_bytes(b"\n".join([*lines_of(2), b"nonsense", b"{}"]))
    done = run(tmp_path, "cloudevents", str(path), "--dry-run", "--errors", str(errors))
    assert done.exit_code == 1
    assert done.stdout == "2 events are good, 2 bad; nothing was written\n"
    assert [json.loads(line)["line"] for line in errors.read_text().splitlines()] == [3, 4]
    piped = run(tmp_path, "cloudevents", "-", "--dry-run", stdin=gzip.compress(b"\n".join(lines_of(3))))
    assert (piped.exit_code, piped.stdout) == (0, "3 events are good, 0 bad; nothing was written\n")


def test_a_table_with_its_mapping(tmp_path: Path) -> None:
    path, mapping = tmp_path / "x.csv", tmp_path / "mapping.toml"
    path.write_text("qid,question,at\nq1,what,2024-01-01\nq2,,2024-01-01\nq3,why,never\n")
    mapping.write_text(MAPPING)
    done = run(tmp_path, "csv", str(path), "--mapping", str(mapping), "--dry-run")
    assert done.stdout == "1 events are good, 2 bad; nothing was written\n"
    assert "line 3: missing_field at question" in done.stderr
    assert "line 4: invalid_value at at: at: expected a time in ISO 8601, got 'never'" in done.stderr

    parquet = tmp_path / "x.parquet"
    columns = {"qid": ["q1"], "question": ["what"], "at": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]}
    pyarrow.parquet.write_table(pyarrow.table(columns), parquet)
    done = run(tmp_path, "parquet", str(parquet), "--mapping", str(mapping), "--dry-run")
    assert (done.exit_code, done.stdout) == (0, "1 events are good, 0 bad; nothing was written\n")
    rows = tmp_path / "x.jsonl"
    rows.write_text('{"qid": "q1", "question": "what", "at": "2024-01-01"}\n[]\n')
    done = run(tmp_path, "rows", str(rows), "--mapping", str(mapping), "--dry-run")
    assert done.stdout.startswith("1 events are good")


def test_a_first_mapping_is_printed_and_works(tmp_path: Path) -> None:
    path, mapping = tmp_path / "x.csv", tmp_path / "mapping.toml"
    path.write_text("query_id;query;ts;rating\nq1;what;2024-01-01;4\n")
    sample = run(tmp_path, "csv", str(path), "--sample")
    assert sample.exit_code == 0
    mapping.write_text(sample.stdout)
    done = run(tmp_path, "csv", str(path), "--mapping", str(mapping), "--dry-run")
    assert done.stdout == "2 events are good, 0 bad; nothing was written\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nonsense", "x"), "'nonsense' is not one of"),
        (("csv", "ratchet.toml"), "csv needs a --mapping"),
        (("ubi", "ratchet.toml", "--id-column", "x"), "are for csv, parquet, rows"),
        (("ubi", "ratchet.toml", "--sample"), "--sample is for csv and parquet"),
        (("parquet", "-", "--mapping", "mapping.toml"), "Parquet is read from its end"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mapping.toml").write_text(MAPPING)
    done = run(tmp_path, *arguments, "--dry-run")
    assert done.exit_code == 2
    assert says in done.stderr


@pytest.mark.service
def test_a_broker_that_does_not_answer_is_no_answer_about_the_worker() -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap="127.0.0.1:1"))
    assert wait_folded(settings, patience_s=0.01) is None


def test_progress_says_how_much_how_fast_and_how_long() -> None:
    out = io.StringIO()
    ticks = iter([0.0, 10.0, 20.0, 20.0, 20.0])
    progress = ImportProgress(Console(file=out, width=200), "x.csv", 1_000, clock=lambda: next(ticks))
    with progress:
        progress.note_read(500)
        progress.begin()
        progress.note_read(750)
        progress.note_taken(30_000)
    assert out.getvalue() == "x.csv: 30,000 · 3,000/s · 75 % · 10 s left\n"
