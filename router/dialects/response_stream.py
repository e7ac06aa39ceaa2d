"""A streamed chat as the events of OpenAI's Responses.

https://platform.openai.com/docs/api-reference/responses-streaming: `response.created`, then each
item of the output from `output_item.added` to `output_item.done` with its deltas in between,
`response.completed` with the whole. Reasoning and text end where the next item begins; tool calls
end with the answer, for their parts may come in turns.
"""

from typing import Any

from collector.shapes import Json
from router.dialects.chat import as_event
from router.dialects.deltas import CallPart, Chunk, Delta
from router.dialects.dialect import Asked
from router.dialects.response_items import (
    call_item,
    message_item,
    reasoning_item,
    refusal_part,
    response,
    text_part,
)
from router.dialects.translating import StreamTranslator

_IN_PROGRESS = "in_progress"
_TEXT, _REFUSAL = "output_text", "refusal"


class ResponseTranslator(StreamTranslator):
    """Turns the chunks of a chat into the events of a response; of several choices the first."""

    def __init__(self, asked: Asked, identifier: str) -> None:
        """Begin the answer to a request."""
        super().__init__(asked, identifier)
        self._number = 0
        self._head: Chunk | None = None
        self._items: list[Json] = []
        self._open: list[int] = []
        """The items under way, by their place in the output."""
        self._calls: dict[int, int] = {}
        """The place of each tool call."""
        self._usage: Json | None = None
        self._finish_reason: str | None = None

    def add(self, chunk: Chunk) -> bytes:
        """Return the events of a chunk."""
        said = self._start(chunk)
        self._usage = chunk.usage or self._usage
        for delta in chunk.deltas:
            if delta.choice == 0:
                said += self._add(delta)
        return b"".join(said)

    def close(self) -> bytes:
        """Return the events that end the response."""
        said = self._start(Chunk())
        said += self._close_items(list(self._open))
        whole = self._response()
        said.append(self._event(f"response.{whole['status']}", response=whole))
        return b"".join(said)

    def failed(self, message: str, code: str) -> bytes:
        """Return the error, and the response as failed, as far as it came."""
        said = [_error(message, code, self._next_number())]
        if self._head is not None:
            error = {"code": "server_error", "message": message}
            whole = self._response("failed", error)
            said.append(self._event("response.failed", response=whole))
        return b"".join(said)

    def _start(self, chunk: Chunk) -> list[bytes]:
        if self._head is not None:
            return []
        self._head = chunk
        begun = self._response(_IN_PROGRESS)
        kinds = ("response.created", "response.in_progress")
        return [self._event(kind, response=begun) for kind in kinds]

    def _response(self, status: str | None = None, error: Json | None = None) -> Json:
        head = (self._head or Chunk())._replace(usage=self._usage)
        return response(
            self.asked, self.identifier, head, self._items, self._finish_reason, status, error
        )

    def _add(self, delta: Delta) -> list[bytes]:
        said: list[bytes] = []
        if delta.reasoning:
            said += self._add_reasoning(delta.reasoning)
        if delta.text:
            said += self._add_text(_TEXT, delta.text)
        if delta.refusal:
            said += self._add_text(_REFUSAL, delta.refusal)
        for part in delta.calls:
            said += self._add_call(part)
        self._finish_reason = delta.finish_reason or self._finish_reason
        return said

    def _add_reasoning(self, text: str) -> list[bytes]:
        said = []
        at = self._last_open("reasoning")
        if at is None:
            said = self._add_item(reasoning_item(self._name(), ""))
            at = len(self._items) - 1
            part = {"type": "summary_text", "text": ""}
            self._items[at]["summary"].append(part)
            said.append(
                self._of(at, "response.reasoning_summary_part.added", summary_index=0, part=part)
            )
        self._items[at]["summary"][0]["text"] += text
        kind = "response.reasoning_summary_text.delta"
        return [*said, self._of(at, kind, summary_index=0, delta=text)]

    def _add_text(self, kind: str, text: str) -> list[bytes]:
        said = []
        at = self._last_open("message")
        if at is None:
            said = self._add_item(message_item(self._name(), "", "", _IN_PROGRESS))
            at = len(self._items) - 1
        content = self._items[at]["content"]
        if not content or content[-1]["type"] != kind:
            said += self._close_part(at)
            content.append(text_part("") if kind == _TEXT else refusal_part(""))
            place = {"content_index": len(content) - 1, "part": content[-1]}
            said.append(self._of(at, "response.content_part.added", **place))
        content[-1]["text" if kind == _TEXT else "refusal"] += text
        place = {"content_index": len(content) - 1, "delta": text}
        place |= {"logprobs": []} if kind == _TEXT else {}
        return [*said, self._of(at, f"response.{kind}.delta", **place)]

    def _add_call(self, part: CallPart) -> list[bytes]:
        at = self._calls.get(part.number)
        if at is None:
            item = call_item(self.identifier, part._replace(arguments=""), _IN_PROGRESS)
            said = self._add_item(item)
            at = self._calls[part.number] = len(self._items) - 1
        else:
            said = []
            if part.id and not self._items[at]["name"]:
                self._items[at]["call_id"] = part.id
            self._items[at]["name"] = self._items[at]["name"] or part.name
        if not part.arguments:
            return said
        self._items[at]["arguments"] += part.arguments
        kind = "response.function_call_arguments.delta"
        return [*said, self._of(at, kind, delta=part.arguments)]

    def _name(self) -> str:
        """Return an id for the next item; the first of a response goes by the response's."""
        return f"{self.identifier}_{len(self._items)}" if self._items else self.identifier

    def _last_open(self, kind: str) -> int | None:
        at = len(self._items) - 1
        return at if at in self._open and self._items[at]["type"] == kind else None

    def _add_item(self, item: Json) -> list[bytes]:
        """Return what adds an item, and ends the text or reasoning before it."""
        said = self._close_items([at for at in self._open if at not in self._calls.values()])
        self._items.append(item)
        at = len(self._items) - 1
        self._open.append(at)
        return [*said, self._event("response.output_item.added", output_index=at, item=item)]

    def _close_items(self, places: list[int]) -> list[bytes]:
        said: list[bytes] = []
        for at in places:
            self._open.remove(at)
            item = self._items[at]
            said += self._close_part(at)
            if item["type"] != "reasoning":
                item["status"] = "completed"
            said.append(self._event("response.output_item.done", output_index=at, item=item))
        return said

    def _close_part(self, at: int) -> list[bytes]:
        """Return what ends the last part of an item."""
        item = self._items[at]
        if item["type"] == "function_call":
            call = {"name": item["name"], "arguments": item["arguments"]}
            return [self._of(at, "response.function_call_arguments.done", **call)]
        if item["type"] == "reasoning":
            part = item["summary"][-1]
            return [
                self._of(
                    at,
                    "response.reasoning_summary_text.done",
                    summary_index=0,
                    text=part["text"],
                ),
                self._of(at, "response.reasoning_summary_part.done", summary_index=0, part=part),
            ]
        if not item["content"]:
            return []
        part, index = item["content"][-1], len(item["content"]) - 1
        text = (
            {"text": part["text"], "logprobs": []}
            if part["type"] == _TEXT
            else {"refusal": part["refusal"]}
        )
        return [
            self._of(at, f"response.{part['type']}.done", content_index=index, **text),
            self._of(at, "response.content_part.done", content_index=index, part=part),
        ]

    def _of(self, at: int, kind: str, **data: Any) -> bytes:
        """Return an event about the item at a place."""
        return self._event(kind, item_id=self._items[at]["id"], output_index=at, **data)

    def _event(self, kind: str, **data: Any) -> bytes:
        return as_event({"type": kind, "sequence_number": self._next_number(), **data}, kind)

    def _next_number(self) -> int:
        self._number += 1
        return self._number - 1


def error_event(message: str, code: str) -> bytes:
    """Return the event by which a streamed response ends with an error."""
    return _error(message, code, 0)


def _error(message: str, code: str, number: int) -> bytes:
    """Return an error as documented, and inside it as OpenAI's servers send and clients raise it.

    A blank line goes before it: the event that was being said may have been cut in its middle.
    """
    said = {"code": code, "message": message, "param": None}
    nested = {"type": "server_error", **said}
    event = {"type": "error", "sequence_number": number, **said, "error": nested}
    return b"\n\n" + as_event(event, "error")
