"""The same tables on one server and on a cluster: both forms of a migration come from one SQL file.

On one server a statement stands as it is in the file. On a cluster, for each table `{store}.events`:

    {store}.events_local   ReplicatedReplacingMergeTree, on every replica of every shard
    {store}.events         Distributed over it: what is written to and what views read

Rows go to the shard of a hash of the first columns of their sorting key. So all rows of one key lie on one
shard, and FINAL, which merges within a shard, is exact; so is what a shard does before the initiator goes on.
`{shard}` and `{replica}` are macros of each server. A cluster that gets another shard has to be filled anew
(`ratchet rebuild` into empty tables): keys move, and rows of one key on two shards would not be merged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from infra.clickhouse.connection import Databases
from schemas.errors import Fatal

_TABLE: Final = re.compile(
    r"\ACREATE TABLE IF NOT EXISTS (?P<name>\{store\}\.(?P<table>\w+))\s*(?P<columns>\(.*\))\s*"
    r"ENGINE = ReplacingMergeTree(?:\((?P<version>[^)]*)\))?\s+(?P<primary>PRIMARY KEY \([^)]*\)\s+)?"
    r"ORDER BY \((?P<key>[^)]*)\)(?P<rest>.*)\Z",
    re.DOTALL,
)
_VIEW: Final = re.compile(r"\ACREATE OR REPLACE VIEW (?P<name>\{views\}\.\w+) AS\b(?P<query>.*)\Z", re.DOTALL)
_COLUMN: Final = re.compile(
    r"\AALTER TABLE (?P<name>\{store\}\.\w+)\s+(?P<change>(?:ADD|DROP|MODIFY|RENAME) COLUMN\b.*)\Z", re.DOTALL
)
_EXCHANGE: Final = re.compile(r"\AEXCHANGE TABLES (?P<one>\{store\}\.\w+) AND (?P<other>\{store\}\.\w+)\Z")
_DROP: Final = re.compile(r"\ADROP TABLE IF EXISTS (?P<name>\{store\}\.\w+) SYNC\Z")
_COPY: Final = re.compile(r"\AINSERT INTO \{store\}\.\w+ SELECT \* FROM \{store\}\.\w+\Z")
#: Where the first two columns of the sorting key would put too many keys on one shard.
_SHARDED_BY: Final = {"waiting": "tenant, reference"}
#: The table's identity keeps a path its own, also after EXCHANGE TABLES and for a store beside.
_PATH: Final = "'/clickhouse/tables/{uuid}/{shard}', '{replica}'"


def render(statement: str, databases: Databases) -> Iterator[str]:
    """What one statement of a migration becomes for these databases. Raises Fatal if its kind is unknown."""
    for rendered in _on_cluster(statement, databases.cluster) if databases.cluster else (statement,):
        yield rendered.replace("{store}", databases.store).replace("{views}", databases.views)


def _on_cluster(statement: str, cluster: str) -> Iterator[str]:
    on = f"ON CLUSTER '{cluster}'"
    if table := _TABLE.match(statement):
        version = f", {table['version']}" if table["version"] else ""
        yield (
            f"CREATE TABLE IF NOT EXISTS {table['name']}_local {on}\n{table['columns']}\n"
            f"ENGINE = ReplicatedReplacingMergeTree({_PATH}{version})\n"
            f"{table['primary'] or ''}ORDER BY ({table['key']}){table['rest']}"
        )
        yield (
            f"CREATE TABLE IF NOT EXISTS {table['name']} {on} AS {table['name']}_local\n"
            f"ENGINE = Distributed('{cluster}', '{{store}}', '{table['table']}_local', "
            f"{sharding_key(table['table'], table['key'])})"
        )
    elif view := _VIEW.match(statement):
        yield f"CREATE OR REPLACE VIEW {view['name']} {on} AS{view['query']}"
    elif column := _COLUMN.match(statement):
        for name in (f"{column['name']}_local", column["name"]):
            yield f"ALTER TABLE {name} {on} {column['change']}"
    elif exchange := _EXCHANGE.match(statement):  # what is above reads by name
        yield f"EXCHANGE TABLES {exchange['one']}_local AND {exchange['other']}_local {on}"
    elif drop := _DROP.match(statement):
        for name in (drop["name"], f"{drop['name']}_local"):
            yield f"DROP TABLE IF EXISTS {name} {on} SYNC"
    elif _COPY.match(statement):
        yield statement  # through the tables above: each row to its shard
    else:
        raise Fatal(
            "expected CREATE TABLE IF NOT EXISTS … ENGINE = ReplacingMergeTree, CREATE OR REPLACE VIEW, "
            "ALTER TABLE … COLUMN, EXCHANGE TABLES, DROP TABLE IF EXISTS … SYNC or INSERT INTO … SELECT * "
            f"FROM, got {statement[:120]!r}: say in layout.py what it is on a cluster"
        )


def sharding_key(table: str, sorting_key: str) -> str:
    """The expression that chooses a row's shard; a function of the sorting key alone."""
    first = ", ".join(name.strip() for name in sorting_key.split(",")[:2])
    return f"cityHash64({_SHARDED_BY.get(table, first)})"
