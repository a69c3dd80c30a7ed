"""The examples of the client's README, run as they stand against the real application."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import httpx
import msgspec
import pytest
from httpx import _client as internals

from schemas.lifecycle import Arm, ExperimentDefined
from schemas.tenant_state import Experiment
from tests.unit.client_bridge import Bridge
from tests.unit.http_door import Site, champion

README = Path(__file__).parents[2] / "api" / "client" / "README.md"
FOUND = {
    "query_id": "q-search",
    "retrieval_id": "r-search",
    "version": "1.0.0",
    "hits": [{"document_id": "doc-17", "rank": 1, "score": 0.9, "title": "T", "text": "t", "fields": {}}],
}


class Both(httpx.BaseTransport):
    """The application, and beside it a search that always finds the same."""

    def __init__(self, site: Site) -> None:
        self._bridge = Bridge(site)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.port == 8001:
            return httpx.Response(200, json=FOUND)
        return self._bridge.handle_request(request)


def test_the_examples_run_as_they_stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site = Site()
    defined = ExperimentDefined(experiment="exp-1", arms=(Arm("a", 0.5), Arm("b", 0.5)))
    site.serving.states["acme"] = msgspec.structs.replace(
        champion("1.0.0"), experiments={"exp-1": Experiment(defined=defined, running=True)}
    )
    monkeypatch.setenv("RATCHET_KEY", "acme-key")
    monkeypatch.chdir(tmp_path)
    # The examples name ports of a stack: what would connect to them reaches the application here.
    monkeypatch.setattr(internals, "HTTPTransport", lambda **_settings: Both(site))
    examples = re.findall(
        r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(examples) == 7
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, str(README), "exec"), names)
    assert names["left"] == 0
    assert Counter(event.type.split(".", 1)[1] for event in site.events()) == {
        "query.asked.v1": 5,
        "retrieval.served.v1": 5,
        "answer.given.v1": 2,
        "feedback.given.v1": 4,
    }
    assert len(site.events("documents")) == 1
    assert not site.rejections()
    # Nothing waits in the folder, and the rules are remembered.
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["ratchet-rules.json", "ratchet-spill"]
