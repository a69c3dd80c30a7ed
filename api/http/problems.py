"""Errors as problem details (RFC 9457): one form for every refusal, ours and the framework's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

MEDIA_TYPE: Final = "application/problem+json"

#: Slug → title. `type` is `urn:ratchet:problem:<slug>`; scripts may match on it.
TITLES: Final[dict[str, str]] = {
    "unparseable": "The body cannot be read",
    "invalid": "The request is not valid",
    "unauthorized": "A key is needed",
    "forbidden": "The key does not allow this",
    "not-found": "There is nothing here",
    "method-not-allowed": "This method is not allowed here",
    "too-large": "The request is too large",
    "unsupported-media-type": "This content type is not supported",
    "conflict": "This cannot be done now",
    "rejected": "No event was accepted",
    "too-many-requests": "The limit of this key is reached",
    "unconfirmed": "Not every event is confirmed",
    "not-ready": "Not ready yet",
    "internal": "This is our fault",
}
_BY_STATUS: Final[dict[int, str]] = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    413: "too-large",
    415: "unsupported-media-type",
    422: "rejected",
    429: "too-many-requests",
    503: "not-ready",
}


class Problem(Exception):
    """A refusal on purpose. `extensions` are members of the problem beside the standard ones."""

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.headers = dict(headers or {})
        self.extensions = dict(extensions or {})


def problem_response(problem: Problem) -> Response[bytes]:
    """The answer for a problem."""
    body = {
        "type": f"urn:ratchet:problem:{problem.slug}",
        "title": TITLES[problem.slug],
        "status": problem.status,
        "detail": problem.detail,
        **problem.extensions,
    }
    return Response(
        msgspec.json.encode(body),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def retry_after(seconds: float) -> dict[str, str]:
    """The `Retry-After` header: whole seconds, at least one."""
    return {"retry-after": str(max(1, math.ceil(seconds)))}


def handle_problem(_request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    """Litestar's handler for our own refusals."""
    return problem_response(problem)


def handle_framework_error(_request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Litestar's handler for the framework's refusals: no route, wrong method, body too large, …"""
    status = error.status_code
    slug = _BY_STATUS.get(status, "invalid" if status < 500 else "internal")
    detail = error.detail if status < 500 else "an unexpected error; it is in the log of this process"
    if error.detail == HTTPStatus(status).phrase:
        detail = _PLAIN.get(slug, detail)
    return problem_response(Problem(status, slug, detail, headers=error.headers))


_PLAIN: Final = {
    "not-found": "no such path; GET / lists what there is",
    "method-not-allowed": "the path exists, but not with this method; `allow` says which it takes",
}
