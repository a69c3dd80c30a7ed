"""One route as the description shows it; each module of routes describes its own."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from api.http.problems import MEDIA_TYPE

Json = dict[str, Any]
#: Where the schemas of the document lie.
TEMPLATE: Final = "#/components/schemas/{name}"


class Operation(Struct, frozen=True, kw_only=True):
    """One route, as the document and the page show it."""

    method: str
    path: str
    summary: str
    description: str = ""
    #: Scope that the key needs; '' if no key is needed.
    scope: str = ""
    #: Media type → schema.
    body: dict[str, Json] = {}
    example: Json | None = None
    #: Status → (description, media type, schema or None).
    answers: dict[str, tuple[str, str, Json | None]] = {}
    parameters: tuple[Json, ...] = ()


def ref(name: str) -> Json:
    """A reference to a schema of the document."""
    return {"$ref": TEMPLATE.format(name=name)}


def path_parameter(name: str) -> Json:
    """A parameter that stands in the path."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


#: Status → what it says and how, of every route.
PROBLEM: Final = ("problem details (RFC 9457)", MEDIA_TYPE, ref("Problem"))
REFUSALS: Final = {"401": PROBLEM, "403": PROBLEM, "429": PROBLEM, "503": PROBLEM}
BODY_REFUSALS: Final = {**REFUSALS, "400": PROBLEM, "413": PROBLEM, "415": PROBLEM}
