"""The real application, in reach of a client that does not await."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.unit.http_door import Site


class Bridge(httpx.BaseTransport):
    """Calls the application from synchronous code, in a loop of its own for each request."""

    def __init__(self, site: Site) -> None:
        self._app: Any = site.app

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def call() -> httpx.Response:
            inner = httpx.Request(
                request.method, request.url, headers=request.headers, content=request.read()
            )
            response = await httpx.ASGITransport(app=self._app).handle_async_request(inner)
            return httpx.Response(
                response.status_code, headers=response.headers, content=await response.aread()
            )

        return asyncio.run(call())
