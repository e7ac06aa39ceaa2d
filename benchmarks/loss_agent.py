"""One agent of the loss test: makes calls until it is killed, and keeps a receipt of each.

    python -m benchmarks.loss_agent NAME SEED RECEIPTS UPSTREAM_URL GATEWAY_URL

A receipt is a line appended to a file after the call has returned to its caller; what is on a
receipt must be found in the database afterwards, or be counted as dropped.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx

from collector.client import Flywheel

PACE_S = 0.01
"""Pause between calls."""

PADDING = "    value = compute(value, step)  # one more line of an ordinary prompt\n" * 24


class Agent:
    """Calls in every way there is, each with a tag of its own in the first message."""

    def __init__(self, name: str, seed: int, receipts: str, upstream: str, gateway: str) -> None:
        self.name, self.upstream, self.gateway = name, upstream, gateway
        self.random = random.Random(f"{seed} {os.getpid()}")
        self.life = f"{os.getpid()}-{self.random.getrandbits(40):x}"
        self.calls = 0
        self._receipts = os.open(receipts, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self.flywheel = Flywheel(role="coder", project=name)
        self.ways: list[tuple[float, Callable[[], None]]] = [
            (0.45, self.record),
            (0.15, self.complete),
            (0.15, self.read_stream),
            (0.08, self.leave_stream),
            (0.07, self.lose_stream),
            (0.10, self.ask_gateway),
        ]

    def run(self) -> None:
        """Call until killed."""
        weights = [weight for weight, _ in self.ways]
        while True:
            (way,) = self.random.choices([way for _, way in self.ways], weights)
            way()
            time.sleep(self.random.expovariate(1 / PACE_S))

    def tag(self) -> str:
        """Return a text that no other call has."""
        self.calls += 1
        return f"{self.name} {self.life} {self.calls}"

    def receipt(self, tag: str, identifier: object, status: str, kind: str = "interaction") -> None:
        """Note that a call returned."""
        line = {"tag": tag, "id": str(identifier), "status": status, "kind": kind}
        os.write(self._receipts, json.dumps(line).encode() + b"\n")

    def messages(self, tag: str) -> list[dict[str, Any]]:
        """Return about 2 KB of messages."""
        return [{"role": "user", "content": tag}, {"role": "user", "content": PADDING}]

    def record(self) -> None:
        """Log a call by hand, and feedback on it."""
        tag = self.tag()
        identifier = self.flywheel.record(
            request={"model": "hand", "messages": self.messages(tag)},
            response={"choices": [{"message": {"role": "assistant", "content": "done"}}]},
        )
        self.receipt(tag, identifier, "success")
        said = self.flywheel.outcome(self.random.random() < 0.5, identifier)
        self.receipt(tag, said, "", "feedback")

    def complete(self) -> None:
        """Make a whole call."""
        tag = self.tag()
        answer = self.flywheel.completion(
            messages=self.messages(tag), model="whole", base_url=self.upstream
        )
        self.receipt(tag, answer.interaction_id, "success")

    def read_stream(self) -> None:
        """Read a stream to its end."""
        tag = self.tag()
        stream = self.flywheel.completion(
            messages=self.messages(tag), model="streamed", base_url=self.upstream, stream=True
        )
        for _ in stream:
            pass
        self.receipt(tag, stream.interaction_id, "success")

    def leave_stream(self) -> None:
        """Leave a stream in the middle."""
        tag = self.tag()
        with self.flywheel.completion(
            messages=self.messages(tag), model="left", base_url=self.upstream, stream=True
        ) as stream:
            next(stream)
            next(stream)
        self.receipt(tag, stream.interaction_id, "cut")

    def lose_stream(self) -> None:
        """Read a stream that its server cuts."""
        tag = self.tag()
        stream = self.flywheel.completion(
            messages=self.messages(tag), model="lost-cut", base_url=self.upstream, stream=True
        )
        try:
            for _ in stream:
                pass
        except httpx.HTTPError:
            self.receipt(tag, stream.interaction_id, "cut")

    def ask_gateway(self) -> None:
        """Call through the gateway, which may be dead: what does not answer owes nothing."""
        tag = self.tag()
        try:
            answer = httpx.post(
                f"{self.gateway}/chat/completions",
                json={"model": "gated", "messages": self.messages(tag)},
                headers={"x-flywheel-role": "coder", "x-flywheel-project": f"gate-{self.name}"},
                timeout=10,
            )
        except httpx.HTTPError:
            return
        if answer.status_code == 200:
            identifier = answer.headers["x-flywheel-interaction-id"]
            self.receipt(tag, identifier, "success", "gateway")


if __name__ == "__main__":
    Agent(sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]).run()
