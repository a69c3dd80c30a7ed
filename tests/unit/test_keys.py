"""The key rings: keys of the settings, and those that the lifecycle has in force."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.keys import HashedKeys, IssuedKeys, describe_key, key_hash, make_key
from ingest.ports import Grant, Limits
from schemas.lifecycle import KeyIssued
from tests.unit.http_door import NOW


def issued(key: str, key_id: str = "key-1", **changes: object) -> KeyIssued:
    made = KeyIssued(key_id=key_id, key_hash=key_hash(key))
    return msgspec.structs.replace(made, **changes)


def ring(*, complete: bool = True) -> IssuedKeys:
    keys = IssuedKeys(HashedKeys([("acme", key_hash("settings"), ("send",))]))
    keys.follow(lambda: complete)
    return keys


def test_a_key_is_known_by_its_hash_only() -> None:
    keys = HashedKeys([("acme", key_hash("secret"), ("send",)), ("other", key_hash("sécret"), ("read",))])
    assert keys.grant_of("secret") == Grant("acme", frozenset({"send"}))
    assert keys.grant_of("sécret") == Grant("other", frozenset({"read"}))
    assert keys.complete
    assert "secret" not in repr(vars(keys))


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


def test_an_issued_key_opens_until_it_is_revoked() -> None:
    keys = ring()
    keys.update("acme", {"key-1": issued("a", scopes=("send", "administer"), max_events_per_s=5)})
    grant = keys.grant_of("a")
    assert grant == Grant("acme", frozenset({"send", "administer"}), "key-1", Limits(None, 5))
    keys.update("acme", {"key-2": issued("b", "key-2")})
    assert keys.grant_of("a") is None
    assert keys.grant_of("b") == Grant("acme", frozenset({"send"}), "key-2")
    keys.update("acme", {})
    assert keys.grant_of("b") is None


def test_one_tenants_keys_say_nothing_of_anothers() -> None:
    keys = ring()
    keys.update("acme", {"key-1": issued("a")})
    keys.update("other", {"key-1": issued("b")})
    keys.update("other", {})
    assert keys.grant_of("a") == Grant("acme", frozenset({"send"}), "key-1")


def test_a_key_that_two_claim_opens_nothing_and_one_of_the_settings_stays() -> None:
    keys = ring()
    keys.update("acme", {"key-1": issued("a")})
    keys.update("other", {"key-1": issued("a"), "key-2": issued("settings", "key-2")})
    assert keys.grant_of("a") is None
    assert keys.grant_of("settings") == Grant("acme", frozenset({"send"}))
    keys.update("other", {})
    assert keys.grant_of("a") == Grant("acme", frozenset({"send"}), "key-1")
    assert keys.grant_of("settings") is not None


def test_until_all_is_read_issued_keys_open_nothing() -> None:
    keys = ring(complete=False)
    keys.update("acme", {"key-1": issued("a")})
    assert not keys.complete
    assert keys.grant_of("a") is None
    assert keys.grant_of("settings") is not None


@pytest.mark.parametrize("key_hash_", ["", "00", "no hex at all"])
def test_a_hash_that_is_none_opens_nothing(key_hash_: str) -> None:
    keys = ring()
    keys.update("acme", {"key-1": issued("a", key_hash=key_hash_), "key-2": issued("b", "key-2")})
    assert keys.grant_of("a") is None
    assert keys.grant_of("b") is not None


_STATES = st.lists(
    st.tuples(
        st.sampled_from(["acme", "other"]),
        st.dictionaries(st.sampled_from(["k1", "k2", "k3"]), st.sampled_from(["a", "b", "c"])),
    ),
    max_size=12,
)


@given(_STATES)
def test_any_history_leaves_what_is_in_force_last(states: list[tuple[str, dict[str, str]]]) -> None:
    keys, last = ring(), {}
    for tenant, held in states:
        keys.update(tenant, {key_id: issued(key, key_id) for key_id, key in held.items()})
        last[tenant] = held
    for key in "abc":
        claims = [(t, key_id) for t, held in last.items() for key_id, k in held.items() if k == key]
        grant = keys.grant_of(key)
        assert (grant and (grant.tenant, grant.key_id)) == (claims[0] if len(claims) == 1 else None)


def test_a_key_is_long_and_plain_and_its_step_does_not_hold_it() -> None:
    key, step = make_key(
        os.urandom, scopes=["send", "send"], issued_by="urn:x", issued_at=NOW, limits=Limits(0.0, None)
    )
    assert key.startswith("rk_")
    assert key[3:].isalnum()
    assert len(key) == 46
    assert step.key_hash == key_hash(key)
    assert step.scopes == ("send",)
    assert step.hint == key[-4:]
    assert key not in str(step)
    assert "key_hash" not in describe_key(step)
    zeros, _ = make_key(bytes, scopes=["send"], issued_by="", issued_at=NOW)
    ones, _ = make_key(lambda n: b"\xff" * n, scopes=["send"], issued_by="", issued_at=NOW)
    assert len(zeros) == len(ones) == 46
