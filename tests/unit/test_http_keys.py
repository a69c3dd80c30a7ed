"""Keys over HTTP: issued, listed, revoked, and in force at once; how a key may come in."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ingest.keys import key_hash
from schemas.codec import decode_payload
from schemas.lifecycle import KeyIssued
from tests.unit.http_door import ACME, ADMIN, OTHER, Site, query


@pytest.fixture
def site() -> Site:
    return Site()


async def issue(site: Site, headers: dict[str, str] = ADMIN, **asked: object) -> dict[str, Any]:
    answer = await site.send("POST", "/v1/keys", {"scopes": ["send", "read"], **asked}, headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


async def try_key(site: Site, key: str) -> int:
    return (await site.send("POST", "/v1/events", query(), {"x-api-key": key})).status_code


async def test_a_key_is_in_force_when_it_is_issued_and_void_when_it_is_revoked(site: Site) -> None:
    made = await issue(site, name="shop")
    assert made["key"].startswith("rk_")
    assert made["hint"] == made["key"][-4:]
    assert await try_key(site, made["key"]) == 202
    answer = await site.send("DELETE", f"/v1/keys/{made['key_id']}", headers=ADMIN)
    assert (answer.status_code, answer.json()) == (200, {"key_id": made["key_id"], "revoked": True})
    assert await try_key(site, made["key"]) == 401
    assert (await site.send("DELETE", f"/v1/keys/{made['key_id']}", headers=ADMIN)).status_code == 404


async def test_only_the_hash_is_stored_and_the_list_shows_no_key(site: Site) -> None:
    made = await issue(site, name="shop", max_events_per_s=5)
    (event,) = site.events("lifecycle")
    issued = decode_payload(event)
    assert isinstance(issued, KeyIssued)
    assert issued.key_hash == key_hash(made["key"])
    assert made["key"].encode() not in site.log.records["lifecycle"][0][1]
    assert (event.tenant, event.causationid) == ("acme", "urn:ratchet:key:settings")
    listed = (await site.send("GET", "/v1/keys", headers=ADMIN)).json()["keys"]
    assert listed == [{name: value for name, value in made.items() if name != "key"}]
    assert "hash" not in str(listed)


async def test_every_key_is_another(site: Site) -> None:
    made = [await issue(site) for _ in range(20)]
    assert len({one["key"] for one in made}) == len({one["key_id"] for one in made}) == 20


async def test_a_key_has_its_scopes_and_no_others(site: Site) -> None:
    sender = await issue(site, scopes=["send"])
    key = {"x-api-key": sender["key"]}
    assert (await site.send("POST", "/v1/events", query(), key)).status_code == 202
    for method, path in [("GET", "/v1/serving"), ("GET", "/v1/keys"), ("DELETE", "/v1/keys/x")]:
        answer = await site.send(method, path, headers=key)
        assert answer.status_code == 403
        assert "lacks the scope" in answer.json()["detail"]


async def test_the_key_of_the_settings_does_not_issue_keys(site: Site) -> None:
    answer = await site.send("POST", "/v1/keys", {"scopes": ["send"]}, ACME)
    assert answer.status_code == 403


async def test_a_tenant_cannot_touch_anothers_keys(site: Site) -> None:
    made = await issue(site)
    others = {"x-api-key": "other-admin"}
    assert (await site.send("GET", "/v1/keys", headers=others)).json() == {"keys": []}
    assert (await site.send("DELETE", f"/v1/keys/{made['key_id']}", headers=others)).status_code == 404
    assert await try_key(site, made["key"]) == 202
    assert site.events("interactions")[-1].tenant == "acme"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes.0"),
        ({"scopes": "send"}, "scopes"),
        ({"scopes": ["send"], "tenant": "other"}, "tenant"),
        ({"scopes": ["send"], "name": "x" * 101}, "name"),
        ({"scopes": ["send"], "max_events_per_s": -1}, "max_events_per_s"),
        ([], ""),
    ],
)
async def test_a_bad_request_names_its_field(site: Site, body: object, field: str) -> None:
    answer = await site.send("POST", "/v1/keys", body, ADMIN)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert not site.log.records


async def test_a_body_that_nests_deep_says_so(site: Site) -> None:
    body = b'{"scopes":' + b"[" * 65 + b"]" * 65 + b"}"
    answer = await site.send("POST", "/v1/keys", body, ADMIN)
    assert answer.status_code == 400
    assert "at most 64 deep" in answer.json()["detail"]


async def test_an_unconfirmed_key_is_503(site: Site) -> None:
    site.log.confirming = False
    answer = await site.send("POST", "/v1/keys", {"scopes": ["send"]}, ADMIN)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "key" not in answer.json()


async def test_before_the_lifecycle_is_read_an_unknown_key_waits_and_a_known_one_works(site: Site) -> None:
    made = await issue(site)
    site.serving.caught_up = False
    for key in (made["key"], "guess"):
        answer = await site.send("POST", "/v1/events", query(), {"x-api-key": key})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await site.send("POST", "/v1/events", query(), OTHER)).status_code == 202
    assert (await site.send("GET", "/v1/keys", headers=ADMIN)).status_code == 503


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer acme-key"}, 202),
        ({"authorization": "bearer   acme-key "}, 202),
        ({"x-api-key": "acme-key"}, 202),
        (basic("pk-lf-public", "acme-key"), 202),
        (basic("", "acme-key"), 202),
        (basic("acme-key", ""), 401),
        (basic("acme-key", "guess"), 401),
        (basic("user", "with:acme-key"), 401),
        ({"authorization": "Basic !!!"}, 401),
        ({"authorization": "Basic /w=="}, 401),
        ({"authorization": "Basic"}, 401),
        ({"authorization": "Digest acme-key"}, 401),
        ({"authorization": "Bearer guess", "x-api-key": "acme-key"}, 401),
        ({"authorization": "Negotiate x", "x-api-key": "acme-key"}, 202),
    ],
)
async def test_how_a_key_may_come_in(site: Site, headers: dict[str, str], status: int) -> None:
    answer = await site.send("POST", "/v1/events", query(), headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
