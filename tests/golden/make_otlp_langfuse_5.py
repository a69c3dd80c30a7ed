"""The trace that Langfuse's client 5 sends, recorded once: `otlp_langfuse_5.json`.

In an environment of its own:
`uv run --no-project --with langfuse==5.0.4 python tests/golden/make_otlp_langfuse_5.py`
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

REQUESTS: list[dict[str, object]] = []
KEPT = ("authorization", "content-type", "content-encoding")


class Recorder(BaseHTTPRequestHandler):
    """Keeps each request, and answers as an OTLP server does."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() in KEPT}
        text = base64.b64encode(body).decode()
        REQUESTS.append({"path": self.path, "headers": headers, "body_base64": text})
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()


def main() -> None:
    """One question: chain, search, generation."""
    from langfuse import Langfuse, propagate_attributes

    server = HTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = Langfuse(
        public_key="pk-lf", secret_key="acme-key", base_url=f"http://127.0.0.1:{server.server_port}"
    )
    known = propagate_attributes(user_id="ada", session_id="s-1", metadata={"country": "CH"}, tags=["web"])
    with client.start_as_current_observation(
        name="ask", as_type="chain", input={"question": "how do I pay"}
    ) as root:
        with known:
            with client.start_as_current_observation(
                name="search", as_type="retriever", input="pay"
            ) as search:
                search.update(output=[{"id": "d1", "content": "By card", "score": 0.5}, {"id": "d2"}])
            with client.start_as_current_observation(
                name="generate",
                as_type="generation",
                model="m-1",
                input=[{"role": "user", "content": "how do I pay"}],
            ) as generation:
                generation.update(
                    output="by card", usage_details={"input": 3, "output": 2}, cost_details={"total": 0.01}
                )
        root.update(output="by card")
    client.flush()
    server.shutdown()
    (request,) = REQUESTS
    path = Path(__file__).with_name("otlp_langfuse_5.json")
    path.write_text(json.dumps(request, indent=1) + "\n")


if __name__ == "__main__":
    main()
