"""What is here: the index, the schemas, the description as JSON and as a page without scripts."""

from __future__ import annotations

import difflib
import html
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler

from api.http.examples import example_bytes
from api.http.methods import get
from api.http.openapi import ABOUT, openapi_document, operations, strict_schema
from api.http.operation import Operation
from api.http.problems import Problem
from schemas.errors import Reason
from schemas.registry import APPLICATION_TYPES, BY_NAME, EVENT_TYPES, json_schema

#: Nothing from elsewhere, nothing that runs.
_PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 13px/1.4 ui-monospace, monospace; background: #f4f4f4; }
pre { padding: .6rem; overflow-x: auto; } td, th { text-align: left; padding: .1rem .8rem .1rem 0; }
h2 { margin-top: 2rem; border-top: 1px solid #ddd; padding-top: 1rem; }
"""


def _page(title: str, body: str) -> Response[bytes]:
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><body><h1>{html.escape(title)}</h1>{body}</body></html>"
    )
    return Response(text.encode(), media_type="text/html", headers=dict(_PAGE_HEADERS))


def _json(value: object) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _describe(operation: Operation) -> str:
    parts = [
        f"<h2><code>{operation.method.upper()} {html.escape(operation.path)}</code></h2>",
        f"<p><b>{html.escape(operation.summary)}.</b> {html.escape(operation.description)}</p>",
        f"<p>Key: {f'scope <code>{operation.scope}</code>' if operation.scope else 'none needed'}.",
    ]
    if operation.body:
        parts.append(f" Body: {', '.join(f'<code>{html.escape(m)}</code>' for m in operation.body)}.")
    parts.append("</p>")
    if operation.example is not None:
        parts.append(f"<pre>{html.escape(_pretty(operation.example))}</pre>")
    rows = "".join(
        f"<tr><td><code>{status}</code><td>{html.escape(description)}"
        for status, (description, _, _) in sorted(operation.answers.items())
    )
    parts.append(f"<table>{rows}</table>")
    return "".join(parts)


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _types_table() -> str:
    rows = "".join(
        f"<tr><td><a href='/v1/schemas/{t.name}'><code>{t.name}</code></a>"
        f"<td>{html.escape((t.payload.__doc__ or '').partition('`ratchet')[0].strip())}"
        for t in EVENT_TYPES
    )
    return f"<h2>Event types</h2><table>{rows}</table>"


def _reasons_table() -> str:
    rows = "".join(
        f"<tr><td><code>{reason.value}</code><td>{html.escape(reason.meaning)}<td>{html.escape(reason.remedy)}"
        for reason in Reason
    )
    return f"<h2>Reasons of a rejection</h2><table><tr><th>reason<th>what it says<th>what to do{rows}</table>"


def discovery_routes(code_version: str) -> list[HTTPRouteHandler]:
    """The routes of this module. None needs a key."""
    document = msgspec.json.encode(openapi_document(code_version))
    docs = "".join(map(_describe, operations()))
    about = f"<p>{html.escape(ABOUT)}</p>"

    @get("/")
    async def get_index() -> Response[bytes]:
        rows = "".join(
            f"<tr><td><code>{o.method.upper()} {html.escape(o.path)}</code><td>{html.escape(o.summary)}"
            for o in operations()
        )
        links = "<p><a href='/docs'>Docs</a> · <a href='/openapi.json'>OpenAPI</a></p>"
        return _page(f"Ratchet {code_version}", f"{links}<table>{rows}</table>")

    @get("/docs")
    async def get_docs() -> Response[bytes]:
        return _page("Ratchet over HTTP", about + docs + _types_table() + _reasons_table())

    @get("/openapi.json")
    async def get_openapi() -> Response[bytes]:
        return Response(document, media_type="application/json")

    @get("/v1/schemas")
    async def list_schemas() -> Response[bytes]:
        return _json(
            {
                "types": [
                    {
                        "type": t.name,
                        "topic": t.topic,
                        "application": t in APPLICATION_TYPES,
                        "schema": f"/v1/schemas/{t.name}",
                    }
                    for t in EVENT_TYPES
                ]
            }
        )

    @get("/v1/schemas/{event_type:str}")
    async def get_schema(request: Request[Any, Any, Any]) -> Response[bytes]:
        event_type: str = request.path_params["event_type"]
        known = BY_NAME.get(event_type)
        if known is None:
            near = difflib.get_close_matches(event_type, BY_NAME, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "GET /v1/schemas lists them"
            raise Problem(404, "not-found", f"no event type {event_type[:100]!r}; {hint}")
        schema = strict_schema(known) if known in APPLICATION_TYPES else json_schema(known)
        example = msgspec.json.decode(example_bytes(known))
        return Response(
            msgspec.json.encode({**schema, "examples": [example["data"]]}),
            headers={"content-type": "application/schema+json"},
        )

    return [get_index, get_docs, get_openapi, list_schemas, get_schema]
