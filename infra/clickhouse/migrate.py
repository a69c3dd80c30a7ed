"""Numbered SQL files, applied once each, in order. Runners that come at once wait for each other.

A file holds `{store}` and `{views}` for the names of the two databases, so that a rebuild can lay the same
tables out beside the living ones. A file that has landed is never changed: its checksum is kept.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error
from msgspec import Struct

from infra.clickhouse.connection import LIVE, Databases, explain, living, open_client
from infra.clickhouse.layout import render
from infra.settings import ClickHouseSettings
from schemas.errors import Fatal

_FILE_NAME: Final = re.compile(r"\A(\d{4})_([a-z0-9_]+)\.sql\Z")
_COMMENT: Final = re.compile(r"--[^\n]*")
#: A server refuses to drop a table of more than 50 GB unless told that this is meant.
_DROP_ANY_SIZE: Final = {"max_table_size_to_drop": 0}
#: A lock that is older was left by a runner that was killed.
_LOCK_HELD_S: Final = 30.0
_LOCK_POLL_S: Final = 0.1
#: A table of a billion rows is copied in less.
_COPYING_S: Final = 6 * 3600.0
_TABLE_ALREADY_EXISTS: Final = 57


class Migration(Struct, frozen=True):
    """One file: `sql` as it stands there, with the names of the databases left open."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 (hex) of the file."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def statements(self, databases: Databases) -> Iterator[str]:
        """The statements, with names and without comments, in the form of one server or of a cluster.

        A `;` ends a statement at the end of a line.
        """
        for statement in re.split(r";[ \t]*(?:\n|\Z)", _COMMENT.sub("", self.sql)):
            if statement.strip():
                yield from render(statement.strip(), databases)


def load_migrations() -> list[Migration]:
    """All migrations, by number. Raises Fatal if the numbers are not 1, 2, 3 …"""
    found = []
    for file in resources.files("infra.clickhouse").joinpath("migrations").iterdir():
        match = _FILE_NAME.match(file.name)
        if match is not None:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise Fatal(f"expected migrations 1, 2, 3 … without a gap, found {numbers}; install again")
    return found


def migrate(client: Client, databases: Databases = LIVE) -> int:
    """Bring the store to this code's migrations; return how many were applied. Idempotent.

    A process killed between two statements leaves a file half applied; it is applied again from its start,
    which every file allows. Of several processes one applies; the others wait for it. Raises Fatal if a
    landed file has changed or the store is newer than this code; Retryable if the store does not answer.
    """
    migrations = load_migrations()
    try:
        for name in (databases.store, databases.views):
            client.command(f"CREATE DATABASE IF NOT EXISTS {name}{databases.on_cluster} ENGINE = Atomic")
        if not _missing(client, databases, migrations):
            return 0
        with _locked(client, databases):
            missing = _missing(client, databases, migrations)  # another may have been faster
            for migration in missing:
                _apply(client, databases, migration)
        return len(missing)
    except Exception as error:
        raise explain(error, f"migrating {databases.store}") from error


def migrate_store(settings: ClickHouseSettings) -> int:
    """`migrate` the living store with a client that waits for a table to be copied. Raises as it."""
    client = open_client(settings, timeout_s=_COPYING_S)
    try:
        return migrate(client, living(settings))
    finally:
        client.close()


def is_migrated(client: Client, databases: Databases = LIVE) -> bool:
    """The store stands exactly at this code's migrations."""
    landed = _landed(client, databases)
    return landed == {migration.number: migration.checksum for migration in load_migrations()}


def _missing(client: Client, databases: Databases, migrations: list[Migration]) -> list[Migration]:
    """What has not been applied. Raises Fatal: the store is newer, or a file that was applied has changed."""
    landed = _landed(client, databases)
    newest = migrations[-1].number
    if landed and max(landed) > newest:
        raise Fatal(
            f"{databases.store} stands at migration {max(landed)}, this code knows {newest}; "
            "start the newer version, or `ratchet rebuild` with this one into an empty store"
        )
    for migration in migrations:
        if landed.get(migration.number, migration.checksum) != migration.checksum:
            raise Fatal(
                f"migration {migration.number} ({migration.name}) is not the file that was applied to "
                f"{databases.store}; restore the file and put the change into a new one"
            )
    return [migration for migration in migrations if migration.number not in landed]


@contextmanager
def _locked(client: Client, databases: Databases) -> Iterator[None]:
    """One runner at a time: creating a table that exists fails, whoever else tries.

    The holder says all the time that it lives; the lock of one that was killed is taken over after
    `_LOCK_HELD_S`.
    """
    name, token = f"{databases.store}.migrating", secrets.token_hex(8)
    seen, since = "", time.monotonic()
    while not _created(client, name, token):
        holder = _holder(client, databases)
        if holder != seen:
            seen, since = holder, time.monotonic()
        elif time.monotonic() - since > _LOCK_HELD_S:
            client.command(f"DROP TABLE IF EXISTS {name} SYNC")
        time.sleep(_LOCK_POLL_S)
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(client, name, token, done), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join()
        if _holder(client, databases).startswith(token):
            client.command(f"DROP TABLE IF EXISTS {name} SYNC")


def _renew(client: Client, name: str, token: str, done: threading.Event) -> None:
    """Write another comment now and then: who waits sees that the holder lives."""
    for number in itertools.count():
        if done.wait(_LOCK_HELD_S / 5):
            return
        with suppress(Exception):  # the migration itself says what is wrong with the store
            client.command(f"ALTER TABLE {name} MODIFY COMMENT '{token} {number}'")


def _created(client: Client, name: str, token: str) -> bool:
    try:
        client.command(f"CREATE TABLE {name} (nothing UInt8) ENGINE = Memory COMMENT '{token}'")
    except Error as error:
        if error.code == _TABLE_ALREADY_EXISTS:
            return False
        raise
    return True


def _holder(client: Client, databases: Databases) -> str:
    rows = client.query(
        "SELECT comment FROM system.tables WHERE database = {database:String} AND name = 'migrating'",
        {"database": databases.store},
    ).result_rows
    return str(rows[0][0]) if rows else ""


def drop_databases(client: Client, databases: Databases) -> None:
    """Drop both databases of a store that is no longer wanted. Refuses the living one."""
    if databases.store == LIVE.store or databases.views == LIVE.views:
        raise ValueError(f"{databases} is the living store: it is never dropped from here")
    for name in (databases.views, databases.store):
        client.command(f"DROP DATABASE IF EXISTS {name}{databases.on_cluster} SYNC", settings=_DROP_ANY_SIZE)


def written_fold_version(client: Client, databases: Databases = LIVE) -> int | None:
    """Version of the fold that wrote the rows; None if nothing was written yet."""
    rows = client.query(
        f"SELECT number FROM {databases.store}.schema_state WHERE kind = 'fold' "
        "ORDER BY written_at DESC LIMIT 1"
    ).result_rows
    return int(rows[0][0]) if rows else None


def claim_fold_version(client: Client, version: int, databases: Databases = LIVE) -> None:
    """Say that this fold writes here.

    Raises Fatal if another wrote: its rows would not agree (L6). Also while a rebuild puts its tables in
    place: some may be exchanged and others not.
    """
    try:
        if swap_under_way(client, databases):
            raise Fatal(
                f"a rebuild was interrupted while it exchanged the tables of {databases.store}; "
                "`ratchet rebuild` finishes that"
            )
        written = written_fold_version(client, databases)
        if written is None:
            client.command(
                f"INSERT INTO {databases.store}.schema_state (kind, number) VALUES ('fold', {int(version)})"
            )
        elif written != version:
            raise Fatal(
                f"{databases.store} was written by fold {written}, this code folds as {version}; "
                "stop the worker and run `ratchet rebuild`"
            )
    except Exception as error:
        raise explain(error, "reading the fold's version") from error


def mark_swap(client: Client, databases: Databases, *, under_way: bool) -> None:
    """Note that the tables are being exchanged, or that they are no longer."""
    client.command(
        f"INSERT INTO {databases.store}.schema_state (kind, number, name) "
        f"VALUES ('swap', 0, '{'under way' if under_way else 'done'}')"
    )


def swap_under_way(client: Client, databases: Databases = LIVE) -> bool:
    """A rebuild began to exchange tables and has not said that it is done."""
    rows = client.query(
        f"SELECT name FROM {databases.store}.schema_state WHERE kind = 'swap' "
        "ORDER BY written_at DESC LIMIT 1"
    ).result_rows
    return bool(rows) and rows[0][0] == "under way"


def _landed(client: Client, databases: Databases) -> dict[int, str]:
    exists = client.command(f"EXISTS TABLE {databases.store}.schema_state")
    if not int(str(exists)):
        return {}
    rows = client.query(
        f"SELECT number, checksum FROM {databases.store}.schema_state FINAL WHERE kind = 'migration'"
    ).result_rows
    return {int(number): str(checksum) for number, checksum in rows}


def _apply(client: Client, databases: Databases, migration: Migration) -> None:
    for statement in migration.statements(databases):
        client.command(statement)
    client.command(
        f"INSERT INTO {databases.store}.schema_state (kind, number, name, checksum) "
        f"VALUES ('migration', {migration.number}, '{migration.name}', '{migration.checksum}')"
    )
