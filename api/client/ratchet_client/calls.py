"""One call of a RAG application as a block: what was asked, found and answered, with the time each took."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypedDict, Unpack

from ratchet_client import events
from ratchet_client.errors import ClientError
from ratchet_client.results import Attribute, Hit, Serving
from ratchet_client.wire import Json, Sender, mint_id

_log = logging.getLogger("ratchet_client")
_ERROR_CHARACTERS = 500


def name_of_error(error: BaseException) -> str:
    """The type of an exception: its message may quote what a person wrote."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class Listing(TypedDict, total=False):
    """What may be said of a list, as in `Ratchet.retrieval`."""

    retrieval_id: str | None
    pipeline_version: str
    shadow: bool
    exploration: bool
    latency_ms: float | None
    error: str | None
    time: dt.datetime | None


class Saying(TypedDict, total=False):
    """What may be said of an answer, as in `Ratchet.answer`."""

    generator: str
    citations: Sequence[str]
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_ms: float | None
    cached: bool
    error: str | None
    time: dt.datetime | None


class Known(TypedDict, total=False):
    """What may be known of a call when it begins; the fields of `Asked`."""

    user: str | None
    session: str | None
    device: str | None
    attributes: Mapping[str, Attribute] | None
    serving: Serving | None
    query_id: str | None
    describe_error: Callable[[BaseException], str]


@dataclass(frozen=True)
class Asked:
    """What is known when a call begins."""

    text: str
    user: str | None = None
    session: str | None = None
    device: str | None = None
    attributes: Mapping[str, Attribute] | None = None
    #: What this unit is served: its exposures and its version are reported.
    serving: Serving | None = None
    query_id: str | None = None
    #: What an answer's `error` says of an exception; the type only, unless the application knows better.
    describe_error: Callable[[BaseException], str] = name_of_error


class _Course:
    """The events of a call. Latencies run from the last event to the next, in milliseconds."""

    def __init__(self, sender: Sender, asked: Asked) -> None:
        self._sender = sender
        self._asked = asked
        self._mark = time.perf_counter()
        self._answered = False
        #: Names the call in feedback, from the start on.
        self.query_id = asked.query_id or mint_id()
        #: Names the latest list; '' before the first.
        self.retrieval_id = ""
        #: Names the answer, which may be given to a page before the answer is whole.
        self.answer_id = mint_id()

    @property
    def text(self) -> str:
        """What was asked."""
        return self._asked.text

    def _lap_ms(self) -> float:
        before, self._mark = self._mark, time.perf_counter()
        return (self._mark - before) * 1000

    def _query(self) -> Json:
        asked = self._asked
        self._mark = time.perf_counter()
        return events.query(
            self._sender,
            asked.text,
            query_id=self.query_id,
            user=asked.user,
            session=asked.session,
            device=asked.device,
            attributes=asked.attributes,
            exposures=asked.serving.exposures if asked.serving is not None else (),
        )

    def _retrieval(self, hits: Sequence[Hit | str], listing: Listing) -> Json:
        serving = self._asked.serving
        given: Listing = {
            "pipeline_version": (serving.version or "") if serving is not None else "",
            "latency_ms": self._lap_ms(),
            **listing,
        }
        event = events.retrieval(self._sender, self.query_id, hits, **given)
        if not given.get("shadow"):
            self.retrieval_id = event["data"]["retrieval_id"]
        return event

    def _answer(self, text: str, saying: Saying) -> Json:
        given: Saying = {"latency_ms": self._lap_ms(), **saying}
        if self._answered:
            self.answer_id = mint_id()
        self._answered = True
        return events.answer(self._sender, self.query_id, text, answer_id=self.answer_id, **given)

    def _failure(self, error: BaseException | None) -> Json | None:
        """The answer that an exception stands for; None after an answer, or without an exception."""
        if error is None or self._answered:
            return None
        return self._answer("", {"error": self._asked.describe_error(error)[:_ERROR_CHARACTERS]})


class Call(_Course):
    """A RAG call, as a context manager: entering reports the query.

    An exception that leaves the block before an answer was given is reported as an answer with an `error`,
    and goes on. Reporting raises OutboxFull as the outbox is set, but never in place of the block's own
    exception.
    """

    def __init__(self, record: Callable[[Sequence[Json]], object], sender: Sender, asked: Asked) -> None:
        super().__init__(sender, asked)
        self._record = record

    def __enter__(self) -> Self:
        self._record([self._query()])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = self._failure(error)
        if failure is not None:
            try:
                self._record([failure])
            except ClientError as full:
                _log.warning("the failure of call %s is not reported: %s", self.query_id, full)

    def retrieved(self, hits: Sequence[Hit | str], **listing: Unpack[Listing]) -> str:
        """Report a list: hits, or document ids from the top down. Returns its id.

        `pipeline_version` is the version of `serving` unless another is named; `latency_ms` is measured.
        """
        event = self._retrieval(hits, listing)
        self._record([event])
        return str(event["data"]["retrieval_id"])

    def answered(self, text: str, **saying: Unpack[Saying]) -> str:
        """Report the answer. Returns its id: `answer_id`; a second answer gets another one."""
        self._record([self._answer(text, saying)])
        return self.answer_id


class AsyncCall(_Course):
    """A RAG call for asyncio: as `Call`, with `async with` and methods to be awaited.

    What waits for the disk or for room does so in a thread: the event loop goes on.
    """

    def __init__(
        self, record: Callable[[Sequence[Json]], Awaitable[object]], sender: Sender, asked: Asked
    ) -> None:
        super().__init__(sender, asked)
        self._record = record

    async def __aenter__(self) -> Self:
        await self._record([self._query()])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = self._failure(error)
        if failure is not None:
            try:
                await self._record([failure])
            except ClientError as full:
                _log.warning("the failure of call %s is not reported: %s", self.query_id, full)

    async def retrieved(self, hits: Sequence[Hit | str], **listing: Unpack[Listing]) -> str:
        """As `Call.retrieved`."""
        event = self._retrieval(hits, listing)
        await self._record([event])
        return str(event["data"]["retrieval_id"])

    async def answered(self, text: str, **saying: Unpack[Saying]) -> str:
        """As `Call.answered`."""
        await self._record([self._answer(text, saying)])
        return self.answer_id
