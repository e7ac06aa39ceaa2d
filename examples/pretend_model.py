"""A model that only pretends: an OpenAI-compatible server on loopback with a few answers in stock.

    python -m examples.pretend_model 8900

It lets the examples run without a provider and without a GPU. Asked to write a function that it
knows, it gets some of them wrong at first and right once a failing test is in the conversation;
offered a tool, it asks for it once. The role comes from the first word of the system prompt.
Point OPENAI_BASE_URL to a real provider instead and the examples stay as they are.
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "pretend-1"

FIRST = {
    "median": "def median(values):\n    return sorted(values)[len(values) // 2]",
    "slugify": "def slugify(text):\n    return '-'.join(text.lower().split())",
    "is_leap": "def is_leap(year):\n    return year % 4 == 0",
    "chunks": "def chunks(items, size):\n"
    "    return [items[i:i + size] for i in range(0, len(items), size)]",
}
"""What it says when it is first asked; `median` and `is_leap` are wrong."""

MENDED = FIRST | {
    "median": "def median(values):\n    ordered, middle = sorted(values), len(values) // 2\n"
    "    if len(ordered) % 2:\n        return ordered[middle]\n"
    "    return (ordered[middle - 1] + ordered[middle]) / 2",
    "is_leap": "def is_leap(year):\n"
    "    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)",
}
TESTS = {
    "median": "assert median([3, 1, 2]) == 2\nassert median([4, 1, 2, 3]) == 2.5",
    "slugify": "assert slugify('Two Words') == 'two-words'",
    "is_leap": "assert is_leap(2024)\nassert not is_leap(1900)",
    "chunks": "assert chunks([1, 2, 3], 2) == [[1, 2], [3]]",
}


def answer(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the assistant's message; pure."""
    said = "\n".join(str(message.get("content") or "") for message in messages)
    role = said.split(maxsplit=1)[0].lower() if said else ""
    if tools and not any(message["role"] == "tool" for message in messages):
        return {"role": "assistant", "content": None, "tool_calls": [_call(tools[0], said)]}
    return {"role": "assistant", "content": _text(role, said)}


def _text(role: str, said: str) -> str:
    names = re.findall(r"\b(" + "|".join(FIRST) + r")\b", said)
    name = names[0] if names else "chunks"
    failed = "AssertionError" in said or "failed" in said
    if role.startswith("coordinator"):
        return f"1. find out what {name} must do\n2. write it\n3. test it\n4. review it"
    if role.startswith("researcher"):
        return f"{name}: mind the empty input, even lengths and the turn of a century."
    if role.startswith("tester"):
        return f"```python\n{TESTS[name]}\n```"
    if role.startswith("reviewer"):
        return "REQUEST_CHANGES: a test fails." if failed else "APPROVE"
    return f"```python\n{(MENDED if failed else FIRST)[name]}\n```"


def _call(tool: dict[str, Any], said: str) -> dict[str, Any]:
    numbers = re.findall(r"\d[\d+*/(). -]*\d", said) or ["1 + 1"]
    (first, *_) = tool["function"]["parameters"]["properties"] or ["input"]
    arguments = json.dumps({first: numbers[-1]})
    function = {"name": tool["function"]["name"], "arguments": arguments}
    return {"id": "call_1", "type": "function", "function": function}


class Handler(BaseHTTPRequestHandler):
    """Answers chat completions, whole or streamed word by word."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """List the one model."""
        self._send({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        """Answer a chat."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        message = answer(asked["messages"], asked.get("tools") or [])
        if asked.get("stream"):
            return self._stream(message)
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        usage = {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}
        self._send(_envelope("chat.completion", choice) | {"usage": usage})

    def _stream(self, message: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for word in re.findall(r"\S+\s*|\s+", message["content"] or ""):
            self._event({"index": 0, "delta": {"content": word}, "finish_reason": None})
        self._event({"index": 0, "delta": {}, "finish_reason": "stop"})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, choice: dict[str, Any]) -> None:
        chunk = _envelope("chat.completion.chunk", choice)
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def _send(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the examples have the screen."""


def _envelope(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": MODEL, "choices": [choice]}


def server(port: int = 0) -> ThreadingHTTPServer:
    """Return the server, bound to loopback and not yet serving."""
    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    server(int(sys.argv[1])).serve_forever()
