"""A model on loopback that replies what a function says, in OpenAI's shape."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from judging_app import completion

Reply = Callable[[dict[str, Any]], str | None]
"""From a request to the text of the answer; None: the server fails."""


class ReplyingServer(ThreadingHTTPServer):
    """The server; `seen` holds the body of each request."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.seen = reply, list[dict[str, Any]]()

    def upstreams(self, *models: str) -> str:
        """The value of FLYWHEEL_UPSTREAMS that leads here."""
        url = f"http://127.0.0.1:{self.server_port}/v1"
        return json.dumps({"house": {"base_url": url, "models": list(models)}})


@contextmanager
def replying(reply: Reply) -> Iterator[ReplyingServer]:
    """Run the server in threads of this process."""
    server = ReplyingServer(reply)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ReplyingServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append(asked)
        said = self.server.reply(asked)
        failed = {"error": {"message": "told to fail"}}
        told = completion(asked["model"], said) if said is not None else failed
        body = json.dumps(told).encode()
        self.send_response(200 if said is not None else 400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass
