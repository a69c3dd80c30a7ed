"""The client that does not wait: it records events, and a thread sends them in batches."""

from __future__ import annotations

import asyncio
import atexit
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, Unpack

import httpx

from ratchet_client import events
from ratchet_client.backlog import Backlog, Limits, cut
from ratchet_client.calls import Asked, AsyncCall, Call, Known
from ratchet_client.errors import ClientError, OutboxFull
from ratchet_client.results import Sent, sent_of
from ratchet_client.sending import Delivery, OnRefused
from ratchet_client.wire import Event, Json, Sender, written

if TYPE_CHECKING:
    from ratchet_client.spill import Spill

P = ParamSpec("P")

_log = logging.getLogger("ratchet_client")


@dataclass(frozen=True)
class Figures:
    """What became of the events of an outbox since it was made, in this process.

    `recorded` = `accepted` + `refused` + `dropped` + `pending`, but for events that were adopted: they were
    recorded elsewhere.
    """

    recorded: int
    accepted: int
    refused: int
    dropped: int
    pending: int
    spill_bytes: int
    #: Why nothing can be sent now; '' if all is well.
    trouble: str


def _recorded(build: Callable[Concatenate[Sender, P], Json]) -> Callable[Concatenate[Outbox, P], Sent]:
    """The method of `Outbox` that records the event that is built so."""

    @functools.wraps(build)
    def method(self: Outbox, /, *args: P.args, **kwargs: P.kwargs) -> Sent:
        event = build(self.sender, *args, **kwargs)
        self.record([event])
        return sent_of(event)

    return method


class Outbox:
    """Records events at once, and sends them from a thread. Thread-safe, and usable after a fork.

    Ids and times are fixed when an event is recorded; sent twice, it counts once. Every event ends as
    accepted, as refused (told to `on_refused`, never sent again), or pending: while the server is away, and
    while the key or the URL is wrong, which is logged once, events are kept and tried again.

    What one thread records is sent in its order, but for what a crash left behind and for what is left of a
    request that was confirmed in part.

    What an event survives, by what is passed:

    - without `spill`: neither the end of the process, nor a full memory (see `when_full`);
    - `spill`, a folder: outages, and restarts after `close`. A kill -9 loses what was recorded in the last
      `limits.batch_age_s` or so and is in memory; while the server is away everything is in the folder;
    - `spill` and `durable=True`: everything. Recording returns when the disk has the event (fsync, shared by
      threads that record at once).

    One folder serves any number of processes of one application, but one server and one tenant: who finds the
    files of an ended process sends them with its own key.

    At the end of the interpreter open outboxes are closed as `close(exit_timeout_s)` does. A process that
    ends by a signal, or by `os._exit` as multiprocessing's children do, has to call `close` itself.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        spill: str | Path | None = None,
        durable: bool = False,
        when_full: Literal["block", "raise", "drop"] = "block",
        source: str | None = None,
        limits: Limits | None = None,
        timeout_s: float = 15.0,
        exit_timeout_s: float = 5.0,
        on_refused: OnRefused | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`when_full`: block for `limits.full_wait_s`, then raise OutboxFull; raise it at once; or drop and
        count.

        `on_refused` is called in the sending thread with why and with the event; without it, it is logged.
        Raises ClientError for `durable` without `spill`, for a URL or a key that cannot be one; OSError if
        the folder cannot be made.
        """
        if durable and spill is None:
            raise ClientError("durable needs a folder: pass `spill`")
        self.sender = Sender(source)
        self.when_full = when_full
        self._folder = None if spill is None else Path(spill)
        self._durable = durable
        self._limits = limits or Limits()
        self._exit_timeout_s = exit_timeout_s
        self._delivery = Delivery(
            url,
            key,
            timeout_s=timeout_s,
            limits=self._limits,
            on_refused=on_refused,
            transport=transport,
        )
        self._counted = 0
        self._dropped = 0
        self._open()
        _opened.add(self)
        if self._backlog.adopt():
            self._start()

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._backlog = Backlog(self._limits, self._spill(), durable=self._durable)
        self._delivery.reset()

    def _spill(self) -> Spill | None:
        if self._folder is None:
            return None
        # Not everywhere is there what this needs; without a folder the client works there, too.
        try:
            from ratchet_client.spill import Spill  # noqa: PLC0415
        except ImportError as error:
            raise ClientError(f"a spill folder needs POSIX file locks: {error}; leave `spill` out") from error
        return Spill(
            self._folder,
            max_bytes=self._limits.spill_bytes,
            segment_bytes=self._limits.segment_bytes,
            durable=self._durable,
        )

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._delivery.run, args=(self._backlog,), name="ratchet-outbox", daemon=True
                )
                self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def record(self, many: Iterable[Event]) -> tuple[str, ...]:
        """Record CloudEvents; absent `id`, `source`, `specversion` and `time` are filled in. Returns the ids.

        Raises ClientError if one cannot be written as JSON (none is recorded then), or after `close`;
        OutboxFull with those that found no room.
        """
        whole = [self.sender.completed(event) for event in many]
        lines = [written(event) for event in whole]
        self._keep(lines, whole)
        return tuple(event["id"] for event in whole)

    async def record_async(self, many: Iterable[Event]) -> tuple[str, ...]:
        """As `record`; what has to wait, for the disk or for room, waits in a thread."""
        whole = [self.sender.completed(event) for event in many]
        lines = [written(event) for event in whole]
        if self._durable or len(lines) > self._limits.batch_events or not self._kept_at_once(lines):
            await asyncio.to_thread(self._keep, lines, whole)
        return tuple(event["id"] for event in whole)

    def _kept_at_once(self, lines: Sequence[bytes]) -> bool:
        self._require_open()
        kept = self._backlog.put(lines)
        if kept:
            self._count(len(lines))
        return kept

    def _keep(self, lines: Sequence[bytes], whole: Sequence[Json]) -> None:
        kept = 0
        for part in cut(lines, self._limits):
            if not self._kept_at_once(part) and not self._kept_after_a_while(part):
                self._overflow(whole[kept:])
                return
            kept += len(part)

    def _kept_after_a_while(self, lines: Sequence[bytes]) -> bool:
        if self.when_full != "block":
            return False
        self._start()
        end = time.monotonic() + self._limits.full_wait_s
        while (left_s := end - time.monotonic()) > 0:
            self._backlog.wait_for_room(left_s)
            if self._kept_at_once(lines):
                return True
        return False

    def _overflow(self, lost: Sequence[Json]) -> None:
        if self.when_full == "drop":
            with self._lock:
                first, self._dropped = not self._dropped, self._dropped + len(lost)
                self._counted += len(lost)
            if first:
                _log.error("the outbox is full: events are dropped from now on, and counted in its figures")
            return
        full = OutboxFull(
            f"no room for {len(lost)} events beside {self._backlog.pending()} that are not confirmed"
            + (f" ({self._delivery.trouble})" if self._delivery.trouble else "")
        )
        full.events = tuple(lost)
        raise full

    def _require_open(self) -> None:
        if self._backlog.closed:
            raise ClientError("this outbox was closed: make another one")

    def _count(self, events: int) -> None:
        with self._lock:
            self._counted += events
        if self._thread is None or not self._thread.is_alive():
            self._start()

    query = _recorded(events.query)
    retrieval = _recorded(events.retrieval)
    answer = _recorded(events.answer)
    feedback = _recorded(events.feedback)
    click = _recorded(events.click)
    thumb = _recorded(events.thumb)
    retract = _recorded(events.retract)
    document = _recorded(events.document)
    remove_document = _recorded(events.remove_document)

    def documents(self, many: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
        """Record documents: mappings with `document_id`, `text` and, if there are, `title` and `fields`."""
        return self.record(events.documents(self.sender, many))

    def call(self, text: str, **known: Unpack[Known]) -> Call:
        """A RAG call: `with outbox.call("how do I pay", user="u-1") as call:`. See `calls.Call`."""
        return Call(self.record, self.sender, Asked(text, **known))

    def async_call(self, text: str, **known: Unpack[Known]) -> AsyncCall:
        """The same for asyncio: `async with outbox.async_call(…) as call:`."""
        return AsyncCall(self.record_async, self.sender, Asked(text, **known))

    def flush(self, timeout_s: float = 10.0) -> int:
        """Send now what was recorded so far, and wait until it is settled. Returns how many are pending."""
        backlog = self._backlog
        if backlog.pending():
            self._start()
            backlog.wait_until_settled(timeout_s)
        return backlog.pending()

    def close(self, timeout_s: float = 5.0) -> int:
        """Send what is left for so long, then end. Returns how many events are not confirmed.

        Those stay in the spill folder for the next outbox; without a folder they are lost, and it is logged.
        """
        _opened.discard(self)
        backlog = self._backlog
        with backlog.changed:
            backlog.stop_at = time.monotonic() + timeout_s
            backlog.changed.notify_all()
        if backlog.pending() and timeout_s > 0:
            self._start()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return backlog.close()

    def figures(self) -> Figures:
        """What became of the events so far."""
        delivery, spill = self._delivery, self._backlog.spill
        return Figures(
            recorded=self._counted,
            accepted=delivery.accepted,
            refused=delivery.refused,
            dropped=self._dropped,
            pending=self._backlog.pending(),
            spill_bytes=spill.held_bytes if spill is not None else 0,
            trouble=delivery.trouble,
        )

    def _in_child(self) -> None:
        """After a fork: what was recorded before is the parent's to send; here is an empty outbox."""
        if self._backlog.spill is not None:
            self._backlog.spill.abandon()
        self._counted = self._dropped = 0
        self._open()


#: Open outboxes: held here, so that one that nobody holds is still sent and closed.
_opened: set[Outbox] = set()


def _close_all() -> None:
    for outbox in list(_opened):
        outbox.close(outbox._exit_timeout_s)


def _all_in_child() -> None:
    for outbox in list(_opened):
        outbox._in_child()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_all_in_child)
