"""The two clients: the same methods, one to call, one to await."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import random
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import httpx

from ratchet_client import plans
from ratchet_client.errors import ClientError, Unavailable
from ratchet_client.retrying import AGAIN, Retries, retry_after_s
from ratchet_client.wire import Answered, Plan, Sender, Step, unconfirmed

P = ParamSpec("P")
R = TypeVar("R")


class _Settings:
    """What both clients know, and how both read an answer."""

    def __init__(
        self,
        url: str,
        key: str,
        search_url: str | None,
        source: str | None,
        timeout_s: float,
        retries: Retries,
    ) -> None:
        self.url = url.rstrip("/")
        self.search_url = None if search_url is None else search_url.rstrip("/")
        self.headers = {"authorization": f"Bearer {key}"}
        self.sender = Sender(source)
        self.timeout = httpx.Timeout(timeout_s)
        self.retries = retries

    def request_of(self, step: Step) -> tuple[str, str, dict[str, str]]:
        """Method, URL and headers of a step."""
        if step.search and self.search_url is None:
            raise ClientError("search needs `search_url`: pass it to the client")
        base = self.search_url if step.search else self.url
        headers = self.headers if step.body is None else {**self.headers, "content-type": step.content_type}
        return step.method, f"{base}{step.path}", headers

    def read(self, attempt: int, response: httpx.Response | httpx.TransportError) -> Answered | float:
        """The answer, or the seconds to wait before the next attempt. Raises Unavailable after the last."""
        if isinstance(response, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            raise ClientError(f"this request cannot be sent at all: {response}") from response
        if isinstance(response, httpx.TransportError):
            why, asked_s = f"{type(response).__name__}: {response}", 0.0
        elif response.status_code in AGAIN:
            why = f"HTTP {response.status_code}: {response.text[:300]}"
            asked_s = retry_after_s(response, dt.datetime.now(dt.UTC))
        else:
            return Answered(response.status_code, _body(response))
        if attempt >= self.retries.attempts:
            raise Unavailable(why, attempt)
        return self.retries.wait_s(attempt, asked_s, random.random)


def _body(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return response.text


def _called(plan: Callable[Concatenate[Sender, P], Plan[R]]) -> Callable[Concatenate[Ratchet, P], R]:
    """The method of `Ratchet` that runs this plan."""

    @functools.wraps(plan)
    def method(self: Ratchet, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(plan(self._settings.sender, *args, **kwargs))

    return method


def _awaited(
    plan: Callable[Concatenate[Sender, P], Plan[R]],
) -> Callable[Concatenate[AsyncRatchet, P], Awaitable[R]]:
    """The method of `AsyncRatchet` that runs this plan."""

    @functools.wraps(plan)
    async def method(self: AsyncRatchet, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._run(plan(self._settings.sender, *args, **kwargs))

    return method


class Ratchet:
    """The client. Safe to share between threads. Close it, or use it as a context manager.

    Every event has its id before it is first sent: sending again is safe. Methods raise Refused,
    RequestFailed or Unavailable (see `errors`), and return only when the event is durable. What an error
    leaves unconfirmed is in its `events`, to be given to `send` later.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        search_url: str | None = None,
        source: str | None = None,
        timeout_s: float = 15.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`source` names this application in every event, else each kind has its own; `timeout_s` bounds one
        attempt."""
        self._settings = _Settings(url, key, search_url, source, timeout_s, retries or Retries())
        self._http = httpx.Client(timeout=self._settings.timeout, transport=transport)
        self._sleep: Callable[[float], None] = time.sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def _run(self, plan: Plan[R]) -> R:
        answers: list[Answered] = []
        try:
            for step in plan.steps:
                answers.append(self._answer(step))
            return plan.finish(answers)
        except ClientError as error:
            error.events = unconfirmed(plan.steps, answers)
            raise

    def _answer(self, step: Step) -> Answered:
        method, url, headers = self._settings.request_of(step)
        attempt = 0
        while True:
            attempt += 1
            try:
                response: httpx.Response | httpx.TransportError = self._http.request(
                    method, url, headers=headers, content=step.body
                )
            except httpx.TransportError as error:
                response = error
            answer = self._settings.read(attempt, response)
            if isinstance(answer, Answered):
                return answer
            self._sleep(answer)

    send = _called(plans.send)
    query = _called(plans.query)
    retrieval = _called(plans.retrieval)
    answer = _called(plans.answer)
    feedback = _called(plans.feedback)
    click = _called(plans.click)
    thumb = _called(plans.thumb)
    retract = _called(plans.retract)
    document = _called(plans.document)
    documents = _called(plans.documents)
    remove_document = _called(plans.remove_document)
    search = _called(plans.search)
    serving = _called(plans.serving)
    ready = _called(plans.ready)


class AsyncRatchet:
    """The client for asyncio: every method of `Ratchet`, awaited. For one event loop."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        search_url: str | None = None,
        source: str | None = None,
        timeout_s: float = 15.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As `Ratchet`."""
        self._settings = _Settings(url, key, search_url, source, timeout_s, retries or Retries())
        self._http = httpx.AsyncClient(timeout=self._settings.timeout, transport=transport)
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def _run(self, plan: Plan[R]) -> R:
        answers: list[Answered] = []
        try:
            for step in plan.steps:
                answers.append(await self._answer(step))
            return plan.finish(answers)
        except ClientError as error:
            error.events = unconfirmed(plan.steps, answers)
            raise

    async def _answer(self, step: Step) -> Answered:
        method, url, headers = self._settings.request_of(step)
        attempt = 0
        while True:
            attempt += 1
            try:
                response: httpx.Response | httpx.TransportError = await self._http.request(
                    method, url, headers=headers, content=step.body
                )
            except httpx.TransportError as error:
                response = error
            answer = self._settings.read(attempt, response)
            if isinstance(answer, Answered):
                return answer
            await self._sleep(answer)

    send = _awaited(plans.send)
    query = _awaited(plans.query)
    retrieval = _awaited(plans.retrieval)
    answer = _awaited(plans.answer)
    feedback = _awaited(plans.feedback)
    click = _awaited(plans.click)
    thumb = _awaited(plans.thumb)
    retract = _awaited(plans.retract)
    document = _awaited(plans.document)
    documents = _awaited(plans.documents)
    remove_document = _awaited(plans.remove_document)
    search = _awaited(plans.search)
    serving = _awaited(plans.serving)
    ready = _awaited(plans.ready)
