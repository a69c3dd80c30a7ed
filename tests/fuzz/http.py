"""Fuzzing the HTTP application over its own description, in process.

    python -P -m tests.fuzz.http --cases 10000 --json FILE

schemathesis makes requests that fit the OpenAPI description and requests that just do not; on top, bodies are
packed, cut, flipped, nested and filled with numbers that JSON does not have, keys and the state of the log
change. What must hold of every answer is in `faults_of`.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import resource
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import hypothesis
import msgspec
import requests
import schemathesis
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from msgspec import Struct
from schemathesis.generation import GenerationMode

from api.http.openapi import openapi_document
from ingest.settings import IngestSettings
from schemas.errors import Reason
from tests.unit.http_door import Site

#: Routes of ours: their refusals are problems. The others answer as their projects' clients expect.
_NATIVE: Final = (
    "/v1/events",
    "/v1/queries",
    "/v1/retrievals",
    "/v1/answers",
    "/v1/feedback",
    "/v1/documents",
    "/v1/serving",
    "/v1/versions",
    "/v1/keys",
    "/v1/schemas",
)
#: Reasons that are always about one field.
_OF_A_FIELD: Final = frozenset(
    {Reason.MISSING_FIELD, Reason.UNKNOWN_FIELD, Reason.UNKNOWN_TYPE, Reason.TIME_OUT_OF_RANGE}
)
_SMALL: Final = IngestSettings(
    max_body_bytes=64 * 1024, max_events=50, max_event_bytes=8 * 1024, max_string_bytes=4 * 1024
)
_KEYS: Final = ("acme-key", "admin-key", "read-only", "guess", "")


class Finding(Struct, frozen=True):
    """An answer that must not be."""

    fault: str
    method: str
    url: str
    headers: dict[str, str]
    body: str
    status: int
    answer: str


class Report(Struct, frozen=True, kw_only=True):
    """What a run saw."""

    seed: int
    cases: int
    operations: int
    statuses: dict[str, int]
    grown_bytes: int
    findings: list[Finding]


def _twist(body: bytes, headers: dict[str, str], dice: random.Random) -> bytes:
    """The body as it came, or made worse."""
    number = dice.randrange(20)
    if number == 0:
        body = body.replace(b"1", dice.choice((b"NaN", b"1e999", b"-Infinity", b"9" * 400)))
    elif number == 1 and body:
        at = dice.randrange(len(body))
        body = body[:at] + bytes([dice.randrange(256)]) + body[at + 1 :]
    elif number == 2:
        deep = dice.choice((63, 64, 65, 500, 5000))
        body = body.replace(b'"', b"[" * deep + b"]" * deep + b'"', 1)
    elif number == 3:
        body = body[: dice.randrange(len(body) + 1)]
    elif number == 4:
        body = body + body
    elif number == 5:
        body = body.replace(b"a", b"a" * dice.choice((300, 5000, 70_000)), 1)
    elif number == 6:
        headers["content-type"] = dice.choice(
            ("application/x-ndjson", "text/plain", "application/json; charset=latin-1", "", "a/b/c;;;=")
        )
    elif number == 7:
        for name in dice.sample(("id", "type", "source", "specversion", "time", "data", "Ä"), 4):
            headers[f"ce-{name}".encode("ascii", "ignore").decode()] = dice.choice(
                ("1.0", "%ff", '"', "x" * 300, "ratchet.query.asked.v1", "2026-01-01T00:00:00Z")
            )
        headers["content-type"] = "application/json"
    elif number in (8, 9, 10):
        pack: dict[str, Callable[[bytes], bytes]] = {
            "gzip": gzip.compress,
            "deflate": zlib.compress,
            "zstd": zstandard.ZstdCompressor().compress,
        }
        name = dice.choice(sorted(pack))
        headers["content-encoding"] = name
        body = pack[name](body if number != 10 else bytes(dice.choice((10**5, 10**7))))
        if number == 9 and body:
            body = body[: dice.randrange(len(body))] + dice.randbytes(dice.randrange(9))
    return body


def _set_log(site: Site, dice: random.Random) -> None:
    site.log.confirming = dice.random() > 0.05
    site.serving.caught_up = dice.random() > 0.05


def faults_of(answer: httpx.Response, path: str, kept: int) -> Iterator[str]:
    """What is wrong with an answer; `kept`: records that the request left in the log."""
    status = answer.status_code
    native = path.startswith(_NATIVE)
    if status >= 500 and status != 503:
        yield f"{status}"
    if status in (429, 503) and not answer.headers.get("retry-after", "").isdigit():
        yield f"{status} without Retry-After"
    if status == 401 and "www-authenticate" not in answer.headers:
        yield "401 without a challenge"
    if status == 405 and not answer.headers.get("allow"):
        yield "405 without Allow"
    if 300 <= status < 400:
        yield "a redirection"
    if status in (401, 403, 413, 415, 429) and kept:
        yield f"{status}, and yet something was kept"
    if status == 400 and native and kept > 1:
        yield "400, and yet more than the body was kept"
    if status >= 400 and not answer.content:
        yield "a refusal without a word"
    if not native or not answer.content:
        return
    if status >= 400:
        if answer.headers.get("content-type") != "application/problem+json":
            yield "a refusal that is no problem"
            return
        if len(answer.json().get("detail", "")) < 10:
            yield "a refusal that does not say why"
    if answer.headers.get("content-type", "").startswith("application/"):
        yield from _faults_of_results(answer.json())


def _faults_of_results(body: Any) -> Iterator[str]:
    if not isinstance(body, dict):
        return
    for result in body.get("results", [body] if "reason" in body else []):
        if not isinstance(result, dict) or "reason" not in result:
            continue
        if result["reason"] not in set(Reason):
            yield f"an unknown reason {result['reason']!r}"
        elif Reason(result["reason"]) in _OF_A_FIELD and not result.get("field"):
            yield f"{result['reason']} without its field"
        if len(str(result.get("message") or body.get("detail"))) < 10:
            yield "a rejection that does not say why"


class Fuzzer:
    """Runs cases against one application and keeps what it found."""

    def __init__(self, seed: int) -> None:
        self.site = Site(_SMALL)
        self.seed = seed
        self.cases = 0
        self.statuses: Counter[str] = Counter()
        self.findings: dict[tuple[str, str], Finding] = {}
        self._loop = asyncio.new_event_loop()
        self._client = self.site.client()

    def close(self) -> None:
        """Gives back what is open."""
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()

    def run(self, cases: int) -> Report:
        """About `cases` cases, spread over all operations."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        schema = schemathesis.openapi.from_dict(openapi_document("0"))
        operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
        rich = [one for one in operations if one.body or one.path_parameters or one.query or one.headers]
        plain = [one for one in operations if one not in rich]
        each = max(1, (cases - len(plain)) // (2 * max(1, len(rich))))
        for operation in (*rich, *plain):
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                self._run(operation, mode, each if operation in rich else 1)
        while self.cases < cases:
            self._run(self._richest(rich), GenerationMode.NEGATIVE, min(each, cases - self.cases))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        return Report(
            seed=self.seed,
            cases=self.cases,
            operations=len(operations),
            statuses=dict(sorted(self.statuses.items())),
            grown_bytes=grown * 1024,
            findings=list(self.findings.values()),
        )

    def _richest(self, operations: list[Any]) -> Any:
        self.seed += 1
        return operations[self.seed % len(operations)]

    def _run(self, operation: Any, mode: GenerationMode, examples: int) -> None:
        @hypothesis.seed(self.seed)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def each(case: Any) -> None:
            self._loop.run_until_complete(self._send(case))

        try:
            each()
        except hypothesis.errors.Unsatisfiable:
            return  # nothing can be wrong about this operation

    async def _send(self, case: Any) -> None:
        dice = random.Random(f"{self.seed}/{self.cases}")
        try:
            made = requests.Request(**case.as_transport_kwargs(base_url="http://ratchet")).prepare()
        except (requests.RequestException, ValueError):
            return  # no client can send this
        body = made.body.encode() if isinstance(made.body, str) else made.body or b""
        assert isinstance(body, bytes)
        drop = ("content-length", "authorization", "x-api-key", "user-agent")
        headers = {k.lower(): str(v) for k, v in made.headers.items() if k.lower() not in drop}
        right = "admin-key" if case.path.startswith("/v1/keys") else "acme-key"
        headers["x-api-key"] = right if dice.random() < 0.9 else dice.choice(_KEYS)
        body = _twist(body, headers, dice)
        _set_log(self.site, dice)
        try:
            request = self._client.build_request(
                made.method or "GET", made.url or "", headers=headers, content=body
            )
        except (httpx.InvalidURL, UnicodeEncodeError, ValueError):
            return
        self.site.log.records.clear()
        answer = await self._client.send(request)
        self.cases += 1
        self.statuses[str(answer.status_code)] += 1
        kept = sum(map(len, self.site.log.records.values()))
        for fault in faults_of(answer, request.url.path, kept):
            label = f"{case.method} {case.path}"
            self.findings.setdefault(
                (fault, label),
                Finding(
                    fault,
                    request.method,
                    str(request.url),
                    headers,
                    body[:2000].decode("latin-1"),
                    answer.status_code,
                    answer.text[:1000],
                ),
            )
        if self.site.fatal:
            raise AssertionError(f"the application wanted to stop its process: {self.site.fatal}")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -P -m tests.fuzz.http", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    fuzzer = Fuzzer(arguments.seed)
    report = fuzzer.run(arguments.cases)
    fuzzer.close()
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    if arguments.json:
        arguments.json.write_bytes(text)
    print(text.decode())
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
