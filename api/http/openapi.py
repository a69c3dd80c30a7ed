"""The OpenAPI 3.1 document, made from the registry and one table of routes."""

from __future__ import annotations

import copy
from typing import Final

import msgspec

from api.http.compatible import compatible_operations
from api.http.examples import example_bytes
from api.http.keys import KEY_OPERATIONS
from api.http.operation import (
    BODY_REFUSALS,
    PROBLEM,
    REFUSALS,
    TEMPLATE,
    Json,
    Operation,
    path_parameter,
    ref,
)
from api.http.otlp import otlp_operations
from api.http.rejected import REJECTED_OPERATIONS
from ingest import shortcuts
from ingest.formats.cloudevents import BATCH, LINES, ONE
from ingest.intake import Receipt
from ingest.shortcuts import Shortcut
from schemas.registry import APPLICATION_TYPES, BY_NAME, EventType
from schemas.serving import Serving

#: What holds for every route.
ABOUT: Final = (
    "Bodies may be packed (`Content-Encoding: gzip`, `deflate` or `zstd`); the limit on bodies is one on "
    "what comes and on what is made of it. JSON is UTF-8, nests at most 64 deep, and has finite numbers "
    "only. Times lie between 1970 and 2105. Refusals are problem details (RFC 9457), except on routes of "
    "other projects. Every 429 and 503 says in `Retry-After` when to come back. A key with a limit gets "
    "`RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (draft-ietf-httpapi-ratelimit-headers-"
    "03) on every answer; limits are counted in each process by itself."
)


def _example(event_type: EventType) -> Json:
    example: Json = msgspec.json.decode(example_bytes(event_type))
    return example


_IDS: Final = ("the ids of the event", "application/json", ref("Ids"))
_KEY_HEADER: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 256},
    "description": "Stands in for `id`: the same key again is the same event.",
}


def _shortcut(shortcut: Shortcut, summary: str, method: str = "post") -> Operation:
    event_type = BY_NAME[shortcut.type]
    example = _example(event_type)
    return Operation(
        method=method,
        path=shortcut.path,
        summary=summary,
        description=f"Makes a `{shortcut.type}`. `id`, `time` and `source` may stand beside the fields."
        + (f" An absent `{shortcut.minted}` is made up." if shortcut.minted else ""),
        scope="send",
        body={"application/json": ref(_shortcut_name(shortcut))},
        example=example["data"],
        answers={"202": _IDS, "422": PROBLEM, **BODY_REFUSALS},
        parameters=(_KEY_HEADER,),
    )


def _shortcut_name(shortcut: Shortcut) -> str:
    return BY_NAME[shortcut.type].payload.__name__ + "Shortcut"


def operations() -> tuple[Operation, ...]:
    """Every route of the application; a test compares it with the application's own."""
    receipt = ("per-event results", "application/json", ref("Receipt"))
    page = ("a page", "text/html", None)
    return (
        Operation(
            method="post",
            path="/v1/events",
            summary="Send CloudEvents, one or many",
            description=(
                "Structured mode, one or a batch; binary mode (attributes as `ce-*` headers, the body is "
                "`data`); or a CloudEvent a line, where a bad line is refused by itself with its number. "
                "202: all are durable. 207: some were rejected. 422: none was accepted. "
                "503: some are not confirmed; send the whole request again with the same ids. "
                "Rejected events are kept with their bytes."
            ),
            scope="send",
            body={
                ONE: ref("CloudEvent"),
                BATCH: {"type": "array", "items": ref("CloudEvent")},
                **{lines: {"type": "string", "description": "A CloudEvent a line."} for lines in LINES},
                "application/json": {
                    "oneOf": [ref("CloudEvent"), {"type": "array", "items": ref("CloudEvent")}]
                },
            },
            example=_example(APPLICATION_TYPES[0]),
            answers={"202": receipt, "207": receipt, "422": PROBLEM, **BODY_REFUSALS},
        ),
        _shortcut(shortcuts.QUERIES, "Report a query"),
        _shortcut(shortcuts.RETRIEVALS, "Report a result list"),
        _shortcut(shortcuts.ANSWERS, "Report a generated answer"),
        _shortcut(shortcuts.FEEDBACK, "Report feedback"),
        _shortcut(shortcuts.RETRACTIONS, "Take feedback back"),
        _documents(),
        Operation(
            method="delete",
            path="/v1/documents/{document_id}",
            summary="Remove a document",
            description="A slash in the id may be sent as it is or escaped (`%2F`).",
            scope="send",
            answers={"202": _IDS, "404": PROBLEM, "422": PROBLEM, "503": PROBLEM, **REFUSALS},
            parameters=(path_parameter("document_id"), _KEY_HEADER),
        ),
        Operation(
            method="get",
            path="/v1/serving",
            summary="Which version to serve to a unit, and what to prepare",
            description="From memory. Report `exposures` on the query, exactly as they stand here. Without a "
            "unit: the champion, and the `rules` by which a client assigns units itself.",
            scope="read",
            answers={
                "200": ("what to serve", "application/json", ref("Serving")),
                "503": PROBLEM,
                **REFUSALS,
            },
            parameters=({"name": "unit", "in": "query", "schema": {"type": "string", "maxLength": 256}},),
        ),
        Operation(
            method="post",
            path="/v1/versions/{version}/ready",
            summary="Say that a version can serve",
            scope="send",
            body={"application/json": {"type": "object", "properties": {"by": {"type": "string"}}}},
            example={"by": "shop-search"},
            answers={
                "202": ("recorded", "application/json", {"type": "object"}),
                "404": PROBLEM,
                **BODY_REFUSALS,
            },
            parameters=(path_parameter("version"),),
        ),
        *KEY_OPERATIONS,
        *REJECTED_OPERATIONS,
        *compatible_operations(),
        *otlp_operations(),
        Operation(
            method="get",
            path="/v1/schemas",
            summary="All event types",
            answers={"200": ("names and topics", "application/json", {"type": "object"})},
        ),
        Operation(
            method="get",
            path="/v1/schemas/{event_type}",
            summary="JSON Schema of an event type's data",
            answers={"200": ("JSON Schema", "application/schema+json", {"type": "object"}), "404": PROBLEM},
            parameters=(path_parameter("event_type"),),
        ),
        Operation(method="get", path="/", summary="What is here", answers={"200": page}),
        Operation(method="get", path="/docs", summary="This description as a page", answers={"200": page}),
        Operation(
            method="get",
            path="/openapi.json",
            summary="This description",
            answers={"200": ("OpenAPI 3.1", "application/json", {"type": "object"})},
        ),
        Operation(
            method="get",
            path="/healthz",
            summary="This process makes progress",
            answers={"200": ("it does", "application/json", {"type": "object"})},
        ),
        Operation(
            method="get",
            path="/readyz",
            summary="This process may be sent traffic",
            answers={"200": ("it may", "application/json", {"type": "object"}), "503": PROBLEM},
        ),
        Operation(
            method="get",
            path="/metrics",
            summary="Prometheus metrics",
            answers={"200": ("text exposition", "text/plain", {"type": "string"})},
        ),
    )


def _documents() -> Operation:
    one = _shortcut(shortcuts.DOCUMENTS, "Store documents, one or many")
    single = ref(_shortcut_name(shortcuts.DOCUMENTS))
    many = {
        "type": "object",
        "properties": {"documents": {"type": "array", "items": single}},
        "required": ["documents"],
    }
    return msgspec.structs.replace(
        one,
        description=one.description + ' {"documents": […]} stores many and answers like `/v1/events`.',
        body={"application/json": {"oneOf": [single, many]}},
        answers={
            **one.answers,
            "202": ("ids, or results", "application/json", {"oneOf": [ref("Ids"), ref("Receipt")]}),
            "207": ("per-event results", "application/json", ref("Receipt")),
        },
    )


def strict_schema(event_type: EventType) -> Json:
    """JSON Schema of what a door takes as `data`: fields that the type does not have are refused."""
    schema = copy.deepcopy(msgspec.json.schema(event_type.payload))
    for definition in schema["$defs"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": event_type.name, **schema}


def _component_schemas() -> dict[str, Json]:
    payloads = [event_type.payload for event_type in APPLICATION_TYPES]
    _, components = msgspec.json.schema_components([*payloads, Receipt, Serving], ref_template=TEMPLATE)
    schemas: dict[str, Json] = dict(components)
    schemas["CloudEvent"] = {
        "title": "CloudEvent",
        "description": "CloudEvents 1.0. Extension attributes are legal, and not kept.",
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "maxLength": 256},
            "source": {"type": "string", "minLength": 1, "maxLength": 256},
            "type": {"enum": [event_type.name for event_type in APPLICATION_TYPES]},
            "time": {"type": "string", "format": "date-time"},
            "data": {"anyOf": [ref(payload.__name__) for payload in payloads]},
        },
    }
    schemas["Problem"] = {
        "title": "Problem",
        "description": "RFC 9457. Refusals of events add `reason` and `field`, or `results`.",
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    }
    names = {name: {"type": "string"} for name in ("id", "source", *shortcuts.NAMES)}
    schemas["Ids"] = {"title": "Ids", "type": "object", "required": ["id", "source"], "properties": names}
    for shortcut in (*shortcuts.SINGLE, shortcuts.DOCUMENTS):
        schema = copy.deepcopy(schemas[BY_NAME[shortcut.type].payload.__name__])
        schema["title"] = _shortcut_name(shortcut)
        schema["properties"] |= {
            "id": {"type": "string"},
            "time": {"type": "string", "format": "date-time"},
            "source": {"type": "string", "default": shortcut.source},
        }
        optional = {shortcut.minted, "feedback_source"}
        schema["required"] = [name for name in schema["required"] if name not in optional]
        schema["additionalProperties"] = False
        schemas[_shortcut_name(shortcut)] = schema
    return schemas


def _takes_example(media_type: str) -> bool:
    """Whether the example, one JSON object, is a body of this type as it stands."""
    return media_type.endswith("json") and media_type not in (BATCH, *LINES)


def _operation(operation: Operation) -> Json:
    made: Json = {
        "summary": operation.summary,
        "security": [{"bearer": []}, {"apiKey": []}, {"basic": []}] if operation.scope else [],
        "responses": {
            status: {
                "description": description,
                "content": {media_type: {"schema": schema} if schema is not None else {}},
            }
            for status, (description, media_type, schema) in sorted(operation.answers.items())
        },
    }
    if operation.description:
        made["description"] = operation.description
    if operation.parameters:
        made["parameters"] = list(operation.parameters)
    if operation.body:
        example = {} if operation.example is None else {"example": operation.example}
        made["requestBody"] = {
            "required": True,
            "content": {
                media_type: {"schema": schema, **(example if _takes_example(media_type) else {})}
                for media_type, schema in operation.body.items()
            },
        }
    return made


def openapi_document(code_version: str) -> Json:
    """The whole document."""
    paths: dict[str, Json] = {}
    for operation in operations():
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ratchet", "version": code_version, "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": _component_schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "basic": {"type": "http", "scheme": "basic", "description": "The key is the password."},
            },
        },
    }
