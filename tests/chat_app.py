"""A model server that counts what it is asked, and misbehaves when it is told to."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from foundation.chat import completion


class Chat(ThreadingHTTPServer):
    """Answers `What is N + 1?`; `asked` counts prompts by model.

    Attributes:
        dies_after: requests after which it only answers 503; None for never.
        delay_s: how long it thinks.
        special: texts, or raw bytes of a body, that it says to a number instead, or that one model
            says to it.
    """

    request_queue_size = 128

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.asked: Counter[tuple[str, int]] = Counter()
        self.seeds: dict[tuple[str, int], int] = {}
        self.n_requests = 0
        self.dies_after: int | None = None
        self.delay_s = 0.0
        self.special: dict[int | tuple[str, int], str | bytes] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that was killed."""


class _Handler(BaseHTTPRequestHandler):
    server: Chat
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number, model = int(body["messages"][-1]["content"].split()[2]), body["model"]
        with self.server.lock:
            self.server.n_requests += 1
            dies = self.server.dies_after
            if dies is not None and self.server.n_requests > dies:
                self._send(503, b"{}")
                return
            self.server.asked[model, number] += 1
            self.server.seeds[model, number] = body["seed"]
        time.sleep(self.server.delay_s)
        special = self.server.special
        said = special.get((model, number), special.get(number, str(number + 1)))
        if isinstance(said, bytes):
            self._send(200, said)
            return
        answer = completion("x", model, said, "stop", 5, 2, 0)
        answer["choices"] *= body.get("n", 1)
        self._send(200, json.dumps(answer).encode())

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def chat(port: int = 0) -> Iterator[Chat]:
    """Run a server for the block."""
    with Chat(port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
