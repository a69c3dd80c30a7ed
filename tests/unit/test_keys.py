"""The key ring."""

from __future__ import annotations

import pytest

from ingest.keys import HashedKeys, key_hash
from ingest.ports import Grant


def test_a_key_is_known_by_its_hash_only() -> None:
    ring = HashedKeys([("acme", key_hash("secret"), ("send",)), ("other", key_hash("sécret"), ("read",))])
    assert ring.grant_of("secret") == Grant("acme", frozenset({"send"}))
    assert ring.grant_of("sécret") == Grant("other", frozenset({"read"}))
    assert "secret" not in repr(vars(ring))


@pytest.mark.parametrize("key", ["", "Secret", "secret ", key_hash("secret"), "\ud800"])
def test_another_key_is_unknown(key: str) -> None:
    assert HashedKeys([("acme", key_hash("secret"), ("send",))]).grant_of(key) is None


@pytest.mark.parametrize("tenant", ["", "Acme", "a/b", "a" * 41, "acme\n"])
def test_a_tenant_has_a_narrow_alphabet(tenant: str) -> None:
    with pytest.raises(ValueError, match="expected a tenant"):
        HashedKeys([(tenant, key_hash("x"), ())])


@pytest.mark.parametrize("digest", ["", "00", "secret"])
def test_a_hash_is_a_hash(digest: str) -> None:
    with pytest.raises(ValueError):
        HashedKeys([("acme", digest, ())])
