"""The API as a command uses it: the tenant's key, and patience while the log is busy."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Final, Self

import click
import httpx
import msgspec

from api.cli.project import LOCAL_TENANT, Project, http_url
from api.settings import Settings
from schemas.errors import RatchetError, Retryable

_TRIES: Final = 8
_LONGEST_PAUSE_S: Final = 10.0
_TIMEOUT_S: Final = 60.0

tenant_option = click.option(
    "--tenant", default=LOCAL_TENANT, show_default=True, help="Whose: a section `tenants` of the settings."
)


def known_tenant(settings: Settings, tenant: str) -> str:
    """The tenant, if the settings name it: the log forgets nothing, so a misspelt name must not get in."""
    if tenant not in settings.tenants:
        known = ", ".join(sorted(settings.tenants)) or "none: `ratchet up` makes one"
        raise click.UsageError(f"no tenant {tenant!r} in the settings; there are: {known}")
    return tenant


class Refused(RatchetError):
    """The API does not take a request; the text is its own reason."""


class Api:
    """Requests to the API of this project, or to $RATCHET_URL with $RATCHET_KEY. A context manager.

    `elsewhere`: what it stores need not be what this project's ClickHouse shows of the tenant.
    """

    def __init__(self, project: Project, tenant: str) -> None:
        settings = project.settings
        own_key, own_url = settings.tenants[known_tenant(settings, tenant)].key, http_url(settings.api)
        key = os.environ.get("RATCHET_KEY") or own_key
        if not key:
            raise click.UsageError(
                f"tenant {tenant!r} has no key: set tenants.{tenant}.key in ratchet.toml, or RATCHET_KEY"
            )
        self.url = os.environ.get("RATCHET_URL") or own_url
        self.elsewhere = key != own_key or self.url.rstrip("/") != own_url
        self._client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT_S
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer of a request that took something in; sent again while the log is busy.

        Safe only for requests that carry ids. Raises Refused with the API's reason (an answer about single
        events is returned), Retryable if it does not answer in the end.
        """
        content = None if body is None else msgspec.json.encode(body)
        sent = dict(headers or {}) | ({} if body is None else {"content-type": "application/json"})
        for attempt in range(1, _TRIES + 1):
            try:
                answer = self._client.request(method, path, content=content, headers=sent)
            except httpx.TransportError as error:
                reason, pause_s = f"{type(error).__name__}: {error}", 0.25 * 2**attempt
                if isinstance(error, httpx.ConnectError) and attempt >= 3:
                    break
            else:
                if answer.status_code < 500:
                    return _read(answer)
                reason, pause_s = _detail(answer), float(answer.headers.get("retry-after", "1"))
            if attempt < _TRIES:
                time.sleep(min(pause_s, _LONGEST_PAUSE_S))
        raise Retryable(
            f"the API at {self.url} did not take the request ({reason}): `ratchet status` shows what runs; "
            "running the command again is safe"
        )


def _read(answer: httpx.Response) -> dict[str, Any]:
    body: object = {}
    try:
        body = msgspec.json.decode(answer.content or b"{}")
    except msgspec.DecodeError as error:
        raise Refused(f"the API at {answer.url} answered {answer.status_code} without JSON") from error
    if not isinstance(body, dict):
        raise Refused(f"the API at {answer.url} answered {answer.status_code} with no JSON object")
    if answer.is_success or "results" in body:
        return body
    raise Refused(_detail(answer))


def _detail(answer: httpx.Response) -> str:
    """The reason of a problem (RFC 9457)."""
    try:
        problem = msgspec.json.decode(answer.content)
        return str(problem.get("detail") or problem.get("title") or answer.reason_phrase)
    except (msgspec.DecodeError, AttributeError):
        return f"{answer.status_code} {answer.reason_phrase}"
