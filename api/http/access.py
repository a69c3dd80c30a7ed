"""Who asks: the key of a request, its tenant, what it may do, and how often."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from litestar import Request

from api.http.bodies import header_of
from api.http.problems import Problem, retry_after
from api.http.rates import Rates
from ingest.ports import Grant, KeyRing, Scope

_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="ratchet"'}
_EXPECTED: Final = (
    "expected a key in `Authorization: Bearer <key>`, in `x-api-key`, or as the password of "
    "`Authorization: Basic`"
)


def authorize(request: Request[Any, Any, Any], keys: KeyRing, scope: Scope, rates: Rates) -> Grant:
    """The grant of the request's key. Nothing of the body is read.

    Raises Problem: 401 without a known key, 403 without the scope, 429 beyond the key's limit, 503 if the key
    is not known because keys are still being read.
    """
    key = _key_of(request)
    if not key:
        raise Problem(
            401,
            "unauthorized",
            f"{_EXPECTED}, got none; `ratchet status --json` shows the one of a local stack",
            headers=_CHALLENGE,
        )
    grant = keys.grant_of(key)
    if grant is None:
        if not keys.complete:
            raise Problem(
                503,
                "not-ready",
                "the keys have not been read to their end yet; send it again in a second",
                headers=retry_after(1.0),
            )
        raise Problem(
            401,
            "unauthorized",
            "this key is unknown or revoked; `ratchet keys issue` makes a new one",
            headers=_CHALLENGE,
        )
    if scope not in grant.scopes:
        raise Problem(
            403,
            "forbidden",
            f"this key of tenant {grant.tenant!r} lacks the scope {scope!r}; it has "
            f"{', '.join(sorted(grant.scopes)) or 'none'}; `ratchet keys issue --scope {scope}` makes one "
            "that has it",
        )
    rates.charge_request(grant, request.scope)
    return grant


def _key_of(request: Request[Any, Any, Any]) -> str:
    authorization = header_of(request, b"authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        scheme = scheme.lower()
        if scheme == "bearer":
            return value.strip()
        if scheme == "basic":
            return _password(value)
    return (header_of(request, b"x-api-key") or "").strip()


def _password(value: str) -> str:
    """The password of Basic credentials (RFC 7617), whoever the user is; '' if they cannot be read."""
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
