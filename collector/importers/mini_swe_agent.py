"""Trajectories of mini-swe-agent: an answer becomes an interaction, an instance's run an episode.

Read are the agent's own files (`{"info", "messages"}`, named `*.traj.json`) and rows of data sets
with `messages` and outcomes. `resolved` becomes a `success` of the tests on the episode; the exit
status, the submission and the totals are attributes of the last interaction.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from collector.importers import chat_shapes
from collector.importers.agent_run import Ending, Turn, episode, verdict_of
from collector.importers.exchange import one_answer
from collector.importers.lines import Imported, Malformed, Reject, read_rows
from collector.importers.moments import moment_of
from collector.importers.row import Row
from collector.importers.source import Source

FORMAT = "mini_swe_agent"

_NOTES = (
    "exit_status",
    "submission",
    "model_stats",
    "mini_version",
    "api_calls",
    "cost",
    "prompt_tokens",
    "completion_tokens",
)
_ANSWER_FIELDS = ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file; a record's place is that of its row."""
    yield from read_rows(source, _run)


def recognises(row: dict[str, Any]) -> bool:
    """Tell a trajectory by the first object of a file."""
    if not isinstance(row.get("messages"), list):
        return False
    format = str(row.get("trajectory_format") or "")
    own = isinstance(row.get("info"), dict) and "exit_status" in row["info"]
    return (
        own or format.startswith("mini-swe-agent") or {"instance_id", "exit_status"} <= row.keys()
    )


def _run(raw: dict[str, Any], place: int, source: Source) -> Iterable[Imported]:
    messages = raw.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Malformed(f"messages: got {messages!r:.80}, expected the messages of a run")
    info = raw["info"] if isinstance(raw.get("info"), dict) else {}
    turns = [turn for message in messages for turn in _turns(message)]
    first = next((turn.started_at for turn in turns if turn.started_at), None)
    row = Row.of(FORMAT, raw, place, source, moment=first)
    notes = {name: place[name] for place in (info, raw) for name in _NOTES if place.get(name)}
    instance = str(raw.get("instance_id") or source.path.name.partition(".")[0])
    model = raw.get("model") or _model(info)
    request = {"model": model} if isinstance(model, str) else {}
    ending = Ending(verdict_of(raw, info), notes)
    return episode(row, request, turns, instance, ending)


def _model(info: dict[str, Any]) -> Any:
    config = info["config"] if isinstance(info.get("config"), dict) else {}
    model = config["model"] if isinstance(config.get("model"), dict) else {}
    return model.get("model_name")


def _turns(raw: Any) -> list[Turn]:
    """Return a message as turns; the agent's own closing message (`exit`) was sent to nobody."""
    if not isinstance(raw, dict):
        raise Malformed(f"messages: got {raw!r:.80}, expected objects with role and content")
    if raw.get("role") == "exit":
        return []
    sent = {name: raw[name] for name in _ANSWER_FIELDS if raw.get(name) is not None}
    is_answer = sent.get("role") == "assistant"
    if "role" in sent:
        messages = chat_shapes.messages_of(sent)
    elif isinstance(raw.get("output"), list):  # a body of the Responses API
        messages = [one_answer(chat_shapes.messages_of(raw["output"], "assistant"))]
        is_answer = True
    else:
        messages = chat_shapes.messages_of(raw)
    extra = raw["extra"] if isinstance(raw.get("extra"), dict) else {}
    started_at = moment_of(extra.get("timestamp") or raw.get("timestamp"))
    if not is_answer:
        return [Turn(message, started_at=started_at) for message in messages]
    response = extra.get("response")
    is_completion = isinstance(response, dict) and bool(response.get("choices"))
    return [
        Turn(
            message,
            is_answer=True,
            started_at=started_at,
            response=response if is_completion else None,
            columns={"cost_usd": extra.get("cost")},
        )
        for message in messages
    ]
