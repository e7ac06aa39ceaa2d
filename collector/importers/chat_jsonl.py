"""Chats in OpenAI's fine-tuning format: `{"messages": [...], "tools"?: [...]}` on each line.

Every assistant message of a chat becomes an interaction: what came before it is its request. The
interactions of one line share an episode. A message with `"weight": 0` is context, not an answer.
The role is the line's `role` or `agent_role`, else `coder`.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collector.importers.lines import Imported, Malformed, Reject, json_lines
from collector.record import derived_id, interaction_record

DEFAULT_ROLE = "coder"
RECORDED_AT = datetime(2024, 1, 1, tzinfo=UTC)
"""The format has no times; a fixed one keeps the ids the same when a file is imported again."""

_MESSAGE_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def read(path: Path) -> Iterator[Imported | Reject]:
    """Yield the records of one file; the line number repeats for chats with several answers."""
    for number, text, row in json_lines(path):
        if isinstance(row, Reject):
            yield row
            continue
        try:
            yield from _imported(number, row)
        except Malformed as error:
            yield Reject(number, f"malformed: {error}", text)


def _imported(number: int, row: dict[str, Any]) -> list[Imported]:
    messages = _checked(row.get("messages"))
    key = json.dumps(row, sort_keys=True)
    answers = [i for i, m in enumerate(messages) if _is_answer(m)]
    if not answers:
        raise Malformed("messages: none of them is an answer of the assistant")
    episode = derived_id(RECORDED_AT, "chat_jsonl", key)
    return [Imported(number, _interaction(row, messages, index, episode, key)) for index in answers]


def _checked(messages: Any) -> Sequence[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise Malformed(f"messages: got {messages!r:.80}, expected a list of messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _MESSAGE_ROLES:
            raise Malformed(
                f"messages.{index}: got {message!r:.80}, expected an object whose role is one of "
                + ", ".join(sorted(_MESSAGE_ROLES))
            )
    return messages


def _is_answer(message: dict[str, Any]) -> bool:
    said = message.get("content") or message.get("tool_calls")
    return message["role"] == "assistant" and bool(said) and message.get("weight") != 0


def _interaction(
    row: dict[str, Any], messages: Sequence[dict[str, Any]], index: int, episode: Any, key: str
) -> dict[str, Any]:
    identifier = derived_id(RECORDED_AT, "chat_jsonl", key, str(index))
    request = {"model": row.get("model"), "messages": list(messages[:index])}
    request |= {name: row[name] for name in ("tools", "functions") if name in row}
    answer = {name: value for name, value in messages[index].items() if name != "weight"}
    finish = "tool_calls" if answer.get("tool_calls") else "stop"
    response = {
        "id": identifier.hex,
        "object": "chat.completion",
        "model": row.get("model"),
        "choices": [{"index": 0, "message": answer, "finish_reason": finish}],
    }
    return interaction_record(
        identifier,
        str(row.get("agent_role") or row.get("role") or DEFAULT_ROLE),
        request,
        response,
        started_at=RECORDED_AT,
        episode_id=episode,
        task_type=row.get("task_type"),
        source="import:chat_jsonl",
    )
