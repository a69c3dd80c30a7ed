"""What OpenTelemetry's JSON exporter sends, recorded once: `otlp_json_v1.json`.

The exporter pins other versions than our own environment has, so it runs in one of its own:
`uv run --no-project --with opentelemetry-exporter-otlp-json-http --with openinference-instrumentation \
 python tests/golden/make_otlp_json_v1.py`
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests import traced_app

REQUESTS: list[dict[str, object]] = []


class Recorder(BaseHTTPRequestHandler):
    """Keeps each request; answers as an OTLP server does."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {n: v for n, v in self.headers.items() if n.lower() in ("content-type", "user-agent")}
        REQUESTS.append({"path": self.path, "headers": headers, "body": json.loads(body)})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


def main() -> None:
    """Trace the application, export what it did, write down what came."""
    from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    server = HTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kept, provider = traced_app.Kept(), traced_app.provider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("golden")
    traced_app.ask(tracer)
    traced_app.fail(tracer)
    OTLPSpanExporter(f"http://127.0.0.1:{server.server_port}/v1/traces").export(kept.spans)
    server.shutdown()
    (request,) = REQUESTS
    path = Path(__file__).with_name("otlp_json_v1.json")
    path.write_text(json.dumps(request, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
