"""The processes of a local stack: what starts, after what, ready when."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import msgspec

from api.cli.project import LocalPorts, Project, http_url
from api.settings import Settings
from infra.local import stack
from infra.local.spec import HttpReady, ProcessSpec, StackSpec, TcpReady
from infra.local.tcp_ports import allocate_ports

#: The first stream worker; others are `streams-2`, `streams-3` …
WORKER: Final = "streams"
#: One thread a library: two cores are shared by seven processes, and more threads only wait for each other.
_QUIET_THREADS: Final = {
    "OMP_NUM_THREADS": "1",
    # threads that wait actively take the processor from whoever serves
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
    # glibc gives each thread an arena of its own; two are enough, and memory at rest is halved
    "MALLOC_ARENA_MAX": "2",
}


def can_learn() -> bool:
    """The extra `learn` is installed: search and learner can run."""
    return all(
        importlib.util.find_spec(name) for name in ("sentence_transformers", "optuna", "evidently", "tantivy")
    )


def worker_names(settings: Settings) -> tuple[str, ...]:
    """Processes of the stream workers."""
    return (WORKER, *(f"{WORKER}-{number}" for number in range(2, settings.streams.workers + 1)))


def running_workers(project: Project) -> list[str]:
    """Stream workers of the stack that runs here, whatever the settings say by now; none if none runs."""
    status = stack.status(project.data)
    if status.supervisor_pid is None:
        return []
    return [one.name for one in status.processes if one.name == WORKER or one.name.startswith(f"{WORKER}-")]


def local_stack(project: Project, *, learn: bool) -> StackSpec:
    """The stack of this project. `learn`: with search and learner. Raises StackError: no port is free."""
    project.make_secrets()
    names = tuple(field.name for field in msgspec.structs.fields(LocalPorts))
    ports = LocalPorts(**allocate_ports(project.data, names))
    project.__dict__.pop("loaded", None)  # the addresses may be new
    settings, origins = project.loaded.settings, project.loaded.origins
    more_workers = allocate_ports(project.data, worker_names(settings)[1:])
    environment = {
        name: value
        for name, value in project.local_environment().items()
        if origins[name.removeprefix("RATCHET_").lower().replace("__", ".")] == "the local stack"
    } | _QUIET_THREADS
    # the engine listens where the others look for it
    store = urlsplit(settings.clickhouse.url.rstrip("/"))
    directory = str(project.directory)

    def python(module: str, *arguments: str) -> tuple[str, ...]:
        # -P: a folder `api/` or `schemas/` in the user's directory must not shadow ours
        return (sys.executable, "-P", "-m", module, *arguments)

    def process(
        name: str,
        module: str,
        url: str,
        after: tuple[str, ...],
        *,
        timeout_s: float = 60.0,
        extra: Mapping[str, str] = MappingProxyType({}),
    ) -> ProcessSpec:
        return ProcessSpec(
            name=name,
            argv=python(module, "--directory", directory),
            env=environment | dict(extra),
            after=after,
            ready=HttpReady(f"{url}/readyz"),
            ready_timeout_s=timeout_s,
            # the engine and the worker finish what they have in hand
            stop_timeout_s=25.0,
        )

    kafka = ProcessSpec(
        name="kafka",
        argv=python(
            "infra.local.broker",
            "run",
            "--directory",
            str(project.data / "kafka"),
            "--port",
            str(ports.kafka),
            "--controller-port",
            str(ports.kafka_controller),
        ),
        ready=TcpReady(ports.kafka),
        stop_timeout_s=30.0,
    )
    workers = [
        process(
            name,
            "api.processes.streams",
            f"http://127.0.0.1:{port}",
            ("kafka", "clickhouse"),
            extra={
                "RATCHET_STREAMS__INSTANCE": f"worker-{number}",
                "RATCHET_STREAMS_HTTP__HOST": "127.0.0.1",
                "RATCHET_STREAMS_HTTP__PORT": str(port),
            },
        )
        for number, (name, port) in enumerate(more_workers.items(), start=2)
    ]
    processes = [
        kafka,
        process("clickhouse", "api.processes.engine", store.geturl(), ()),
        process("streams", "api.processes.streams", http_url(settings.streams_http), ("kafka", "clickhouse")),
        *workers,
        process("api", "api.processes.http", http_url(settings.api), ("kafka",)),
    ]
    listening = {
        "kafka": ports.kafka,
        "kafka's controller": ports.kafka_controller,
        "clickhouse": store.port or 8123,
        "api": settings.api.port,
        "streams": settings.streams_http.port,
        **more_workers,
    }
    if settings.inbox.tenants:
        processes.append(
            process("inbox", "api.processes.inbox", http_url(settings.inbox_http), ("kafka", "streams"))
        )
        listening["inbox"] = settings.inbox_http.port
    if learn:
        processes += [
            process(
                "search",
                "api.processes.search",
                http_url(settings.search_http),
                ("kafka", "streams"),
                timeout_s=180,
            ),
            process(
                "learner",
                "api.processes.learner",
                http_url(settings.learner_http),
                ("kafka", "clickhouse", "streams"),
            ),
        ]
        listening |= {"search": settings.search_http.port, "learner": settings.learner_http.port}
    alerts = process(
        "alerts",
        "api.processes.alerts",
        http_url(settings.alerts_http),
        (),  # it is there to say that another does not come up
        extra={} if settings.alerts.targets else {"RATCHET_ALERTS__TARGETS": alert_targets(processes)},
    )
    processes.append(alerts)
    listening["alerts"] = settings.alerts_http.port
    return StackSpec(directory=str(project.data), processes=tuple(processes), ports=listening)


def alert_targets(processes: Iterable[ProcessSpec]) -> str:
    """`alerts.targets` for these processes, as JSON: all workers are one job."""
    targets: dict[str, list[str]] = {}
    for one in processes:
        if isinstance(one.ready, HttpReady):
            job = f"ratchet-{one.name.partition('-')[0]}"
            targets.setdefault(job, []).append(one.ready.url.removesuffix("/readyz"))
    return msgspec.json.encode(targets).decode()
