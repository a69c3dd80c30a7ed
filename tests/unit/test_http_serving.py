"""GET /v1/serving from memory, and readiness reports."""

from __future__ import annotations

import msgspec
import pytest

from schemas.codec import decode_payload
from schemas.interactions import Exposure
from schemas.lifecycle import Arm as ArmOf
from schemas.lifecycle import ExperimentDefined, VersionReady
from schemas.tenant_state import Experiment
from tests.unit.http_door import OTHER, Full, Site, champion


@pytest.fixture
def site() -> Site:
    site = Site()
    site.serving.states["acme"] = champion("1.0.0")
    return site


async def test_the_champion_is_served_to_its_tenant_only(site: Site) -> None:
    answer = await site.send("GET", "/v1/serving?unit=u-1")
    assert answer.json() == {"version": "1.0.0", "exposures": [], "prepare": ["1.0.0"]}
    assert answer.headers["cache-control"] == "no-store"
    assert (await site.send("GET", "/v1/serving", headers=OTHER)).json()["version"] is None


async def test_a_unit_is_exposed_to_a_running_experiment(site: Site) -> None:
    defined = ExperimentDefined(experiment="exp-1", arms=(ArmOf("a", 0.5), ArmOf("b", 0.5)))
    site.serving.states["acme"] = msgspec.structs.replace(
        champion("1.0.0"), experiments={"exp-1": Experiment(defined=defined, running=True)}
    )
    # Assignments recorded from the growthbook SDK: u0 → .8263, u3 → .1354.
    for unit, arm in (("u0", "b"), ("u3", "a")):
        answer = await site.send("GET", f"/v1/serving?unit={unit}")
        assert msgspec.convert(answer.json()["exposures"], list[Exposure]) == [Exposure("exp-1", arm)]
    assert (await site.send("GET", "/v1/serving")).json()["exposures"] == []


async def test_until_the_lifecycle_was_read_it_is_503(site: Site) -> None:
    site.serving.caught_up = False
    for method, path in (("GET", "/v1/serving"), ("POST", "/v1/versions/1.0.0/ready"), ("GET", "/readyz")):
        answer = await site.send(method, path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["type"] == "urn:ratchet:problem:not-ready"


async def test_serving_needs_the_scope_read(site: Site) -> None:
    assert (await site.send("GET", "/v1/serving", headers={"x-api-key": "read-only"})).status_code == 200
    assert (await site.send("GET", "/v1/serving", headers={})).status_code == 401


async def test_a_long_unit_is_400(site: Site) -> None:
    assert (await site.send("GET", f"/v1/serving?unit={'u' * 257}")).status_code == 400


async def test_ready_is_one_step_however_often_it_is_said(site: Site) -> None:
    for _ in range(2):
        answer = await site.send("POST", "/v1/versions/1.0.0/ready", {"by": "shop"})
        assert answer.status_code == 202
    first, second = site.events("lifecycle")
    assert first.identity == second.identity
    assert first.causationid == "p-1"
    assert decode_payload(first) == VersionReady(version="1.0.0", by="shop")
    assert site.log.records["lifecycle"][0][0] == b"acme"


async def test_ready_without_a_body(site: Site) -> None:
    assert (await site.send("POST", "/v1/versions/1.0.0/ready")).status_code == 202
    assert decode_payload(site.events("lifecycle")[0]) == VersionReady(version="1.0.0", by="application")


async def test_an_unknown_version_is_404(site: Site) -> None:
    answer = await site.send("POST", "/v1/versions/9.9.9/ready")
    assert answer.status_code == 404
    other = await site.send("POST", "/v1/versions/1.0.0/ready", headers=OTHER)
    assert other.status_code == 404
    assert not site.log.records


@pytest.mark.parametrize("body", [b"[", b"[]", b'{"by":""}', b'{"bye":"x"}'])
async def test_a_bad_report_is_400(site: Site, body: bytes) -> None:
    assert (await site.send("POST", "/v1/versions/1.0.0/ready", body)).status_code == 400


async def test_an_unconfirmed_report_is_503(site: Site) -> None:
    site.log.confirming = False
    assert (await site.send("POST", "/v1/versions/1.0.0/ready")).status_code == 503


async def test_a_report_to_a_full_log_is_503_and_says_when_to_come_back() -> None:
    site = Site(log=Full())
    site.serving.states["acme"] = champion("1.0.0")
    answer = await site.send("POST", "/v1/versions/1.0.0/ready")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.json()["type"] == "urn:ratchet:problem:unconfirmed"
