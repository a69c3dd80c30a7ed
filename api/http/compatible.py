"""Routes of other tools: an application that sends feedback to one of them changes a URL and nothing else.

Each answers as its tool does: status, body and the shape of a refusal are what the tool's own clients check.
What they have in common: 2xx means durable; a refused piece is in `rejected` and is named in the answer; 503
with `Retry-After` means that the whole request is to be sent again, and that is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Raw

from api.http.bodies import AnyRequest
from api.http.door import Door, answer
from api.http.operation import BODY_REFUSALS, PROBLEM, REFUSALS, Json, Operation, path_parameter, ref
from api.http.pieces import Taken, read_pieces, split_or_keep, take_pieces, try_piece
from api.http.problems import Problem
from ingest.formats.langfuse import LANGFUSE
from ingest.formats.mlflow import MLFLOW
from ingest.formats.phoenix import Subject, phoenix_format
from ingest.formats.pieces import Piece
from ingest.formats.tensorzero import TENSORZERO, is_dry_run
from ingest.formats.ubi import UBI
from ingest.intake import Outcome, Receipt
from ingest.refusals import DECODER_ERRORS

#: The first version of Phoenix that has every route that is answered here.
PHOENIX_VERSION: Final = "12.0.0"
PHOENIX_SUBJECTS: Final[tuple[Subject, ...]] = ("span", "trace", "session", "document")
PHOENIX_NOTES: Final[tuple[Subject, ...]] = ("span", "trace", "session")
UBI_PATHS: Final = ("/v1/ubi", "/ubi/queries", "/ubi/events")


class _Named(msgspec.Struct):
    id: str = ""


_decode_named: Final = msgspec.json.Decoder(_Named).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


def compatible_routes(door: Door, version: str) -> list[HTTPRouteHandler]:
    """The routes of this module. `version`: of this code, for those who ask."""
    return [*_langfuse(door, version), *_phoenix(door), _tensorzero(door), *_ubi(door), _mlflow(door)]


def _json(status: int, body: object) -> Response[bytes]:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


def _one(pieces: Sequence[Piece], what: str) -> Piece:
    if len(pieces) != 1:
        raise Problem(400, "invalid", f"expected one {what}, got {len(pieces)}; send them one by one")
    return pieces[0]


def _sentence(refused: Outcome) -> str:
    field = f" ({refused.field})" if refused.field else ""
    return f"{refused.message}{field}"


def _langfuse(door: Door, version: str) -> list[HTTPRouteHandler]:
    @post("/api/public/scores", status_code=202)
    async def send_scores(request: AnyRequest) -> Response[bytes]:
        sender = door.sender(request)
        body = await door.read(request)
        pieces = await split_or_keep(door, request, sender, LANGFUSE, body)
        alone = len(pieces) == 1 and body.lstrip()[:1] != b"["
        taken = await take_pieces(door, request, sender, LANGFUSE, pieces)
        refused = [one.refused for one in taken if one.refused is not None]
        if alone:
            if refused:
                raise _refusal(400, refused[0], message=_sentence(refused[0]), error="InvalidRequestError")
            return _json(200, {"id": taken[0].id})
        if not refused:
            return _json(202, {"message": "Accepted"})
        errors = [{"message": _sentence(one)} for one in refused]
        accepted = len(taken) - len(refused)
        return _json(207, {"accepted": accepted, "rejected": len(refused), "errors": errors})

    @post("/api/public/ingestion", status_code=207)
    async def send_batch(request: AnyRequest) -> Response[bytes]:
        sender = door.sender(request)
        pieces = await read_pieces(door, request, sender, LANGFUSE)
        taken = await take_pieces(door, request, sender, LANGFUSE, pieces)
        successes: list[dict[str, object]] = []
        errors: list[dict[str, object]] = []
        for one in taken:
            id_ = _id_of(one)
            if one.refused is None:
                successes.append({"id": id_, "status": 201})
            else:
                message = _sentence(one.refused)
                errors.append({"id": id_, "status": 400, "message": message, "error": one.refused.reason})
        return _json(207, {"successes": successes, "errors": errors})

    @get("/api/public/projects")
    async def list_projects(request: AnyRequest) -> Response[bytes]:
        sender = door.sender(request)
        tenant = sender.tenant
        organization = {"id": tenant, "name": tenant}
        project = {"id": tenant, "name": tenant, "organization": organization, "metadata": {}}
        return _json(200, {"data": [project]})

    @get("/api/public/health")
    async def tell_health() -> Response[bytes]:
        return _json(200, {"status": "OK", "version": version})

    return [send_scores, send_batch, list_projects, tell_health]


def _id_of(taken: Taken) -> str:
    """The id under which a client looks for its entry in the answer."""
    try:
        return _decode_named(taken.piece).id or taken.id
    except DECODER_ERRORS:
        return taken.id


def _refusal(status: int, refused: Outcome, **members: object) -> Problem:
    """A refusal as problem details, with the members that the tool's clients read beside them."""
    return Problem(
        status,
        "rejected",
        refused.message,
        extensions={"reason": refused.reason, "field": refused.field, **members},
    )


def _phoenix(door: Door) -> list[HTTPRouteHandler]:
    @get("/arize_phoenix_version")
    async def tell_version() -> Response[str]:
        return Response(PHOENIX_VERSION, media_type="text/plain")

    notes = [_phoenix_route(door, subject, "notes") for subject in PHOENIX_NOTES]
    annotations = [_phoenix_route(door, subject, "annotations") for subject in PHOENIX_SUBJECTS]
    return [tell_version, *annotations, *notes]


def _phoenix_route(door: Door, subject: Subject, what: str) -> HTTPRouteHandler:
    format = phoenix_format(subject)

    @post(f"/v1/{subject}_{what}", status_code=200)
    async def annotate(request: AnyRequest) -> Response[bytes]:
        sender = door.sender(request)
        pieces = await read_pieces(door, request, sender, format)
        taken = await take_pieces(door, request, sender, format, pieces)
        refused = [one.refused for one in taken if one.refused is not None]
        if refused:
            accepted = len(taken) - len(refused)
            raise Problem(
                422,
                "rejected",
                f"{len(refused)} of {len(taken)} {what} were refused; the other {accepted} are stored. "
                f"The first: {_sentence(refused[0])}",
                extensions={"results": msgspec.to_builtins([o for one in taken for o in one.outcomes])},
            )
        ids = [{"id": one.id} for one in taken]
        if what == "notes":
            return _json(200, {"data": ids[0] if ids else None})
        return _json(200, {"data": ids if request.query_params.get("sync", "").lower() == "true" else []})

    return annotate


def _tensorzero(door: Door) -> HTTPRouteHandler:
    @post("/feedback", status_code=200)
    async def send_feedback(request: AnyRequest) -> Response[bytes]:
        sender = door.sender(request)
        piece = _one(await read_pieces(door, request, sender, TENSORZERO), "feedback")
        if is_dry_run(bytes(piece)):
            outcome = try_piece(door, sender.tenant, TENSORZERO, piece, door.now())
        else:
            (taken,) = await take_pieces(door, request, sender, TENSORZERO, [piece])
            (outcome,) = taken.outcomes
        if outcome.status == "rejected":
            raise _refusal(400, outcome, error=_sentence(outcome))
        return _json(200, {"feedback_id": outcome.id})

    return send_feedback


def _ubi(door: Door) -> list[HTTPRouteHandler]:
    return [_ubi_route(door, path) for path in UBI_PATHS]


def _ubi_route(door: Door, path: str) -> HTTPRouteHandler:
    @post(path, status_code=202)
    async def send_behaviour(request: AnyRequest) -> Response[bytes]:
        sender = door.sender(request)
        pieces = await read_pieces(door, request, sender, UBI)
        taken = await take_pieces(door, request, sender, UBI, pieces)
        results = tuple(outcome for one in taken for outcome in one.outcomes)
        rejected = sum(outcome.status == "rejected" for outcome in results)
        receipt = Receipt(accepted=len(results) - rejected, rejected=rejected, results=results)
        answered = answer(receipt)
        ignored = sum(one.ignored for one in taken)
        return _json(answered.status_code or 202, {**msgspec.to_builtins(receipt), "ignored": ignored})

    return send_behaviour


def _mlflow(door: Door) -> HTTPRouteHandler:
    @post("/api/3.0/mlflow/traces/{trace_id:str}/assessments", status_code=200)
    async def assess(request: AnyRequest) -> Response[bytes]:
        sender = door.sender(request)
        piece = _one(await read_pieces(door, request, sender, MLFLOW), "assessment")
        try:
            assessment = _decode_object(piece)
        except DECODER_ERRORS:
            assessment = {}  # the format says what is wrong
        if assessment and not assessment.get("trace_id"):
            assessment["trace_id"] = request.path_params["trace_id"]
            piece = Raw(msgspec.json.encode(assessment))
        (taken,) = await take_pieces(door, request, sender, MLFLOW, [piece])
        if taken.refused is not None:
            message = _sentence(taken.refused)
            raise _refusal(400, taken.refused, error_code="INVALID_PARAMETER_VALUE", message=message)
        return _json(200, {"assessment": {**assessment, "assessment_id": taken.id}})

    return assess


_OBJECT: Final[Json] = {"type": "object"}
_ONE_OR_MANY: Final[Json] = {"oneOf": [_OBJECT, {"type": "array", "items": _OBJECT}]}
_DONE: Final = ("as the tool itself answers", "application/json", _OBJECT)


def compatible_operations() -> tuple[Operation, ...]:
    """The routes of this module, as the description shows them."""
    return (
        Operation(
            method="post",
            path="/api/public/scores",
            summary="Langfuse: send scores",
            description="One score, or an array of them. 207: some were rejected. A trace id is a query_id.",
            scope="send",
            body={"application/json": _ONE_OR_MANY},
            example={"name": "user-feedback", "value": 1, "dataType": "BOOLEAN", "traceId": "0af76519"},
            answers={"200": _DONE, "202": _DONE, "207": _DONE, **BODY_REFUSALS},
        ),
        Operation(
            method="post",
            path="/api/public/ingestion",
            summary="Langfuse: send a batch",
            description="Scores, traces and generations; what else is in it is counted and not kept.",
            scope="send",
            body={"application/json": _OBJECT},
            example={"batch": [{"id": "e-1", "type": "score-create", "body": _SCORE}]},
            answers={"207": _DONE, **BODY_REFUSALS},
        ),
        Operation(
            method="get",
            path="/api/public/projects",
            summary="Langfuse: the tenant as a project",
            scope="send",
            answers={"200": _DONE, **REFUSALS},
        ),
        Operation(method="get", path="/api/public/health", summary="Langfuse: alive", answers={"200": _DONE}),
        Operation(
            method="get",
            path="/arize_phoenix_version",
            summary="Phoenix: which version this answers like",
            answers={"200": ("a version", "text/plain", {"type": "string"})},
        ),
        *(_phoenix_operation(subject, "annotations") for subject in PHOENIX_SUBJECTS),
        *(_phoenix_operation(subject, "notes") for subject in PHOENIX_NOTES),
        Operation(
            method="post",
            path="/feedback",
            summary="TensorZero: send feedback",
            description="An inference is an answer, an episode a query. `dryrun`: checked, not stored.",
            scope="send",
            body={"application/json": _OBJECT},
            example={"metric_name": "thumbs_up", "value": True, "inference_id": "019cade2"},
            answers={"200": _DONE, **BODY_REFUSALS},
        ),
        *(_ubi_operation(path) for path in UBI_PATHS),
        Operation(
            method="post",
            path="/api/3.0/mlflow/traces/{trace_id}/assessments",
            summary="MLflow: send an assessment",
            description="Feedback or an expectation. The trace id without `tr-` is the query_id.",
            scope="send",
            body={"application/json": _OBJECT},
            example={"assessment": {"assessment_name": "thumbs_up", "feedback": {"value": True}}},
            answers={"200": _DONE, **BODY_REFUSALS},
            parameters=(path_parameter("trace_id"),),
        ),
    )


_SCORE: Final[Json] = {"name": "accuracy", "value": 0.9, "traceId": "0af76519"}


def _phoenix_operation(subject: Subject, what: str) -> Operation:
    many = what == "annotations"
    names = f"{subject}_id" if subject != "document" else "span_id"
    one = {names: "b7ad6b7169203331"}
    said: Json = {"note": "clear and short"}
    if many:
        said = {"name": "relevance", "annotator_kind": "HUMAN", "result": {"label": "relevant", "score": 1}}
        if subject == "document":
            said["document_position"] = 0
    return Operation(
        method="post",
        path=f"/v1/{subject}_{what}",
        summary=f"Phoenix: send {what} of a {subject}",
        description="A session names no query: refused." if subject == "session" else "",
        scope="send",
        body={"application/json": _OBJECT},
        example={"data": [{**one, **said}] if many else {**one, **said}},
        answers={"200": _DONE, "422": PROBLEM, **BODY_REFUSALS},
        parameters=({"name": "sync", "in": "query", "schema": {"type": "boolean"}},) if many else (),
    )


def _ubi_operation(path: str) -> Operation:
    receipt = ("per-event results, and how many pieces were ignored", "application/json", ref("Receipt"))
    return Operation(
        method="post",
        path=path,
        summary="UBI 1.3: send queries and events",
        description="One, an array, or one a line; a query may come with the ids of its hits.",
        scope="send",
        body={"application/json": _ONE_OR_MANY, "application/x-ndjson": {}},
        example={"user_query": "how do I pay", "query_id": "q-1", "query_response_hit_ids": ["doc-17"]},
        answers={"202": receipt, "207": receipt, "422": PROBLEM, **BODY_REFUSALS},
    )
