"""The broker as one process: a round trip, kill -9, and what it says when it cannot start."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.local.broker import fetch_jars
from infra.local.spec import ProcessSpec, StackSpec, TcpReady
from infra.local.stack import status, up
from infra.local.tcp_ports import allocate_ports

pytestmark = pytest.mark.service

TOPIC = "records"


def broker(directory: Path, ports: dict[str, int]) -> ProcessSpec:
    argv = [sys.executable, "-P", "-m", "infra.local.broker", "run", "--directory", str(directory / "kafka")]
    argv += ["--port", str(ports["kafka"]), "--controller-port", str(ports["controller"])]
    return ProcessSpec(name="kafka", argv=tuple(argv), ready=TcpReady(ports["kafka"]))


async def create_topic(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def produce(bootstrap: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(TOPIC, value)
    finally:
        await producer.stop()


async def consume(bootstrap: str, count: int) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(TOPIC, 0)])
        await consumer.seek_to_beginning()
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_records_survive_kill_9_and_a_change_of_ports(tmp_path: Path) -> None:
    fetch_jars()
    directory = tmp_path / "a stack, with a comma"
    ports = allocate_ports(directory, ("kafka", "controller", "kafka-2", "controller-2"))
    with up(StackSpec(directory=str(directory), processes=(broker(directory, ports),)), tied=True):
        bootstrap = f"127.0.0.1:{ports['kafka']}"
        await create_topic(bootstrap)
        await produce(bootstrap, [b"before", b"the kill"])
        (kafka,) = status(directory).processes
        assert kafka.pid is not None
        os.kill(kafka.pid, signal.SIGKILL)
    moved = {"kafka": ports["kafka-2"], "controller": ports["controller-2"]}
    with up(StackSpec(directory=str(directory), processes=(broker(directory, moved),)), tied=True):
        bootstrap = f"127.0.0.1:{moved['kafka']}"
        await produce(bootstrap, [b"and after"])
        assert await consume(bootstrap, 3) == [b"before", b"the kill", b"and after"]


def run_broker(directory: Path, port: int, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", "-m", "infra.local.broker", "run", "--directory", str(directory)]
    argv += ["--port", str(port), "--controller-port", "1"]
    return subprocess.run(
        argv, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    fetch_jars()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_broker(tmp_path, port)
    assert done.returncode == 1
    assert done.stderr == (
        f"broker: port {port} on 127.0.0.1 cannot be bound (Address already in use): choose another\n"
    )


def test_missing_jars_say_what_to_run(tmp_path: Path) -> None:
    done = run_broker(tmp_path, 1, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "run `python -P -m infra.local.broker fetch` once, online" in done.stderr
