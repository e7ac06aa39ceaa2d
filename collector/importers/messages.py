"""Messages as the data sets write them, read as OpenAI chat messages.

A message that is OpenAI-shaped stays as it is. Others are understood by what they are called in
ShareGPT, LLaMA-Factory, Anthropic and TensorZero data: `from`/`value`, function calls and
observations as turns of their own, content as a list of typed parts.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from collector.importers.lines import Malformed, parsed
from foundation.chat import Message, text_of

USER = ("user", "human", "prompter", "customer", "instruction")
ASSISTANT = ("assistant", "gpt", "model", "bot", "chatgpt", "ai", "agent", "output")
CALL = ("function_call", "function-call", "tool_call", "tool_calls", "action")
TOOL = (
    "tool",
    "function",
    "observation",
    "function_response",
    "function-response",
    "tool_response",
    "tool-response",
    "tool_result",
    "ipython",
    "environment",
)
_ROLE_OF = {
    "system": "system",
    "developer": "developer",
    **dict.fromkeys(USER, "user"),
    **dict.fromkeys((*ASSISTANT, *CALL), "assistant"),
    **dict.fromkeys(TOOL, "tool"),
}
_ROLE_KEYS = ("role", "from", "speaker")
_CONTENT_KEYS = ("content", "value", "text", "message")
_WEIGHT_KEYS = ("weight", "loss_weight", "train", "trainable", "loss")
"""Names under which data sets say whether a message is to be learned."""

_TEXT_PARTS = ("text", "input_text", "output_text", "raw_text")
_REASONING_PARTS = ("reasoning", "thinking", "thought", "think")
_CALL_PARTS = (*CALL, "tool_use")
_RESULT_PARTS = ("tool_result", "function_response", "tool_response", "observation")


def asked_with(model: Any = None, tools: Any = None) -> dict[str, Any]:
    """Return a request's model and tools, those that there are."""
    named = {"model": model} if isinstance(model, str) and model else {}
    offered = openai_tools(tools)
    return named | ({"tools": offered} if offered else {})


def openai_messages(raw: Any, where: str = "messages") -> list[tuple[Message, bool]]:
    """Return messages with, for each, whether it is an answer to learn from.

    Args:
        raw: a list of messages, JSON text of one, or one message.
        where: name of the field, for the error.

    Raises:
        Malformed: it is empty, or an item is no message that we know of.
    """
    items = parsed(raw)
    items = [items] if isinstance(items, dict) else items
    if not isinstance(items, list) or not items:
        raise Malformed(f"{where}: got {raw!r:.80}, expected a list of messages")
    found: list[tuple[Message, bool]] = []
    for index, item in enumerate(items):
        for message in _read(item, f"{where}.{index}"):
            said = bool(text_of(message.get("content")).strip() or message.get("tool_calls"))
            found.append((message, said and _is_answer(item)))
    return _with_call_ids(_joined_calls(found))


def openai_tools(raw: Any) -> list[Any] | None:
    """Return tools as OpenAI's `tools`, from a list or its JSON text; None if there are none."""
    items = parsed(raw)
    items = [items] if isinstance(items, dict) else items
    return [_tool(item) for item in items] if isinstance(items, list) and items else None


def tools_in_messages(raw: Any) -> list[Any] | None:
    """Return the tools that stand in a message, as its typed part; None if there are none."""
    rows = parsed(raw)
    rows = rows if isinstance(rows, list) else []
    contents = (row.get("content") for row in rows if isinstance(row, dict))
    parts = [part for content in contents if isinstance(content, list) for part in content]
    told = (part.get("value", part.get("text")) for part in parts if _is_tools(part))
    return next(filter(None, map(openai_tools, told)), None)


def _is_tools(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "tools"


def _tool(item: Any) -> Any:
    """Return a bare function, Anthropic's with its `input_schema` too, inside OpenAI's wrapper."""
    if not isinstance(item, dict) or "name" not in item:
        return item
    if str(item.get("type")).startswith(_HOSTED):
        return item
    function = {_TOOL_FIELDS.get(k, k): v for k, v in item.items() if k != "type"}
    return {"type": "function", "function": function}


_TOOL_FIELDS = {"input_schema": "parameters", "inputSchema": "parameters"}
_HOSTED = ("web_search", "file_search", "code_interpreter", "computer_use", "mcp")
"""Types of tools that the provider runs; they have no function."""


def _role_name(item: Any) -> str:
    """Return what a message calls its speaker, in lower case; empty if it names none."""
    if not isinstance(item, dict):
        return ""
    return str(next((item[key] for key in _ROLE_KEYS if item.get(key)), "")).lower()


def _is_answer(item: dict[str, Any]) -> bool:
    """Tell whether a message as it was written was said by a model and is not masked."""
    masked = any(key in item and item[key] in (0, False) for key in _WEIGHT_KEYS)
    return _ROLE_OF.get(_role_name(item)) == "assistant" and not masked


def _read(item: Any, where: str) -> list[Message]:
    """Return the OpenAI messages of one item: several where tool results hide in a user turn."""
    name = _role_name(item)
    if name not in _ROLE_OF:
        raise Malformed(
            f"{where}: got {item!r:.80}, expected an object whose role is one of "
            + ", ".join(sorted(_ROLE_OF))
        )
    content = next((item[key] for key in _CONTENT_KEYS if key in item), None)
    known = (*_ROLE_KEYS, *_CONTENT_KEYS, *_WEIGHT_KEYS)
    others = {key: value for key, value in item.items() if key not in known}
    message: Message = {"role": _ROLE_OF[name], "content": content, **others}
    if name in CALL and (calls := calls_of(content)):
        message |= {"content": None, "tool_calls": calls}
    elif isinstance(others.get("function_call"), dict):
        message["tool_calls"] = calls_of(message.pop("function_call"))
    elif "tool_calls" in others:
        message["tool_calls"] = calls_of(others["tool_calls"]) or None
    for name in ("reasoning", "thinking"):
        if isinstance(others.get(name), str):
            message["reasoning_content"] = message.pop(name)
    if isinstance(content, list) and message["content"] is not None:
        return _with_parts(message, content)
    if isinstance(message["content"], dict):
        message["content"] = json.dumps(content, ensure_ascii=False)
    return [message]


def _with_parts(message: Message, parts: Sequence[Any]) -> list[Message]:
    """Return a message whose content was a list of typed parts; results of tools come first."""
    kept: list[Any] = []
    reasoning, calls, results = list[str](), list[Any](), list[Message]()
    for part in parts:
        if _is_tools(part):  # part of the request, not of what was said
            continue
        kind = str(part.get("type")) if isinstance(part, dict) else "text"
        if kind in _TEXT_PARTS:
            kept.append(_text_part(part))
        elif kind in _REASONING_PARTS:
            reasoning.append(_part_text(part))
        elif kind in _CALL_PARTS:
            calls += calls_of(part)
        elif kind in _RESULT_PARTS:
            results.append(_tool_message(part))
        else:
            kept.append(part)
    answer: Message = {**message, "content": _simplest(kept)}
    if reasoning:
        answer["reasoning_content"] = "\n".join(reasoning)
    if calls:
        answer["tool_calls"] = [*(message.get("tool_calls") or []), *calls]
    says_nothing = not (kept or reasoning or calls)
    is_of_others = bool(results) or any(map(_is_tools, parts))
    return results if says_nothing and is_of_others else [*results, answer]


def _text_part(part: Any) -> Any:
    """Return an OpenAI text part; the very same object if it is one."""
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part
    return {"type": "text", "text": _part_text(part)}


def _part_text(part: Any) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
    names = ("text", "value", "thinking", "reasoning", "content", "arguments")
    value = next((part[name] for name in names if part.get(name) is not None), "")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _simplest(parts: list[Any]) -> Any:
    """Return one text for one part of text only, else the parts; None for none."""
    if not parts:
        return None
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return parts[0]["text"]
    return parts


def _tool_message(part: dict[str, Any]) -> Message:
    identifier = next((part[k] for k in ("tool_use_id", "tool_call_id", "id") if part.get(k)), None)
    result = next((part[k] for k in ("content", "result", "value", "text") if k in part), "")
    message: Message = {"role": "tool", "content": text_of(result)}
    if identifier:
        message["tool_call_id"] = str(identifier)
    if part.get("name"):
        message["name"] = part["name"]
    return message


def calls_of(raw: Any) -> list[dict[str, Any]]:
    """Return OpenAI tool calls of one call or several, as values or JSON text; [] if it is none."""
    value = parsed(raw)
    if isinstance(value, list):
        return [call for item in value for call in calls_of(item)]
    if not isinstance(value, dict):
        return []
    inner = parsed(value.get("function")) or parsed(value.get("value")) or value
    if isinstance(inner, list):
        return calls_of(inner)
    if not isinstance(inner, dict):
        return []
    name = inner.get("name") or inner.get("raw_name")
    if not isinstance(name, str):
        return []
    names = ("arguments", "raw_arguments", "input", "parameters", "args")
    arguments: Any = next((inner[k] for k in names if inner.get(k) is not None), {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    call = {"type": "function", "function": {"name": name, "arguments": text}}
    identifier = value.get("id") or inner.get("id")
    return [{"id": str(identifier), **call} if identifier else call]


def _joined_calls(found: list[tuple[Message, bool]]) -> list[tuple[Message, bool]]:
    """Join calls that follow an assistant's words or calls with no answer between: one turn."""
    joined: list[tuple[Message, bool]] = []
    for message, learned in found:
        last, was_learned = joined[-1] if joined else ({}, False)
        only_calls = message.get("tool_calls") and not text_of(message.get("content"))
        if only_calls and message["role"] == last.get("role") and learned == was_learned:
            calls = [*(last.get("tool_calls") or []), *message["tool_calls"]]
            joined[-1] = ({**last, "tool_calls": calls}, learned)
        else:
            joined.append((message, learned))
    return joined


def _with_call_ids(found: list[tuple[Message, bool]]) -> list[tuple[Message, bool]]:
    """Give calls without an id one by their place, and their results the same, in order."""
    waiting: list[str] = []
    n_calls = 0
    for message, _ in found:
        if message["role"] == "assistant":
            waiting = []
            for call in message.get("tool_calls") or []:
                call.setdefault("id", f"call_{n_calls}")
                waiting.append(call["id"])
                n_calls += 1
        elif message["role"] == "tool":
            if message.get("tool_call_id") in waiting:
                waiting.remove(message["tool_call_id"])
            elif not message.get("tool_call_id") and waiting:
                message["tool_call_id"] = waiting.pop(0)
    return found


def with_system(
    messages: Sequence[tuple[Message, bool]], raw: Mapping[str, Any]
) -> list[tuple[Message, bool]]:
    """Return messages after a row's own system prompt, unless they begin with one."""
    system = text_of(raw.get("system") or raw.get("system_prompt"))
    if not system.strip() or (messages and messages[0][0]["role"] == "system"):
        return list(messages)
    return [({"role": "system", "content": system}, False), *messages]
