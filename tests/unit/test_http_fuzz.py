"""A small, fixed slice of the fuzzing of `tests.fuzz.http`, and what it once found."""

from __future__ import annotations

import warnings

import pytest
from hypothesis.errors import HypothesisWarning

from tests.fuzz.http import Fuzzer, faults_of
from tests.unit.http_door import Site

#: Method, path, body: requests whose answers were at fault.
FOUND = [
    ("POST", "/v1/retrievals", b'{"": null}'),
    ("POST", "/v1/documents", b'{"": {}, "documents": []}'),
]


@pytest.mark.parametrize(("method", "path", "body"), FOUND)
async def test_what_was_found_is_mended(method: str, path: str, body: bytes) -> None:
    site = Site()
    answer = await site.send(method, path, body)
    assert list(faults_of(answer, path, sum(map(len, site.log.records.values())))) == []


def test_no_answer_is_at_fault() -> None:
    fuzzer = Fuzzer(seed=7)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)
            report = fuzzer.run(160)
    finally:
        fuzzer.close()
    assert report.cases >= 160
    assert report.findings == []
    # It has come through to where events are taken, and to where they are refused.
    assert {"202", "400", "422"} <= set(report.statuses)
