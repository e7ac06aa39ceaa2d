"""A loopback server that takes whatever a logging client exports; run in a process of its own.

    python -m benchmarks.client_sink

Prints its port. It answers our ingest API with one result per record, and anything else with an
empty 200. Standard library only.
"""

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Sink(BaseHTTPRequestHandler):
    """Reads each body whole and answers at once."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take a body."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        answer = _results(body) if self.path == "/v1/ingest" else b"{}"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _results(body: bytes) -> bytes:
    """Return one `stored` per record of an NDJSON batch."""
    lines = (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).split(b"\n")[1:]
    ids = [json.loads(line)["record"]["id"] for line in lines if line]
    return json.dumps({"results": [{"id": each, "status": "stored"} for each in ids]}).encode()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
