"""Tool calls: the right tools, with arguments that fit their schemas, and no others.

Reference keys:
    tools: list of OpenAI-shaped tools, `{"type": "function", "function": {"name", "parameters"}}`.
    expected: list of `{"name", "arguments"}`; an empty one asks for an answer without a call.
    arguments: how they are compared: `exact` (the default), `subset` (the expected ones are there
        and equal, others may stand beside them) or `valid` (they fit the tool's schema).
    ordered: whether the calls must come in the expected order; default false.

An answer is the assistant's message as JSON (`{"tool_calls": [...]}`), a call `{"name",
"arguments"}` or a list of them, as text, in a fence, or each between `<tool_call>` tags. Arguments
are an object, or that object as a JSON text, as OpenAI has it.

Metrics, each 0 or 1: `known` (every tool exists), `valid` (all arguments fit), `matched`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.graders.json_values import NotJson, json_of, parse, same_json
from evaluator.graders.schemas import in_words, validator, violations
from evaluator.sandbox import Sandbox, Status
from foundation.errors import BadInput

EXACT, SUBSET, VALID = "exact", "subset", "valid"
_TAGGED: Final = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.S)


@dataclass(frozen=True)
class ToolCall:
    """One call: the tool's name and its arguments."""

    name: str
    arguments: Any


@dataclass(frozen=True)
class Wanted:
    """What a task asks for."""

    what: str
    """Begins the message of an error."""
    schemas: Mapping[str, Any]
    """Of each tool's arguments, by name."""
    expected: tuple[ToolCall, ...]
    arguments: str
    ordered: bool


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades tool calls; the score is the share of expected calls made. The sandbox is not used.

    Raises:
        BadInput: a task lacks its tools or expected calls, or expects what its tools do not allow.
    """
    return [_grade(_wanted(task), answer) for task, answer in zip(tasks, answers, strict=True)]


def calls_of(answer: str) -> list[ToolCall]:
    """Return the calls of an answer; empty for prose, and for JSON that is no call.

    Raises:
        NotJson: it begins a call and does not end it well, or names no tool.
    """
    tagged = _TAGGED.findall(answer)
    if tagged:
        return [_call(parse(text)) for text in tagged]
    try:
        value = json_of(answer)
    except NotJson:
        if '"tool_calls"' in answer or re.match(r'\s*[\[{]\s*[\[{]?\s*"(name|function)"', answer):
            raise
        return []
    return [_call(one) for one in _listed(value)]


def matched(made: Sequence[ToolCall], wanted: Wanted) -> int:
    """Return how many of the expected calls were made, each call counted for one of them."""
    if wanted.ordered:
        pairs = zip(made, wanted.expected, strict=False)
        return sum(_fits(one, expected, wanted.arguments) for one, expected in pairs)
    taken: dict[int, int] = {}
    return sum(
        _assign(number, made, wanted, taken, set()) for number in range(len(wanted.expected))
    )


def _assign(
    number: int,
    made: Sequence[ToolCall],
    wanted: Wanted,
    taken: dict[int, int],
    tried: set[int],
) -> bool:
    """Find a call for an expected one, moving earlier ones (Kuhn's augmenting path)."""
    for place, one in enumerate(made):
        if place in tried or not _fits(one, wanted.expected[number], wanted.arguments):
            continue
        tried.add(place)
        if place not in taken or _assign(taken[place], made, wanted, taken, tried):
            taken[place] = number
            return True
    return False


def _grade(wanted: Wanted, answer: str) -> Grade:
    if not answer.strip():
        return LOST
    try:
        made = calls_of(answer)
    except NotJson as error:
        return _wrong(f"no readable call: {error}", known=0, valid=0)
    unknown = sorted({call.name for call in made} - set(wanted.schemas))
    if unknown:
        return _wrong(f"no such tool: {', '.join(unknown)[:200]}", known=0, valid=0)
    if len(made) > len(wanted.expected):
        return _wrong(f"{len(made)} calls, expected {len(wanted.expected)}", known=1)
    broken = [
        f"{call.name} {fault}"
        for call in made
        for fault in violations(wanted.schemas[call.name], wanted.what, call.arguments)
    ]
    if broken:
        return _wrong(in_words(broken), known=1, valid=0)
    n_matched = matched(made, wanted)
    if n_matched == len(wanted.expected):
        return Grade.of(Status.PASS, "", 1.0, {"known": 1, "valid": 1, "matched": 1})
    detail = f"{n_matched} of {len(wanted.expected)} expected calls among {len(made)} made"
    return _wrong(detail, n_matched / len(wanted.expected), known=1, valid=1)


def _wrong(detail: str, score: float = 0.0, **measured: int) -> Grade:
    return Grade.of(Status.WRONG, detail, score, {**measured, "matched": 0})


def _listed(value: Any) -> list[Any]:
    """Return what of a JSON value may be a call."""
    if isinstance(value, dict) and "tool_calls" in value:
        calls = value["tool_calls"]
        if not isinstance(calls, list | None):
            raise NotJson("tool_calls is no list")
        return calls or []
    if isinstance(value, list):
        return value if all(map(_is_call, value)) else []
    return [value] if _is_call(value) else []


def _is_call(value: Any) -> bool:
    return isinstance(value, dict) and (
        isinstance(value.get("function"), dict) or {"name", "arguments"} <= set(value)
    )


def _call(value: Any) -> ToolCall:
    inner = value.get("function", value) if isinstance(value, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(name, str):
        raise NotJson("a call names no tool")
    arguments = inner.get("arguments", {})
    return ToolCall(name, parse(arguments) if isinstance(arguments, str) else arguments)


def _fits(made: ToolCall, expected: ToolCall, how: str) -> bool:
    if made.name != expected.name:
        return False
    if how == SUBSET and isinstance(made.arguments, dict):
        return all(
            name in made.arguments and same_json(made.arguments[name], value)
            for name, value in expected.arguments.items()
        )
    return how == VALID or same_json(made.arguments, expected.arguments)


def _wanted(task: GradedTask) -> Wanted:
    reference, what = task.reference, f"task {task.task_id}: reference"
    how = reference.get("arguments", EXACT)
    if how not in (EXACT, SUBSET, VALID):
        raise _bad(f"{what}['arguments']", how, f"{EXACT}, {SUBSET} or {VALID}")
    tools = reference.get("tools")
    if not isinstance(tools, list) or not tools:
        raise _bad(f"{what}['tools']", tools, "a list of OpenAI-shaped tools")
    schemas = dict(_tool(f"{what}['tools']", tool) for tool in tools)
    given = reference.get("expected")
    if not isinstance(given, list):
        raise _bad(f"{what}['expected']", given, "a list of calls, empty for none")
    expected = tuple(_expected(f"{what}['expected']", one, schemas, how) for one in given)
    return Wanted(f"{what}['tools']", schemas, expected, how, bool(reference.get("ordered")))


def _tool(what: str, tool: Any) -> tuple[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str):
        raise _bad(what, tool, "a function with a name")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return name, validator(f"{what}: parameters of {name}", parameters)


def _expected(what: str, given: Any, schemas: Mapping[str, Any], how: str) -> ToolCall:
    try:
        call = _call(given)
    except NotJson as error:
        raise _bad(what, given, f"a call with a name ({error})") from None
    if call.name not in schemas:
        raise _bad(what, call.name, f"one of the tools {sorted(schemas)}")
    if not isinstance(call.arguments, dict):
        raise _bad(what, call.arguments, "arguments as an object")
    broken = violations(schemas[call.name], what, call.arguments) if how == EXACT else []
    if broken:
        raise _bad(what, call.arguments, f"arguments that fit the tool ({in_words(broken)})")
    return call


def _bad(what: str, value: Any, expected: str) -> BadInput:
    return BadInput(what, value, expected, "Correct the suite.")
