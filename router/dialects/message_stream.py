"""A streamed chat as the events of Anthropic's Messages.

https://docs.anthropic.com/en/api/messages-streaming: `message_start`, then each block of content
from `content_block_start` to `content_block_stop`, `message_delta` with the reason and the usage,
`message_stop`. A block ends where the next begins; a part that comes late, of a tool call whose
block has ended, is said under that block's number, by which clients put it in its place.
"""

import json
from dataclasses import dataclass

from collector.record import usage_columns
from collector.shapes import Json
from foundation.chat import prompt_messages, text_of
from router.dialects.chat import as_event
from router.dialects.deltas import CallPart, Chunk, Delta
from router.dialects.dialect import Asked
from router.dialects.errors import anthropic_error
from router.dialects.translating import StreamTranslator

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_CHARACTERS_PER_TOKEN = 4
_TEXT, _THINKING = "text", "thinking"


@dataclass
class _Tool:
    """A tool call under way: what has come, and its block once it has a name."""

    id: str
    name: str = ""
    held: str = ""
    block: int | None = None


class MessageTranslator(StreamTranslator):
    """Turns the chunks of a chat into the events of a message; of several choices the first."""

    def __init__(self, asked: Asked, identifier: str) -> None:
        """Begin the answer to a request."""
        super().__init__(asked, identifier)
        self._started = False
        self._n_blocks = 0
        self._open: str | int | None = None
        """What the open block is: of text, of thinking, or of the tool call of a number."""
        self._tools: dict[int, _Tool] = {}
        self._n_characters = 0
        self._finish_reason: str | None = None
        self._stop: str | None = None
        self._usage: Json | None = None

    def add(self, chunk: Chunk) -> bytes:
        """Return the events of a chunk."""
        said = [self._start(chunk.model)]
        self._usage = chunk.usage or self._usage
        for delta in chunk.deltas:
            if delta.choice == 0:
                said += self._add(delta)
        return b"".join(said)

    def close(self) -> bytes:
        """Return the events that end the message."""
        said = [self._start("")]
        for index, tool in self._tools.items():
            if tool.block is None:  # one that never got a name
                said += self._open_tool(index, tool)
        said += self._close_block()
        reason, sequence = stop_of(self.asked, self._finish_reason, self._stop, bool(self._tools))
        ending = {"stop_reason": reason or "end_turn", "stop_sequence": sequence}
        usage = usage_of(self._usage, self.asked, self._n_characters)
        said += [_event("message_delta", delta=ending, usage=usage), _event("message_stop")]
        return b"".join(said)

    def failed(self, message: str, code: str) -> bytes:
        """Return the error."""
        return error_event(message, code)

    def _start(self, model: str) -> bytes:
        if self._started:
            return b""
        self._started = True
        message: Json = {
            "id": f"msg_{self.identifier}",
            "type": "message",
            "role": "assistant",
            "model": model or self.asked.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_of(None, self.asked, 0),
        }
        return _event("message_start", message=message) + _event("ping")

    def _add(self, delta: Delta) -> list[bytes]:
        said: list[bytes] = []
        if delta.reasoning:
            said += self._block(_THINKING, {"type": "thinking", "thinking": "", "signature": ""})
            said.append(self._delta({"type": "thinking_delta", "thinking": delta.reasoning}))
        if text := delta.text or delta.refusal:
            said += self._block(_TEXT, {"type": "text", "text": ""})
            said.append(self._delta({"type": "text_delta", "text": text}))
        for part in delta.calls:
            said += self._add_call(part)
        self._n_characters += len(delta.reasoning) + len(delta.text)
        self._finish_reason = delta.finish_reason or self._finish_reason
        self._stop = delta.stop or self._stop
        return said

    def _add_call(self, part: CallPart) -> list[bytes]:
        tool = self._tools.get(part.number)
        if tool is None:
            tool = self._tools[part.number] = _Tool(tool_id(self.identifier, part.number))
        self._n_characters += len(part.arguments)
        if tool.block is not None:
            return [_input(tool.block, part.arguments)] if part.arguments else []
        tool.id, tool.name = part.id or tool.id, tool.name + part.name
        tool.held += part.arguments
        return self._open_tool(part.number, tool) if tool.name else []

    def _open_tool(self, index: int, tool: _Tool) -> list[bytes]:
        block = {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}}
        said = self._block(index, block)
        tool.block = self._n_blocks - 1
        return [*said, _input(tool.block, tool.held)] if tool.held else said

    def _block(self, kind: str | int, block: Json) -> list[bytes]:
        """Return what opens a block of a kind, unless it is the one that is open."""
        if self._open == kind:
            return []
        said = self._close_block()
        self._open, self._n_blocks = kind, self._n_blocks + 1
        start = _event("content_block_start", index=self._n_blocks - 1, content_block=block)
        return [*said, start]

    def _close_block(self) -> list[bytes]:
        if self._open is None:
            return []
        self._open = None
        return [_event("content_block_stop", index=self._n_blocks - 1)]

    def _delta(self, delta: Json) -> bytes:
        return _event("content_block_delta", index=self._n_blocks - 1, delta=delta)


def _event(kind: str, **data: object) -> bytes:
    return as_event({"type": kind, **data}, kind)


def _input(block: int, arguments: str) -> bytes:
    delta = {"type": "input_json_delta", "partial_json": arguments}
    return _event("content_block_delta", index=block, delta=delta)


def error_event(message: str, code: str) -> bytes:
    """Return the event by which a streamed message ends with an error.

    A blank line goes before it: the event that was being said may have been cut in its middle.
    """
    return b"\n\n" + as_event(anthropic_error(message, "", code, 500), "error")


def tool_id(identifier: str, index: int) -> str:
    """Return the id of a tool call whose server gave it none."""
    return f"toolu_{identifier}_{index}"


def stop_of(
    asked: Asked, finish_reason: str | None, stop: str | None, has_calls: bool
) -> tuple[str | None, str | None]:
    """Return why a message stopped, in Anthropic's words, and at which stop sequence.

    Some servers say `stop` after a tool call, which is a `tool_use` to everybody who acts on it.
    """
    if finish_reason == "stop" and has_calls:
        return "tool_use", None
    sequences = asked.values.get("stop_sequences")
    if finish_reason == "stop" and isinstance(sequences, list) and stop in sequences:
        return "stop_sequence", stop
    if finish_reason is None:
        return None, None
    return _STOP_REASONS.get(finish_reason, "end_turn"), None


def usage_of(usage: Json | None, asked: Asked, n_characters: int) -> Json:
    """Return usage as Anthropic counts it: what came from a cache stands beside the input.

    Tokens that nobody stated are estimated, four characters to a token, for there must be numbers.
    """
    counts = usage_columns(usage or {})
    n_asked, n_said = counts["gen_ai_usage_input_tokens"], counts["gen_ai_usage_output_tokens"]
    n_cached = counts["gen_ai_usage_cache_read_input_tokens"] or 0
    if n_asked is None:
        texts = [text_of(message.get("content")) for message in prompt_messages(asked.chat)]
        tools = json.dumps(asked.chat["tools"]) if "tools" in asked.chat else ""
        n_asked = _tokens(sum(len(text) for text in texts) + len(tools))
    return {
        "input_tokens": max(n_asked - n_cached, 0),
        "cache_read_input_tokens": n_cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": _tokens(n_characters) if n_said is None else n_said,
    }


def _tokens(n_characters: int) -> int:
    return -(-n_characters // _CHARACTERS_PER_TOKEN)
