"""How a body comes in: packed or plain, bounded, and damaged in every way."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Final

import pytest
import zstandard

from ingest.settings import IngestSettings
from ingest.strict_json import MAX_NESTING, nested_deeper
from tests.unit.http_door import ACME, BATCH, ONE, Site, query

Pack = Callable[[bytes], bytes]


def zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(body)


PACKERS: Final[dict[str, Pack]] = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd}
each_encoding = pytest.mark.parametrize("encoding", PACKERS)


@each_encoding
async def test_a_packed_body_is_the_body(encoding: str) -> None:
    plain, packed = Site(), Site()
    events = [
        query(number, data={"query_id": f"q-{number}", "text": "how" * number}) for number in range(300)
    ]
    body = json.dumps(events).encode()
    assert (await plain.send("POST", "/v1/events", body, BATCH)).status_code == 202
    answer = await packed.send(
        "POST", "/v1/events", PACKERS[encoding](body), {**BATCH, "content-encoding": encoding}
    )
    assert answer.status_code == 202
    assert packed.log.records == plain.log.records


async def test_shortcuts_take_packed_bodies_and_old_names() -> None:
    site = Site()
    body = gzip.compress(json.dumps({"text": "how", "query_id": "q"}).encode())
    answer = await site.send("POST", "/v1/queries", body, {**ACME, "content-encoding": "X-GZip"})
    assert answer.status_code == 202


@each_encoding
@pytest.mark.parametrize("length", [1023, 1024, 1025, 262_143, 262_144, 262_145, 900_000])
async def test_bodies_of_every_length_come_out_whole(encoding: str, length: int) -> None:
    site = Site(IngestSettings(max_event_bytes=300, max_body_bytes=900_000, max_kept_bytes=1024))
    body = json.dumps(query()).encode()
    body += b" " * (length - len(body))
    answer = await site.send(
        "POST", "/v1/events", PACKERS[encoding](body), {**ONE, "content-encoding": encoding}
    )
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


@each_encoding
async def test_a_bomb_is_413_and_costs_no_memory(encoding: str) -> None:
    limit = 1024 * 1024
    site = Site(IngestSettings(max_body_bytes=limit))
    bomb = PACKERS[encoding](bytes(64 * limit))
    assert len(bomb) < limit
    tracemalloc.start()
    try:
        answer = await site.send("POST", "/v1/events", bomb, {**ONE, "content-encoding": encoding})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 413
    assert "once unpacked" in answer.json()["detail"]
    assert peak < 12 * limit


@each_encoding
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda packed: packed[:-5], "ends early"),
        (lambda packed: packed[: len(packed) // 2], "ends early"),
        (lambda packed: packed + b"more", "nothing after it, got 4 bytes more"),
        (lambda packed: packed + packed, "nothing after it"),
        (lambda packed: b"not packed at all", "says, but"),
        (lambda packed: packed[:20] + bytes(byte ^ 0x5A for byte in packed[20:]), "says, but"),
    ],
    ids=["cut", "half", "trailing", "members", "plain", "damaged"],
)
async def test_a_damaged_stream_is_400(encoding: str, damage: Pack, said: str) -> None:
    site = Site()
    body = json.dumps([query(number, id=random.Random(number).randbytes(9).hex()) for number in range(99)])
    packed = damage(PACKERS[encoding](body.encode()))
    answer = await site.send("POST", "/v1/events", packed, {**BATCH, "content-encoding": encoding})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:ratchet:problem:unparseable")
    assert said in answer.json()["detail"]
    assert not site.log.records


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "compress", "gzip,identity", "nonsense"])
async def test_other_encodings_are_415_and_say_which_are_taken(encoding: str) -> None:
    answer = await Site().send("POST", "/v1/events", query(), {**ONE, "content-encoding": encoding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd, identity"


async def test_two_encoding_headers_are_415() -> None:
    site = Site()
    async with site.client() as client:
        headers = [*ONE.items(), ("content-encoding", "gzip"), ("content-encoding", "gzip")]
        body = gzip.compress(gzip.compress(json.dumps(query()).encode()))
        answer = await client.post("/v1/events", content=body, headers=headers)
    assert answer.status_code == 415


async def test_a_zstd_window_that_needs_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(json.dumps(query()).encode()) + packer.flush()
    answer = await Site().send("POST", "/v1/events", packed, {**ONE, "content-encoding": "zstd"})
    assert answer.status_code == 400
    assert "memory" in answer.json()["detail"].lower()


@each_encoding
async def test_an_empty_packed_body_is_an_empty_body(encoding: str) -> None:
    answer = await Site().send(
        "POST", "/v1/events", PACKERS[encoding](b""), {**ONE, "content-encoding": encoding}
    )
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:ratchet:problem:unparseable")


@each_encoding
async def test_others_get_their_turn_while_a_large_body_is_unpacked(encoding: str) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    site = Site()
    body = b" " * 500_000 + random.Random(1).randbytes(2_000_000).hex().encode()
    other = asyncio.create_task(count_turns())
    answer = await site.send(
        "POST", "/v1/events", PACKERS[encoding](body), {**ONE, "content-encoding": encoding}
    )
    other.cancel()
    assert answer.status_code == 400  # nothing but digits
    assert turns > 9  # 4.5 MB, of which each turn does at most half a MiB


@pytest.mark.parametrize(
    ("body", "deeper"),
    [
        (b"[" * MAX_NESTING + b"]" * MAX_NESTING, False),
        (b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1), True),
        (b'{"a":' * 65 + b"1" + b"}" * 65, True),
        (b'["' + b"[" * 500 + b'"]', False),
        (rb'["\"' + b"[" * 500 + b'"]', False),
        (rb'["\\",' + b"[" * 64 + b"]" * 64 + b"]", True),
        (b"[[],[]]" * 500, False),
        (b'["]","]"' + b',["]"' * 80 + b"]" * 81, True),
        (b'"' + b"\\" * 99_999, False),
        (b"", False),
    ],
)
def test_nesting_is_counted_outside_of_texts(body: bytes, deeper: bool) -> None:
    assert nested_deeper(body, MAX_NESTING) is deeper
