"""The engine process as ClickHouse's own Python client sees it: a real process, directory and sockets."""

import asyncio
import gzip
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import clickhouse_connect
import httpx
import numpy as np
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from clickhouse_connect.driver.external import ExternalData

from tests.engine_process import EngineProcess, settings_for
from tests.live_services import wait_until

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    settings = settings_for(
        tmp_path_factory.mktemp("an engine") / "with a space",
        max_analyst_queries=2,
        max_body_bytes=64 << 20,
        max_server_memory_bytes=1_500_000_000,
    )
    with EngineProcess(settings) as process:
        for sql in (
            "CREATE DATABASE ratchet",
            "CREATE DATABASE ratchet_store",
            "CREATE TABLE ratchet_store.rows (id UInt64, name LowCardinality(String), score Float32,"
            " at DateTime64(3, 'UTC'), tags Array(String), note Nullable(String))"
            " ENGINE = MergeTree ORDER BY id",
            "CREATE VIEW ratchet.rows AS SELECT * FROM ratchet_store.rows",
        ):
            assert process.ask(sql).status_code == 200
        yield process
        assert process.stop() == 0


@pytest.fixture
def client(engine: EngineProcess) -> Iterator[Any]:
    client = engine.client()
    client.command("TRUNCATE TABLE ratchet_store.rows")
    yield client
    client.close()


COLUMNS = ["id", "name", "score", "at", "tags", "note"]


def some_columns(count: int) -> list[Any]:
    ids = np.arange(count, dtype=np.uint64)
    start = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    return [
        ids,
        np.array([f"name {number % 7}" for number in range(count)]),
        (ids / 2).astype(np.float32),
        [start] * count,
        [["a", "ü"]] * count,
        [None if number % 2 else "it's\ttext" for number in range(count)],
    ]


def test_columns_come_back_as_they_went_in(client: Any) -> None:
    written = client.insert(
        "rows", some_columns(50_000), COLUMNS, database="ratchet_store", column_oriented=True
    )
    assert written.written_rows == 50_000
    found = client.query("SELECT * FROM ratchet.rows WHERE id IN (3, 4) ORDER BY id")
    assert found.column_names == tuple(COLUMNS)
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    assert [(*row[:3], row[3].replace(tzinfo=UTC), *row[4:]) for row in found.result_rows] == [
        (3, "name 3", 1.5, at, ["a", "ü"], None),
        (4, "name 4", 2.0, at, ["a", "ü"], "it's\ttext"),
    ]
    assert client.query("SELECT sum(id), uniqExact(name) FROM ratchet.rows").first_row == (1_249_975_000, 7)
    assert client.query_np("SELECT id FROM ratchet.rows ORDER BY id LIMIT 3").tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", False])
def test_every_compression_both_ways(engine: EngineProcess, client: Any, compression: str | bool) -> None:
    compressed = engine.client(compress=compression)
    compressed.insert("rows", some_columns(20_000), COLUMNS, database="ratchet_store", column_oriented=True)
    assert compressed.query("SELECT id, tags FROM ratchet.rows ORDER BY id").result_rows[-1] == (
        19_999,
        ["a", "ü"],
    )
    compressed.close()


@pytest.mark.parametrize("coding", ["zstd", "lz4", "gzip", "deflate"])
def test_the_answer_is_coded_as_the_client_asks(engine: EngineProcess, coding: str) -> None:
    sql, params = "SELECT repeat('a', 1000000)", {"enable_http_compression": "1"}
    auth, headers = ("ratchet", "writer's"), {"accept-encoding": coding}
    with httpx.stream("POST", engine.url, params=params, content=sql, auth=auth, headers=headers) as answer:
        assert answer.headers["content-encoding"] == coding
        assert len(b"".join(answer.iter_raw())) < 10_000
    assert (
        "content-encoding"
        not in httpx.post(engine.url, content="SELECT 1", auth=auth, headers=headers).headers
    )


def test_a_broken_coding_is_refused(engine: EngineProcess) -> None:
    auth = ("ratchet", "writer's")
    for coding, body, code in (
        ("gzip", b"not gzip", 271),
        ("gzip", gzip.compress(b"SELECT " + b"1" * 1000)[:-9], 271),
        ("zstd", b"not zstd", 271),
        ("lz4", b"not lz4", 271),
        ("br", b"", 89),
    ):
        answer = httpx.post(engine.url, content=body, headers={"content-encoding": coding}, auth=auth)
        assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (400, str(code)), coding


def test_an_empty_result_has_names_and_types(client: Any) -> None:
    found = client.query("SELECT id, note, tags FROM ratchet.rows WHERE id = 1")
    assert found.result_rows == []
    assert found.column_names == ("id", "note", "tags")
    assert [one.name for one in found.column_types] == ["UInt64", "Nullable(String)", "Array(String)"]


def test_a_look_up_of_very_many_ids_is_an_ordinary_query(client: Any) -> None:
    ids = ",".join(str(10**15 + number) for number in range(40_000))
    assert len(ids) > 1 << 19
    found = client.query(
        f"SELECT id FROM ratchet.rows WHERE id IN ({ids})", settings={"max_query_size": 1 << 24}
    )
    assert (found.result_rows, found.column_types[0].name) == ([], "UInt64")
    names = ",".join(f"({number}, 'x')" for number in range(40_000))
    client.command(f"INSERT INTO ratchet_store.rows (id, name) VALUES {names}")
    assert client.command("SELECT count() FROM ratchet.rows") == 40_000


def test_a_large_result_streams(client: Any) -> None:
    rows = total = blocks = 0
    with client.query_column_block_stream("SELECT number, toString(number) FROM numbers(3000000)") as stream:
        for numbers, _ in stream:
            blocks += 1
            rows += len(numbers)
            total += int(np.sum(numbers))
    assert (rows, total) == (3_000_000, 4_499_998_500_000)
    assert blocks > 10


def test_parameters_keep_quotes_and_backslashes(client: Any) -> None:
    nasty = 'it\'s a \\ "quote"\twith\nall`'
    assert client.query("SELECT {s:String}, {n:UInt8}", parameters={"s": nasty, "n": 3}).first_row == (
        nasty,
        3,
    )


def test_errors_have_clickhouses_codes_and_status(engine: EngineProcess, client: Any) -> None:
    for sql, code, status in (
        ("SELECT * FROM nowhere", 60, 404),
        ("SELEC 1", 62, 400),
        ("SELECT throwIf(1)", 395, 500),
        ("SELECT 1; SELECT 2", 62, 400),
        ("INSERT INTO ratchet_store.rows (id) FORMAT TabSeparated\nx\n", 27, 400),
    ):
        with pytest.raises(DatabaseError, match=f"code: {code}"):
            client.command(sql)
        answer = engine.ask(sql)
        assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (status, str(code)), sql
        assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    with pytest.raises(DatabaseError, match="516"):
        clickhouse_connect.get_client(**engine.options() | {"password": "wrong"})
    assert httpx.post(engine.url, content="SELECT 1").status_code == 403


def test_a_failure_in_the_middle_is_no_short_answer(client: Any) -> None:
    rows: list[int] = []

    def read() -> None:
        sql = "SELECT throwIf(number = 3000000, 'in the middle') FROM numbers(9000000)"
        with client.query_column_block_stream(sql) as stream:
            rows.extend(len(column) for (column,) in stream)

    with pytest.raises((DatabaseError, OperationalError), match="in the middle"):
        read()
    assert 0 < sum(rows) <= 3_000_000


def test_a_get_only_reads(engine: EngineProcess) -> None:
    auth = ("ratchet", "writer's")
    assert httpx.get(engine.url, params={"query": "SELECT 1"}, auth=auth).text == "1\n"
    for sql in (
        "CREATE TABLE ratchet.x (a UInt8) ENGINE = Memory",
        "INSERT INTO ratchet_store.rows (id) VALUES (1)",
    ):
        refused = httpx.get(engine.url, params={"query": sql}, auth=auth)
        assert refused.headers["x-clickhouse-exception-code"] == "164"


def test_a_session_keeps_its_tables_and_forgets_the_requests_settings(engine: EngineProcess) -> None:
    with_session = engine.client(session_id="one")
    with_session.command("CREATE TEMPORARY TABLE mine (a UInt8)")
    with_session.command("SELECT 1", settings={"max_block_size": 7, "log_comment": "x"})
    assert with_session.command("SELECT getSetting('max_block_size')") != 7
    with_session.command("SET max_block_size = 11")
    assert with_session.command("SELECT getSetting('max_block_size')") == 11
    assert with_session.query("SELECT * FROM mine").column_names == ("a",)
    other = engine.client()
    with pytest.raises(DatabaseError, match="code: 60"):
        other.query("SELECT * FROM mine")
    with_session.close()
    other.close()
    assert (
        engine.ask("SELECT 1", session_id="never", session_check="1").headers["x-clickhouse-exception-code"]
        == "372"
    )


def test_external_tables_join_in(client: Any) -> None:
    data = ExternalData(file_name="wanted.csv", fmt="CSV", structure="id UInt64", data=b"1\n3\n")
    client.insert("rows", some_columns(5), COLUMNS, database="ratchet_store", column_oriented=True)
    found = client.query("SELECT id FROM ratchet.rows WHERE id IN wanted ORDER BY id", external_data=data)
    assert found.result_rows == [(1,), (3,)]


def test_the_writer_cannot_make_a_table_that_bricks_the_directory(engine: EngineProcess) -> None:
    for sql in (
        "CREATE TABLE ratchet.k (a UInt8) ENGINE = Kafka('127.0.0.1:1', 't', 'g', 'CSV')",
        "create /* ENGINE = Memory */ table ratchet.k (a UInt8)\n"
        "engine=`Kafka`('127.0.0.1:1', 't', 'g', 'CSV')",
    ):
        assert engine.ask(sql).headers["x-clickhouse-exception-code"] == "344"


async def test_the_async_client_in_parallel(engine: EngineProcess, client: Any) -> None:
    several = await clickhouse_connect.get_async_client(**engine.options())
    try:
        await several.insert(
            "rows", some_columns(1000), COLUMNS, database="ratchet_store", column_oriented=True
        )
        answers = await asyncio.gather(
            *(
                several.query("SELECT {n:UInt32}, count() FROM ratchet.rows", parameters={"n": n})
                for n in range(24)
            )
        )
        assert [answer.first_row for answer in answers] == [(n, 1000) for n in range(24)]
        with pytest.raises(DatabaseError, match="code: 60"):
            await several.query("SELECT * FROM nowhere")
    finally:
        await several.close()


ENDLESS = "SELECT count() FROM system.numbers WHERE NOT ignore(sipHash64(number))"


async def test_a_client_that_goes_away_takes_its_statement_with_it(engine: EngineProcess) -> None:
    for sql in (ENDLESS, "SELECT number FROM system.numbers FORMAT TabSeparated"):
        async with httpx.AsyncClient(auth=("ratchet", "writer's"), timeout=60) as http:
            asked = asyncio.create_task(_drain(http, engine.url, sql))
            await wait_until("its start", lambda: engine.running() == 1)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        await wait_until("its end", lambda: engine.running() == 0)


async def _drain(http: httpx.AsyncClient, url: str, sql: str) -> None:
    async with http.stream("POST", url, content=sql) as answer:
        async for _ in answer.aiter_raw():
            pass


async def test_a_borrowed_query_id_kills_nobody_else(engine: EngineProcess) -> None:
    same = f"{engine.url}?query_id=same&log_comment=same"
    async with (
        httpx.AsyncClient(auth=("ratchet", "writer's"), timeout=60) as writer,
        httpx.AsyncClient(auth=("analyst", "analyst's"), timeout=60) as analyst,
    ):
        stays = asyncio.create_task(_drain(writer, same, ENDLESS))
        leaves = asyncio.create_task(_drain(analyst, same, ENDLESS))
        await wait_until("both starts", lambda: engine.running() == 2)
        leaves.cancel()
        await wait_until("one end", lambda: engine.running() == 1)
        users = engine.ask("SELECT count() FROM system.processes WHERE Settings['readonly'] = '1'").text
        assert (users, stays.done()) == ("0\n", False)
        stays.cancel()
        await asyncio.gather(stays, leaves, return_exceptions=True)
    await wait_until("its end", lambda: engine.running() == 0)


def test_a_torn_request_never_reaches_the_engine(engine: EngineProcess, client: Any) -> None:
    head = (
        "POST / HTTP/1.1\r\nHost: engine\r\nX-ClickHouse-User: ratchet\r\nX-ClickHouse-Key: writer's\r\n"
        "Content-Length: 5000\r\n\r\nINSERT INTO ratchet_store.rows (id) FORMAT TabSeparated\n1\n2\n"
    )
    with socket.create_connection((engine.settings.host, engine.settings.port)) as torn:
        torn.sendall(head.encode())
    whole = head.replace("5000", str(len(head.partition("\r\n\r\n")[2]))).replace("1\n2\n", "7\n8\n")
    with socket.create_connection((engine.settings.host, engine.settings.port)) as sound:
        sound.sendall(whole.encode())
        assert sound.recv(100).startswith(b"HTTP/1.1 200")
    assert client.query("SELECT id FROM ratchet.rows ORDER BY id").result_rows == [(7,), (8,)]


def test_bodies_beyond_the_limit_are_refused(engine: EngineProcess) -> None:
    answer = engine.ask("SELECT '" + "a" * (65 << 20) + "'")
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (413, "290")


def test_memory_beyond_the_limit_fails_the_statement_and_not_the_process(engine: EngineProcess) -> None:
    limit = engine.ask("SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'")
    assert int(limit.text) == engine.settings.max_server_memory_bytes
    answer = engine.ask("SELECT length(groupArray(number)) FROM numbers(1000000000)")
    assert answer.headers["x-clickhouse-exception-code"] == "241"
    assert engine.ask("SELECT 1").text == "1\n"


def test_the_analyst_reads_the_views_and_nothing_else(engine: EngineProcess, client: Any) -> None:
    client.insert("rows", some_columns(10), COLUMNS, database="ratchet_store", column_oriented=True)
    # as anyone connects: with a session, and with or without naming the database
    for options in ({"autogenerate_session_id": True}, {"database": "ratchet"}, {"database": "default"}):
        analyst = engine.client("analyst", **options)
        assert analyst.query("SELECT count(), max(id) FROM rows").first_row == (10, 9)
        assert analyst.query("SELECT id FROM rows WHERE id = 77").column_types[0].name == "UInt64"
        assert analyst.query("SHOW TABLES").result_rows == [("rows",)]
        assert analyst.query("DESCRIBE TABLE rows").result_rows[0][:2] == ("id", "UInt64")
        assert analyst.query_np("SELECT id FROM rows ORDER BY id LIMIT 2").tolist() == [[0], [1]]
        for sql in (
            "SELECT * FROM ratchet_store.rows",
            "SELECT file('/etc/passwd')",
            "SELECT * FROM url('http://x')",
        ):
            with pytest.raises(DatabaseError, match="Analysts may not use"):
                analyst.query(sql)
        with pytest.raises(DatabaseError, match="code: 497"):
            analyst.insert("rows", [[1]], ["id"], column_type_names=["UInt64"])
        with pytest.raises(DatabaseError, match="code: 497"):
            analyst.command("DROP VIEW rows")
        analyst.close()
    assert client.query("SELECT count() FROM ratchet.rows").first_row == (10,)


async def test_analysts_cannot_take_every_place(engine: EngineProcess) -> None:
    async with httpx.AsyncClient(auth=("analyst", "analyst's"), timeout=60) as http:
        held = [asyncio.create_task(_drain(http, engine.url, ENDLESS)) for _ in range(2)]
        await wait_until("two reports", lambda: engine.running() == 2)
        refused = await http.post(engine.url, content="SELECT 1")
        assert (refused.status_code, refused.headers["x-clickhouse-exception-code"]) == (503, "202")
        assert (await asyncio.to_thread(engine.ask, "SELECT 1")).text == "1\n"
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
    await wait_until("their end", lambda: engine.running() == 0)


def test_pages_for_the_operator(engine: EngineProcess) -> None:
    assert [engine.page(path) for path in ("/ping", "/healthz", "/readyz", "/nowhere")] == [
        200,
        200,
        200,
        404,
    ]
    engine.ask("SELECT * FROM nowhere")
    text = httpx.get(engine.url + "/metrics").text
    for line in (
        'ratchet_engine_queries_total{account="writer",kind="read"}',
        'ratchet_engine_query_errors_total{code="60"}',
        'ratchet_engine_query_seconds_bucket{kind="read",le="0.1"}',
        'ratchet_engine_queries_running{account="writer"} 0.0',
    ):
        assert line in text
