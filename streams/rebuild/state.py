"""What an unfinished build notes of itself, with the store that it fills. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from streams.fold import FOLD_VERSION
from streams.ports import Message, Offsets

#: Topic → partition → next offset.
LogOffsets = dict[str, dict[int, int]]

#: In this order. `fold`: of queries that came in several pieces. `follow`: all before `loaded` is folded.
#: `swap`: the tables are being exchanged.
Phase = Literal["load", "fold", "held_back", "follow", "swap", "kept"]


class BuildState(Struct, frozen=True, kw_only=True):
    """How far a build has come. All that it names is durable beside; what came after it may be, in part.

    To do a part again that lies beside already changes nothing: rows replace themselves.
    """

    fold_version: int = FOLD_VERSION
    phase: Phase = "load"
    #: Where the first reading of the log ends.
    target: LogOffsets
    #: Everything before is beside.
    loaded: LogOffsets = {}
    #: Topic → records read.
    records: dict[str, int] = {}
    #: Partition and offset of each record of `interactions` that the worker had held back.
    held_back: tuple[tuple[int, int], ...] = ()

    def since(self, topic: str) -> Offsets:
        """Where reading of a topic goes on."""
        return self.loaded.get(topic, {})

    def after(self, topic: str, messages: list[Message]) -> BuildState:
        """The state once these records, in order of the log within a partition, are beside."""
        offsets = dict(self.loaded.get(topic, {}))
        for message in messages:
            offsets[message.partition] = message.offset + 1
        return replace(
            self,
            loaded=self.loaded | {topic: offsets},
            records=self.records | {topic: self.records.get(topic, 0) + len(messages)},
        )

    def behind(self, until: Mapping[str, Offsets]) -> int:
        """Records between what is beside and `until`."""
        return sum(
            max(0, end - self.loaded.get(topic, {}).get(partition, 0))
            for topic, ends in until.items()
            for partition, end in ends.items()
        )

    def ahead_of(self, until: Mapping[str, Offsets]) -> bool:
        """It has read, or means to read, what lies behind `until`."""
        return any(
            offset > until.get(topic, {}).get(partition, 0)
            for offsets in (self.loaded, self.target)
            for topic, ends in offsets.items()
            for partition, offset in ends.items()
        )


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(BuildState)


def encode_state(state: BuildState) -> bytes:
    """As it is noted."""
    return _ENCODER.encode(state)


def decode_any_state(noted: bytes) -> BuildState | None:
    """What was noted, by whichever fold; None if other code wrote it otherwise."""
    try:
        return _DECODER.decode(noted)
    except msgspec.MsgspecError:
        return None


def decode_state(noted: bytes | None) -> BuildState | None:
    """What was noted; None if nothing was, or by another fold, or by code that wrote it otherwise."""
    state = None if noted is None else decode_any_state(noted)
    return state if state is not None and state.fold_version == FOLD_VERSION else None
