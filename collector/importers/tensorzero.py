"""TensorZero's datapoints and inferences, of chat and of JSON functions.

`input` holds a system prompt and messages of typed blocks, `output` blocks (chat) or `raw` and
`parsed` (JSON); both may be JSON text. The function's name is the role if it is one of ours, else
the task type. A template's arguments stand for its text, which the data does not hold. Datapoints
without an output are tasks, not calls: they are rejected as `no_answer`.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from collector.importers.answers import last_answer
from collector.importers.lines import Imported, Malformed, NoAnswer, Reject, parsed, read_rows
from collector.importers.messages import asked_with, openai_messages
from collector.importers.moments import moment_of
from collector.importers.roles import known_role
from collector.importers.row import Row
from collector.importers.source import Source
from foundation.chat import Message, message
from foundation.ids import time_of

FORMAT = "tensorzero"
_KEPT = ("dataset_name", "function_name", "variant_name", "id", "tags", "name", "is_custom")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    return read_rows(source, _translate)


def recognises(row: dict[str, Any]) -> bool:
    """Tell a datapoint or an inference."""
    return {"function_name", "input", "output"} <= row.keys()


def _translate(raw: dict[str, Any], place: int, source: Source) -> list[Imported]:
    if raw.get("is_deleted") is True or raw.get("staled_at"):
        raise _Deleted("the datapoint is marked as deleted or stale")
    asked = parsed(raw.get("input"))
    if not isinstance(asked, Mapping):
        raise Malformed(f"input: got {raw.get('input')!r:.80}, expected an object")
    named = raw.get("function_name")
    function = named if isinstance(named, str) and named else None
    role = known_role(function)
    if function and not role:
        raw = {"task_type": function, **raw}
    row = Row.of(FORMAT, raw, place, source, role=role, moment=_moment(raw))
    row = row.in_episode(_own_id(raw.get("episode_id")))
    output = parsed(raw.get("output"))
    if output is None or output in ("", [], {}):
        raise NoAnswer("output: is empty; a datapoint without one is a task, not a call")
    return [
        last_answer(
            row,
            _request(raw),
            _messages(asked),
            _answer(output),
            gen_ai_prompt_name=function,
            attributes={n: raw[n] for n in _KEPT if raw.get(n) not in (None, "", {}, [])},
        )
    ]


class _Deleted(Malformed):
    code = "deleted"


def _messages(asked: Mapping[str, Any]) -> list[Message]:
    rows = asked.get("messages")
    rows = [_plain(row) for row in rows] if isinstance(rows, list) else rows
    said = [said for said, _ in openai_messages(rows, "input.messages")]
    system = asked.get("system")
    return [message("system", _text(system)), *said] if system else said


def _answer(output: Any) -> Message:
    if isinstance(output, Mapping) and ("raw" in output or "parsed" in output):
        raw = output.get("raw")
        text = raw if isinstance(raw, str) else json.dumps(output.get("parsed"), ensure_ascii=False)
        return message("assistant", text)
    blocks = output if isinstance(output, list) else [output]
    said = [{"role": "assistant", "content": [_block(block) for block in blocks]}]
    read = openai_messages(said, "output")
    if not read:
        raise NoAnswer("output: holds no answer")
    return read[0][0]


def _plain(said: Any) -> Any:
    """Return a message whose blocks are of the shapes that data sets share."""
    if not isinstance(said, Mapping) or not isinstance(said.get("content"), list):
        content = said.get("content") if isinstance(said, Mapping) else None
        return {**said, "content": _text(content)} if isinstance(content, Mapping) else said
    return {**said, "content": [_block(block) for block in said["content"]]}


def _block(block: Any) -> Any:
    if not isinstance(block, Mapping):
        return block
    match block.get("type"):
        case "template":
            return {"type": "text", "text": _text(block.get("arguments"))}
        case "text" if not isinstance(block.get("text"), str):
            return {"type": "text", "text": _text(block.get("value", block.get("arguments")))}
        case "raw_text":
            return {"type": "text", "text": _text(block.get("value"))}
        case "thought":
            return {"type": "reasoning", "text": _text(block.get("text") or block.get("summary"))}
        case "image" | "file":
            return _media(block)
    return dict(block)


def _media(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return an image as OpenAI's part, by its address or its bytes; other files as they are."""
    inner = block.get("image") or block.get("file") or block
    inner = inner if isinstance(inner, Mapping) else {}
    kind = str(inner.get("mime_type") or "image/png")
    url = inner.get("url") or (
        f"data:{kind};base64,{inner['data']}" if inner.get("data") else _stored(block)
    )
    if not url or not kind.startswith("image/"):
        return dict(block)
    return {"type": "image_url", "image_url": {"url": str(url)}}


def _stored(block: Mapping[str, Any]) -> str | None:
    path = block.get("storage_path")
    return path.get("path") if isinstance(path, Mapping) else None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _request(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model, the tools and the parameters that were asked with."""
    request = asked_with(raw.get("model_name") or raw.get("variant_name"))
    parameters = parsed(raw.get("tool_params"))
    if isinstance(parameters, Mapping):
        offered = parameters.get("tools_available") or parameters.get("additional_tools")
        request |= asked_with(tools=offered)
        for name in ("tool_choice", "parallel_tool_calls"):
            request |= {name: parameters[name]} if parameters.get(name) is not None else {}
    schema = parsed(raw.get("output_schema"))
    if isinstance(schema, Mapping) and schema:
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "output", "schema": dict(schema)},
        }
    return request


def _moment(raw: Mapping[str, Any]) -> datetime | None:
    """Return when it was made: its UUIDv7 says so, else its fields."""
    for name in ("source_inference_id", "id"):
        identifier = _own_id(raw.get(name))
        if identifier is not None and identifier.version == 7:
            return time_of(identifier)
    return moment_of(raw.get("timestamp")) or moment_of(raw.get("updated_at"))


def _own_id(value: Any) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
