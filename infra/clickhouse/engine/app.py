"""The ASGI application: health pages, and one endpoint that takes statements."""

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from .accounts import Account, authenticate
from .analysts import AnalystPolicy
from .compression import BodyReader, encoder
from .connection import Engine
from .errors import TOO_MANY_SIMULTANEOUS_QUERIES, EngineError
from .execution import Execution
from .metrics import EngineMetrics
from .protocol import (
    CONTENT_TYPES,
    answer_coding,
    error_trailer,
    query_parameters,
    read_request,
)
from .settings import EngineSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_PIECE_BYTES: Final = 1 << 18
_PROBE_S: Final = 5.0
_KILL_S: Final = 2.0
_KILLS: Final = 20
_KILL_PAUSE_S: Final = 0.1
_TEXT: Final = (b"content-type", b"text/plain; charset=UTF-8")


class ClientGone(Exception):
    """The client closed its connection before its request was whole."""


class EngineApp:
    """ClickHouse's HTTP interface over one engine directory.

    `open` before the first request, `close` after the last. A client that goes away has its statement killed;
    a statement whose request was cut off never reaches the engine.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._engine: Engine | None = None
        self._policy: AnalystPolicy | None = None
        self._running = dict.fromkeys(Account, 0)
        self._draining = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.metrics = EngineMetrics()

    @property
    def version(self) -> str:
        """The engine's version, "" before `open`."""
        return self._engine.version if self._engine else ""

    def open(self) -> None:
        """Opens the directory. Raises DirectoryInUse or EngineUnavailable."""
        engine = Engine(self._settings)
        connection = engine.connect()
        try:
            self._policy = AnalystPolicy(connection, self._settings.analysts_read)
        finally:
            connection.close()
        self._engine = engine

    async def drain(self) -> None:
        """Refuses new statements, waits `drain_s` seconds for the running ones, then kills what is left.

        A client that does not read its answer holds its request even then: its connection is cut.
        """
        self._draining = True
        if await self._idle_within(self._settings.drain_s) or self._engine is None:
            return
        await asyncio.to_thread(self._engine.kill, None)
        if not await self._idle_within(_KILL_S):
            for task in tuple(self._tasks):
                task.cancel()
            await self._idle_within(_KILL_S)

    async def _idle_within(self, limit_s: float) -> bool:
        try:
            await asyncio.wait_for(self._idle.wait(), limit_s)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Closes the directory; statements that still run are waited for."""
        self._draining = True
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path in ("/ping", "/replicas_status"):
            await _reply(send, 200, b"Ok.\n", [_TEXT])
        elif path == "/healthz":
            await self._health(send)
        elif path == "/readyz":
            ready = self._engine is not None and not self._draining
            await _reply(send, 200 if ready else 503, b"ready\n" if ready else b"not ready\n", [_TEXT])
        elif path == "/metrics":
            await _reply(send, 200, self.metrics.render(), [(b"content-type", b"text/plain; version=0.0.4")])
        elif path == "/":
            await self._statement(scope, receive, send)
        else:
            await _reply(send, 404, f"There is no page {path}: statements go to /\n".encode(), [_TEXT])

    async def _health(self, send: Send) -> None:
        engine = self._engine
        try:
            if engine is None:
                raise RuntimeError("the engine is not open")
            probe = asyncio.get_running_loop().run_in_executor(engine.control, engine.probe)
            await asyncio.wait_for(probe, _PROBE_S)
        except Exception as error:
            await _reply(send, 503, f"the engine does not answer: {error!r}\n".encode(), [_TEXT])
        else:
            await _reply(send, 200, b"ok\n", [_TEXT])

    async def _statement(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        parameters = query_parameters(scope["query_string"])
        query_id = parameters.get("query_id") or str(uuid.uuid4())
        common: Headers = [
            (b"x-clickhouse-query-id", query_id.encode("latin-1", "replace")),
            (b"x-clickhouse-server-display-name", b"ratchet"),
        ]
        try:
            engine, policy = self._engine, self._policy
            if engine is None or policy is None or self._draining:
                raise EngineError("The engine is not open.", TOO_MANY_SIMULTANEOUS_QUERIES)
            common.append((b"x-clickhouse-timezone", engine.timezone.encode()))
            account = authenticate(self._settings, headers, parameters)
            with self._place(account):
                reader = BodyReader(headers.get("content-encoding", ""), self._settings.max_body_bytes)
                body = await _read_body(receive, reader)
                request = read_request(scope["method"], headers, parameters, body, query_id)
                execution = Execution(engine, self._settings, policy, request, account)
                await self._execute(execution, answer_coding(headers, parameters), common, receive, send)
        except ClientGone:
            return
        except asyncio.CancelledError:
            if not self._draining:
                raise
        except EngineError as error:
            self.metrics.errors.labels(str(error.code)).inc()
            text = f"{error} (version {self.version} (official build))\n".encode()
            code = (b"x-clickhouse-exception-code", str(error.code).encode())
            await _reply(send, error.status, text, [*common, code, _TEXT])

    @contextmanager
    def _place(self, account: Account) -> Iterator[None]:
        """Holds one of the places for statements. Raises EngineError where all are taken."""
        settings, running = self._settings, self._running
        limit = settings.max_queries if account is Account.WRITER else settings.max_analyst_queries
        if running[account] >= limit or sum(running.values()) >= settings.max_queries:
            raise EngineError(
                f"Too many simultaneous queries. Maximum: {limit}. (TOO_MANY_SIMULTANEOUS_QUERIES)",
                TOO_MANY_SIMULTANEOUS_QUERIES,
            )
        running[account] += 1
        self._idle.clear()
        gauge = self.metrics.running.labels(account.value)
        gauge.inc()
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            yield
        finally:
            if task is not None:
                self._tasks.discard(task)
            running[account] -= 1
            gauge.dec()
            if not any(running.values()):
                self._idle.set()

    async def _execute(
        self, execution: Execution, coding: str, common: Headers, receive: Receive, send: Send
    ) -> None:
        """Runs the statement and sends its answer. Raises EngineError while nothing was sent yet."""
        began_s = time.perf_counter()
        gone = asyncio.Event()
        started = execution.engine.workers.submit(execution.start)
        watcher = asyncio.create_task(_watch(execution, gone, receive))
        try:
            first = await asyncio.wrap_future(started)
            headers = [*common, *_answer_headers(execution)]
            if coding:
                headers.append((b"content-encoding", coding.encode()))
            coder = encoder(coding)
            if execution.finished:
                await _reply(send, 200, coder.feed(first) + coder.finish(), headers)
                return
            tag = secrets.token_hex(8)
            headers.append((b"x-clickhouse-exception-tag", tag.encode()))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for piece in self._pieces(execution, first, tag, gone):
                if out := coder.feed(piece):
                    await send({"type": "http.response.body", "body": out, "more_body": True})
            await send({"type": "http.response.body", "body": coder.finish(), "more_body": False})
        finally:
            watcher.cancel()
            self.metrics.queries.labels(execution.account.value, execution.kind).inc()
            self.metrics.seconds.labels(execution.kind).observe(time.perf_counter() - began_s)
            if not execution.finished:
                execution.engine.control.submit(_abandon, execution)

    async def _pieces(
        self, execution: Execution, first: bytes, tag: str, gone: asyncio.Event
    ) -> AsyncIterator[bytes]:
        """The answer's bytes from `first` on; a failure in the middle ends them as ClickHouse does."""
        loop = asyncio.get_running_loop()
        yield first
        while not execution.finished and not gone.is_set():
            try:
                yield await loop.run_in_executor(execution.engine.workers, execution.next_piece, _PIECE_BYTES)
            except EngineError as error:
                self.metrics.errors.labels(str(error.code)).inc()
                yield error.partial + error_trailer(str(error), tag)


async def _watch(execution: Execution, gone: asyncio.Event, receive: Receive) -> None:
    """Kills the statement when its client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()
    if not execution.finished:
        execution.engine.control.submit(_abandon, execution)


def _abandon(execution: Execution) -> None:
    """Ends a statement that nobody waits for, on a thread; again, if it was just about to start."""
    for _ in range(_KILLS):
        if not execution.abandon():
            return
        execution.engine.kill(execution.tag)
        time.sleep(_KILL_PAUSE_S)


def _answer_headers(execution: Execution) -> Headers:
    kind = CONTENT_TYPES.get(execution.format.lower(), "text/plain; charset=UTF-8")
    headers = [(b"content-type", kind.encode()), (b"x-clickhouse-summary", execution.summary())]
    if execution.format:
        headers.append((b"x-clickhouse-format", execution.format.encode()))
    return headers


async def _read_body(receive: Receive, reader: BodyReader) -> bytes:
    """The whole decoded body. Raises ClientGone if the client stops before its end."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        reader.add(message.get("body", b""))
        if not message.get("more_body"):
            return reader.finish()


async def _reply(send: Send, status: int, body: bytes, headers: Headers) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
