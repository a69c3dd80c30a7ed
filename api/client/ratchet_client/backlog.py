"""What is recorded and not settled: in memory, on disk, and in the hand of the one thread that sends."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ratchet_client.delivery import Verdict
from ratchet_client.errors import SpillFull

if TYPE_CHECKING:
    from ratchet_client.spill import Segment, Spill

_log = logging.getLogger("ratchet_client")
#: While somebody waits for a flush, attempts are this far apart.
_HURRIED_S = 0.5


@dataclass(frozen=True)
class Limits:
    """Bounds of an outbox. A batch is sent when one of the first three is reached."""

    batch_events: int = 500
    batch_bytes: int = 1024 * 1024
    batch_age_s: float = 0.5
    #: Bytes of events in memory; without a spill folder all that is not settled is in memory.
    memory_bytes: int = 16 * 1024 * 1024
    #: Bytes of this process's files in the spill folder, and how large one of them gets.
    spill_bytes: int = 256 * 1024 * 1024
    segment_bytes: int = 1024 * 1024
    #: So long `when_full="block"` waits for room before it raises.
    full_wait_s: float = 2.0
    #: The longest wait between two attempts; a longer `Retry-After` is kept to, up to five minutes.
    longest_wait_s: float = 30.0
    #: So often the spill folder is searched for what other processes left behind.
    adopt_every_s: float = 30.0


@dataclass
class Hand:
    """What is being sent, a batch after the other: a segment of the spill folder, or a batch of memory."""

    batches: deque[Sequence[bytes]]
    since: float
    segment: Segment | None = field(default=None)

    def lines(self) -> list[bytes]:
        """Everything that is not settled."""
        return [line for batch in self.batches for line in batch]


class Backlog:
    """A bounded queue for many threads that record and one that sends. `changed` guards it.

    Every event is in one place: memory, the spill folder, or the hand. While the server is away, and when
    memory is full, events go to the folder; in durable mode all do, and `put` returns when the disk has them.
    What one thread puts is held in its order, but for what a crash left behind.
    """

    def __init__(self, limits: Limits, spill: Spill | None, *, durable: bool) -> None:
        self.changed = threading.Condition()
        self.closed = False
        self.spill = spill
        self._limits = limits
        self._durable = durable
        self._memory: deque[tuple[float, bytes]] = deque()
        self._memory_bytes = 0
        self._hand: Hand | None = None
        #: The folder holds something, or the server is away.
        self._spilling = False
        self._memory_is_newer = False
        self._told_full = False
        #: What was recorded until then is due; set by a flush.
        self._due_until = 0.0
        self._adopted_at = time.monotonic()
        self.stop_at: float | None = None
        self.flushing = 0

    def put(self, lines: Sequence[bytes]) -> bool:
        """Keep these lines, all or none; False if there is no room now."""
        now = time.monotonic()
        if self._durable:
            # No memory, so nothing to be kept in order with it: threads wait for the disk together.
            return self._spilled(lines, now)
        with self.changed:
            if not self._spilling or self.spill is None:
                return self._remembered(lines, now) or self._spilled(lines, now)
            # What comes after something on disk goes there, too: a thread's events stay in its order. When
            # the disk is full, memory may go on if all of it is newer, or all older, than what is there.
            if self._memory_is_newer and self._memory_bytes:
                return self._remembered(lines, now)
            if self._spilled(lines, now):
                return True
            if self._memory_bytes and self.spill.pending:
                return False
            self._memory_is_newer = not self._memory_bytes
            return self._remembered(lines, now)

    def _remembered(self, lines: Sequence[bytes], now: float) -> bool:
        size = sum(map(len, lines))
        # An event that is larger than the bound goes alone.
        if self._memory_bytes and self._memory_bytes + size > self._limits.memory_bytes:
            return False
        self._memory.extend((now, line) for line in lines)
        self._memory_bytes += size
        self.changed.notify_all()
        return True

    def _spilled(self, lines: Sequence[bytes], now: float) -> bool:
        if self.spill is None:
            return False
        try:
            self.spill.append(lines, now)
        except SpillFull:
            return False
        except OSError as error:
            if not self._told_full:
                _log.warning("the spill folder takes nothing: %s", error)
            self._told_full = True
            return False
        with self.changed:
            self._spilling, self._memory_is_newer = True, False
            self.changed.notify_all()
        return True

    def pending(self) -> int:
        """Events that are recorded and not settled."""
        with self.changed:
            hand = self._hand
            held = len(hand.lines()) if hand is not None and hand.segment is None else 0
            return len(self._memory) + held + (self.spill.pending if self.spill else 0)

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until there may be room, at most for so long; what is recorded is sent now."""
        with self.changed:
            self._due_until = time.monotonic()
            self.changed.notify_all()
            # Room that came between `put` and here is seen after this time, not after the whole of it.
            self.changed.wait(min(timeout_s, _HURRIED_S))

    def wait_until_settled(self, timeout_s: float) -> None:
        """Send at once what is recorded now, and wait until it is settled, or for so long."""
        with self.changed:
            mark = time.monotonic()
            self._due_until = max(self._due_until, mark)
            self.flushing += 1
            self.changed.notify_all()
            try:
                self.changed.wait_for(lambda: self.closed or self._oldest() > mark, timeout_s)
            finally:
                self.flushing -= 1

    def _oldest(self) -> float:
        found = [self._memory[0][0]] if self._memory else []
        if self._hand is not None:
            found.append(self._hand.since)
        if self.spill is not None and (since := self.spill.oldest()) is not None:
            found.append(since)
        return min(found, default=float("inf"))

    def hold(self) -> Hand | None:
        """The batches to send now; waits for them. None when it is time to stop, or nothing is left then."""
        while True:
            with self.changed:
                if self.closed or (self.stop_at is not None and time.monotonic() >= self.stop_at):
                    return None
                if self._hand is not None:
                    return self._hand
                due = self._due(time.monotonic())
                if isinstance(due, Hand):
                    self._hand = due
                    return due
                wait_s = due
                if self.stop_at is not None and wait_s is None:
                    return None
                adopt_s = self._adopted_at + self._limits.adopt_every_s - time.monotonic()
                if self.spill is None or adopt_s > 0:
                    waits = [s for s in (wait_s, adopt_s if self.spill else None) if s is not None]
                    self.changed.wait(min(waits, default=None))
                    continue
            self.adopt()

    def adopt(self) -> int:
        """Look for what other processes left in the spill folder; how many events that is."""
        self._adopted_at = time.monotonic()
        found = self.spill.adopt() if self.spill is not None else 0
        if found:
            _log.info("%d events that another process left behind will be sent", found)
        return found

    def _due(self, now: float) -> Hand | float | None:
        """Take what is due, the oldest first; else the seconds until something is. None: nothing waits."""
        limits = self._limits
        all_due = self.stop_at is not None
        there: list[tuple[float, bool]] = []
        waits: list[float] = []

        def consider(since: float, full: bool, on_disk: bool) -> None:
            there.append((since, on_disk))
            at_once = full or all_due or since <= self._due_until
            waits.append(0.0 if at_once else since + limits.batch_age_s - now)

        if self._memory:
            size = min(limits.batch_bytes, limits.memory_bytes // 2)
            full = len(self._memory) >= limits.batch_events or self._memory_bytes >= size
            consider(self._memory[0][0], full, on_disk=False)
        if self.spill is not None and (waiting := self.spill.waiting()) is not None:
            since, events, whole = waiting
            consider(since, whole or events >= limits.batch_events, on_disk=True)
        if not there:
            return None
        if min(waits) > 0:
            return min(waits)
        _, on_disk = min(there)
        return (self._hand_of_disk() or 0.0) if on_disk else self._hand_of_memory()

    def _hand_of_memory(self) -> Hand:
        since, first = self._memory.popleft()
        lines, size = [first], len(first)
        limits = self._limits
        while self._memory and len(lines) < limits.batch_events:
            if size + len(self._memory[0][1]) > limits.batch_bytes:
                break
            _, line = self._memory.popleft()
            lines.append(line)
            size += len(line)
        return Hand(deque([lines]), since)

    def _hand_of_disk(self) -> Hand | None:
        spill, segment = self.spill, self.spill.take() if self.spill else None
        if spill is None or segment is None:
            return None
        lines = segment.lines()
        if not lines:
            spill.remove(segment)
            return None
        return Hand(deque(cut(lines, self._limits)), segment.since, segment)

    def apply(self, hand: Hand, verdict: Verdict) -> bool:
        """The first batch of the hand was answered. False after `close`, which has taken care of the hand.

        Raises OSError if what has to be set aside cannot be written: nothing is settled then.
        """
        with self.changed:
            if self.closed:
                return False
            if verdict.set_aside and self.spill is not None:
                self.spill.set_aside(verdict.set_aside)
            batch = hand.batches.popleft()
            again = verdict.again
            if verdict.trouble == "halve":
                half = len(again) // 2
                hand.batches.extendleft((again[half:], again[:half]))
            elif again:
                hand.batches.appendleft(again)
            if hand.segment is None:
                self._memory_bytes -= sum(map(len, batch)) - sum(map(len, again))
            elif self.spill is not None:
                self.spill.settle(hand.segment, len(batch) - len(again))
            if not hand.batches:
                if hand.segment is not None and self.spill is not None:
                    self.spill.remove(hand.segment)
                self._hand = None
            if verdict.trouble in ("later", "stuck"):
                self._spilling = self.spill is not None
                self._move_to_disk()
            elif self._hand is None:
                self._spilling = self.spill is not None and self.spill.waiting() is not None
            self.changed.notify_all()
            return True

    def _move_to_disk(self) -> None:
        """What is in memory and in the hand goes to the spill folder, in its order, if that has room."""
        hand = self._hand if self._hand is not None and self._hand.segment is None else None
        lines = hand.lines() if hand is not None else []
        lines += [line for _, line in self._memory]
        if self.spill is None or not lines:
            return
        try:
            self.spill.insert(lines, hand.since if hand is not None else self._memory[0][0])
        except (SpillFull, OSError) as error:
            if not self._told_full:
                _log.warning("the spill folder has no room for what is in memory: %r", error)
            self._told_full = True
            return
        self._told_full = False
        if hand is not None:
            self._hand = None
        self._memory.clear()
        self._memory_bytes = 0

    def pause(self, wait_s: float, *, asked: bool) -> None:
        """Wait before the next attempt: as long as the server asked, else shorter while a flush waits."""
        with self.changed:
            start = time.monotonic()
            while not self.closed:
                hurried = not asked and (self.flushing or self.stop_at is not None)
                end = start + (min(wait_s, _HURRIED_S) if hurried else wait_s)
                if self.stop_at is not None:
                    end = min(end, self.stop_at)
                left_s = end - time.monotonic()
                if left_s <= 0:
                    return
                self.changed.wait(left_s)

    def close(self) -> int:
        """End: what is left goes to the spill folder, and is counted. No event is taken after this."""
        with self.changed:
            if self.closed:
                return 0
            hand = self._hand
            if hand is not None and hand.segment is not None:
                if self.spill is not None and len(hand.lines()) < len(hand.segment.lines()):
                    self.spill.keep(hand.segment, hand.lines())
                self._hand = None
            self._move_to_disk()
            left = len(self._memory) + (len(self._hand.lines()) if self._hand else 0)
            in_memory, on_disk = left, self.spill.pending if self.spill is not None else 0
            self.closed = True
            self.changed.notify_all()
        if self.spill is not None:
            self.spill.close()
        if in_memory:
            _log.error("%d events are lost: they were not confirmed, and had no room on disk", in_memory)
        if on_disk:
            _log.warning("%d events are not confirmed; they wait in the spill folder", on_disk)
        return in_memory + on_disk


def cut(lines: Iterable[bytes], limits: Limits) -> Iterator[list[bytes]]:
    """The lines in batches within the limits; a line that is larger alone is a batch alone."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and (len(part) >= limits.batch_events or size + len(line) > limits.batch_bytes):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield part
