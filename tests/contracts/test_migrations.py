"""Migrations on the real engine: an older store becomes one of today, whoever asks for it at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.clickhouse import migrate as migrations
from infra.clickhouse.connection import Databases, open_client
from infra.clickhouse.migrate import Migration, is_migrated, load_migrations, migrate
from infra.settings import ClickHouseSettings
from tests.live_services import running_engine

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

#: What the first release had.
FIRST_RELEASE = 14


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    with running_engine(tmp_path_factory.mktemp("engine")) as settings:
        yield settings


def test_an_older_store_is_migrated_once_by_those_who_come_at_once(
    engine: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Databases("old_store", "old")
    all_of_them = load_migrations()
    client = open_client(engine)
    monkeypatch.setattr(migrations, "load_migrations", lambda: all_of_them[:FIRST_RELEASE])
    assert migrate(client, store) == FIRST_RELEASE
    client.command("INSERT INTO old_store.events (tenant, query_id, event_id) VALUES ('t', 'q', 'e')")
    monkeypatch.undo()
    assert not is_migrated(client, store)

    clients = [open_client(engine) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        applied = list(pool.map(lambda one: migrate(one, store), clients))
    assert sorted(applied) == [0, 0, len(all_of_them) - FIRST_RELEASE]
    assert is_migrated(client, store)
    assert client.query("SELECT tenant, query_id, event_id FROM old.events").result_rows == [("t", "q", "e")]
    assert client.query("EXISTS TABLE old_store.migrating").result_rows == [(0,)]
    for one in [client, *clients]:
        one.close()


def test_who_waits_for_a_slow_migration_does_not_apply_it_again(
    engine: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Databases("slow_store", "slow")
    client = open_client(engine)
    migrate(client, store)
    slow = "SELECT sleepEachRow(0.5) FROM numbers(4) SETTINGS max_block_size = 1"
    known = load_migrations()
    monkeypatch.setattr(
        migrations, "load_migrations", lambda: [*known, Migration(len(known) + 1, "slow", slow)]
    )
    monkeypatch.setattr(migrations, "_LOCK_HELD_S", 0.5)
    clients = [open_client(engine) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda one: migrate(one, store), clients)) == [0, 1]
    assert client.query("EXISTS TABLE slow_store.migrating").result_rows == [(0,)]
    for one in [client, *clients]:
        one.close()


def test_the_lock_of_a_runner_that_was_killed_is_taken_over(
    engine: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Databases("killed_store", "killed")
    client = open_client(engine)
    for name in (store.store, store.views):
        client.command(f"CREATE DATABASE {name} ENGINE = Atomic")
    client.command("CREATE TABLE killed_store.migrating (nothing UInt8) ENGINE = Memory COMMENT 'gone'")
    monkeypatch.setattr(migrations, "_LOCK_HELD_S", 0.2)
    assert migrate(client, store) == len(load_migrations())
    assert is_migrated(client, store)
    client.close()
