"""One statement on the engine, from its first byte to the end of its answer. Blocks: for worker threads."""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from .accounts import Account, analyst_database, analyst_settings
from .analysts import AnalystPolicy
from .answers import Summary, empty_block
from .connection import Connection, Engine, Result, Session, quote_name, quote_text, statement_class
from .errors import QUERY_WAS_CANCELLED, READONLY, SUPPORT_IS_DISABLED, SYNTAX_ERROR, EngineError
from .inserts import insert_rows, stream_rows
from .protocol import QueryRequest
from .room import end_if_full, require_room
from .settings import EngineSettings
from .statements import (
    Insert,
    breaks_directory,
    leading_word,
    output_format,
    split_insert,
    without_output_format,
)

#: Formats whose pieces can be sent as they come; of the others the engine has to see the whole result first.
_STREAMABLE: Final = frozenset(("native", "tabseparated", "tsv", "csv", "rowbinary", "jsoneachrow"))
_PARSED_BYTES: Final = 1 << 18
# As on a server, where "1" alone is not a statement.
_SERVER_DEFAULTS: Final = {"implicit_select": "0"}


class Execution:
    """Runs one request: `start` gives the first bytes, `next_piece` the rest until `finished`.

    It closes itself with its last step; `abandon` it where that does not come. Steps may run on different
    threads, one after the other; only `abandon` may come at any time.
    """

    def __init__(
        self,
        engine: Engine,
        settings: EngineSettings,
        policy: AnalystPolicy,
        request: QueryRequest,
        account: Account,
    ) -> None:
        self.engine, self.request, self.account = engine, request, account
        self._settings, self._policy = settings, policy
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._session_settings: list[dict[str, Any]] = []
        self._stream: Any = None
        self._lock = threading.Lock()
        self._busy = False
        self._began_ns = time.perf_counter_ns()
        self._summary = Summary()
        #: The format of the answer, "" where there is none.
        self.format = ""
        #: Marks the statement in system.processes, by its log_comment: the engine chooses query ids itself.
        #: The random end keeps one client from killing another's statement by sending the same query_id.
        self.tag = f"{request.query_id} {request.log_comment} {secrets.token_hex(8)}"
        #: Nobody waits for the answer: what has not begun does not begin.
        self.abandoned = False
        #: No more bytes will come.
        self.finished = False
        #: "read", "insert" or "other", once it is known.
        self.kind = "other"

    def summary(self) -> bytes:
        """The statement's counts so far, as X-ClickHouse-Summary has them."""
        self._summary.elapsed_ns = str(time.perf_counter_ns() - self._began_ns)
        return msgspec.json.encode(self._summary)

    def start(self) -> bytes:
        """Runs the statement until `response_buffer_bytes` are there, or all of it. Raises EngineError."""
        with self._step():
            try:
                return self._start()
            except EngineError:
                self.finished = True
                raise
            except Exception as error:
                self.finished = True
                raise EngineError(str(error)) from None

    def next_piece(self, at_least_bytes: int) -> bytes:
        """The next part of a stream, smaller than asked for only at its end.

        Raises EngineError, with what had come as `partial`.
        """
        with self._step():
            return self._read_stream(at_least_bytes)

    @contextmanager
    def _step(self) -> Iterator[None]:
        """Work on the connection; the last step closes, before its bytes go out.

        So a client can use its session again at once, and nobody closes a connection that a thread is using.
        """
        with self._lock:
            self._busy = True
        try:
            yield
        finally:
            with self._lock:
                self._busy = False
            if self.finished or self.abandoned:
                self.close()

    def abandon(self) -> bool:
        """Ends it before its end: at once, or where a step runs (then it is True) behind that step."""
        with self._lock:
            self.abandoned = True
            if self._busy:
                return True
        self.close()
        return False

    def close(self) -> None:
        """Gives the connection back. Safe to call again; not while another thread runs a step."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._stream is not None:
            with suppress(Exception):
                self._stream.close()
        if self._session is None:
            connection.close()
            return
        self._restore_session(connection)
        self.engine.give_back(self._session)

    def _start(self) -> bytes:
        request = self.request
        # An analyst cannot change anything that a session would keep: each of its requests stands alone.
        if request.session_id and self.account is Account.WRITER:
            self._session = self.engine.take_session(
                request.session_id,
                now_s=time.monotonic(),
                timeout_s=request.session_timeout_s,
                must_exist=request.session_must_exist,
            )
            connection = self._session.connection
        else:
            connection = self.engine.connect()
        self._connection = connection
        self._prepare(connection)
        if self.account is Account.ANALYST:
            self._policy.check(connection, request.sql, request.data, request.parameters)
        if self.abandoned:
            raise EngineError("The client has gone. (QUERY_WAS_CANCELLED)", QUERY_WAS_CANCELLED)
        return self._run(connection)

    def _prepare(self, connection: Connection) -> None:
        """Database, settings and external tables of the request."""
        request = self.request
        database, settings = request.database, {**_SERVER_DEFAULTS, "log_comment": self.tag}
        if self.account is Account.ANALYST:
            database = analyst_database(self._settings, request)
            settings |= analyst_settings(self._settings, request)
        else:
            settings |= request.settings
        if database:
            connection.query(f"USE {quote_name(database)}", "Null")
        if self._session is not None:  # the request's settings must not outlive it
            names = ",".join(quote_text(name) for name in settings)
            rows = connection.query(
                f"SELECT name, value, changed FROM system.settings WHERE name IN ({names})", "JSONEachRow"
            ).bytes()
            self._session_settings = [msgspec.json.decode(row) for row in (rows or b"").splitlines()]
        changes = ", ".join(f"{quote_name(name)} = {quote_text(value)}" for name, value in settings.items())
        connection.query(f"SET {changes}", "Null")
        for table in request.external_tables:
            connection.query(f"CREATE TEMPORARY TABLE {quote_name(table.name)} ({table.structure})", "Null")
            head = f"INSERT INTO {quote_name(table.name)}"
            stream_rows(connection, Insert(head, table.format, b""), table.data)

    def _restore_session(self, connection: Connection) -> None:
        if not self._session_settings:
            return
        old = ", ".join(
            f"{quote_name(one['name'])} = {quote_text(one['value']) if one['changed'] else 'DEFAULT'}"
            for one in self._session_settings
        )
        with suppress(Exception):
            connection.query(f"SET {old}", "Null")

    def _run(self, connection: Connection) -> bytes:
        request, sql, data = self.request, self.request.sql, self.request.data
        if leading_word(sql) == "INSERT":
            self.kind = "insert"
            if request.read_only:
                raise _read_only_error()
            insert = None if request.parameters else split_insert(sql)
            if insert is not None:
                directory = Path(self._settings.path)
                require_room(directory, len(data) + len(insert.data), self._settings.min_free_bytes)
                written = insert_rows(connection, insert, data)
                end_if_full(directory)
                self._summary.count_written(written.rows, written.size_bytes)
                self.finished = True
                return b""
        if data:
            sql = sql.rstrip() + b"\n" + data
        if self.kind == "insert" and len(sql) > _PARSED_BYTES:  # VALUES need not be parsed twice
            return self._answer(connection, sql, reads=False)
        name, count = statement_class(connection, sql)
        if count > 1:
            raise EngineError("Multi-statements are not allowed. (SYNTAX_ERROR)", SYNTAX_ERROR)
        reads = name == "READ_ONLY"
        if reads:
            self.kind = "read"
        elif request.read_only:
            raise _read_only_error()
        elif self.kind != "insert" and breaks_directory(connection, sql, request.parameters):
            raise EngineError(
                "Engines Kafka, RabbitMQ, NATS and FileLog would leave a directory that the embedded engine "
                "cannot open again: the stream worker writes the tables. (SUPPORT_IS_DISABLED)",
                SUPPORT_IS_DISABLED,
            )
        return self._answer(connection, sql, reads=reads)

    def _answer(self, connection: Connection, sql: bytes, *, reads: bool) -> bytes:
        request = self.request
        self.format = output_format(sql) or request.default_format
        streams = (
            reads and leading_word(sql) in ("SELECT", "WITH", "FROM", "(") and not request.wait_end_of_query
        )
        if streams and self.format.lower() in _STREAMABLE:
            self._stream = connection.send_query(sql, self.format, params=request.parameters)
            out = self._read_stream(self._settings.response_buffer_bytes)
        else:
            result = connection.query(sql, self.format, params=request.parameters)
            out = result.bytes() or b""
            self.finished = True
            self._summary.count_read(result)
            if result.rows_written():
                self._summary.count_written(result.rows_written(), result.bytes_written())
        if self.finished and not out and reads and self.format.lower() == "native":
            out = self._typed_nothing(connection, without_output_format(sql))
        if not reads and not out:
            self.format = ""
        return out

    def _typed_nothing(self, connection: Connection, sql: bytes) -> bytes:
        """A Native block without rows: a server sends names and types, the embedded engine sends nothing."""
        try:
            described = connection.query(
                b"DESCRIBE TABLE (" + sql + b"\n)", "JSONEachRow", self.request.parameters
            )
        except Exception:  # SHOW and its like cannot be described
            return b""
        return empty_block(msgspec.json.decode(row) for row in (described.bytes() or b"").splitlines())

    def _read_stream(self, at_least_bytes: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while size <= at_least_bytes:
            try:
                piece = self._next(self._stream)
            except Exception as error:
                self.finished = True
                raise EngineError(str(error), partial=b"".join(pieces)) from None
            if piece is None:
                self.finished = True
                break
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def _next(self, stream: Iterator[Result]) -> bytes | None:
        result = next(stream, None)
        if result is None:
            return None
        self._summary.count_read(result)
        return result.bytes() or b""


def _read_only_error() -> EngineError:
    return EngineError(
        "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. "
        "(READONLY)",
        READONLY,
    )
