"""The one module that knows Faust: batches of four topics → `BatchProcessor` → commit.

The shape is fixed by what was measured to lose nothing under kill -9, SIGTERM and rebalances: one agent a
topic with concurrency 1 (with more, an acknowledgement can pass a hole), raw bytes in chunks, `noack_take`,
every chunk acknowledged after its whole batch is stored, and the end of the process, not an exception out of
an agent, when it cannot be stored (Faust would restart the agent and skip the batch).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import faust

from schemas.errors import Fatal
from schemas.topics import TOPICS
from streams.batch import BatchProcessor, BatchReport
from streams.faust_transport import ChunkTransport
from streams.ports import Message
from streams.settings import StreamSettings

log = logging.getLogger(__name__)

#: Exit code of a worker that cannot store what it read; offsets are not committed, a restart reads it again.
EXIT_FATAL: Final = 70

#: Most chunks of a batch; what a fetch brings of a partition is one chunk, so a quiet topic never comes near.
_TAKEN_CHUNKS: Final = 200

Observer = Callable[[BatchReport], None]


def exit_at_once(error: BaseException) -> None:
    """End the process without any clean-up that could commit an offset."""
    log.critical("the worker cannot go on and ends", exc_info=error)
    logging.shutdown()
    os._exit(EXIT_FATAL)


class StreamWorker:
    """A Faust worker inside a running event loop.

    Guarantees: at least once. A batch is committed only after `BatchProcessor.process` returned; `stop`
    finishes the batches in hand and commits them. One instance a process.
    """

    def __init__(
        self,
        settings: StreamSettings,
        processor: BatchProcessor,
        *,
        bootstrap: str,
        directory: Path,
        observe: Observer = lambda _: None,
        on_fatal: Callable[[BaseException], None] = exit_at_once,
    ) -> None:
        """`directory` is Faust's own; nothing in it is needed after a restart."""
        self._settings = settings
        self._processor = processor
        self._observe = observe
        self._on_fatal = on_fatal
        #: Topic → monotonic time at which the batch in hand began.
        self._in_hand: dict[str, float] = {}
        self._asked_to_stop = asyncio.Event()
        self.batches = 0
        self.app = self._create_app(bootstrap, directory)

    async def run(self) -> None:
        """Start, go on until `stop` is called, finish the batches in hand, commit, leave the group.

        Raises Fatal if Faust ends by itself.
        """
        # What exists now lives as long as the process: collections need not walk through it again and again.
        # A batch makes many short-lived objects, so collect less often than by default.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        await self.app.start()
        asked = asyncio.create_task(self._asked_to_stop.wait())
        ended = asyncio.create_task(self.app.wait_until_stopped())
        try:
            await asyncio.wait((asked, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            ended.cancel()
            await self.app.stop()
        if self.app.crash_reason is not None:
            raise Fatal(f"Faust ended: {self.app.crash_reason!r}") from self.app.crash_reason

    def stop(self) -> None:
        """Ask `run` to end in order. Call it from the loop's thread, or from a signal handler of the loop."""
        self._asked_to_stop.set()

    @property
    def partitions(self) -> int:
        """Partitions assigned to this worker."""
        return len(self.app.consumer.assignment()) if self.app.started else 0

    def stuck_for_s(self) -> float:
        """Seconds since the oldest batch in hand began; 0 if none is in hand.

        A healthy worker stays far below `retry_for_s`. What it cannot show is a commit that stalls: that is
        seen in the committed lag.
        """
        now = time.monotonic()
        return max((now - since for since in self._in_hand.values()), default=0.0)

    def _create_app(self, bootstrap: str, directory: Path) -> Any:
        settings = self._settings
        app = faust.App(
            settings.group,
            broker="kafka://" + bootstrap.replace(",", ";kafka://"),
            datadir=str(directory),
            store="memory://",
            web_enabled=False,
            autodiscover=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=settings.instance or None,
            consumer_max_fetch_size=8 * 1024 * 1024,
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=settings.session_timeout_s / 4,
            broker_rebalance_timeout=max(15.0, settings.session_timeout_s * 2),
            broker_request_timeout=90.0,
            broker_commit_interval=settings.commit_interval_s,
            stream_wait_empty=True,
            stream_buffer_maxsize=2 * _TAKEN_CHUNKS,
            broker_max_poll_records=settings.batch_events,
        )
        app.transport = ChunkTransport(app.conf.broker_consumer, app)
        for topic in TOPICS:
            channel = app.topic(
                topic.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
            )
            app.agent(channel, name=f"ratchet-{topic.name}", concurrency=1)(self._agent(topic.name))
        app.on_partitions_assigned.connect(self._forget)
        app.on_partitions_revoked.connect(self._forget)
        return app

    def _agent(self, topic: str) -> Callable[[Any], Any]:
        async def store(stream: Any) -> None:
            taken = stream.noack_take(_TAKEN_CHUNKS, within=self._settings.batch_wait_s)
            async for events in taken:
                await self._store(topic, [_message(record) for e in events for record in e.message.records])
                for event in events:
                    event.ack()
                # no reference may be left behind: at a rebalance Faust waits until all are gone
                del events, event

        return store

    async def _store(self, topic: str, messages: Sequence[Message]) -> None:
        """Store what was taken, in batches of `batch_events`."""
        size = self._settings.batch_events
        for start in range(0, len(messages), size):
            self._in_hand[topic] = time.monotonic()
            try:
                report = await self._processor.process(topic, messages[start : start + size])
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self._on_fatal(error)
                raise
            finally:
                self._in_hand.pop(topic, None)
            self.batches += 1
            self._observe(report)

    async def _forget(self, *_: Any, **__: Any) -> None:
        self._processor.forget()


def _message(record: Any) -> Message:
    """A record as aiokafka has it."""
    return Message(
        record.topic,
        record.partition,
        record.offset,
        record.key or b"",
        record.value or b"",
        record.timestamp,
    )
