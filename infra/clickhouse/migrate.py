"""Numbered SQL files, applied once each, in order. One runner at a time is assumed.

A file holds `{store}` and `{views}` for the names of the two databases, so that a rebuild can lay the same
tables out beside the living ones. A file that has landed is never changed: its checksum is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib import resources
from typing import Final

from clickhouse_connect.driver.client import Client
from msgspec import Struct

from infra.clickhouse.connection import LIVE, Databases, explain
from schemas.errors import Fatal

_FILE_NAME: Final = re.compile(r"\A(\d{4})_([a-z0-9_]+)\.sql\Z")
_COMMENT: Final = re.compile(r"--[^\n]*")
#: A server refuses to drop a table of more than 50 GB unless told that this is meant.
_DROP_ANY_SIZE: Final = {"max_table_size_to_drop": 0}


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
        """The statements, with names and without comments. A `;` ends a statement at the end of a line."""
        text = _COMMENT.sub("", self.sql).replace("{store}", databases.store)
        text = text.replace("{views}", databases.views)
        for statement in re.split(r";[ \t]*(?:\n|\Z)", text):
            if statement.strip():
                yield statement.strip()


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
    which every file allows. Raises Fatal if a landed file has changed or the store is newer than this code;
    Retryable if the store does not answer.
    """
    migrations = load_migrations()
    try:
        for name in (databases.store, databases.views):
            client.command(f"CREATE DATABASE IF NOT EXISTS {name} ENGINE = Atomic")
        landed = _landed(client, databases)
        newest = migrations[-1].number
        if landed and max(landed) > newest:
            raise Fatal(
                f"{databases.store} stands at migration {max(landed)}, this code knows {newest}; "
                "start the newer version, or `ratchet rebuild` with this one into an empty store"
            )
        applied = 0
        for migration in migrations:
            checksum = landed.get(migration.number)
            if checksum is None:
                _apply(client, databases, migration)
                applied += 1
            elif checksum != migration.checksum:
                raise Fatal(
                    f"migration {migration.number} ({migration.name}) is not the file that was applied to "
                    f"{databases.store}; restore the file and put the change into a new one"
                )
        return applied
    except Exception as error:
        raise explain(error, f"migrating {databases.store}") from error


def drop_databases(client: Client, databases: Databases) -> None:
    """Drop both databases of a store that is no longer wanted. Refuses the living one."""
    if databases.store == LIVE.store or databases.views == LIVE.views:
        raise ValueError(f"{databases} is the living store: it is never dropped from here")
    for name in (databases.views, databases.store):
        client.command(f"DROP DATABASE IF EXISTS {name} SYNC", settings=_DROP_ANY_SIZE)


def written_fold_version(client: Client, databases: Databases = LIVE) -> int | None:
    """Version of the fold that wrote the rows; None if nothing was written yet."""
    rows = client.query(
        f"SELECT number FROM {databases.store}.schema_state WHERE kind = 'fold' "
        "ORDER BY written_at DESC LIMIT 1"
    ).result_rows
    return int(rows[0][0]) if rows else None


def claim_fold_version(client: Client, version: int, databases: Databases = LIVE) -> None:
    """Say that this fold writes here. Raises Fatal if another wrote: its rows would not agree (L6)."""
    try:
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
