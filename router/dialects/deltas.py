"""A streamed chat read as it arrives: bytes cut anywhere in, clean deltas out.

Everything an upstream may get wrong is dealt with here, so that what translates sees texts, calls
and reasons only: what is no JSON object is skipped, what is of another kind is left out, tool calls
without an index are numbered, and an endless line is an error.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from collector.shapes import Json
from foundation.chat import text_of

DONE = b"[DONE]"
LONGEST_LINE = 16 * 2**20
"""Bytes of one event; a whole answer of any model in one chunk is shorter."""


class CallPart(NamedTuple):
    """A part of a tool call: its number in the answer, and what this part adds."""

    number: int
    id: str
    name: str
    arguments: str


class Delta(NamedTuple):
    """What a chunk adds to one choice; texts are empty where it adds nothing."""

    choice: int
    text: str
    reasoning: str
    refusal: str
    calls: tuple[CallPart, ...]
    finish_reason: str | None
    stop: str | None
    """The stop sequence that ended it, where the server says so (vLLM's `stop_reason`)."""
    logprobs: Json | None


class Chunk(NamedTuple):
    """One event of the stream: what it adds, or its error, or that it was the last."""

    deltas: tuple[Delta, ...] = ()
    usage: Json | None = None
    model: str = ""
    created: int = 0
    error: Json | None = None
    is_last: bool = False


@dataclass
class ChunkReader:
    """Reads the chunks of one stream."""

    _held: list[bytes] = field(default_factory=list)
    """Pieces of a line whose end has not come."""
    _n_held: int = 0
    _numbers: dict[int, int] = field(default_factory=dict)
    """Of each choice, how many tool calls came without an index."""

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """Yield the chunks that are complete with this piece."""
        self._held.append(piece)
        self._n_held += len(piece)
        if b"\n" in piece:
            *lines, rest = b"".join(self._held).split(b"\n")
            self._held, self._n_held = [rest], len(rest)
            for line in lines:
                yield from self._read(line)
        elif self._n_held > LONGEST_LINE:
            self._held, self._n_held = [], 0
            yield Chunk(error={"message": "an event without an end", "code": "upstream_garbage"})

    def end(self) -> Iterator[Chunk]:
        """Yield the chunk of a last line that no newline ended."""
        line, self._held, self._n_held = b"".join(self._held), [], 0
        yield from self._read(line)

    def _read(self, line: bytes) -> Iterator[Chunk]:
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == DONE:
            yield Chunk(is_last=True)
        elif (values := _object(data)) is not None:
            yield self.read(values)

    def read(self, values: Json) -> Chunk:
        """Return what a chunk says, or a whole answer, whose messages are deltas from nothing."""
        error = values.get("error")
        if error:
            return Chunk(error=error if isinstance(error, dict) else {"message": str(error)})
        choices, usage, created = values.get("choices"), values.get("usage"), values.get("created")
        given = choices if isinstance(choices, list) else []
        return Chunk(
            tuple(self._delta(choice) for choice in given if isinstance(choice, dict)),
            usage if isinstance(usage, dict) else None,
            _text(values.get("model")),
            created if isinstance(created, int) else 0,
        )

    def _delta(self, choice: Json) -> Delta:
        index, said = _index(choice.get("index")), choice.get("delta") or choice.get("message")
        delta = said if isinstance(said, dict) else {}
        logprobs, stop = choice.get("logprobs"), choice.get("stop_reason")
        return Delta(
            index or 0,
            text_of(content) if isinstance(content := delta.get("content"), str | list) else "",
            _text(delta.get("reasoning_content")) or _text(delta.get("reasoning")),
            _text(delta.get("refusal")),
            tuple(self._calls(index or 0, delta.get("tool_calls"))),
            _text(choice.get("finish_reason")) or None,
            stop if isinstance(stop, str) else None,
            logprobs if isinstance(logprobs, dict) else None,
        )

    def _calls(self, choice: int, given: Any) -> Iterator[CallPart]:
        for call in given if isinstance(given, list) else []:
            if not isinstance(call, Mapping):
                continue
            said = call.get("function")
            function = said if isinstance(said, Mapping) else {}
            identifier = _text(call.get("id"))
            index = _index(call.get("index"))
            if index is None:  # a server that numbers none sends each whole
                n_before = self._numbers.get(choice, 0)
                index = n_before if identifier or not n_before else n_before - 1
                self._numbers[choice] = index + 1
            arguments = function.get("arguments")
            # Some servers send whole arguments as an object, where the text of one is meant.
            text = json.dumps(arguments) if isinstance(arguments, dict) else _text(arguments)
            yield CallPart(index, identifier, _text(function.get("name")), text)


def _object(data: bytes) -> Json | None:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _index(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**16 else None
