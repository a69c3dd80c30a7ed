"""What was rejected and still stands: look, try a mend, send again, give up. For the tenant of the key."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, Struct

from api.http.bodies import decode_json, require_json
from api.http.door import HTTP_DOOR, Door
from api.http.methods import get
from api.http.operation import BODY_REFUSALS, PROBLEM, REFUSALS, Json, Operation, path_parameter
from api.http.ports import RejectedEntries, Side
from api.http.problems import Problem, retry_after
from api.replaying import SHORTEST_ID, AmbiguousEntry, Replaying, Wanted, describe_entry
from ingest.admission import EARLIEST, TOO_LATE
from ingest.mending import Mend
from ingest.ports import Grant
from ingest.replay import Person, Replayed, Replays, Trial
from schemas.errors import Retryable
from schemas.rejections import EntryFilter

#: Most entries that one request lists, replays or discards; ask again for the others.
MAX_ENTRIES: Final = 1000
_LISTED: Final = 100
_COUNTED: Final = 100
_SOURCE: Final = "urn:ratchet:http"
_SIDES: Final[tuple[Side, ...]] = ("reason", "source", "door", "type", "day")
_Ids = Annotated[list[Annotated[str, Meta(min_length=SHORTEST_ID, max_length=64)]], Meta(max_length=200)]


class _Which(Struct, kw_only=True, forbid_unknown_fields=True):
    """Entries of an order: by id, or by filter; all of them only if `filter` is there and empty."""

    entries: _Ids = []
    filter: EntryFilter | None = None


class _ReplayAsked(_Which, kw_only=True):
    """Body of a replay."""

    mend: Mend = Mend()
    new_id: bool = False
    dry_run: bool = False


class _DiscardAsked(_Which, kw_only=True):
    """Body of a discard."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]


_decode_replay: Final = msgspec.json.Decoder(_ReplayAsked).decode
_decode_discard: Final = msgspec.json.Decoder(_DiscardAsked).decode


def rejected_routes(door: Door, entries: RejectedEntries | None, code_version: str) -> list[HTTPRouteHandler]:
    """The routes of this module. `entries` is None where no store was named: then all answer 503."""
    trial = Trial(door.settings)
    replays = Replays(door.log, door.settings, code_version=code_version)

    def store() -> RejectedEntries:
        if entries is None:
            raise Problem(503, "not-ready", "this process knows no store to read", headers=retry_after(60.0))
        return entries

    def replaying(grant: Grant) -> Replaying:
        person = Person(_SOURCE, f"urn:ratchet:key:{grant.key_id or 'settings'}", HTTP_DOOR)
        return Replaying(store(), trial, tenant=grant.tenant, now=door.now, person=person, replays=replays)

    @get("/v1/rejected")
    async def list_rejected(request: Request[Any, Any, Any]) -> Response[bytes]:
        tenant = door.reader(request)
        chosen, limit = _filter_of(request), _limit_of(request)
        found = await _asked(store().entries(tenant, chosen, limit))
        return _json({"entries": found})

    @get("/v1/rejected/stats")
    async def count_rejected(request: Request[Any, Any, Any]) -> Response[bytes]:
        tenant = door.reader(request)
        chosen = _filter_of(request)
        counted = {side: await _asked(store().counts(tenant, chosen, side, _COUNTED)) for side in _SIDES}
        return _json(counted)

    @get("/v1/rejected/{entry_id:str}")
    async def show_rejected(request: Request[Any, Any, Any]) -> Response[bytes]:
        tenant = door.reader(request)
        id_ = str(request.path_params["entry_id"])
        if len(id_) < SHORTEST_ID:
            raise Problem(400, "invalid", f"expected at least {SHORTEST_ID} letters of an entry's id")
        found = await _asked(store().named(tenant, [id_[:64]]))
        if len(found) > 1:
            raise Problem(409, "conflict", f"{id_!r} names {len(found)} entries: give more of it")
        originals = await _asked(store().originals(tenant, [found[0].entry_id])) if found else {}
        if not originals:
            answers = await _asked(store().answers(tenant, [id_[:64]]))
            raise Problem(
                404,
                "not-found",
                f"no entry {id_[:64]!r} stands" + ("; it was answered" if answers else ""),
                extensions={"answers": msgspec.to_builtins(answers)},
            )
        return _json(describe_entry(found[0], originals[found[0].entry_id]))

    @post("/v1/rejected/replay", status_code=200)
    async def replay_rejected(request: Request[Any, Any, Any]) -> Response[bytes]:
        grant = door.administrator(request)
        require_json(request)
        asked = decode_json(await door.read(request), _decode_replay, '{"entries": ["…"], "mend": {…}}')
        wanted = _wanted(asked)
        run = replaying(grant)
        results: list[Replayed] = await _asked(run.not_standing(wanted.ids)) if wanted.ids else []
        standing = msgspec.structs.replace(
            wanted, ids=tuple(id_ for id_ in wanted.ids if not _among(id_, results))
        )
        if standing.ids or not wanted.ids:
            order = run.would_replay if asked.dry_run else run.replay
            results += await _gather(order(standing, asked.mend, asked.new_id))
        return _told(results, wanted.limit)

    @post("/v1/rejected/discard", status_code=200)
    async def discard_rejected(request: Request[Any, Any, Any]) -> Response[bytes]:
        grant = door.administrator(request)
        require_json(request)
        asked = decode_json(await door.read(request), _decode_discard, '{"entries": ["…"], "reason": "…"}')
        wanted = _wanted(asked)
        done = await _gather(replaying(grant).discard(wanted, asked.reason))
        late = sum(not one.confirmed for one in done)
        if late:
            raise _unconfirmed(late, len(done))
        return _json({"discarded": [one.entry_id for one in done], "more": len(done) >= wanted.limit})

    return [list_rejected, count_rejected, show_rejected, replay_rejected, discard_rejected]


def _among(id_: str, results: Sequence[Replayed]) -> bool:
    return any(one.entry_id.startswith(id_) for one in results)


def _wanted(asked: _Which) -> Wanted:
    """What an order is about. Raises Problem 400: it must say so."""
    if bool(asked.entries) == (asked.filter is not None):
        raise Problem(
            400,
            "invalid",
            "expected either `entries`, ids, or `filter`; an empty filter, {}, means all of them",
            extensions={"field": "entries"},
        )
    return Wanted(
        ids=tuple(dict.fromkeys(asked.entries)),
        filter=_checked(asked.filter or EntryFilter()),
        limit=MAX_ENTRIES,
    )


async def _asked(answer: Any) -> Any:
    """The answer of the store. Raises Problem: 503 if it gives none."""
    try:
        return await answer
    except Retryable as error:
        raise _store_away(error) from error


async def _gather(portions: AsyncIterator[list[Any]]) -> list[Any]:
    try:
        return [one async for portion in portions for one in portion]
    except Retryable as error:
        raise _store_away(error) from error
    except AmbiguousEntry as error:
        raise Problem(409, "conflict", str(error)) from error


def _store_away(error: Retryable) -> Problem:
    return Problem(503, "not-ready", str(error), headers=retry_after(error.retry_after_s))


def _unconfirmed(late: int, of: int, extensions: Json | None = None) -> Problem:
    return Problem(
        503,
        "unconfirmed",
        f"{late} of {of} are not confirmed; ask for the same again: what was done is not done twice",
        headers=retry_after(1.0),
        extensions=extensions,
    )


def _told(results: Sequence[Replayed], limit: int) -> Response[bytes]:
    counts: dict[str, int] = {}
    for one in results:
        counts[one.status] = counts.get(one.status, 0) + 1
    body = {"counts": counts, "entries": results, "more": len(results) >= limit}
    if late := counts.get("unconfirmed"):
        raise _unconfirmed(late, len(results), msgspec.to_builtins(body))
    return _json(body)


def _filter_of(request: Request[Any, Any, Any]) -> EntryFilter:
    """The filter in a query string. Raises Problem 400."""
    given: dict[str, Any] = {name: text for name in _TEXTS if (text := request.query_params.get(name))}
    for name in _TIMES:
        if text := request.query_params.get(name):
            given[name] = _time(name, text)
    return _checked(EntryFilter(**given))


def _checked(chosen: EntryFilter) -> EntryFilter:
    """The filter. Raises Problem 400 for a time that the store cannot compare with."""
    for name in _TIMES:
        time: dt.datetime | None = getattr(chosen, name)
        if time is not None and not EARLIEST <= time < TOO_LATE:
            raise Problem(400, "invalid", f"expected {name} from 1970 to 2105", extensions={"field": name})
    return chosen


_TEXTS: Final = ("reason", "source", "door", "type")
_TIMES: Final = ("since", "until")


def _time(name: str, text: str) -> dt.datetime:
    try:
        # in a query string a plus is a space
        time = dt.datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        time = time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise Problem(
            400,
            "invalid",
            f"expected {name} as a time in ISO 8601, got {text[:60]!r}",
            extensions={"field": name},
        ) from error
    return time


def _limit_of(request: Request[Any, Any, Any]) -> int:
    text = request.query_params.get("limit") or str(_LISTED)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_ENTRIES):
        raise Problem(
            400,
            "invalid",
            f"expected limit from 1 to {MAX_ENTRIES}, got {text[:20]!r}",
            extensions={"field": "limit"},
        )
    return int(text)


def _json(value: object) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _query(name: str, **schema: Any) -> Json:
    return {"name": name, "in": "query", "schema": {"type": "string", **schema}}


_FILTER: Final[Json] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **{name: {"type": "string"} for name in _TEXTS},
        **{name: {"type": "string", "format": "date-time"} for name in _TIMES},
    },
}
_FILTERS: Final = (
    *(_query(name) for name in _TEXTS),
    *(_query(name, format="date-time") for name in _TIMES),
)
_WHICH: Final[Json] = {
    "entries": {
        "type": "array",
        "items": {"type": "string", "minLength": SHORTEST_ID, "maxLength": 64},
        "maxItems": 200,
    },
    "filter": _FILTER,
}
_MEND: Final[Json] = {
    "type": "object",
    "description": "What to change, in this order.",
    "additionalProperties": False,
    "properties": {
        "whole": {"description": "Takes the place of the original."},
        "rename": {"type": "object", "description": "Old dotted path → new one."},
        "values": {"type": "object", "description": "Dotted path → {value: what stands there instead}."},
        "set": {"type": "object", "description": "Dotted path → value."},
        "drop": {"type": "array", "items": {"type": "string"}},
        "patch": {"description": "A JSON merge patch (RFC 7396)."},
    },
}
_OBJECT: Final[Json] = {"type": "object"}
_STORE_READ: Final = {"400": PROBLEM, **REFUSALS}
REJECTED_OPERATIONS: Final = (
    Operation(
        method="get",
        path="/v1/rejected",
        summary="What was rejected and still stands",
        description="The latest first, without their originals. `times`: how often the same bytes came.",
        scope="read",
        answers={"200": ("entries", "application/json", _OBJECT), **_STORE_READ},
        parameters=(
            *_FILTERS,
            {
                "name": "limit",
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": MAX_ENTRIES},
            },
        ),
    ),
    Operation(
        method="get",
        path="/v1/rejected/stats",
        summary="Rejected entries by reason, source, door, type and day",
        scope="read",
        answers={"200": ("counts", "application/json", _OBJECT), **_STORE_READ},
        parameters=_FILTERS,
    ),
    Operation(
        method="get",
        path="/v1/rejected/{entry_id}",
        summary="One entry: why, what came, and what to do",
        description=f"{SHORTEST_ID} letters of the id are enough.",
        scope="read",
        answers={
            "200": ("the entry", "application/json", _OBJECT),
            "404": PROBLEM,
            "409": PROBLEM,
            **_STORE_READ,
        },
        parameters=(path_parameter("entry_id"),),
    ),
    Operation(
        method="post",
        path="/v1/rejected/replay",
        summary="Send rejected entries again, mended",
        description=(
            "Those named, or those that pass the filter, the oldest first, at most 1,000 a request. Each "
            "keeps its source and id and gets a new received time; a conflict needs `new_id`. Nothing is "
            "sent with `dry_run`. Asking again changes nothing."
        ),
        scope="administer",
        body={
            "application/json": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    **_WHICH,
                    "mend": _MEND,
                    "new_id": {"type": "boolean"},
                    "dry_run": {"type": "boolean"},
                },
            }
        },
        example={
            "filter": {"reason": "invalid_value"},
            "mend": {"values": {"data.kind": {"thumbs_up": "thumb"}}, "set": {"data.value": 1}},
            "dry_run": True,
        },
        answers={
            "200": ("what became of each", "application/json", _OBJECT),
            "409": PROBLEM,
            **BODY_REFUSALS,
        },
    ),
    Operation(
        method="post",
        path="/v1/rejected/discard",
        summary="Give rejected entries up",
        description="They no longer show, whatever comes again with the same bytes; the log keeps them.",
        scope="administer",
        body={
            "application/json": {
                "type": "object",
                "required": ["reason"],
                "additionalProperties": False,
                "properties": {**_WHICH, "reason": {"type": "string", "minLength": 1, "maxLength": 500}},
            }
        },
        example={"filter": {"source": "urn:load-test"}, "reason": "a load test"},
        answers={"200": ("those given up", "application/json", _OBJECT), "409": PROBLEM, **BODY_REFUSALS},
    ),
)
