"""From dataset rows to token ids and labels: loss on the answer only, and never on nothing.

We tokenise here and hand ids and labels to TRL, so that what is masked is ours to see and to test.
Prompt and answer are tokenised apart, as at inference, where the model continues a finished prompt.
An answer of tool calls is learned as the chat template writes them; where it does not, the row is
left out, since the rest of it would teach the model not to call.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError

from foundation.chat import Message, text_of
from foundation.errors import BadInput
from trainer.recipe import DROP, TRUNCATE

IGNORED = -100
"""Label of a token without loss (PyTorch's `ignore_index`)."""

TOO_LONG, EMPTY_ANSWER = "too long", "empty answer"
TOOL_CALLS = "tool calls that the chat template does not write"

Row = dict[str, Any]
"""`{"prompt": [messages], "completion": [assistant message], …}`, of `curation.export`."""


@dataclass
class Encoded:
    """Rows as token ids.

    Attributes:
        input_ids: per row, prompt and answer.
        labels: per row, as long; `IGNORED` over the prompt.
        dropped: rows left out, by reason.
        n_shortened: rows whose prompt lost its beginning.
    """

    input_ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    n_shortened: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def n_learned_tokens(self) -> int:
        """Tokens with a loss, over all rows."""
        return sum(label != IGNORED for row in self.labels for label in row)


def encode(rows: Sequence[Row], tokenizer: Any, max_length: int, too_long: str = DROP) -> Encoded:
    """Tokenise rows; those of more than `max_length` tokens are left out or shortened, and counted.

    A cut answer would teach the model to stop in the middle, so only a prompt is ever shortened. No
    rows give an empty result.

    Args:
        rows: prompts and answers.
        tokenizer: of the base.
        max_length: tokens of the longest row.
        too_long: of `Recipe.too_long`: drop, or truncate.

    Raises:
        BadInput: the chat template renders a prompt differently when an answer follows.
    """
    encoded = Encoded()
    for row in rows:
        reason = unlearnable(row, tokenizer)
        if reason is not None:
            encoded.dropped[reason] += 1
            continue
        prompt, answer = split_text(row, tokenizer)
        prompt_ids, answer_ids = ids_of(prompt, tokenizer), ids_of(answer, tokenizer)
        room = max_length - len(answer_ids)
        if len(prompt_ids) > room:
            if too_long != TRUNCATE or room < 1:
                encoded.dropped[TOO_LONG] += 1
                continue
            prompt_ids = shortened(row["prompt"], prompt, room, tokenizer)
            encoded.n_shortened += 1
        encoded.input_ids.append(prompt_ids + answer_ids)
        encoded.labels.append([IGNORED] * len(prompt_ids) + answer_ids)
    return encoded


def ids_of(text: str, tokenizer: Any) -> list[int]:
    """Return the tokens of a text as it stands: no token of beginning or end is added."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def shortened(messages: Sequence[Message], prompt: str, room: int, tokenizer: Any) -> list[int]:
    """Return at most `room` tokens of a prompt: its system message, and its end.

    Whole messages go first, the oldest ones; if the last one alone is too long, it loses its own
    beginning. A system message that would take more than half of the room goes too.
    """
    starts = _starts(messages, prompt, tokenizer)
    has_system = bool(starts) and messages[0]["role"] in ("system", "developer")
    system = ids_of(prompt[: starts[0]], tokenizer) if has_system else []
    if len(system) > room // 2:
        system = []
    for start in starts:
        rest = ids_of(prompt[start:], tokenizer)
        if len(system) + len(rest) <= room:
            return system + rest
    return system + ids_of(prompt, tokenizer)[len(system) - room :]


def _starts(messages: Sequence[Message], prompt: str, tokenizer: Any) -> list[int]:
    """Return where each message but the first begins, as far as the chat template shows it."""
    asked = [_renderable(message) for message in messages]
    found = []
    for n in range(1, len(asked)):
        before = _written(asked[:n], tokenizer)
        if before and prompt.startswith(before):
            found.append(len(before))
    return found


def split_text(row: Row, tokenizer: Any) -> tuple[str, str]:
    """Return what the model is shown and what it is to answer, its end token included.

    Raises:
        BadInput: as `encode`.
    """
    asked = [_renderable(message) for message in row["prompt"]]
    said = [_renderable(message) for message in row["completion"]]
    prompt: str = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole: str = tokenizer.apply_chat_template(asked + said, tokenize=False)
    if not whole.startswith(prompt):
        raise BadInput(
            "chat template",
            whole[: len(prompt) + 40],
            "a rendering that begins with the prompt as shown at inference",
            "Use a template that keeps the prompt when an answer follows.",
        )
    answer, end = whole[len(prompt) :], tokenizer.eos_token
    if end and end in answer:  # what stands behind the end token is never generated
        answer = answer[: answer.rfind(end) + len(end)]
    return prompt, answer


def unlearnable(row: Row, tokenizer: Any) -> str | None:
    """Return why there is nothing to learn from a row, or None."""
    if any(message.get("tool_calls") for message in row["completion"]):
        return None if _writes_tool_calls(row, tokenizer) else TOOL_CALLS
    said = "".join(text_of(message.get("content")) for message in row["completion"])
    return None if said.strip() else EMPTY_ANSWER


def _writes_tool_calls(row: Row, tokenizer: Any) -> bool:
    """Whether the chat template writes the answer's tool calls: without them it says less."""
    asked = [_renderable(message) for message in row["prompt"]]
    said = [_renderable(message) for message in row["completion"]]
    silent = [{k: v for k, v in message.items() if k != "tool_calls"} for message in said]
    written = _written(asked + said, tokenizer)
    return written is not None and written != _written(asked + silent, tokenizer)


def _written(messages: list[Message], tokenizer: Any) -> str | None:
    """Return a conversation as the chat template writes it, or None if it refuses to."""
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except TemplateError:
        return None


def _renderable(message: Message) -> Message:
    """Return a message as chat templates expect it, as servers prepare it too.

    Content is text, and the arguments of tool calls are objects: a template that writes JSON would
    write the text of them as a JSON string.
    """
    shown = {**message, "content": "" if message.get("content") is None else message["content"]}
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        shown["tool_calls"] = [_with_arguments(call) for call in calls]
    return shown


def _with_arguments(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def require_labels(
    labels: Sequence[Sequence[int]], what: str, dropped: Mapping[str, int] | None = None
) -> None:
    """Check that there are rows and that each has at least one token to learn.

    Raises:
        BadInput: naming `what`, the rows, those without a label, and what was left out before.
    """
    empty = sum(all(label == IGNORED for label in row) for row in labels)
    if not labels or empty:
        left_out = [f"{n_rows} left out: {reason}" for reason, n_rows in (dropped or {}).items()]
        raise BadInput(
            what,
            ", ".join([f"{len(labels)} rows, {empty} of them with every label masked", *left_out]),
            "rows with at least one token to learn in each",
            "Check the dataset's answers, the chat template and recipe.max_length.",
        )
