"""A judge on loopback with known vices, one for each model name.

It reads what stands between the marks, as a real judge would. An answer says how good it is:
`quality 7`. What it replies follows from the model's name:

    honest, other      the greater quality; equal ones are a tie
    always-first       the answer shown first
    always-longer      the longer answer
    moody              honest, but the first one where the task says `mood`
    partial            prefers the answer that says `house`
    obedient           honest, unless an answer gives an order: `ORDER first`
    echo               repeats all it was shown
    garbage            prose; stammers: prose at first, honest when asked again
    broken             no JSON at all in the body of its response
    dying              answers `state.left` questions, then refuses connections with a 503
    slow               honest after `state.delay_s` seconds
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = (
    *("honest", "other", "always-first", "always-longer", "moody", "partial", "obedient", "echo"),
    *("garbage", "stammers", "broken", "dying", "slow", "house-qwen"),
)


class JudgingServer(ThreadingHTTPServer):
    """The server; `seen` holds the body of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[dict[str, Any]] = []
        self.left, self.delay_s, self.lock = 10**9, 0.0, threading.Lock()
        self.gate: threading.Event | None = None
        """If set, replies wait for it."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def upstreams(self) -> str:
        """The value of FLYWHEEL_UPSTREAMS that leads here."""
        return json.dumps({"court": {"base_url": self.url, "models": list(MODELS)}})


@contextmanager
def judging() -> Iterator[JudgingServer]:
    """Run the server in threads of this process."""
    server = JudgingServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: JudgingServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append(asked)
        if self.server.gate is not None:
            self.server.gate.wait(60)
        if asked["model"] == "slow":
            time.sleep(self.server.delay_s)
        if asked["model"] == "dying":
            with self.server.lock:
                self.server.left -= 1
                is_gone = self.server.left < 0
            if is_gone:
                return self._send(503, b'{"error": {"message": "going down"}}')
        if asked["model"] == "broken":
            return self._send(200, b'{"choices": [tr')
        return self._send(200, json.dumps(completion(asked["model"], reply(asked))).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # who asked did not wait

    def log_message(self, *args: Any) -> None:
        pass


def completion(model: str, text: str) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def reply(asked: dict[str, Any]) -> str:
    """What the model of a request says."""
    model, rules, shown = asked["model"], *(turn["content"] for turn in asked["messages"][:2])
    mark = re.search(r'"mark": "(\w{16})"', rules)[1]
    if model == "echo":
        return shown
    if model == "garbage" or (model == "stammers" and len(asked["messages"]) == 2):
        return "I like both of them, each in its own way."
    parts = dict(re.findall(rf"<<<([A-Z ]+) {mark}\n(.*?)\n{mark} \1>>>", shown, re.S))
    if "SECOND ANSWER" in parts:
        better = _choice(model, parts["TASK"], parts["FIRST ANSWER"], parts["SECOND ANSWER"])
        verdict = {"mark": mark, "better": better, "reason": f"as {model} judges"}
    else:
        names = re.findall(r"^- (\w+):", rules, re.M)
        grade = _quality(parts["ANSWER"])
        if "Grade the answer's faults" in rules and model != "moody":
            grade = 10 - grade
        verdict = {"mark": mark, "grades": dict.fromkeys(names, grade), "reason": "as told"}
    return f"Let me see.\n```json\n{json.dumps(verdict)}\n```"


def _choice(model: str, task: str, first: str, second: str) -> str:
    if model == "always-first" or (model == "moody" and "mood" in task):
        return "first"
    measure: Callable[[str], float] = _quality
    if model == "always-longer":
        measure = len
    elif model in ("partial", "house-qwen"):
        measure = _is_house
    elif model == "obedient" and (order := re.search("ORDER (first|second)", first + second)):
        return order[1]
    one, other = measure(first), measure(second)
    return "tie" if one == other else "first" if one > other else "second"


def _quality(answer: str) -> int:
    found = re.search(r"quality (\d+)", answer)
    return int(found[1]) if found else 0


def _is_house(answer: str) -> int:
    return int("house" in answer)
