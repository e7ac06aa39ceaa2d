"""What the file changes in a request: parameters, limits and text around it. Pure.

`changes` says which members of the request are to be others, in the words of the caller's dialect;
`edited` writes these into the caller's text and leaves every other byte as it came. Names are those
of chat; a limit of tokens is called as the dialect calls it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from router.dialects import Asked
from router.dialects.members import members
from router.upstreams.config import CallRules, Template
from router.upstreams.server import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES

_TOKEN_LIMITS = {
    CHAT: ("max_tokens", "max_completion_tokens"),
    COMPLETIONS: ("max_tokens",),
    MESSAGES: ("max_tokens",),
    RESPONSES: ("max_output_tokens",),
}
"""What a dialect calls the limit of an answer's tokens, the name that is written first."""
_LIMIT = "max_tokens"


def applied(asked: Asked, rules: CallRules) -> Asked:
    """Return the request as it is sent: the caller's own where nothing is to change."""
    changed = changes(asked.values, asked.dialect.name, rules)
    return asked.dialect.read(edited(asked.text, changed).encode()) if changed else asked


def changes(values: Mapping[str, Any], dialect: str, rules: CallRules) -> dict[str, Any]:
    """Return the members of a request that are to be set, with their values.

    Empty if nothing is to change, as for embeddings, which have none of all this. What the caller
    sent in a wrong kind is left to the server to refuse, except a limit, which holds in any case.
    """
    if not rules.changes_requests or dialect == EMBEDDINGS:
        return {}
    made = _with_template(values, dialect, rules.template)
    for name, value in _in_words_of(dialect, rules.parameters).items():
        if not any(values.get(known) is not None for known in _alike(dialect, name)):
            made[name] = value
    for name, limit in _in_words_of(dialect, rules.at_most).items():
        made |= _limited({**values, **made}, dialect, name, limit)
    made |= _in_words_of(dialect, rules.forced)
    return {
        name: value for name, value in made.items() if name not in values or values[name] != value
    }


def _in_words_of(dialect: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    own = _TOKEN_LIMITS[dialect][0]
    return {own if name == _LIMIT else name: value for name, value in parameters.items()}


def _alike(dialect: str, name: str) -> Sequence[str]:
    """Return the names by which a request may say the same as by `name`."""
    names = _TOKEN_LIMITS[dialect]
    return names if name in names else (name,)


def _limited(
    values: Mapping[str, Any], dialect: str, name: str, limit: float
) -> dict[str, int | float]:
    """Return the members that `limit` changes: those above it, and a token limit left open."""
    names = _alike(dialect, name)
    said = [one for one in names if values.get(one) is not None]
    is_tokens = name in _TOKEN_LIMITS[dialect]
    if not said:
        return {name: limit} if is_tokens else {}
    # -1 is "no limit" to some servers, and some read "5000" as a number
    lowest = 0 if is_tokens else float("-inf")
    return {one: limit for one in said if not _is_within(values[one], lowest, limit)}


def _is_within(value: Any, above: float, limit: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and above < value <= limit


def _with_template(values: Mapping[str, Any], dialect: str, template: Template) -> dict[str, Any]:
    """Return the members that hold the template's text around the caller's."""
    if dialect == COMPLETIONS:
        prompt = values.get("prompt")
        return {"prompt": _around(prompt, template)} if isinstance(prompt, str) else {}
    made: dict[str, Any] = {}
    field = "input" if dialect == RESPONSES else "messages"
    said = values.get(field)
    if dialect == RESPONSES and isinstance(said, str):
        made[field] = _around(said, template)
    elif isinstance(said, list) and all(isinstance(one, dict) for one in said):
        made[field] = _around_last_user(said, template)
        if dialect == CHAT:
            return {field: _with_system_message(made[field], template)}
    system = "instructions" if dialect == RESPONSES else "system"
    if dialect != CHAT and (text := _system(values.get(system), template)) is not None:
        made[system] = text
    return made


def _with_system_message(messages: list[Any], template: Template) -> list[Any]:
    first = messages[0] if messages else {}
    has_one = first.get("role") in ("system", "developer")
    text = _system(first.get("content") if has_one else None, template)
    if text is None:
        return messages
    if has_one:
        return [{**first, "content": text}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _system(said: Any, template: Template) -> Any:
    """Return the system prompt: the caller's, else the template's, its prefix before it."""
    text = said or template.system
    prefix = template.system_prefix
    if prefix is None or text is None:
        return text or prefix
    if isinstance(text, list):
        return [{"type": "text", "text": prefix}, *text]
    return prefix + text if isinstance(text, str) else text


def _around_last_user(messages: list[Any], template: Template) -> list[Any]:
    if not (template.user_prefix or template.user_suffix):
        return messages
    last = max((i for i, one in enumerate(messages) if _is_from_user(one)), default=None)
    if last is None:
        return messages
    changed = {**messages[last], "content": _around(messages[last]["content"], template)}
    return [*messages[:last], changed, *messages[last + 1 :]]


def _is_from_user(message: Mapping[str, Any]) -> bool:
    """Return whether a message is the user's words, and not what a tool gave back."""
    content = message.get("content")
    if isinstance(content, list):
        kinds = [part.get("type") for part in content if isinstance(part, dict)]
        return message.get("role") == "user" and "tool_result" not in kinds
    return message.get("role") == "user" and isinstance(content, str)


def _around(content: Any, template: Template) -> Any:
    before, after = template.user_prefix or "", template.user_suffix or ""
    if isinstance(content, str):
        return before + content + after
    kind = next((p["type"] for p in content if str(p.get("type")).endswith("text")), "text")
    head = [{"type": kind, "text": before}] if before else []
    tail = [{"type": kind, "text": after}] if after else []
    return [*head, *content, *tail]


def edited(text: str, changed: Mapping[str, Any]) -> str:
    """Return the JSON object `text` with members set anew, every other byte as it came.

    Members that it has keep their place, also where they are there twice; others come first.

    Raises:
        ValueError: it is no JSON object.
    """
    if not changed:
        return text
    pieces: list[str] = []
    position, found = 0, set[str]()
    for name, _, (start, end) in members(text):
        if name in changed:
            pieces += [text[position:start], _json(changed[name])]
            position, found = end, {*found, name}
    whole = "".join([*pieces, text[position:]])
    new = [f"{_json(name)}: {_json(value)}" for name, value in changed.items() if name not in found]
    if not new:
        return whole
    opened = whole.index("{") + 1
    is_empty = whole[opened:].lstrip().startswith("}")
    return whole[:opened] + ", ".join(new) + ("" if is_empty else ", ") + whole[opened:]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
