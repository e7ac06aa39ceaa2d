"""Chats in OpenAI's fine-tuning formats, one on each line.

`{"messages": [...], "tools"?: [...], "parallel_tool_calls"?: …}`: every assistant message becomes
an interaction, as in an agent's log: what came before it is its request. The interactions of one
line share an episode, and each names the one before as its parent. A message with `"weight": 0` is
context, not an answer.

`{"input": {"messages", "tools"?}, "preferred_output": [...], "non_preferred_output": [...]}` (their
preference format): an interaction for each of the two answers and a `preference` between them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from collector.importers.answers import one_per_answer, preferred
from collector.importers.lines import Imported, Reject, read_rows
from collector.importers.messages import asked_with, openai_messages, tools_in_messages
from collector.importers.row import Row
from collector.importers.source import Source

FORMAT = "chat_jsonl"
_PARAMETERS = ("temperature", "max_tokens", "parallel_tool_calls", "response_format")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    return read_rows(source, _imported)


def recognises(row: dict[str, Any]) -> bool:
    """Tell a row of either shape."""
    return isinstance(row.get("messages"), list) or "preferred_output" in row


def _imported(raw: dict[str, Any], place: int, source: Source) -> Sequence[Imported]:
    row = Row.of(FORMAT, raw, place, source)
    if "preferred_output" in raw:
        return _pair(row, raw)
    return one_per_answer(row, request_of(raw), openai_messages(raw.get("messages")))


def _pair(row: Row, raw: dict[str, Any]) -> Sequence[Imported]:
    asked = raw["input"] if isinstance(raw.get("input"), dict) else raw
    prompt, winner, loser = (
        [message for message, _ in openai_messages(said, name)]
        for name, said in (
            ("input.messages", asked.get("messages")),
            ("preferred_output", raw["preferred_output"]),
            ("non_preferred_output", raw.get("non_preferred_output")),
        )
    )
    return preferred(row, request_of(asked), prompt, winner, loser)


def request_of(raw: dict[str, Any]) -> dict[str, Any]:
    """Return what a chat was asked with besides its messages."""
    request = {name: raw[name] for name in _PARAMETERS if raw.get(name) is not None}
    tools = raw.get("tools") or raw.get("functions") or tools_in_messages(raw.get("messages"))
    return request | asked_with(raw.get("model"), tools)
