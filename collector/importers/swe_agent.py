"""Trajectories of SWE-agent (`*.traj`): an answer becomes an interaction, the run an episode.

The conversation is the `history`; demonstrations in it are context, not answers. Where the steps of
the `trajectory` kept their `query`, that is the request, for a history processor may have shortened
what was sent. Exit status, submission and totals are attributes of the last interaction; whether
the issue was resolved, where the file says so, becomes a `success` of the tests on the episode.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from collector.importers import chat_shapes
from collector.importers.agent_run import Ending, Turn, episode, verdict_of
from collector.importers.lines import Imported, Malformed, Reject, read_rows
from collector.importers.row import Row
from collector.importers.source import Source
from foundation.chat import Message

FORMAT = "swe_agent"
SUFFIXES = (".traj", ".traj.gz", ".json", ".json.gz", ".jsonl", ".jsonl.gz")

_NOTES = ("exit_status", "submission", "model_stats", "swe_agent_version", "swe_agent_hash")
_SENT = (
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "tool_call_ids",
    "thinking_blocks",
    "reasoning_content",
)
_PARAMETERS = ("temperature", "top_p", "max_tokens", "stop")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file, usually of one run."""
    yield from read_rows(source, _run)


def recognises(row: dict[str, Any]) -> bool:
    """Tell a trajectory by the first object of a file."""
    return isinstance(row.get("trajectory"), list) and (
        isinstance(row.get("history"), list) or isinstance(row.get("info"), dict)
    )


def _run(raw: dict[str, Any], place: int, source: Source) -> Iterable[Imported]:
    steps, history = _objects(raw, "trajectory"), _objects(raw, "history")
    if not steps and not history:
        raise Malformed("history, trajectory: got neither, expected the steps of a run")
    turns = _of_history(history, steps) or _of_steps(steps)
    info = raw["info"] if isinstance(raw.get("info"), dict) else {}
    config = chat_shapes.decoded(raw.get("replay_config"))
    notes = {name: info[name] for name in _NOTES if info.get(name)}
    report = info["report"] if isinstance(info.get("report"), dict) else {}
    return episode(
        Row.of(FORMAT, raw, place, source),
        _request(_inside(config, "agent", "model")),
        turns,
        str(raw.get("instance_id") or _instance(config) or source.path.name.partition(".")[0]),
        Ending(verdict_of(raw, info, report), notes | {"environment": raw.get("environment")}),
    )


def _objects(raw: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = raw.get(name) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Malformed(f"{name}: got {rows!r:.80}, expected a list of objects")
    return rows


def _of_history(history: Sequence[dict[str, Any]], steps: Sequence[dict[str, Any]]) -> list[Turn]:
    n_answers = sum(_is_answer(row) for row in history)
    queries = [step.get("query") for step in steps] if len(steps) == n_answers else []
    asked = iter(queries or [None] * n_answers)
    turns = []
    for row in history:
        if _is_answer(row):
            turns.append(Turn(_answer(row), is_answer=True, asked=_query(next(asked))))
        else:
            turns += [Turn(message) for message in chat_shapes.messages_of(_sent(row))]
    return turns if n_answers else []


def _of_steps(steps: Sequence[dict[str, Any]]) -> list[Turn]:
    """Return the turns of a file without a history: each response, and the observation after it."""
    turns = []
    for step in steps:
        said = step.get("response") or step.get("thought")
        if isinstance(said, str) and said:
            message = {"role": "assistant", "content": said}
            turns.append(Turn(message, is_answer=True, asked=_query(step.get("query"))))
        if isinstance(step.get("observation"), str):
            turns.append(Turn({"role": "user", "content": step["observation"]}))
    return turns


def _is_answer(row: dict[str, Any]) -> bool:
    return row.get("role") == "assistant" and not row.get("is_demo")


def _answer(row: dict[str, Any]) -> Message:
    """Return an answer as one message, also where its blocks would read as several."""
    messages = chat_shapes.messages_of(_sent(row))
    return next(message for message in messages if message["role"] == "assistant")


def _query(query: Any) -> list[Message] | None:
    if not isinstance(query, list):
        return None
    rows = [_sent(row) for row in query if isinstance(row, dict)]
    return chat_shapes.messages_of(rows)


def _sent(row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a history entry that went to the model; the others are the agent's."""
    return {name: row[name] for name in _SENT if row.get(name) is not None}


def _request(model: dict[str, Any]) -> dict[str, Any]:
    request = {"model": model["name"]} if isinstance(model.get("name"), str) else {}
    return request | {
        name: model[name] for name in _PARAMETERS if model.get(name) not in (None, "", [])
    }


def _instance(config: Any) -> str | None:
    identifier = _inside(config, "problem_statement").get("id")
    return identifier if isinstance(identifier, str) else None


def _inside(value: Any, *path: str) -> dict[str, Any]:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
