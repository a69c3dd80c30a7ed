"""The production form of the tables: it parses, and rows on two shards answer as rows on one server do.

Replicated tables and Distributed ones need Keeper and servers that see each other, which the engine here is
not. So a shard is played by a table of its own, and a Distributed table by `Merge` over both: it reads
`FINAL` from each and puts the answers together, as the initiator of a cluster does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from infra.clickhouse.connection import Databases, open_client
from infra.clickhouse.layout import render, sharding_key
from infra.clickhouse.migrate import load_migrations, migrate
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from infra.settings import ClickHouseSettings
from schemas.errors import Fatal
from schemas.topics import DOCUMENTS, INTERACTIONS, LIFECYCLE
from streams.batch import BatchProcessor
from streams.memory import MemoryLog
from streams.ports import TABLES
from streams.settings import StreamSettings
from tests.lifecycle_events import whole_story
from tests.live_services import running_engine
from tests.small_log import (
    asked,
    clicked,
    conversation,
    messages_of,
    received_again,
    removed,
    retracted,
    stored,
)

ONE = Databases("one_store", "one")
CLUSTER = Databases("spread_store", "spread", "prod")
SHARDS = 2


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    with running_engine(tmp_path_factory.mktemp("engine")) as settings:
        yield settings


@pytest.fixture
def client(engine: ClickHouseSettings) -> Iterator[Client]:
    client = open_client(engine)
    yield client
    client.close()


def statements(databases: Databases) -> list[str]:
    return [one for migration in load_migrations() for one in migration.statements(databases)]


@pytest.mark.service
def test_every_statement_of_both_forms_parses(client: Client) -> None:
    for databases in (ONE, CLUSTER):
        for statement in statements(databases):
            formatted = client.query(
                "SELECT formatQuery({sql:String})", parameters={"sql": statement}
            ).result_rows[0][0]
            everywhere = databases is CLUSTER and not statement.startswith("INSERT")
            assert ("ON CLUSTER prod" in formatted) == everywhere, statement


def test_every_table_is_replicated_below_a_distributed_one_and_views_read_that() -> None:
    text = "\n".join(statements(CLUSTER))
    local = re.findall(r"CREATE TABLE IF NOT EXISTS spread_store\.(\w+)_local ON", text)
    above = re.findall(r"CREATE TABLE IF NOT EXISTS spread_store\.(\w+) ON CLUSTER 'prod' AS", text)
    assert local == above
    assert set(TABLES) <= set(local)
    assert len(re.findall(r"'/clickhouse/tables/\{uuid\}/\{shard\}', '\{replica\}'", text)) == len(local)
    views = [one for one in statements(CLUSTER) if one.startswith("CREATE OR REPLACE VIEW")]
    assert views
    assert not [view for view in views if "_local" in view]
    # versions and deleted rows are told apart by the same columns as on one server
    engines = re.findall(r"\bReplacingMergeTree(?:\(([^)]*)\))?", "\n".join(statements(ONE)))
    replicated = re.findall(r"ReplicatedReplacingMergeTree\('[^']*', '[^']*'(?:, ([^)]*))?\)", text)
    assert replicated == engines


def test_a_shard_is_chosen_by_the_sorting_key_alone() -> None:
    keys = dict(
        re.findall(
            r"CREATE TABLE IF NOT EXISTS \{store\}\.(\w+)\b(?:(?!;\n).)*?ORDER BY \(([^)]*)\)",
            "\n".join(migration.sql for migration in load_migrations()),
            re.DOTALL,
        )
    )
    assert set(TABLES) <= set(keys)
    for table, key in keys.items():
        used = re.findall(r"\w+", sharding_key(table, key).removeprefix("cityHash64"))
        assert used
        assert set(used) <= set(re.findall(r"\w+", key)), table


def test_both_tables_are_changed_and_what_is_unknown_is_refused() -> None:
    added = list(render("ALTER TABLE {store}.events ADD COLUMN IF NOT EXISTS extra String", CLUSTER))
    assert added == [
        "ALTER TABLE spread_store.events_local ON CLUSTER 'prod' ADD COLUMN IF NOT EXISTS extra String",
        "ALTER TABLE spread_store.events ON CLUSTER 'prod' ADD COLUMN IF NOT EXISTS extra String",
    ]
    made_anew = [
        "DROP TABLE IF EXISTS {store}.fine SYNC",
        "INSERT INTO {store}.fine SELECT * FROM {store}.events",
        "EXCHANGE TABLES {store}.fine AND {store}.events",
    ]
    assert [one for statement in made_anew for one in render(statement, CLUSTER)] == [
        "DROP TABLE IF EXISTS spread_store.fine ON CLUSTER 'prod' SYNC",
        "DROP TABLE IF EXISTS spread_store.fine_local ON CLUSTER 'prod' SYNC",
        "INSERT INTO spread_store.fine SELECT * FROM spread_store.events",
        "EXCHANGE TABLES spread_store.fine_local AND spread_store.events_local ON CLUSTER 'prod'",
    ]
    with pytest.raises(Fatal, match=r"say in layout\.py"):
        list(render("OPTIMIZE TABLE {store}.events", CLUSTER))
    assert list(render("OPTIMIZE TABLE {store}.events", ONE)) == ["OPTIMIZE TABLE one_store.events"]


@pytest.mark.service
async def test_two_shards_answer_as_one_server(client: Client) -> None:
    migrate(client, ONE)
    store, memory = ClickHouseRowSink(client, ONE), MemoryLog()
    processor = BatchProcessor(store, ClickHouseRecordLookup(client, ONE), memory, StreamSettings())
    client.command(f"SYSTEM STOP MERGES {ONE.store}.episodes")
    talks = [one for n in range(40) for one in conversation(f"q{n}", user=f"u{n % 5}", arm="new", at_s=n)]
    late = [clicked(f"q{n}", "d3", f"late-{n}", at_s=500) for n in range(0, 40, 2)]
    late += [retracted(f"q{n}", f"q{n}-click", at_s=600) for n in range(0, 40, 3)]
    late += [received_again(talks[0], at_s=700), asked("q1", user="moved", at_s=-1)]
    texts = [stored(f"d{n}", f"text {n}", f"e{n}") for n in range(9)] + [removed("d1", "gone", at_s=9)]
    for topic, events in ((INTERACTIONS, talks), (INTERACTIONS, late), (DOCUMENTS, texts)):
        await processor.process(topic, messages_of(events))
    await processor.process(LIFECYCLE, messages_of(whole_story()))

    spread(client)
    for table in TABLES:
        held = [client.command(f"SELECT count() FROM {CLUSTER.store}.{table}_{n}") for n in range(SHARDS)]
        if table in ("events", "episodes"):
            assert min(int(str(rows)) for rows in held) > 0, "a shard without rows shows nothing"
    views = [name for (name,) in client.query(f"SHOW TABLES FROM {ONE.views}").result_rows]
    asked_of = {view: read(client, ONE, view) for view in views}
    for view in views:
        assert read(client, CLUSTER, view) == asked_of[view], view
    assert len(asked_of["episodes"]) == 40
    assert all(asked_of[view] for view in ("events", "pairs", "documents", "contributions", "versions"))


def read(client: Client, databases: Databases, view: str) -> list[str]:
    """The rows of a view as text, in one order; the age of a look is none of its content."""
    but = " EXCEPT (age_s)" if view == "lag" else ""
    rows = client.query(f"SELECT toString(tuple(*{but})) FROM {databases.views}.{view}").result_rows
    # a sum of floats depends on the order in which they come
    return sorted(re.sub(r"\d+\.\d{9,}", lambda found: f"{float(found[0]):.9f}", row) for (row,) in rows)


def spread(client: Client) -> None:
    """The production form, with tables in place of shards, filled with the rows of the one server."""
    for name in (CLUSTER.store, CLUSTER.views):
        client.command(f"CREATE DATABASE {name} ENGINE = Atomic")
    keys: dict[str, str] = {}
    for statement in statements(CLUSTER):
        plain = statement.replace(" ON CLUSTER 'prod'", "")
        plain = re.sub(r"Replicated(ReplacingMergeTree)\('[^']*', '[^']*'(?:, )?", r"\1(", plain)
        if plain.startswith("INSERT"):
            continue  # a copy of what is not there yet, through a table that here cannot be written to
        above = re.search(r"ENGINE = Distributed\('prod', '(\w+)', '(\w+)_local', (.*)\)\Z", plain)
        if above is None and "_local" in plain:
            for number in range(SHARDS):
                client.command(re.sub(r"_local\b", f"_{number}", plain))
        elif above is not None:
            keys[above[2]] = above[3]
            client.command(
                f"CREATE TABLE {CLUSTER.store}.{above[2]} AS {CLUSTER.store}.{above[2]}_0 "
                f"ENGINE = Merge('{CLUSTER.store}', '^{above[2]}_[0-9]$')"
            )
        else:
            keys.pop(re.sub(r"\ADROP TABLE IF EXISTS \w+\.(\w+) SYNC\Z", r"\1", plain), None)
            client.command(plain)
    for table, key in keys.items():
        for number in range(SHARDS):
            client.command(
                f"INSERT INTO {CLUSTER.store}.{table}_{number} SELECT * FROM {ONE.store}.{table} "
                f"WHERE {key} % {SHARDS} = {number}"
            )
