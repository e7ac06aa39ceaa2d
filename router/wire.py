"""The wire: chat requests rewritten byte by byte, streams read back, errors in OpenAI's shape."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from foundation.errors import BadInput

DONE = b"[DONE]"

DONE_EVENT = re.compile(rb"[\r\n]data: ?\[DONE\]")
"""The last event of a stream: at the start of a line, where no JSON text can put it."""
LONGEST_DONE = 12
"""Bytes of a `DONE_EVENT` that may have come before the piece that completes it."""

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class ChatBody:
    """A chat request: its text as it came, its values, and where its model is written."""

    text: str
    values: dict[str, Any]
    model_spans: tuple[tuple[int, int], ...]

    @property
    def model(self) -> str:
        """The model that is asked for."""
        return str(self.values["model"])

    @property
    def stream(self) -> bool:
        """Whether the answer is asked for as a stream."""
        return self.values.get("stream") is True

    def with_model(self, model: str) -> bytes:
        """Return the request with another model, every other byte as it came."""
        pieces, position = [], 0
        for start, end in self.model_spans:
            pieces += [self.text[position:start], json.dumps(model)]
            position = end
        return "".join([*pieces, self.text[position:]]).encode()


def read_chat(body: bytes) -> ChatBody:
    """Read a chat request.

    Raises:
        BadInput: it is no JSON object, or names no model.
    """
    try:
        text = body.decode()
        members = list(_members(text))
    except (ValueError, RecursionError) as error:
        raise BadInput(
            "request body", body[:100], "a JSON object in UTF-8", f"Correct it: {error}."
        ) from error
    values = {key: value for key, value, _ in members}
    if not isinstance(values.get("model"), str) or not values["model"]:
        raise BadInput(
            "model", values.get("model"), "the name of a model, or role:<role>", "Name one."
        )
    spans = tuple(span for key, _, span in members if key == "model")
    return ChatBody(text, values, spans)


def _members(text: str) -> Iterator[tuple[str, Any, tuple[int, int]]]:
    """Yield key, value and the value's span of each member of the JSON object `text`."""
    position = _expect(text, 0, "{")
    if text[position : position + 1] == "}":
        return _expect_end(text, position + 1)
    while True:
        key, position = _DECODER.raw_decode(text, position)
        if not isinstance(key, str):
            raise ValueError(f"expected a name at character {position}")
        start = _expect(text, position, ":")
        value, end = _DECODER.raw_decode(text, start)
        yield key, value, (start, end)
        position = _skip_blank(text, end)
        if text[position : position + 1] == "}":
            return _expect_end(text, position + 1)
        position = _expect(text, position, ",")


def _skip_blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _expect(text: str, position: int, mark: str) -> int:
    """Return the position after `mark` and the blanks around it."""
    position = _skip_blank(text, position)
    if text[position : position + 1] != mark:
        raise ValueError(f"expected {mark!r} at character {position}")
    return _skip_blank(text, position + 1)


def _expect_end(text: str, position: int) -> None:
    if _skip_blank(text, position) != len(text):
        raise ValueError(f"expected the end at character {position}")


def events(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the data of each server-sent event in the bytes of a stream, `[DONE]` included.

    Chunks may break anywhere; comments and other fields are left out.
    """
    for line in b"".join(chunks).replace(b"\r\n", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            yield line[5:].strip()


@dataclass(frozen=True)
class StreamRead:
    """What the bytes of a stream say: its chunks, whether it ended as it should, and its error."""

    chunks: list[dict[str, Any]]
    ended: bool
    error: dict[str, Any] | None


def read_stream(pieces: Iterable[bytes]) -> StreamRead:
    """Read the chunks of a streamed chat completion; what is no JSON object is skipped.

    A stream has ended when it said `[DONE]`, or why each of its choices finished.
    """
    chunks: list[dict[str, Any]] = []
    done, error, reasons = False, None, dict[int, Any]()
    for data in events(pieces):
        if data == DONE:
            done = True
            continue
        chunk = _object(data)
        if chunk is None:
            continue
        if chunk.get("error"):
            found = chunk["error"]
            error = found if isinstance(found, dict) else {"message": str(found)}
            continue
        chunks.append(chunk)
        for choice in chunk.get("choices") or []:
            index = choice.get("index") or 0
            reasons[index] = choice.get("finish_reason") or reasons.get(index)
    finished = bool(reasons) and all(reasons.values())
    return StreamRead(chunks, (done or finished) and error is None, error)


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) and _choices_are_objects(value) else None


def _choices_are_objects(value: dict[str, Any]) -> bool:
    choices = value.get("choices") or []
    return isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices)


def read_answer(body: bytes) -> dict[str, Any] | None:
    """Return the chat completion in `body`, or None if it is none."""
    answer = _object(body)
    return answer if answer is not None and isinstance(answer.get("choices"), list) else None


def as_event(body: dict[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def error_body(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """Return an error as OpenAI's API words it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def upstream_error(status: int, body: bytes) -> tuple[dict[str, Any], str]:
    """Return an upstream's error in OpenAI's shape, and its kind for the record.

    An error that has this shape already is passed on as it is; anything else becomes its message.
    """
    found = (_object(body) or {}).get("error")
    if isinstance(found, dict):
        kind = found.get("code") or found.get("type") or f"http_{status}"
        return {"error": found}, str(kind)
    text = found if isinstance(found, str) else body[:500].decode("utf-8", "replace").strip()
    kind = "upstream_error" if status >= 500 else "invalid_request_error"
    message = text or f"the upstream answered {status} without a word"
    return error_body(message, kind, f"http_{status}"), f"http_{status}"
