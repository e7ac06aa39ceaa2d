"""Preference pairs: a prompt with a chosen and a rejected answer.

Prompt and answers may be texts, messages, ShareGPT turns, whole conversations that begin alike, or
HH-RLHF's dialogues (`Human: … Assistant: …`). Each answer becomes an interaction; a `preference`
names the winner and the loser, and scores beside them become metrics. Earlier answers of the
conversation are context only: nobody judged them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from collector.importers.alpaca import history_of, instruction_of
from collector.importers.answers import preferred
from collector.importers.lines import Imported, Malformed, Reject, parsed, read_rows
from collector.importers.messages import asked_with, openai_messages, with_system
from collector.importers.row import Row
from collector.importers.source import Source
from foundation.chat import Message, message

FORMAT = "dpo"

_PROMPTS = ("conversations", "messages", "prompt", "question", "query", "context", "input")
_CHOSEN = ("chosen", "chosen_response", "response_chosen", "preferred", "accepted", "winner")
_REJECTED = ("rejected", "rejected_response", "response_rejected", "dispreferred", "loser")
_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
)
_KEPT = ("id", "prompt_id", "source", "category", "images", "tags")
_HH_TURN = re.compile(r"\n\n(Human|Assistant): ?")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    return read_rows(source, _translate)


def recognises(row: dict[str, Any]) -> bool:
    """Tell a row with a chosen and a rejected answer."""
    return any(n in row for n in _CHOSEN) and any(n in row for n in _REJECTED)


def _translate(raw: dict[str, Any], place: int, source: Source) -> list[Imported]:
    row = Row.of(FORMAT, raw, place, source)
    winner, loser = (_said(raw, names) for names in (_CHOSEN, _REJECTED))
    common = _common_length(winner, loser)
    begins_alike = any(m["role"] == "user" for m in winner[:common])
    prompt = winner[:common] if begins_alike else _prompt(raw)
    if begins_alike:
        winner, loser = winner[common:], loser[common:]
    if winner == loser or not winner or not loser:
        raise Malformed("chosen, rejected: hold the same answer, expected two")
    prompt = [m for m, _ in with_system([(m, False) for m in prompt], raw)]
    request = asked_with(raw.get("model"), raw.get("tools"))
    kept = {name: raw[name] for name in _KEPT if raw.get(name)}
    pair = preferred(row, request, prompt, winner, loser, attributes=kept or None)
    for number, item in enumerate(pair):
        item.feedback.extend(_scores(row, raw, number))
    return pair


def _said(raw: Mapping[str, Any], names: Sequence[str]) -> list[Message]:
    name = next((n for n in names if raw.get(n)), names[0])
    value = parsed(raw.get(name))
    if isinstance(value, str):
        turns = _HH_TURN.split(value)
        if len(turns) > 2 and not turns[0].strip():
            speakers = ("user" if who == "Human" else "assistant" for who in turns[1::2])
            return [message(who, text) for who, text in zip(speakers, turns[2::2], strict=True)]
        return [message("assistant", value)]
    return [said for said, _ in openai_messages(value, name)]


def _prompt(raw: Mapping[str, Any]) -> list[Message]:
    if "instruction" in raw:
        return [m for m, _ in history_of(raw)] + [message("user", instruction_of(raw))]
    for name in _PROMPTS:
        value = parsed(raw.get(name))
        if isinstance(value, str) and value.strip():
            return [message("user", value)]
        if value:
            return [said for said, _ in openai_messages(value, name)]
    raise Malformed(
        f"got the fields {', '.join(sorted(raw))[:200]}, expected a prompt under one of "
        + ", ".join(_PROMPTS)
    )


def _common_length(first: Sequence[Message], second: Sequence[Message]) -> int:
    alike = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        alike += 1
    return alike


def _scores(row: Row, raw: Mapping[str, Any], number: int) -> Iterator[dict[str, Any]]:
    for names in _SCORES:
        value = raw.get(names[number])
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield row.feedback(number, "metric", "score", value=float(value), source="judge")
            return
