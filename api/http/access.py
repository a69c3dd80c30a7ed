"""Who asks: the key of a request, its tenant and what it may do."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request

from api.http.problems import Problem
from ingest.ports import KeyRing, Scope

_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="ratchet"'}


def authorize(request: Request[Any, Any, Any], keys: KeyRing, scope: Scope) -> str:
    """The tenant of the request's key. Raises Problem: 401 without a known key, 403 without the scope."""
    key = _key_of(request)
    if not key:
        raise Problem(
            401,
            "unauthorized",
            "expected a key in `Authorization: Bearer <key>` or `x-api-key`, got none; "
            "`ratchet status --json` shows the one of a local stack",
            headers=_CHALLENGE,
        )
    grant = keys.grant_of(key)
    if grant is None:
        raise Problem(401, "unauthorized", "this key is unknown or revoked", headers=_CHALLENGE)
    if scope not in grant.scopes:
        raise Problem(
            403,
            "forbidden",
            f"this key of tenant {grant.tenant!r} lacks the scope {scope!r}; it has "
            f"{', '.join(sorted(grant.scopes)) or 'none'}",
        )
    return grant.tenant


def _key_of(request: Request[Any, Any, Any]) -> str:
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return value.strip()
    return (request.headers.get("x-api-key") or "").strip()
