"""What a dialect is: how it asks, answers, streams and errs, and what it amounts to as a chat.

Pure: bytes and JSON values in, bytes and JSON values out. An upstream that speaks the caller's
dialect gets the caller's bytes; any other is asked by a chat, and its answer translated back.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from collector.shapes import Event, Json, Told
from foundation.errors import BadInput
from router.dialects.members import Span, members

_BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")
_LONGEST_BLANK = 3
_TOKEN_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_MAX_TOKENS = 10**12
"""More than any budget has; a request can hold integers that no float can."""


@dataclass(frozen=True)
class Asked:
    """A request: its bytes and text as they came, its values, and where its model is written."""

    dialect: "Dialect"
    body: bytes = field(repr=False)
    text: str = field(repr=False)
    values: Json
    model_spans: tuple[Span, ...]

    @property
    def model(self) -> str:
        """The model that is asked for."""
        return str(self.values["model"])

    @property
    def stream(self) -> bool:
        """Whether the answer is asked for as a stream."""
        return self.values.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        """Whether a stream of chunks is to end with its usage; other dialects always state it."""
        options = self.values.get("stream_options")
        return isinstance(options, Mapping) and options.get("include_usage") is True

    @property
    def max_output_tokens(self) -> int | None:
        """Most tokens of one answer, by whatever name; None if the caller sets no limit.

        Of several limits the highest: nobody knows which one the upstream will read.
        """
        said = (self.values.get(name) for name in _TOKEN_LIMITS)
        limits = [limit for limit in said if isinstance(limit, int) and limit > 0]
        return min(max(limits), _MAX_TOKENS) if limits else None

    @cached_property
    def chat(self) -> Json:
        """The request as a chat, for upstreams that do not speak its dialect.

        Raises:
            BadInput: it asks for what a chat cannot do.
        """
        return self.dialect.as_chat(self.values)

    def with_model(self, model: str) -> bytes:
        """Return the request with another model, every other byte as it came."""
        pieces, position = [], 0
        for start, end in self.model_spans:
            pieces += [self.text[position:start], json.dumps(model)]
            position = end
        return "".join([*pieces, self.text[position:]]).encode()

    def as_chat(self, model: str) -> bytes:
        """Return the request as a chat with another model; raises BadInput as `chat` does."""
        return json.dumps({**self.chat, "model": model}).encode()


class Translator(Protocol):
    """Turns the bytes of a streamed chat into those of a stream in another dialect."""

    @property
    def ended(self) -> bool:
        """Whether the last event has been said; what is fed afterwards is left out."""

    def feed(self, piece: bytes) -> bytes:
        """Take bytes of the chat's stream, cut anywhere; return those that can be said now."""

    def end(self) -> bytes:
        """Take the end of the chat's stream; return the last events, if they are not said yet.

        A stream that ended before its answer was complete ends with an error here.
        """

    def fail(self, message: str, code: str) -> bytes:
        """Return the error that ends the stream."""


class LastEvent(NamedTuple):
    """The event that ends a stream.

    Attributes:
        mark: bytes that are in it, which are looked for first: that takes a tenth of the time.
        beginning: matches it from the end of the line before.
        longest: bytes of such a match.
        has_data: whether it is complete only with the blank line after its data.
    """

    mark: bytes
    beginning: re.Pattern[bytes]
    longest: int
    has_data: bool = False


class EndWatch:
    """Watches the bytes of a stream for the end of its last event."""

    def __init__(self, event: LastEvent) -> None:
        """Begin a stream that ends with `event`."""
        self._event = event
        self._has_begun = False
        self._tail = b"\n"

    def feed(self, piece: bytes) -> bool:
        """Take the next bytes; return whether the last event is complete with them."""
        seen = self._tail + piece
        if not self._has_begun:
            match = self._event.mark in seen and self._event.beginning.search(seen)
            if not match:
                self._tail = seen[-self._event.longest :]
                return False
            self._has_begun, seen = True, seen[match.end() :]
        self._tail = seen[-_LONGEST_BLANK:]
        return not self._event.has_data or _BLANK_LINE.search(seen) is not None


@dataclass(frozen=True)
class Dialect:
    """One way of asking.

    Attributes:
        name: as configuration and records call it.
        path: of the gateway's endpoint.
        operation: `gen_ai_operation_name` of its calls.
        api: its name in a record's attribute `exact`; None where the record is the exact text.
        last_event: by what bytes a stream of it ends.
        is_answer: whether JSON values are a whole answer.
        tell: puts the events of a stream together.
        chat_request: the request as a chat, for the record: never refuses.
        chat_response: the answer as a chat completion, for the record.
        as_chat: the request as a chat to be sent; BadInput for what a chat cannot do.
        answer: turns the chat completion into the answer to a request, under the given id.
        translator: does the same for a stream.
        error: an error's body, of message, kind, code and HTTP status.
        error_event: the event that ends a stream by an error, of message and code.
        key_header: how an upstream of this dialect is given its key.
        passed_headers: the caller's headers that are the upstream's to read.
        upstream_headers: what an upstream is told where the caller says nothing.
    """

    name: str
    path: str
    operation: str
    last_event: LastEvent
    is_answer: Callable[[Json], bool]
    tell: Callable[[Sequence[Event]], Told]
    chat_request: Callable[[Json], Json]
    chat_response: Callable[[Json], Json]
    as_chat: Callable[[Json], Json]
    answer: Callable[[Json, Asked, str], Json]
    translator: Callable[[Asked, str], Translator]
    error: Callable[[str, str, str | None, int], Json]
    error_event: Callable[[str, str], bytes]
    api: str | None = None
    key_header: str = "authorization"
    passed_headers: tuple[str, ...] = ()
    upstream_headers: Mapping[str, str] = field(default_factory=dict)

    def watch_end(self) -> EndWatch:
        """Return what tells when a stream that an upstream sends in this dialect is complete."""
        return EndWatch(self.last_event)

    @property
    def native_path(self) -> str:
        """The path on an upstream that speaks it, below the upstream's base URL."""
        return self.path.removeprefix("/v1")

    def read(self, body: bytes) -> Asked:
        """Read a request.

        Raises:
            BadInput: it is no JSON object, or names no model.
        """
        try:
            text = body.decode()
            found = list(members(text))
        except (ValueError, RecursionError) as error:
            raise BadInput(
                "request body", body[:100], "a JSON object in UTF-8", f"Correct it: {error}."
            ) from error
        values = {key: value for key, value, _ in found}
        if not isinstance(values.get("model"), str) or not values["model"]:
            raise BadInput(
                "model", values.get("model"), "the name of a model, or role:<role>", "Name one."
            )
        spans = tuple(span for key, _, span in found if key == "model")
        return Asked(self, body, text, values, spans)

    def read_answer(self, body: bytes) -> Json | None:
        """Return the whole answer in `body`, or None if it is none."""
        try:
            values: Any = json.loads(body.decode())  # of bytes, it would read UTF-16 too
        except (ValueError, RecursionError):
            return None
        return values if isinstance(values, dict) and self.is_answer(values) else None

    def headers(self, key: str | None, given: Mapping[str, str]) -> dict[str, str]:
        """Return what an upstream that speaks it is sent, of its key and the caller's headers."""
        sent = {name: given[name] for name in self.passed_headers if name in given}
        if key:
            sent[self.key_header] = f"Bearer {key}" if self.key_header == "authorization" else key
        return {**self.upstream_headers, **sent}
