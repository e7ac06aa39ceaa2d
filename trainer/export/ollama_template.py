"""A chat template in Go's template language, as Ollama wants it, and a reader of what is written.

A template of transformers is a program; most of them only put fixed texts around each message.
Those texts are found by rendering marked messages, and the result is believed only where it gives
the same text as the original for conversations of every shape. What is more than that is refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import TemplateError

from foundation.errors import BadInput
from trainer.export.prompts import Messages

ROLES: Final = ("system", "user", "assistant")
_MARKS: Final = ("⟦one⟧", "⟦two⟧", "⟦three⟧", "⟦four⟧")
_SHAPES: Final = ("u", "su", "uau", "suau", "uauau")
_WORDS: Final = {"s": ROLES[0], "u": ROLES[1], "a": ROLES[2]}


@dataclass(frozen=True)
class ChatShape:
    """The fixed texts of a chat template.

    Attributes:
        start: before everything (the beginning-of-text token is left out: the server adds it).
        default_system: instead of a system message, where there is none.
        around: by role: the texts before and after a message.
        generation: where the answer begins.
    """

    start: str
    default_system: str
    around: Mapping[str, tuple[str, str]]
    generation: str


def chat_shape(tokenizer: Any, bos: str) -> ChatShape:
    """Return the fixed texts of a tokenizer's template.

    Args:
        tokenizer: with a chat template.
        bos: token that the server puts before every text; empty for none.

    Raises:
        BadInput: the template does more than put texts around messages.
    """

    def render(messages: Messages, go_on: bool = False) -> str:
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=go_on
        )
        return text.removeprefix(bos)

    try:
        shape = _derived(render)
        text = go_template(shape)
        for conversation in _conversations():
            if rendered(text, conversation) != render(conversation, True):
                raise ValueError(f"roles {', '.join(m['role'] for m in conversation)}")
    except (ValueError, TypeError, LookupError, TemplateError) as error:
        raise _refused(str(error)) from error
    return shape


def go_template(shape: ChatShape) -> str:
    """Return the shape in Go's language."""
    parts = [shape.start]
    if shape.default_system:
        parts += [
            '{{ if ne (index .Messages 0).Role "system" }}',
            shape.default_system,
            "{{ end }}",
        ]
    parts.append("{{ range .Messages }}")
    for i, role in enumerate(ROLES):
        before, after = shape.around[role]
        parts.append(f'{{{{ {"else " * bool(i)}if eq .Role "{role}" }}}}')
        parts.append(f"{before}{{{{ .Content }}}}{after}")
    parts += ["{{ end }}{{ end }}", shape.generation]
    return "".join(parts)


def rendered(template: str, messages: Messages) -> str:
    """Render a template as Go would; of its language only what `go_template` writes.

    Raises:
        BadInput: another word of Go's.
    """
    parts = re.split(r"\{\{(.*?)\}\}", template)
    pieces = iter([(i % 2 == 1, part.strip() if i % 2 else part) for i, part in enumerate(parts)])
    return _block(list(_tree(pieces)), {"Messages": messages}, None)


Node = tuple[str, Any, Any]


def _tree(pieces: Iterator[tuple[bool, str]]) -> Iterator[Node]:
    """Yield texts, values and blocks up to the `end` of the surrounding block."""
    for is_action, part in pieces:
        if not is_action:
            yield "text", part, None
        elif part == "end":
            return
        elif part.startswith(("range ", "if ")):
            yield part.split(" ", 1)[0], part.split(" ", 1)[1], list(_tree(pieces))
        elif part.startswith("else if "):
            yield "else", part.removeprefix("else if "), None
        else:
            yield "value", part, None


def _block(nodes: Sequence[Node], data: Mapping[str, Any], message: Any) -> str:
    out = []
    for kind, what, inner in nodes:
        if kind == "text":
            out.append(what)
        elif kind == "value" and what == ".Content":
            out.append(message["content"])
        elif kind == "range" and what == ".Messages":
            out += [_block(inner, data, one) for one in data["Messages"]]
        elif kind == "if":
            out.append(_branch(what, inner, data, message))
        else:
            raise BadInput("Ollama template", what, "words that are written here", "Export again.")
    return "".join(out)


def _branch(condition: str, nodes: Sequence[Node], data: Mapping[str, Any], message: Any) -> str:
    """Render the first branch whose condition holds."""
    chosen: list[Node] = []
    holds, done = _holds(condition, data, message), False
    for node in nodes:
        if node[0] == "else":
            done = done or holds
            holds = not done and _holds(node[1], data, message)
        elif holds and not done:
            chosen.append(node)
    return _block(chosen, data, message)


def _holds(condition: str, data: Mapping[str, Any], message: Any) -> bool:
    if found := re.fullmatch(r'eq \.Role "(\w+)"', condition):
        return bool(message["role"] == found[1])
    if found := re.fullmatch(r'ne \(index \.Messages 0\)\.Role "(\w+)"', condition):
        return bool(data["Messages"][0]["role"] != found[1])
    raise BadInput("Ollama template", condition, "words that are written here", "Export again.")


def _derived(render: Any) -> ChatShape:
    one, two, three, four = _MARKS
    user = [{"role": "user", "content": two}]
    answered = [*user, {"role": "assistant", "content": three}]
    begins, after_user = _cut(render(user), [two])
    generation = render(user, True).removeprefix(render(user))
    after_assistant = _cut(render(answered), [two, three])[-1]
    whole = [{"role": "system", "content": one}, *answered, {"role": "user", "content": four}]
    start_system, system_user, user_assistant, assistant_user, _ = _cut(
        render(whole), [one, two, three, four]
    )
    before_user = _without(assistant_user, after_assistant, at_end=False)
    start = _common(start_system, _without(begins, before_user, at_end=True))
    return ChatShape(
        start=start,
        default_system=_without(begins, before_user, at_end=True).removeprefix(start),
        around={
            "system": (start_system[len(start) :], _without(system_user, before_user, at_end=True)),
            "user": (before_user, after_user),
            "assistant": (_without(user_assistant, after_user, at_end=False), after_assistant),
        },
        generation=generation,
    )


def _cut(text: str, marks: Sequence[str]) -> list[str]:
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise ValueError("a message is left out or changed")
        parts.append(before)
    return [*parts, text]


def _without(text: str, other: str, *, at_end: bool) -> str:
    if not (text.endswith(other) if at_end else text.startswith(other)):
        raise ValueError("what is put around a message depends on where it stands")
    return text[: len(text) - len(other)] if at_end else text[len(other) :]


def _common(system: str, nothing: str) -> str:
    """Return what stands before the system message and before its absence."""
    return "" if nothing.startswith(system) else nothing if system.startswith(nothing) else ""


def _conversations() -> Iterator[Messages]:
    for shape in _SHAPES:
        yield [
            {"role": _WORDS[letter], "content": f"say {i}: {letter * 3}"}
            for i, letter in enumerate(shape)
        ]


def _refused(reason: str) -> BadInput:
    return BadInput(
        "chat template",
        reason,
        "fixed texts around each message, as Ollama's templates have",
        "Export as gguf and write the Modelfile's TEMPLATE by hand.",
    )
