"""The key ring: keys by SHA-256, those of the settings and those that the lifecycle issues and revokes.

Keys are looked up by their digest. How long that takes says nothing of a key: who could steer the digest of
a guess towards a stored one would have to invert SHA-256. A slow hash would protect short passwords; keys
that we mint have 256 random bits.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from ingest.ports import Grant, Limits, Scope
from schemas.envelope import Event
from schemas.lifecycle import KeyIssued
from schemas.tenant_state import LifecycleState
from schemas.topics import TENANT_PATTERN

#: What a key of the settings may do. It cannot issue keys: whoever reads the settings should not.
DEFAULT_SCOPES: tuple[Scope, ...] = ("send", "read")
#: How a key begins that we minted: so that a scanner of leaked secrets can know it.
KEY_PREFIX: Final = "rk_"
#: Last characters of a key that are kept, so that people can tell keys apart.
HINT_CHARACTERS: Final = 4
_KEY_BYTES: Final = 32
_NO_KEYS: Final[Mapping[str, KeyIssued]] = MappingProxyType({})


def key_hash(key: str) -> str:
    """SHA-256 (hex) of a key: the only form in which keys are stored."""
    return hashlib.sha256(key.encode()).hexdigest()


def make_key(
    random_bytes: Callable[[int], bytes],
    *,
    scopes: Iterable[Scope],
    issued_by: str,
    issued_at: dt.datetime,
    name: str = "",
    limits: Limits | None = None,
) -> tuple[str, KeyIssued]:
    """A new key, to be shown once, and the step that puts it in force; `key_id` names it from then on."""
    key = KEY_PREFIX + _text(random_bytes(_KEY_BYTES))
    limits = limits or Limits()
    return key, KeyIssued(
        key_id="key-" + random_bytes(5).hex(),
        key_hash=key_hash(key),
        scopes=tuple(dict.fromkeys(scopes)),
        name=name,
        hint=key[-HINT_CHARACTERS:],
        issued_by=issued_by,
        issued_at=issued_at,
        max_requests_per_s=limits.max_requests_per_s,
        max_events_per_s=limits.max_events_per_s,
    )


def describe_key(issued: KeyIssued) -> dict[str, object]:
    """A key as people see it: everything but its hash."""
    shown = msgspec.structs.asdict(issued)
    del shown["key_hash"]
    return shown


def _text(raw: bytes) -> str:
    """Letters and digits only, so that a double click selects a key whole."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number, text = int.from_bytes(raw), ""
    for _ in range(43):  # 62^43 > 256^32
        number, digit = divmod(number, 62)
        text += digits[digit]
    return text


class HashedKeys:
    """A fixed ring of keys."""

    def __init__(self, keys: Iterable[tuple[str, str, Iterable[Scope]]]) -> None:
        """`keys`: (tenant, SHA-256 hex of the key, scopes). Raises ValueError on a bad tenant or hash."""
        self._grants: dict[bytes, Grant] = {}
        for tenant, digest, scopes in keys:
            if not TENANT_PATTERN.match(tenant):
                raise ValueError(f"expected a tenant of 1–40 characters a-z, 0-9, '-', got {tenant!r}")
            self._grants[_digest(digest, tenant)] = Grant(tenant, frozenset(scopes))

    @property
    def complete(self) -> bool:
        """Always: these keys do not change."""
        return True

    def grant_of(self, key: str) -> Grant | None:
        """The grant of this key, or None."""
        return self.grant_of_digest(digest_of(key))

    def grant_of_digest(self, digest: bytes) -> Grant | None:
        """The grant of the key with this SHA-256, or None."""
        return self._grants.get(digest)


class IssuedKeys:
    """The keys of the settings and those that every tenant's lifecycle has in force.

    A change counts from the moment at which this process reads it. Keys of the settings are always in
    force: no event revokes them. A key that two entries claim opens nothing.

    Until the lifecycle is read to its end (`complete`), issued keys open nothing: a revocation may follow.
    """

    def __init__(self, fixed: HashedKeys) -> None:
        self._fixed = fixed
        self._claims: dict[bytes, list[Grant]] = {}
        self._known: dict[str, Mapping[str, KeyIssued]] = {}
        self._caught_up: Callable[[], bool] = _never

    def follow(self, caught_up: Callable[[], bool]) -> None:
        """Says from where to learn that the lifecycle was read to its end."""
        self._caught_up = caught_up

    @property
    def complete(self) -> bool:
        """The lifecycle was read to its end."""
        return self._caught_up()

    def take(self, event: Event, _outcome: object, state: LifecycleState) -> None:
        """A listener of the lifecycle: what is true of the event's tenant now."""
        self.update(event.tenant, state.keys)

    def update(self, tenant: str, keys: Mapping[str, KeyIssued]) -> None:
        """The tenant's keys in force, all of them."""
        known = self._known.get(tenant, _NO_KEYS)
        if keys is known:
            return
        self._known[tenant] = keys
        for key_id, issued in known.items():
            if keys.get(key_id) != issued:
                self._claim(tenant, key_id, issued, add=False)
        for key_id, issued in keys.items():
            if known.get(key_id) != issued:
                self._claim(tenant, key_id, issued, add=True)

    def grant_of(self, key: str) -> Grant | None:
        """The grant of this key, or None if it is unknown or revoked."""
        digest = digest_of(key)
        grant = self._fixed.grant_of_digest(digest)
        if grant is not None:
            return grant
        claims = self._claims.get(digest)
        if claims is None or len(claims) > 1 or not self.complete:
            return None
        return claims[0]

    def _claim(self, tenant: str, key_id: str, issued: KeyIssued, *, add: bool) -> None:
        try:
            digest = _digest(issued.key_hash, tenant)
        except ValueError:
            return  # no key has such a hash
        claims = [
            grant
            for grant in self._claims.pop(digest, ())
            if (grant.tenant, grant.key_id) != (tenant, key_id)
        ]
        if add:
            claims.append(Grant(tenant, frozenset(issued.scopes), key_id, limits_of(issued)))
        if claims:
            self._claims[digest] = claims


def limits_of(issued: KeyIssued) -> Limits | None:
    """A key's own limits; None if it has none of its own."""
    if issued.max_requests_per_s is None and issued.max_events_per_s is None:
        return None
    return Limits(issued.max_requests_per_s, issued.max_events_per_s)


def digest_of(key: str) -> bytes:
    """SHA-256 of a key as it came in."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _digest(text: str, tenant: str) -> bytes:
    raw = bytes.fromhex(text)
    if len(raw) != hashlib.sha256().digest_size:
        raise ValueError(f"expected 64 hex digits (SHA-256 of the key) for tenant {tenant!r}")
    return raw


def _never() -> bool:
    return False
