"""Alpaca instructions: `{"instruction", "input"?, "output", "system"?, "history"?}`.

Instruction and input, a newline between, are the user's message; Dolly's `context` and `response`
are read too. The answers in the history are learned from as well, so each is an interaction of its
own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from collector.importers.answers import one_per_answer
from collector.importers.lines import Imported, Malformed, NoAnswer, Reject, parsed, read_rows
from collector.importers.messages import asked_with, with_system
from collector.importers.row import Row
from collector.importers.source import Source
from foundation.chat import Message, message, text_of

FORMAT = "alpaca"
_ANSWERS = ("output", "response", "answer", "completion")
_KEPT = ("id", "category", "source", "images", "tags", "lang")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    return read_rows(source, _translate)


def recognises(row: dict[str, Any]) -> bool:
    """Tell an instruction with its answer."""
    return "instruction" in row and any(name in row for name in _ANSWERS)


def instruction_of(raw: Mapping[str, Any]) -> str:
    """Return instruction and input as one user message.

    Raises:
        Malformed: there is neither.
    """
    parts = (text_of(raw.get("instruction")), text_of(raw.get("input") or raw.get("context")))
    text = "\n".join(part for part in parts if part.strip())
    if not text:
        raise Malformed(f"instruction: got {raw.get('instruction')!r:.80}, expected a text")
    return text


def history_of(raw: Mapping[str, Any]) -> list[tuple[Message, bool]]:
    """Return the earlier rounds as messages, the answers marked; raises Malformed."""
    rounds = parsed(raw.get("history")) or []
    if not isinstance(rounds, list):
        raise Malformed(f"history: got {raw['history']!r:.80}, expected a list of pairs")
    found: list[tuple[Message, bool]] = []
    for index, pair in enumerate(rounds):
        if not isinstance(pair, list) or len(pair) != 2:
            raise Malformed(f"history.{index}: got {pair!r:.80}, expected [question, answer]")
        question, answer = map(text_of, pair)
        found.append((message("user", question), False))
        found.append((message("assistant", answer), bool(answer.strip())))
    return found


def _translate(raw: dict[str, Any], place: int, source: Source) -> list[Imported]:
    row = Row.of(FORMAT, raw, place, source)
    answer = next((text_of(raw[name]) for name in _ANSWERS if raw.get(name)), "")
    asked = message("user", instruction_of(raw))
    if not answer.strip():
        raise NoAnswer("output: is empty")
    messages = [*history_of(raw), (asked, False), (message("assistant", answer), True)]
    kept = {name: raw[name] for name in _KEPT if raw.get(name)}
    request = asked_with(raw.get("model"), raw.get("tools"))
    return one_per_answer(row, request, with_system(messages, raw), attributes=kept or None)
