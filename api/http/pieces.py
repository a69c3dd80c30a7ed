"""Taking in a body of another tool's format piece by piece, and what became of each piece."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from itertools import islice
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from api.http.bodies import AnyRequest, check_nesting
from api.http.door import Door
from api.http.problems import Problem, retry_after
from ingest.admission import Admission, Rejection
from ingest.formats.items import Item, Undecoded
from ingest.formats.pieces import Format, Piece
from ingest.formats.registry import FORMAT_HEADER
from ingest.intake import Outcome
from ingest.ports import Grant
from ingest.strict import MAX_NAME_CHARACTERS
from schemas.errors import Rejectable

#: Pieces that are read before other requests get their turn.
_PIECES_A_TURN: Final = 200


class Taken(Struct, frozen=True):
    """What became of one piece: of each event that it made. `accepted` or `rejected`, durably, both."""

    piece: Piece
    outcomes: tuple[Outcome, ...]

    @property
    def ignored(self) -> bool:
        """The piece says nothing to us."""
        return not self.outcomes

    @property
    def refused(self) -> Outcome | None:
        """The first refusal, in the sender's words; None if all of it was accepted."""
        return next((one for one in self.outcomes if one.status == "rejected"), None)

    @property
    def id(self) -> str:
        """The id of its first event; '' if there is none."""
        return self.outcomes[0].id if self.outcomes else ""


async def read_pieces(door: Door, request: AnyRequest, sender: Grant, format: Format) -> Sequence[Piece]:
    """The pieces of a request's body. Raises Problem: 400 if it is none of this format, 413, 415.

    A body that is none of it is kept in `rejected` before.
    """
    return await split_or_keep(door, request, sender, format, await door.read(request))


async def split_or_keep(
    door: Door, request: AnyRequest, sender: Grant, format: Format, body: bytes
) -> Sequence[Piece]:
    """As `read_pieces`, of a body that was read."""
    try:
        return split_body(format, body)
    except Problem as problem:
        await door.refuse_whole(body, sender, _kept(request, format), problem, door=format.name)


def split_body(format: Format, body: bytes) -> Sequence[Piece]:
    """The pieces of a body. Raises Problem 400 if it is none of this format, or nested too deeply."""
    check_nesting(body)
    try:
        return format.split(body)
    except Rejectable as why:
        raise Problem(400, "unparseable", why.message, extensions={"field": why.field}) from why


async def take_pieces(
    door: Door, request: AnyRequest, sender: Grant, format: Format, pieces: Sequence[Piece]
) -> list[Taken]:
    """Takes in every event of these pieces; the name of the format is that of the door.

    Raises Problem: 503 if any event is unconfirmed (the whole request may be sent again: ids are the same),
    413 if they are too many.
    """
    made: list[list[Item]] = []
    for start in range(0, len(pieces), _PIECES_A_TURN):
        made += map(format.read, pieces[start : start + _PIECES_A_TURN])
        await asyncio.sleep(0)
    headers = _kept(request, format)
    receipt = await door.take([item for items in made for item in items], sender, headers, door=format.name)
    door.metrics.count_ignored(format.name, sum(not items for items in made))
    if receipt.unconfirmed:
        raise Problem(
            503,
            "unconfirmed",
            f"{receipt.unconfirmed} of {len(receipt.results)} events are not confirmed; send the whole "
            "request again: what is stored twice counts once",
            headers=retry_after(receipt.retry_after_s or 1.0),
        )
    outcomes = iter(receipt.results)
    return [
        Taken(
            piece,
            tuple(
                replace(one, index=index, field=format.field_of(one.field))
                for one in islice(outcomes, len(items))
            ),
        )
        for index, (piece, items) in enumerate(zip(pieces, made, strict=True))
    ]


def try_piece(door: Door, tenant: str, format: Format, piece: Piece, received: dt.datetime) -> Outcome:
    """What would become of a piece; nothing is stored."""
    admission = Admission(door.settings)
    outcome = Outcome(0, "", "", "accepted")
    for item in format.read(piece):
        if isinstance(item, Undecoded):
            return Outcome(0, "", "", "rejected", item.why.reason, item.why.field, item.why.message)
        event = admission.admit(item, tenant=tenant, door=format.name, received=received)
        if isinstance(event, Rejection):
            field = format.field_of(event.field)
            return Outcome(0, event.id, event.source, "rejected", event.reason, field, event.message)
        outcome = Outcome(0, event.id, event.source, "accepted")
    return outcome


def _kept(request: AnyRequest, format: Format) -> dict[str, str]:
    """Headers that are kept with a rejection."""
    return {
        "content-type": "application/json",
        "path": request.url.path[:MAX_NAME_CHARACTERS],
        FORMAT_HEADER: format.name,
    }
