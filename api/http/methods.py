"""Routes that read: GET, and HEAD, which says the same without the body (RFC 9110 §9.3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler


def get(path: str) -> Callable[[Callable[..., Any]], HTTPRouteHandler]:
    """The decorator of a handler for GET and HEAD."""
    return route(path, http_method=[HttpMethod.GET, HttpMethod.HEAD], status_code=200)
