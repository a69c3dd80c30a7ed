"""The alerts of a real Prometheus and Alertmanager beside those of the process `alerts`, over one neighbour.

python -P -m tests.beside_prometheus     needs prometheus, alertmanager on the PATH (Debian: `prometheus`,
                                         `prometheus-alertmanager`); takes seconds; exit status 1: they differ

Both scrape every second, with the rules of the tree, only without their holds; both tell one receiver. What
they say is compared: status, labels, annotations, fingerprints. Kafka is away, and ours tells all the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.live_services import free_ports, wait_for

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "infra" / "deploy" / "prometheus" / "rules.yml"
OURS = """
import runpy
from msgspec.structs import replace
import schemas.alerts
schemas.alerts.ALERTS = tuple(replace(alert, for_s=0) for alert in schemas.alerts.ALERTS)
runpy.run_module("api.processes.alerts", run_name="__main__")
"""
#: What fires here: a process is away, another's disk is nearly full, nobody sends.
EXPECTED = {"RatchetProcessDown", "RatchetDiskFilling", "RatchetNoEvents"}
#: What Alertmanager adds of its own or words by its own clock.
_OWN = ("startsAt", "endsAt", "generatorURL")


class Receiver:
    """The neighbour's metrics, and a hook for each side: side → alert name → what was said last."""

    def __init__(self) -> None:
        self.free_bytes = 1
        self.said: dict[str, dict[str, dict[str, Any]]] = {"prometheus": {}, "ratchet": {}}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = f"ratchet_disk_free_bytes {receiver.free_bytes}\nratchet_disk_size_bytes 100\n"
                self.answer(text.encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.said[self.path.strip("/")][body["groupLabels"]["alertname"]] = body
                self.answer(b"")

            def answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def both_say(self, status: str, names: set[str]) -> bool:
        return all(
            {name for name, body in said.items() if body["status"] == status} >= names
            for said in self.said.values()
        )


def write_configuration(directory: Path, neighbour: int, away: int, alertmanager: int, hook: str) -> None:
    """Prometheus' and Alertmanager's files; the rules are the tree's, without their holds."""
    (directory / "rules.yml").write_text(re.sub(r"for: \w+", "for: 0s", RULES.read_text(encoding="utf-8")))
    (directory / "prometheus.yml").write_text(
        f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alertmanager}"]}}]}}]}}
scrape_configs:
  - {{job_name: ratchet-streams, static_configs: [{{targets: ["127.0.0.1:{neighbour}"]}}]}}
  - {{job_name: ratchet-api, static_configs: [{{targets: ["127.0.0.1:{away}"]}}]}}
"""
    )
    (directory / "alertmanager.yml").write_text(
        f"""
route: {{receiver: ratchet, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: ratchet, webhook_configs: [{{url: "{hook}/prometheus", send_resolved: true}}]}}]
"""
    )


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    """What both sides have to say alike."""
    alerts = [{k: v for k, v in alert.items() if k not in _OWN} for alert in body["alerts"]]
    kept = {k: body[k] for k in ("version", "groupKey", "status", "commonLabels", "commonAnnotations")}
    return {
        **kept,
        "alerts": sorted(alerts, key=lambda alert: str(alert["fingerprint"])),
        "fields": sorted(body),
    }


def main() -> int:
    """Run both; print what they said."""
    prometheus, alertmanager = (
        shutil.which("prometheus"),
        (shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")),
    )
    if prometheus is None or alertmanager is None:
        print("prometheus and alertmanager are needed on the PATH")
        return 2
    receiver = Receiver()
    neighbour = receiver.server.server_port
    away, alerts_port, manager_port, prometheus_port, kafka = free_ports(5)
    hook = f"http://127.0.0.1:{neighbour}"
    targets = {
        "ratchet-streams": [f"http://127.0.0.1:{neighbour}"],
        "ratchet-api": [f"http://127.0.0.1:{away}"],
    }
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        directory = Path(place)
        write_configuration(directory, neighbour, away, manager_port, hook)
        commands: list[list[str]] = [
            [
                alertmanager,
                "--config.file=alertmanager.yml",
                f"--storage.path={directory / 'am'}",
                f"--web.listen-address=127.0.0.1:{manager_port}",
                "--cluster.listen-address=",
            ],
            [
                prometheus,
                "--config.file=prometheus.yml",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{prometheus_port}",
                # an alert that fired before Alertmanager listened is sent again at once, not after a minute
                "--rules.alert.resend-delay=1s",
            ],
            [sys.executable, "-P", "-c", OURS, "--directory", str(directory)],
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RATCHET_KAFKA__BOOTSTRAP": f"127.0.0.1:{kafka}",
            "RATCHET_ALERTS_HTTP__PORT": str(alerts_port),
            "RATCHET_ALERTS__INTERVAL_S": "1",
            "RATCHET_ALERTS__TARGETS": json.dumps(targets),
            "RATCHET_ALERTS__WEBHOOK_URL": f"{hook}/ratchet",
        }
        for number, command in enumerate(commands):
            log = stack.enter_context((directory / f"{number}.log").open("wb"))
            process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        try:
            wait_for("both tell what fires", lambda: receiver.both_say("firing", EXPECTED))
        except AssertionError:
            for log_path in sorted(directory.glob("*.log")):
                print(log_path.name, log_path.read_text(errors="replace")[-2000:], sep="\n")
            print({side: {n: b["status"] for n, b in said.items()} for side, said in receiver.said.items()})
            raise
        told = {side: {n: comparable(b) for n, b in said.items()} for side, said in receiver.said.items()}
        receiver.free_bytes = 50
        wait_for("both tell the end", lambda: receiver.both_say("resolved", {"RatchetDiskFilling"}))
        for side, said in receiver.said.items():
            told[side]["RatchetDiskFilling, over"] = comparable(said["RatchetDiskFilling"])
    receiver.server.shutdown()
    differ = 0
    for name in sorted({*told["prometheus"], *told["ratchet"]}):
        theirs, ours = told["prometheus"].get(name), told["ratchet"].get(name)
        differ += theirs != ours
        print(
            f"{'same' if theirs == ours else 'DIFFERENT'}  {name}\n  {theirs}"
            + ("" if theirs == ours else f"\n  {ours}")
        )
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
