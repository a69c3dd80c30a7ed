"""Discovery, problems of the framework, health and metrics."""

from __future__ import annotations

import html
import re

import jsonschema
import msgspec
import pytest
from litestar.routes import HTTPRoute
from prometheus_client.parser import text_string_to_metric_families

from api.http.examples import example_bytes
from api.http.openapi import openapi_document, operations, strict_schema
from schemas.errors import Reason
from schemas.registry import APPLICATION_TYPES, EVENT_TYPES, EventType
from schemas.telemetry import METRICS
from tests.unit.http_door import ACME, ONE, Site, query


@pytest.fixture
def site() -> Site:
    return Site()


def _template(path: str) -> str:
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def test_every_route_is_described_and_every_description_is_a_route(site: Site) -> None:
    routes = {
        (method.lower(), _template(route.path))
        for route in site.app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods - {"OPTIONS", "HEAD"}
    }
    assert routes == {(operation.method, operation.path) for operation in operations()}


async def test_every_reference_of_the_description_leads_somewhere(site: Site) -> None:
    answer = await site.send("GET", "/openapi.json", headers={})
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    references = set(re.findall(r'"\$ref":"#/components/schemas/([^"]+)"', answer.text))
    assert references
    assert references <= set(document["components"]["schemas"])


def test_every_body_example_fits_its_schema() -> None:
    document = openapi_document("0")
    checked = 0
    for methods in document["paths"].values():
        for operation in methods.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if "example" in content:
                    schema = {**content["schema"], "components": document["components"]}
                    jsonschema.validate(content["example"], schema)
                    checked += 1
    assert checked >= len(APPLICATION_TYPES)


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_pages_load_nothing_from_elsewhere(site: Site, path: str) -> None:
    answer = await site.send("GET", path, headers={})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", answer.text)


async def test_the_docs_show_every_route_and_type(site: Site) -> None:
    page = (await site.send("GET", "/docs", headers={})).text
    for operation in operations():
        assert f"{operation.method.upper()} {operation.path}" in page
    for event_type in EVENT_TYPES:
        assert event_type.name in page


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda t: t.short)
async def test_a_schema_is_served_for_every_type(site: Site, event_type: EventType) -> None:
    listed = (await site.send("GET", "/v1/schemas", headers={})).json()["types"]
    assert event_type.name in [entry["type"] for entry in listed]
    answer = await site.send("GET", f"/v1/schemas/{event_type.name}", headers={})
    assert answer.headers["content-type"] == "application/schema+json"
    schema = answer.json()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(msgspec.json.decode(example_bytes(event_type))["data"], schema)


def test_the_served_schema_refuses_what_the_door_refuses() -> None:
    event_type = next(t for t in APPLICATION_TYPES if t.short == "retrieval.served")
    data = msgspec.json.decode(example_bytes(event_type))["data"]
    data["hits"][0]["propensty"] = 0.5
    with pytest.raises(jsonschema.ValidationError, match="propensty"):
        jsonschema.validate(data, strict_schema(event_type))


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/v1/schemas/ratchet.query.asked.v9", 404, "not-found"),
        ("GET", "/v1/events", 405, "method-not-allowed"),
        ("PUT", "/v1/queries", 405, "method-not-allowed"),
    ],
)
async def test_the_frameworks_refusals_are_problems_too(
    site: Site, method: str, path: str, status: int, slug: str
) -> None:
    answer = await site.send(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["type"], body["status"]) == (f"urn:ratchet:problem:{slug}", status)
    assert body["title"]
    assert body["detail"]


class Broken:
    async def append(self, events: object) -> object:
        raise ZeroDivisionError("secret")


async def test_an_unexpected_error_is_a_problem_that_tells_nothing() -> None:
    answer = await Site(log=Broken()).send("POST", "/v1/events", query(), ONE)  # type: ignore[arg-type]
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:ratchet:problem:internal"
    assert "secret" not in answer.text


async def test_health_needs_no_key_and_no_neighbour(site: Site) -> None:
    site.serving.caught_up = False
    assert (await site.send("GET", "/healthz", headers={})).json() == {"status": "ok"}


async def test_metrics_are_those_of_the_table_and_count(site: Site) -> None:
    await site.send("POST", "/v1/events", query(), ONE)
    await site.send("POST", "/v1/queries", {"txt": "x"}, ACME)
    await site.send("GET", "/v1/events")
    text = (await site.send("GET", "/metrics", headers={})).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    ours = {metric.name.removesuffix("_total"): metric for metric in METRICS}
    for name, family in families.items():
        if name.endswith("_created"):  # the library adds the moment at which a counter began
            continue
        assert (family.type, family.documentation) == (ours[name].kind, ours[name].meaning)
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["ratchet_ingest_events_total", "accepted", "http"] == 1
    assert samples["ratchet_ingest_rejections_total", "unknown_field"] == 1
    assert samples["ratchet_http_requests_total", "/v1/events", "202", "POST"] == 1
    assert samples["ratchet_http_requests_total", "/v1/queries", "422", "POST"] == 1
    assert samples["ratchet_serving_caught_up_ratio",] == 1


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/v1/schemas", "/v1/serving"])
async def test_head_says_what_get_says_without_the_body(site: Site, path: str) -> None:
    head, got = await site.send("HEAD", path), await site.send("GET", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize("headers", [{}, ACME], ids=["without a key", "with a key"])
@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("OPTIONS", "/nothing", 404, None),
        ("GET", "/v1/events", 405, {"POST", "OPTIONS"}),
        ("TRACE", "/v1/events", 405, {"POST", "OPTIONS"}),
        ("BREW", "/v1/keys", 405, {"GET", "HEAD", "POST", "OPTIONS"}),
        ("OPTIONS", "/v1/events", 204, {"POST", "OPTIONS"}),
    ],
)
async def test_what_is_not_there_is_the_same_with_and_without_a_key(
    site: Site, headers: dict[str, str], method: str, path: str, status: int, allow: set[str] | None
) -> None:
    answer = await site.send(method, path, headers=headers)
    assert answer.status_code == status
    told = answer.headers.get("allow")
    assert (None if told is None else set(told.split(", "))) == allow


async def test_the_docs_show_every_reason_and_what_to_do(site: Site) -> None:
    page = html.unescape((await site.send("GET", "/docs", headers={})).text)
    for reason in Reason:
        assert reason.meaning
        assert reason.remedy
        assert f"<code>{reason.value}</code><td>{reason.meaning}<td>{reason.remedy}" in page


async def test_a_document_id_that_is_no_utf_8_is_refused(site: Site) -> None:
    answer = await site.send("DELETE", "/v1/documents/%ff")
    assert (answer.status_code, answer.json()["field"]) == (400, "document_id")
    assert not site.log.records
