"""A client of the store, and what its errors ask the caller to do."""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DataError, Error
from msgspec import Struct
from urllib3.exceptions import HTTPError

from infra.settings import ClickHouseSettings
from schemas.errors import Fatal, RatchetError, Reason, Rejectable, Retryable


class Databases(Struct, frozen=True):
    """Names of the two databases: storage, and the views that are promised; and the cluster they lie on."""

    store: str = "ratchet_store"
    views: str = "ratchet"
    cluster: str = ""  #: '' is one server

    @property
    def on_cluster(self) -> str:
        """What a statement that makes, changes or drops something says after its name."""
        return f" ON CLUSTER '{self.cluster}'" if self.cluster else ""

    def stored(self, table: str) -> str:
        """The table that holds the rows themselves: on a cluster the one below the Distributed table."""
        return f"{self.store}.{table}_local" if self.cluster else f"{self.store}.{table}"


LIVE: Final = Databases()

#: Settings of every statement. Inserts are plain: a token, or a window of remembered blocks, may drop rows.
_SETTINGS: Final[dict[str, Any]] = {
    "do_not_merge_across_partitions_select_final": 1,
    "insert_deduplicate": 0,
    "async_insert": 0,
}

#: On a cluster: an insert that returned is on its shard, on most replicas, and whoever reads sees it.
_CLUSTER_SETTINGS: Final[dict[str, Any]] = {
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",
    "insert_quorum_parallel": 0,
    "select_sequential_consistency": 1,
    # a subquery of a view reads whole tables, not the part on its shard
    "distributed_product_mode": "global",
    "optimize_skip_unused_shards": 1,
}

_LONGEST_CONNECT_S: Final = 10

# Error codes of ClickHouse (src/Common/ErrorCodes.cpp) by what they ask for.
#: These rows can never be stored as they are.
_REFUSED: Final = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        33,  # CANNOT_READ_ALL_DATA
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        131,  # TOO_LARGE_STRING_SIZE
        128,  # TOO_LARGE_ARRAY_SIZE
        190,  # SIZES_OF_ARRAYS_DONT_MATCH
        290,  # LIMIT_EXCEEDED: the block is larger than the endpoint takes
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        469,  # VIOLATED_CONSTRAINT
    }
)
#: The store is not what this code expects, or does not let it in: nobody's rows will pass.
_WRONG_STORE: Final = frozenset(
    {
        10,  # NOT_FOUND_COLUMN_IN_BLOCK
        16,  # NO_SUCH_COLUMN_IN_TABLE
        47,  # UNKNOWN_IDENTIFIER
        60,  # UNKNOWN_TABLE
        81,  # UNKNOWN_DATABASE
        192,  # UNKNOWN_USER
        193,  # WRONG_PASSWORD
        194,  # REQUIRED_PASSWORD
        497,  # ACCESS_DENIED
        516,  # AUTHENTICATION_FAILED
    }
)


def living(settings: ClickHouseSettings) -> Databases:
    """The living store of these settings."""
    return Databases(cluster=settings.cluster)


def open_client(settings: ClickHouseSettings, *, timeout_s: float = 60.0) -> Client:
    """A synchronous client without a session: usable from many threads. Raises Retryable, Fatal.

    A statement whose store says nothing for `timeout_s` fails (whole seconds, at least one), and so does one
    that reaches nobody in that time. The store may yet finish it.
    """
    timeout_s = max(1.0, timeout_s)
    parts = urlsplit(settings.url)
    secure = parts.scheme == "https"
    try:
        return cast(
            Client,
            clickhouse_connect.get_client(
                host=unquote(parts.hostname or "127.0.0.1"),
                port=parts.port or (8443 if secure else 8123),
                username=settings.user,
                password=settings.password,
                secure=secure,
                compress=False,  # the store is near; compressing costs more than it saves
                send_receive_timeout=int(timeout_s),
                # the client connects twice
                connect_timeout=max(1, min(_LONGEST_CONNECT_S, int(timeout_s / 3))),
                autogenerate_session_id=False,
                settings=_SETTINGS | (_CLUSTER_SETTINGS if settings.cluster else {}),
            ),
        )
    except Exception as error:
        raise explain(error, f"cannot reach ClickHouse at {settings.url}") from error


def explain(error: Exception, doing: str, *, rows: bool = False) -> RatchetError:
    """The error of ours that says what to do about an error of the client.

    Rejectable(storage_refused), only while `rows` are written: these rows can never pass. Fatal: the store is
    another than expected, or this code is wrong. Retryable: everything else, because what is not known to be
    permanent may pass.
    """
    if isinstance(error, RatchetError):
        return error
    text = f"{doing}: {error}"
    if not isinstance(error, ClickHouseError):
        if isinstance(error, OSError | HTTPError):
            return Retryable(text)
        # What the client raises before anything is sent: a value that its column cannot hold.
        return Rejectable(Reason.STORAGE_REFUSED, text) if rows else Fatal(text)
    code = error.code if isinstance(error, Error) else None
    if code in _WRONG_STORE:
        return Fatal(f"{text}; run the migrations, or check the account")
    if rows and (code in _REFUSED or isinstance(error, DataError)):
        return Rejectable(Reason.STORAGE_REFUSED, text)
    return Retryable(text)
