"""What the analysts' account may run, on a real engine in this process: the promised views, nothing else."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from infra.clickhouse.beside import databases_named
from infra.clickhouse.engine.accounts import Account
from infra.clickhouse.engine.analysts import AnalystPolicy
from infra.clickhouse.engine.connection import Connection, Engine
from infra.clickhouse.engine.errors import ACCESS_DENIED, READONLY, EngineError
from infra.clickhouse.engine.execution import Execution
from infra.clickhouse.engine.protocol import ExternalTable, QueryRequest, read_request
from infra.clickhouse.engine.settings import EngineSettings
from schemas.errors import Fatal

SECRET = "the-content-of-a-file"


class Desk:
    """An engine with one view over one stored table, and two ways to ask it."""

    def __init__(self, engine: Engine, settings: EngineSettings, outside: Path) -> None:
        self.engine, self.settings, self.outside = engine, settings, outside
        self.policy = AnalystPolicy(engine.connect(), settings.analysts_read)

    def ask(
        self,
        sql: str,
        account: Account = Account.ANALYST,
        policy: AnalystPolicy | None = None,
        request: QueryRequest | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> str:
        request = request or read_request(
            "POST", {}, parameters or {}, sql.encode("utf-8", "surrogateescape"), "q"
        )
        execution = Execution(self.engine, self.settings, policy or self.policy, request, account)
        try:
            out = execution.start()
            while not execution.finished:
                out += execution.next_piece(1 << 20)
            return out.decode("utf-8", "replace")
        finally:
            execution.abandon()

    def refusal(self, sql: str, **parameters: str) -> str:
        """The sentence with which the allow-list (not the engine) refuses."""
        with pytest.raises(EngineError) as refused:
            self.ask(sql, parameters=parameters)
        assert refused.value.code == ACCESS_DENIED, f"{sql}: {refused.value}"
        assert "Analysts" in str(refused.value)
        return str(refused.value)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("an engine")
    outside = folder / "outside.txt"
    outside.write_text(SECRET)
    settings = EngineSettings(
        path=str(folder / "tables"),
        writer_password="w",
        analyst_password="a",
        analyst_max_execution_s=2,
        analyst_max_result_rows=10_000,
        analyst_max_memory_bytes=60_000_000,
    )
    engine = Engine(settings)
    desk = Desk(engine, settings, outside)
    for statement in (
        "CREATE DATABASE ratchet",
        "CREATE DATABASE ratchet_store",
        "CREATE TABLE ratchet_store.events (tenant String, query_id String, n UInt64)"
        " ENGINE = ReplacingMergeTree ORDER BY (tenant, query_id)",
        "CREATE VIEW ratchet.events AS SELECT tenant, query_id, n FROM ratchet_store.events FINAL",
        "INSERT INTO ratchet_store.events SELECT 'a', toString(number), number FROM numbers(100)",
        *(f"CREATE DATABASE ratchet_{name}" for name in ("early", "store_early", "next", "store_next")),
        "CREATE TABLE ratchet_store_early.events ENGINE = MergeTree ORDER BY () AS"
        " SELECT * FROM ratchet_store.events WHERE n < 10",
        "CREATE VIEW ratchet_early.events AS SELECT tenant, query_id, n FROM ratchet_store_early.events",
        "CREATE VIEW ratchet_next.events AS SELECT tenant, query_id, n FROM ratchet_store_early.events",
    ):
        desk.ask(statement, Account.WRITER)
    yield desk
    engine.close()


ALLOWED: Mapping[str, str] = {
    "SELECT count() FROM events": "100\n",
    "SELECT count() FROM ratchet.events": "100\n",
    "/* why */ SELECT count() -- how many\nFROM ratchet.events;": "100\n",
    "FROM events SELECT max(n)": "99\n",
    "(SELECT 1) UNION ALL (SELECT 1)": "1\n1\n",
    "WITH x AS (SELECT n FROM events WHERE n < 3) SELECT sum(n) FROM x": "3\n",
    "SELECT countIf(n IN (SELECT number FROM numbers(5))) FROM events": "5\n",
    "SELECT count() FROM events AS a JOIN events AS b ON a.n = b.n": "100\n",
    "SELECT count() FROM events AS a JOIN ratchet.events AS b USING (tenant, query_id)": "100\n",
    "SELECT quantileExactIf(0.5)(n, n < 11), sumDistinct(n), uniqExact(tenant) FROM events": "5\t4950\t1\n",
    "SELECT arraySum(x -> x * 2, [1, 2]), tupleElement((1, 'a'), 2), map('k', 1)['k']": "6\ta\t1\n",
    "SELECT row_number() OVER (PARTITION BY tenant ORDER BY n) FROM events LIMIT 1": "1\n",
    "SELECT toStartOfHour(toDateTime('2026-01-02 03:04:05', 'UTC')) + INTERVAL 1 DAY": (
        "2026-01-03 03:00:00\n"
    ),
    "SELECT CASE n WHEN 1 THEN 'one' ELSE 'more' END FROM events WHERE n = 1": "one\n",
    "SELECT JSONExtractInt('{\"a\": 3}', 'a'), n::String, COUNT(*) FROM events WHERE n = 7 GROUP BY n": (
        "3\t7\t1\n"
    ),
    "SELECT * EXCEPT (query_id) REPLACE (n + 1 AS n) FROM events WHERE query_id = '1'": "a\t2\n",
    "SELECT x FROM (SELECT n FROM events LIMIT 1) ARRAY JOIN [1, 2] AS x": "1\n2\n",
    "SELECT number FROM events RIGHT JOIN numbers(2) AS k ON events.n = k.number + 1000 ORDER BY number": (
        "0\n1\n"
    ),
    "SELECT n FROM events ORDER BY n DESC LIMIT 1 WITH TIES": "99\n",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM events)": "1\n",
    "SELECT * FROM values('a UInt8', 3)": "3\n",
    "SELECT a FROM events GROUP BY GROUPING SETS ((n AS a), ()) ORDER BY a LIMIT 1": "0\n",
    "SELECT database FROM system.tables WHERE name = 'events' AND database = 'ratchet'": "ratchet\n",
    "SELECT system.columns.name FROM system.columns WHERE database = 'ratchet' AND position = 1": "tenant\n",
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'ratchet'": "events\n",
    "SELECT currentDatabase(), timezone() != ''": "ratchet\t1\n",
    "SELECT name FROM system.databases WHERE name = currentDatabase()": "ratchet\n",
    "SELECT count() > 1000 FROM system.settings": "1\n",
    "DESCRIBE TABLE ratchet.events": (
        "tenant\tString\t\t\t\t\t\nquery_id\tString\t\t\t\t\t\nn\tUInt64\t\t\t\t\t\n"
    ),
    "EXISTS TABLE ratchet.events": "1\n",
    "SHOW TABLES": "events\n",
    "show tables from ratchet format TabSeparated;": "events\n",
    "SELECT 'a\n Function file'": "a\\n Function file\n",
}


#: The same of a store that is kept beside: asked from there, or by its name.
KEPT: Mapping[str, str] = {
    "SELECT count(), currentDatabase() FROM events": "10\tratchet_early\n",
    "SELECT count() FROM ratchet.events AS a LEFT ANTI JOIN events AS b USING (tenant, query_id)": "90\n",
    "SELECT max(ratchet_early.events.n) FROM ratchet_early.events": "9\n",
    "SHOW TABLES": "events\n",
}


@pytest.mark.parametrize("sql", KEPT)
def test_a_kept_store_is_read_like_the_living_one(desk: Desk, sql: str) -> None:
    assert desk.ask(sql, parameters={"database": "ratchet_early"}) == KEPT[sql]


def test_a_kept_store_is_read_by_its_name_from_the_living_one(desk: Desk) -> None:
    assert desk.ask("SELECT count() FROM ratchet_early.events") == "10\n"


def test_no_store_that_is_not_there(desk: Desk) -> None:
    with pytest.raises(EngineError, match="ratchet_late"):
        desk.ask("SELECT 1", parameters={"database": "ratchet_late"})


@pytest.mark.parametrize("database", ["ratchet_store", "ratchet_store_early", "ratchet_next", "system"])
def test_nobody_asks_from_storage_or_from_what_is_not_finished(desk: Desk, database: str) -> None:
    assert database in desk.refusal("SELECT 1", database=database)


@pytest.mark.parametrize(
    "name", ["early", "q3_2026", "a", "nextweek", "live", "next", "store", "storey", "1a"]
)
def test_kept_stores_are_those_that_a_rebuild_can_make(name: str) -> None:
    settings = EngineSettings(path="x", writer_password="w", analyst_password="a")
    try:
        made = databases_named(name).views
    except Fatal:
        assert not settings.analysts_read(f"ratchet_{name}") or name == "live"
    else:
        assert settings.analysts_read(made)
        assert not settings.analysts_read(databases_named(name).store)


@pytest.mark.parametrize("sql", ALLOWED)
def test_ordinary_questions_are_answered(desk: Desk, sql: str) -> None:
    assert desk.ask(sql) == ALLOWED[sql]


def test_the_clients_own_questions_are_answered(desk: Desk) -> None:
    assert desk.ask("SELECT version(), timezone()", parameters={"database": "default"}).count("\t") == 1
    assert desk.ask("SELECT name, value, readonly as readonly FROM system.settings LIMIT 10000")
    assert (
        desk.ask(
            "SELECT {n:UInt8} + 1, {s:String}", parameters={"param_n": "1", "param_s": "it's \\\\ file("}
        )
        == "2\tit\\'s \\\\ file(\n"
    )


OTHER_TABLES = (
    "SELECT * FROM ratchet_store.events",
    "SELECT * FROM `ratchet_store`.`events`",
    "SELECT * FROM ratchet_store . events AS events",
    "SELECT * FROM/**/ratchet_store.events",
    "SELECT * FROM events, ratchet_store.events AS b",
    "SELECT * FROM ratchet_store_early.events",
    "SELECT * FROM ratchet_next.events",
    "SELECT * FROM ratchet_early.events JOIN ratchet_store_early.events AS b USING (query_id)",
    "SELECT * FROM events JOIN ratchet_store.events AS b USING (query_id)",
    "SELECT * FROM (SELECT * FROM (SELECT * FROM ratchet_store.events))",
    "WITH events AS (SELECT * FROM ratchet_store.events) SELECT * FROM events",
    "WITH (SELECT max(n) FROM ratchet_store.events) AS highest SELECT highest",
    "SELECT 1 UNION ALL SELECT n FROM ratchet_store.events",
    "SELECT n FROM events EXCEPT SELECT n FROM ratchet_store.events",
    "SELECT n FROM events INTERSECT SELECT n FROM ratchet_store.events",
    "SELECT n IN ratchet_store.events FROM events",
    "SELECT (tenant, query_id, n) GLOBAL NOT IN ratchet_store.events FROM events",
    "WITH ratchet_store.events AS hidden SELECT 1 IN hidden",
    "SELECT EXISTS (SELECT * FROM ratchet_store.events)",
    "SELECT n = ANY (SELECT n FROM ratchet_store.events) FROM events",
    "SELECT 1 FROM (SELECT 1 AS ratchet_store) AS z WHERE 5 IN ratchet_store.events",
    "DESCRIBE TABLE ratchet_store.events",
    "SELECT * FROM system.query_log",
    "SELECT * FROM system.processes",
    "SELECT * FROM system.users",
    "SELECT * FROM system.parts",
    "SELECT * FROM system.server_settings",
    "SELECT * FROM system.named_collections",
    "SELECT * FROM system.disks",
    "SELECT * FROM system.certificates",
    "SELECT * FROM default.`/etc/passwd`",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM `/etc/passwd`",
    "SELECT * FROM INFORMATION_SCHEMA.statistics",
)


@pytest.mark.parametrize("sql", OTHER_TABLES)
def test_other_tables_are_refused(desk: Desk, sql: str) -> None:
    desk.refusal(sql)


TABLE_FUNCTIONS = (
    "file('{outside}', 'LineAsString')",
    "url('http://127.0.0.1:1/', 'CSV', 'a String')",
    "remote('127.0.0.1', ratchet_store.events)",
    "remoteSecure('127.0.0.1', 'ratchet_store.events')",
    "s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
    "executable('cat', 'CSV', 'a String')",
    "python('x')",
    "merge('ratchet_store', '.*')",
    "view(SELECT * FROM ratchet_store.events)",
    "viewExplain('EXPLAIN', '', (SELECT 1))",
    "cluster('default', ratchet_store.events)",
    "clusterAllReplicas('default', ratchet_store.events)",
    "dictionary('d')",
    "sqlite('{outside}', 't')",
    "mysql('127.0.0.1:1', 'd', 't', 'u', 'p')",
    "postgresql('127.0.0.1:1', 'd', 't', 'u', 'p')",
    "mergeTreeIndex('ratchet_store', 'events')",
    "loop(ratchet_store.events)",
    "filesystem('/')",
    "eval('SELECT 1')",
    "input('a String')",
    "numbers_mt(10)",
    "generateRandom('a String')",
)


@pytest.mark.parametrize("function", TABLE_FUNCTIONS)
@pytest.mark.parametrize(
    "around", ["SELECT * FROM {}", "SELECT 1 IN (SELECT * FROM {} AS events)", "DESCRIBE TABLE {}"]
)
def test_table_functions_that_reach_out_are_refused(desk: Desk, function: str, around: str) -> None:
    sentence = desk.refusal(around.format(function.format(outside=desk.outside)))
    assert "table function" in sentence or "view" in function


FUNCTIONS = (
    "file('{outside}')",
    "FILE('{outside}')",
    "`file`('{outside}')",
    "dictGet('d', 'a', 1)",
    "dictGetOrDefault('d', 'a', 1, 2)",
    "dictHas('d', 1)",
    "joinGet('ratchet_store.events', 'n', 'a')",
    "hasColumnInTable('ratchet_store', 'events', 'n')",
    "hostName()",
    "hostname()",
    "FQDN()",
    "getMacro('shard')",
    "getServerSetting('max_server_memory_usage')",
    "getServerPort('tcp_port')",
    "tcpPort()",
    "serverUUID()",
    "filesystemAvailable()",
    "showCertificate()",
    "sleep(3)",
    "sleepEachRow(1)",
    "logTrace('x')",
    "addressToLine(1)",
    "aiGenerate('x')",
    "globalVariable('version')",
    "initialQueryID()",
    "getClientHTTPHeader('authorization')",
    "formatQuery('SELECT 1')",
    "catboostEvaluate('{outside}', 1)",
    "evalMLMethod(1, 2)",
    "regionToName(1)",
    "__getScalar('x')",
    "nobodyHasThisFunction(1)",
)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_that_reach_out_are_refused(desk: Desk, function: str) -> None:
    assert "function" in desk.refusal(f"SELECT {function.format(outside=desk.outside)}")


# Every place of a SELECT that takes an expression: the parser must show what stands there.
PLACES = (
    "SELECT {}",
    "SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN {} PRECEDING AND CURRENT ROW) FROM events",
    "SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN CURRENT ROW AND {} FOLLOWING) FROM events",
    "SELECT sum(n) OVER w FROM events WINDOW w AS (PARTITION BY {})",
    "SELECT n FROM events LIMIT {}",
    "SELECT n FROM events LIMIT 1 OFFSET {}",
    "SELECT n FROM events LIMIT {} BY n",
    "SELECT n FROM events LIMIT 1 BY {}",
    "SELECT n FROM events ORDER BY n WITH FILL FROM {} TO 2 STEP 1",
    "SELECT n FROM events ORDER BY n WITH FILL FROM 1 TO {}",
    "SELECT n FROM events ORDER BY n WITH FILL STEP {}",
    "SELECT n FROM events ORDER BY n WITH FILL STALENESS {}",
    "SELECT n, tenant FROM events ORDER BY n WITH FILL INTERPOLATE (tenant AS toString({}))",
    "SELECT n FROM events GROUP BY {}",
    "SELECT n FROM events GROUP BY GROUPING SETS (({}), (n))",
    "SELECT 1 FROM events AS x JOIN events AS y ON x.n = y.n AND {} = 1",
    "SELECT 1 FROM events AS x JOIN events AS y USING ({})",
    "SELECT n FROM events ARRAY JOIN [{}] AS q",
    "SELECT n FROM events PREWHERE {}",
    "SELECT n FROM events WHERE {}",
    "SELECT n FROM events HAVING {}",
    "SELECT n FROM events QUALIFY {}",
    "SELECT * REPLACE ({} AS n) FROM events",
    "SELECT COLUMNS('n') REPLACE ({} AS n) FROM events",
    "SELECT * APPLY (x -> {}) FROM events",
    "SELECT * APPLY quantile({}) FROM events",
    "SELECT quantile({})(n) FROM events",
    "SELECT number FROM numbers({})",
    "SELECT * FROM values('a UInt64', {})",
    "SELECT * FROM (VALUES ({}))",
    "WITH {} AS x SELECT x",
    "SELECT 1 UNION ALL SELECT {}",
    "SELECT CASE WHEN {} THEN 1 END",
    "SELECT [1, 2][{}]",
    "SELECT 1 IN ({}, 2)",
    "SELECT arrayMap(x -> {}, [1])",
    "SELECT INTERVAL {} DAY",
    "SELECT count(*) FILTER (WHERE {}) FROM events",
    "SELECT DISTINCT ON ({}) n FROM events",
    "SELECT n FROM events ORDER BY {} COLLATE 'en'",
    "SELECT (SELECT {})",
    "SELECT EXISTS (SELECT {})",
    "SELECT n FROM events WHERE n > ALL (SELECT {})",
    "SELECT n BETWEEN {} AND 2 FROM events",
    "SELECT SUBSTRING('a' FROM {})",
    "SELECT now() AT TIME ZONE toString({})",
    "DESCRIBE (SELECT {})",
    "DESCRIBE TABLE numbers({})",
    "SHOW TABLES WHERE {}",
    "SHOW TABLES LIMIT {}",
)


@pytest.mark.parametrize("place", PLACES)
def test_no_place_hides_a_function(desk: Desk, place: str) -> None:
    desk.refusal(place.format(f"length(file('{desk.outside}'))"))


@pytest.mark.parametrize("place", PLACES)
def test_no_place_hides_a_table(desk: Desk, place: str) -> None:
    with pytest.raises(EngineError) as refused:
        desk.ask(place.format("(SELECT max(n) FROM ratchet_store.events)"))
    assert refused.value.code in (ACCESS_DENIED, 62), str(refused.value)  # 62: no subquery may stand there


OTHER_STATEMENTS = (
    "INSERT INTO ratchet_store.events VALUES ('a', 'b', 1)",
    "INSERT INTO ratchet_store.events SELECT * FROM ratchet.events",
    "INSERT INTO FUNCTION file('{outside}.csv', 'CSV') SELECT 1",
    "SET max_execution_time = 0",
    "USE ratchet_store",
    "ATTACH TABLE ratchet.x (a UInt8) ENGINE = Memory",
    "DETACH VIEW ratchet.events",
    "CREATE TABLE ratchet.x (a UInt8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE x (a UInt8)",
    "CREATE VIEW ratchet.x AS SELECT 1",
    "CREATE FUNCTION f AS (x) -> file(x)",
    "CREATE DICTIONARY ratchet.d (a UInt64) PRIMARY KEY a"
    " SOURCE(FILE(path '{outside}' format 'CSV')) LAYOUT(FLAT())",
    "DROP VIEW ratchet.events",
    "ALTER TABLE ratchet_store.events DELETE WHERE 1",
    "DELETE FROM ratchet_store.events WHERE 1",
    "TRUNCATE TABLE ratchet_store.events",
    "OPTIMIZE TABLE ratchet_store.events FINAL",
    "RENAME TABLE ratchet.events TO ratchet.e",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "BACKUP DATABASE ratchet TO File('{outside}.zip')",
    "GRANT ALL ON *.* TO default",
    "EXPLAIN SELECT 1",
    "EXPLAIN AST SELECT 1",
    "EXPLAIN PLAN SELECT * FROM ratchet_store.events",
    "SELECT * FROM (EXPLAIN SELECT 1)",
    "SHOW CREATE TABLE ratchet_store.events",
    "SHOW PROCESSLIST",
    "SHOW SETTINGS LIKE 'max%'",
    "SHOW TABLES LIKE 'a'",
    "CHECK TABLE ratchet_store.events",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW ratchet.events",
    "; SELECT 1",
    "SELECT 1 PARALLEL WITH SELECT 2",
    "SELECT 1 INTO OUTFILE '{outside}.out'",
    "SELECT 1 INTO OUTFILE '{outside}.out' TRUNCATE FORMAT CSV",
    "SELECT * FROM (SELECT 1 SETTINGS max_memory_usage = 0)",
)


@pytest.mark.parametrize("sql", OTHER_STATEMENTS)
def test_only_one_select_is_run(desk: Desk, sql: str) -> None:
    desk.refusal(sql.format(outside=desk.outside))


@pytest.mark.parametrize("where", ["", " FORMAT JSON", " UNION ALL SELECT 1"])
def test_a_query_cannot_lift_its_limits(desk: Desk, where: str) -> None:
    with pytest.raises(EngineError) as refused:
        desk.ask(f"SELECT 1{where} SETTINGS max_execution_time = 0")
    assert refused.value.code in (ACCESS_DENIED, READONLY)


def test_what_does_not_parse_is_neither_run_nor_explained(desk: Desk) -> None:
    target = desk.outside.with_suffix(".explained")
    for sql in (
        f"graph = 1 SELECT 1 INTO OUTFILE '{target}'",
        "SELEC 1",
        "-- nothing",
        "SELECT 'it''s' FROM",
    ):
        with pytest.raises(EngineError, match="SYNTAX_ERROR") as refused:
            desk.ask(sql)
        assert refused.value.code == 62
    assert not target.exists()


def test_nothing_was_written_or_read_outside(desk: Desk) -> None:
    for sql in (*OTHER_STATEMENTS, *(place.format(f"file('{desk.outside}')") for place in PLACES)):
        with pytest.raises(EngineError) as refused:
            desk.ask(sql.format(outside=desk.outside))
        assert SECRET not in str(refused.value)
    assert [path.name for path in desk.outside.parent.iterdir() if path.is_file()] == [desk.outside.name]
    assert desk.ask("SELECT count() FROM events") == "100\n"


def test_parameters_cannot_name_another_table(desk: Desk) -> None:
    assert desk.ask("SELECT count() FROM {t:Identifier}", parameters={"param_t": "events"}) == "100\n"
    desk.refusal("SELECT * FROM {d:Identifier}.{t:Identifier}", param_d="ratchet_store", param_t="events")
    desk.refusal("SELECT 1 IN {d:Identifier}.{t:Identifier}", param_d="ratchet_store", param_t="events")
    desk.refusal("SELECT * FROM {t:Identifier}", param_t="/etc/passwd")


def test_a_quoted_name_cannot_forge_the_tree(desk: Desk) -> None:
    desk.refusal("SELECT 1 AS `x)\n TableExpression`, file('/etc/passwd')")
    desk.refusal("SELECT 1 AS `x\n    TableExpression (children 1)`, url('http://127.0.0.1:1/')")
    assert "line break" in desk.refusal("SELECT n AS `a\nbreak` FROM events")
    with pytest.raises(EngineError, match="does not exist"):
        desk.ask("SELECT `count (alias x`(1)")
    desk.refusal("SELECT * FROM `events\n   TableIdentifier events`.`x`")


def test_request_settings(desk: Desk) -> None:
    assert desk.ask("SELECT getSetting('max_threads')", parameters={"max_threads": "1"}) == "1\n"
    assert (
        desk.ask("SELECT getSetting('max_execution_time')", parameters={"max_execution_time": "1"}) == "1\n"
    )
    assert desk.ask("SELECT getSetting('max_execution_time')") == "2\n"
    assert desk.ask("SELECT getSetting('readonly')", parameters={"readonly": "0"}) == "1\n"
    for name, value in (
        ("readonly_", "1"),
        ("format_schema", "/etc/passwd"),
        ("output_format_schema", "/tmp/x"),
        ("dialect", "prql"),
        ("allow_experimental_eval_table_function", "1"),
        ("additional_table_filters", "{}"),
        ("implicit_select", "1"),
    ):
        assert name in desk.refusal("SELECT 1", **{name: value})
    for value in ("0", "3", "-1", "nan", "x"):
        with pytest.raises(EngineError, match="at most 2") as refused:
            desk.ask("SELECT 1", parameters={"max_execution_time": value})
        assert refused.value.code == 452


def test_databases_and_external_tables(desk: Desk) -> None:
    assert desk.ask("SELECT currentDatabase()", parameters={"database": "default"}) == "ratchet\n"
    for name in ("ratchet_store", "system"):
        desk.refusal("SELECT 1", database=name)
    request = read_request("POST", {}, {}, b"SELECT 1", "q")
    with_table = QueryRequest(
        **{name: getattr(request, name) for name in request.__struct_fields__ if name != "external_tables"},
        external_tables=(ExternalTable("x", "a UInt8", "CSV", b"1\n"),),
    )
    with pytest.raises(EngineError, match="external tables"):
        desk.ask("", request=with_table)


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT sum(sipHash64(number)) FROM numbers(100000000000)", 159),
        ("SELECT groupArray(number) FROM numbers(100000000)", 241),
        ("SELECT number FROM numbers(20000)", 396),
    ],
)
def test_limits_of_time_memory_and_rows(desk: Desk, sql: str, code: int) -> None:
    with pytest.raises(EngineError) as refused:
        desk.ask(sql)
    assert refused.value.code == code


class _NoCheck(AnalystPolicy):
    """As if the allow-list had a gap that lets everything through."""

    def check(
        self, connection: Connection, sql: bytes, data: bytes, parameters: Mapping[str, str]
    ) -> None: ...


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO ratchet_store.events VALUES ('a', 'b', 1)",
        "CREATE TABLE ratchet.x (a UInt8) ENGINE = Memory",
        "DROP VIEW ratchet.events",
        "SET max_threads = 1",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
        "SELECT * FROM remote('127.0.0.1', ratchet_store.events)",
        "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
        "SELECT * FROM executable('cat', 'CSV', 'a String')",
        "SELECT * FROM default.`/etc/passwd`",
    ],
)
def test_behind_the_allow_list_the_engine_itself_refuses(desk: Desk, sql: str) -> None:
    connection = desk.engine.connect()
    open_policy = _NoCheck(connection, desk.settings.analysts_read)
    connection.close()
    with pytest.raises(EngineError) as refused:
        desk.ask(sql, policy=open_policy)
    assert refused.value.code == READONLY
