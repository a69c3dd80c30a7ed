"""The engine itself: one directory, opened once, with a connection per request.

A connection costs 0.1 ms, carries its own settings, database and temporary tables, and runs one statement at
a time; different connections run in parallel. A client that sends `session_id` keeps one across requests.
"""

import fcntl
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, cast
from urllib.parse import quote

from .errors import SESSION_IS_LOCKED, SESSION_NOT_FOUND, DirectoryInUse, EngineError, EngineUnavailable
from .settings import EngineSettings

Bytes = bytes  # the engine's results have a method of the name `bytes`

_SESSION_DEFAULT_S: Final = 60.0


class Result(Protocol):
    """A finished statement, or one piece of a stream."""

    def bytes(self) -> Bytes | None: ...
    def rows_read(self) -> int: ...
    def storage_rows_read(self) -> int: ...
    def storage_bytes_read(self) -> int: ...
    def rows_written(self) -> int: ...
    def bytes_written(self) -> int: ...


class Connection(Protocol):
    """What this package uses of chDB's connection; chDB itself is imported only when an engine opens."""

    def query(self, query: str | Bytes, format: str, params: Mapping[str, str] | None = None) -> Result: ...
    def send_query(self, query: str | Bytes, format: str, params: Mapping[str, str] | None = None) -> Any: ...
    def send_insert(self, query: str, format: str) -> Any: ...
    def close(self) -> None: ...


class Session:
    """A connection that outlives its request. `busy` while a request holds it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.busy = False
        self.expires_s = 0.0


def quote_text(value: object) -> str:
    """`value` as an SQL string literal."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(value: str) -> str:
    """`value` as a quoted SQL identifier."""
    return "`" + value.replace("\\", "\\\\").replace("`", "\\`") + "`"


def statement_class(connection: Connection, sql: Bytes) -> tuple[str, int]:
    """What the engine's parser says of `sql`: (READ_ONLY, MUTATING, …, UNKNOWN; number of statements)."""
    parsed = cast(Any, connection)._conn.classify_query(sql.decode("utf-8", "surrogateescape"))
    return parsed["query_class"].name, parsed["statement_count"]


class Engine:
    """The opened directory. Thread-safe; statements run on `workers`, kills and probes on `control`.

    Raises DirectoryInUse or EngineUnavailable from the constructor.
    """

    def __init__(self, settings: EngineSettings) -> None:
        path = Path(settings.path).absolute()
        if {"?", "&"} & set(str(path)):  # chDB would cut the path there, and forget the memory limit
            raise EngineUnavailable(f"The engine cannot use directory {path}: its path contains ? or &.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineUnavailable(
                f"The engine's directory {path} cannot be made: {error.strerror}."
            ) from error
        _require_unlocked(path)
        configuration = path / "engine.xml"
        configuration.write_text(
            "<clickhouse>"
            f"<max_server_memory_usage>{settings.max_server_memory_bytes}</max_server_memory_usage>"
            f"<background_pool_size>{settings.background_threads}</background_pool_size>"
            "</clickhouse>"
        )
        # chDB decodes what follows the question mark, and nothing before it
        self._url = f"{path}?config-file={quote(str(configuration))}"
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        try:
            self._keeper = self.connect()
            row = self._keeper.query("SELECT version(), timezone()", "TabSeparated").bytes() or b""
        except Exception as error:
            raise EngineUnavailable(f"The engine cannot open its directory {path}: {error}") from error
        self.version, self.timezone = row.decode().rstrip("\n").split("\t")
        self.workers = ThreadPoolExecutor(settings.max_queries, "engine")
        self.control = ThreadPoolExecutor(2, "engine-control")

    def connect(self) -> Connection:
        """A fresh connection; the caller closes it."""
        import chdb  # noqa: PLC0415 (an extra: the base install has none)

        return cast(Connection, chdb.connect(self._url))

    def probe(self) -> None:
        """Runs the smallest statement on a fresh connection; raises if the engine cannot."""
        connection = self.connect()
        try:
            connection.query("SELECT 1", "Null")
        finally:
            connection.close()

    def take_session(self, name: str, *, now_s: float, timeout_s: float | None, must_exist: bool) -> Session:
        """The named session, marked busy. Raises EngineError if it is busy, or `must_exist` and does not."""
        with self._lock:
            for old in [key for key, one in self._sessions.items() if not one.busy and one.expires_s < now_s]:
                self._sessions.pop(old).connection.close()
            session = self._sessions.get(name)
            if session is None:
                if must_exist:
                    raise EngineError(f"Session {name} not found. (SESSION_NOT_FOUND)", SESSION_NOT_FOUND)
                session = self._sessions[name] = Session(self.connect())
            if session.busy:
                raise EngineError(
                    f"Session {name} is locked by a concurrent client. (SESSION_IS_LOCKED)", SESSION_IS_LOCKED
                )
            session.busy = True
            session.expires_s = now_s + (timeout_s or _SESSION_DEFAULT_S)
            return session

    def give_back(self, session: Session) -> None:
        """Ends a request's hold on its session."""
        with self._lock:
            session.busy = False

    def kill(self, tag: str | None) -> None:
        """Stops the statement that carries `tag` in its log_comment, or every statement if `tag` is None."""
        which = "1" if tag is None else f"Settings['log_comment'] = {quote_text(tag)}"
        with suppress(Exception):  # it may have ended by itself
            connection = self.connect()
            try:
                connection.query(f"KILL QUERY WHERE {which} ASYNC", "Null")
            finally:
                connection.close()

    def close(self) -> None:
        """Closes the directory, once the statements that still run have ended."""
        self.workers.shutdown(wait=True, cancel_futures=True)
        self.control.shutdown(wait=True)
        for session in self._sessions.values():
            session.connection.close()
        self._keeper.close()


def _require_unlocked(path: Path) -> None:
    """Raises DirectoryInUse if a process holds the lock on the engine's status file.

    The engine says the same on standard error only, and its exception gives no reason.
    """
    try:
        status = os.open(path / "status", os.O_RDWR)
    except FileNotFoundError:
        return
    except OSError as error:
        raise EngineUnavailable(
            f"The engine's directory {path} cannot be opened: {error.strerror}."
        ) from error
    try:
        fcntl.flock(status, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(status, fcntl.LOCK_UN)
    except BlockingIOError:
        first = os.read(status, 64).decode("utf-8", "replace").splitlines()
        holder = first[0].removeprefix("PID:").strip() if first else ""
        raise DirectoryInUse(str(path), holder) from None
    finally:
        os.close(status)
