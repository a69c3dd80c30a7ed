"""A `requests` session whose requests are answered by an ASGI application in this process: no sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import requests
from requests.adapters import BaseAdapter

from tests.unit.http_door import Site


class _InProcess(BaseAdapter):
    def __init__(self, site: Site, asked: list[requests.PreparedRequest]) -> None:
        super().__init__()
        self._site = site
        self._asked = asked

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        self._asked.append(request)
        answer = asyncio.run(self._answer(request))
        response = requests.Response()
        response.status_code = answer.status_code
        response.reason = answer.reason_phrase
        response.headers.update(answer.headers)
        response._content = answer.content
        response.request = request
        response.url = request.url or ""
        return response

    async def _answer(self, request: requests.PreparedRequest) -> Any:
        body: Any = request.body or b""
        headers: Any = dict(request.headers)
        async with self._site.client() as client:
            return await client.request(
                request.method or "",
                request.path_url,
                content=body if isinstance(body, bytes) else body.encode(),
                headers=headers,
            )

    def close(self) -> None:
        """Nothing is open."""


def session_into(site: Site) -> tuple[requests.Session, list[requests.PreparedRequest]]:
    """The session, and what it was asked to send."""
    asked: list[requests.PreparedRequest] = []
    session = requests.Session()
    session.mount("http://ratchet", _InProcess(site, asked))
    return session, asked
