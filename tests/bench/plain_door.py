"""The sketch beside the API: key check, msgspec, `acks=all`, an answer per event; and nothing else.

python -P -m tests.bench.plain_door --bootstrap HOST:PORT --port PORT --key KEY
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any, Final

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from litestar import Litestar, Request, Response, get, post
from litestar.exceptions import NotAuthorizedException
from msgspec import Raw, Struct

from api.processes.boot import stopping
from api.processes.serving import serve_until

TOPIC: Final = "plain"


class _About(Struct):
    query_id: str


class _Event(Struct):
    id: str
    type: str
    data: Raw


_events: Final = msgspec.json.Decoder(list[Raw])
_event: Final = msgspec.json.Decoder(_Event)
_about: Final = msgspec.json.Decoder(_About)


def plain_app(producer: AIOKafkaProducer, key: str) -> Litestar:
    """The application."""

    def check(request: Request[Any, Any, Any]) -> None:
        if request.headers.get("authorization") != f"Bearer {key}":
            raise NotAuthorizedException

    @post("/v1/events", status_code=202)
    async def send_events(request: Request[Any, Any, Any]) -> Response[bytes]:
        check(request)
        body = await request.body()
        raws = _events.decode(body) if body[:1] == b"[" else [Raw(body)]
        futures, answers = [], []
        for raw in raws:
            event = _event.decode(raw)
            subject = _about.decode(event.data).query_id
            futures.append(await producer.send(TOPIC, bytes(raw), key=b"default/" + subject.encode()))
            answers.append({"id": event.id, "status": "accepted"})
        await asyncio.gather(*futures)
        return Response(msgspec.json.encode({"results": answers}), media_type="application/json")

    @get("/v1/serving")
    async def get_serving(request: Request[Any, Any, Any]) -> Response[bytes]:
        check(request)
        serving = {"unit": request.query_params.get("unit"), "version": "1.0.0"}
        return Response(msgspec.json.encode(serving), media_type="application/json")

    return Litestar([send_events, get_serving], openapi_config=None, logging_config=None)


async def serve(bootstrap: str, port: int, key: str) -> None:
    """Make the topic, say `ready`, serve until SIGTERM."""
    told = stopping()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 24, 1)])
    await admin.close()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=512 * 1024
    )
    await producer.start()
    serving = asyncio.create_task(serve_until(plain_app(producer, key), "127.0.0.1", port, told))
    print("ready", flush=True)
    await serving
    await producer.stop()


def main() -> None:
    """Parse and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    options = parser.parse_args()
    uvloop.run(serve(options.bootstrap, options.port, options.key))


if __name__ == "__main__":
    main()
