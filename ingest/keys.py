"""The key ring: keys by SHA-256."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from ingest.ports import Grant, Scope
from schemas.topics import TENANT_PATTERN

#: What a key of the settings may do unless they say otherwise.
DEFAULT_SCOPES: tuple[Scope, ...] = ("send", "read")


def key_hash(key: str) -> str:
    """SHA-256 (hex) of a key: the only form in which keys are stored."""
    return hashlib.sha256(key.encode()).hexdigest()


class HashedKeys:
    """A fixed ring of keys. Looking up takes the same time for every key, known or not."""

    def __init__(self, keys: Iterable[tuple[str, str, Iterable[Scope]]]) -> None:
        """`keys`: (tenant, SHA-256 hex of the key, scopes). Raises ValueError on a bad tenant or hash."""
        self._grants: list[tuple[bytes, Grant]] = []
        for tenant, digest, scopes in keys:
            if not TENANT_PATTERN.match(tenant):
                raise ValueError(f"expected a tenant of 1–40 characters a-z, 0-9, '-', got {tenant!r}")
            raw = bytes.fromhex(digest)
            if len(raw) != hashlib.sha256().digest_size:
                raise ValueError(f"expected 64 hex digits (SHA-256 of the key) for tenant {tenant!r}")
            self._grants.append((raw, Grant(tenant, frozenset(scopes))))

    def grant_of(self, key: str) -> Grant | None:
        """The grant of this key, or None."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        found = None
        for stored, grant in self._grants:
            if hmac.compare_digest(stored, digest):
                found = grant
        return found
