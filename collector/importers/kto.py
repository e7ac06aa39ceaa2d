"""Answers with thumbs up or down: messages, or a prompt and a completion, and a boolean `label`.

The last answer becomes an interaction with a `success` feedback named `label` of a person; earlier
answers are context only: nobody judged them. Alpaca fields with a `kto_tag` are read too.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from collector.importers.alpaca import history_of, instruction_of
from collector.importers.answers import last_answer
from collector.importers.lines import Imported, Malformed, NoAnswer, Reject, parsed, read_rows
from collector.importers.messages import asked_with, openai_messages, with_system
from collector.importers.row import Row
from collector.importers.source import Source
from foundation.chat import Message, message

FORMAT = "kto"

_LABELS = ("label", "kto_tag", "desirable", "thumbs_up")
_CONVERSATIONS = ("messages", "conversations")
_ANSWERS = ("completion", "response", "output", "answer")
_YES = frozenset({"true", "1", "yes", "good", "desirable", "up", "thumbs_up", "positive"})
_NO = frozenset({"false", "0", "no", "bad", "undesirable", "down", "thumbs_down", "negative"})
_KEPT = ("id", "source", "category", "images", "tags")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    return read_rows(source, _translate)


def recognises(row: dict[str, Any]) -> bool:
    """Tell a conversation or an answer with a label."""
    answered = any(name in row for name in (*_CONVERSATIONS, *_ANSWERS))
    return answered and ("kto_tag" in row or isinstance(row.get("label"), bool))


def _translate(raw: dict[str, Any], place: int, source: Source) -> list[Imported]:
    row = Row.of(FORMAT, raw, place, source)
    is_good = _label(raw)
    messages = _messages(raw)
    prompt = [m for m, _ in with_system([(m, False) for m in messages[:-1]], raw)]
    request = asked_with(raw.get("model"), raw.get("tools"))
    statement = row.feedback(0, "success", "label", value=float(is_good), source="human")
    kept = {name: raw[name] for name in _KEPT if raw.get(name)}
    return [
        last_answer(
            row, request, prompt, messages[-1], feedback=[statement], attributes=kept or None
        )
    ]


def _label(raw: Mapping[str, Any]) -> bool:
    name = next((n for n in _LABELS if raw.get(n) is not None), _LABELS[0])
    word = str(raw.get(name)).strip().lower().removesuffix(".0")
    if word not in _YES | _NO:
        raise Malformed(f"{name}: got {raw.get(name)!r:.80}, expected true or false")
    return word in _YES


def _messages(raw: Mapping[str, Any]) -> list[Message]:
    """Return the conversation, the judged answer last."""
    field = next((name for name in _CONVERSATIONS if raw.get(name)), None)
    if field is not None:
        messages = [said for said, _ in openai_messages(raw[field], field)]
    elif "instruction" in raw:
        asked = message("user", instruction_of(raw))
        messages = [*(m for m, _ in history_of(raw)), asked, *_completion(raw)]
    else:
        prompt = parsed(raw.get("prompt"))
        if not prompt:
            raise Malformed("got no messages, expected messages, or a prompt and a completion")
        asked_for = (
            [message("user", prompt)]
            if isinstance(prompt, str)
            else [said for said, _ in openai_messages(prompt, "prompt")]
        )
        messages = [*asked_for, *_completion(raw)]
    if messages[-1]["role"] != "assistant":
        raise NoAnswer(f"the last message is of {messages[-1]['role']!r}, not of the assistant")
    return messages


def _completion(raw: Mapping[str, Any]) -> list[Message]:
    name = next((n for n in _ANSWERS if raw.get(n)), None)
    if name is None:
        raise NoAnswer("completion: is empty")
    value = parsed(raw[name])
    if isinstance(value, str):
        return [message("assistant", value)]
    return [said for said, _ in openai_messages(value, name)]
