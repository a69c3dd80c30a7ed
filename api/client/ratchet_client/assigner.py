"""Keeps the server's rules at hand, so that a unit is assigned without asking."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import random
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from ratchet_client.assignment import assign
from ratchet_client.clients import Ratchet
from ratchet_client.errors import ClientError
from ratchet_client.results import Serving, serving_of
from ratchet_client.retrying import Retries
from ratchet_client.wire import mint_id

_log = logging.getLogger("ratchet_client")


class Assigner:
    """Says what to serve to a unit, from memory, as `GET /v1/serving?unit=…` would. Thread-safe.

    A thread asks for the rules again every `refresh_s`. While the server is away the last answer holds, for
    as long as it takes: `age_s` says how old it is. Nobody changes arms because the network is down; but a
    canary that ends meanwhile, or a version that is rolled back, is served here until the server is back.
    What is reported stays true, for the exposures are those that were shown.

    With `cache`, a file, an application that starts while the server is away begins with the last answer.
    After a fork the child starts its own thread when it first assigns.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        refresh_s: float = 10.0,
        timeout_s: float = 5.0,
        cache: str | Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Asks once before it returns; `timeout_s` bounds an attempt. The key needs the scope `read`.

        Raises ClientError if there is no answer, nor one in `cache`, or if the server tells no rules.
        """
        self._connect = functools.partial(
            Ratchet, url, key, timeout_s=timeout_s, retries=Retries(attempts=1), transport=transport
        )
        self._refresh_s = refresh_s
        self._timeout_s = timeout_s
        self._cache = None if cache is None else Path(cache)
        self._told: Serving | None = None
        self._told_at = 0.0
        self._begin()
        try:
            self.refresh()
        except ClientError as error:
            self._told = self._remembered()
            if self._told is None:
                self._client.close()
                raise
            _log.warning("the rules of the last run are used: %s", error)
        self._start()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._client = self._connect()
        self._pid = os.getpid()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._ended.is_set():
                self._thread = threading.Thread(target=self._run, name="ratchet-assigner", daemon=True)
                self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def assign(self, unit: str | None) -> Serving:
        """What to serve to a unit (user, else session, else device), and what it is exposed to.

        Without a unit: the champion, unexposed. No I/O. Report the exposures on the query, as they stand.
        """
        if self._pid != os.getpid():
            self._begin()
        if self._thread is None:
            self._start()
        told = self._told
        if told is None:  # the constructor has raised then
            raise ClientError("there are no rules yet")
        return assign(told, unit)

    @property
    def age_s(self) -> float:
        """Seconds since the server last said what holds; infinite for an answer of another run."""
        return time.monotonic() - self._told_at if self._told_at else float("inf")

    def refresh(self) -> None:
        """Ask now. Raises ClientError if there is no answer; the last one still holds."""
        told = self._client.serving()
        if told.rules is None:
            raise ClientError("the server does not tell its rules: update it, or ask it for each unit")
        self._told_at = time.monotonic()
        if told != self._told:
            self._told = told
            self._remember(told)

    def _run(self) -> None:
        failed = False
        while not self._ended.wait(self._refresh_s * random.uniform(0.9, 1.1)):
            try:
                self.refresh()
                failed = False
            except Exception as error:
                if not failed:
                    _log.warning("what to serve cannot be asked now; the last answer holds: %s", error)
                failed = True

    def _remembered(self) -> Serving | None:
        if self._cache is None:
            return None
        try:
            return serving_of(json.loads(self._cache.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _remember(self, told: Serving) -> None:
        if self._cache is None:
            return
        new = self._cache.with_name(f".{self._cache.name}.{mint_id()}")
        try:
            new.write_text(json.dumps(asdict(told)), encoding="utf-8")
            new.replace(self._cache)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._cache, error)
            with contextlib.suppress(OSError):
                new.unlink()

    def close(self) -> None:
        """End the thread. Assigning still works, by the last answer."""
        self._ended.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join(self._timeout_s)
        self._client.close()
