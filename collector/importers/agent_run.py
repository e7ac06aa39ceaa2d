"""A run of a software-engineering agent as an episode: its turns, and how it ended.

Every answer of the model becomes an interaction whose request is the conversation so far; the test
result becomes a `success` feedback on the episode.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from collector.importers.answers import one_per_answer
from collector.importers.lines import Imported
from collector.importers.row import Row
from collector.record import feedback_record, flat_columns, plain
from foundation.chat import Message

_VERDICTS = ("resolved", "passed", "success", "test_passed", "exec_pass")
"""Names under which data sets say whether the tests passed at the end, the usual first."""


@dataclass(frozen=True)
class Turn:
    """One message of a run; an answer may have its time, whole response and columns beside it."""

    message: Message
    is_answer: bool = False
    started_at: datetime | None = None
    response: dict[str, Any] | None = None
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """What a run came to: whether the tests passed (None: not known), and what was noted of it."""

    resolved: bool | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def verdict_of(*places: dict[str, Any]) -> bool | None:
    """Return whether the tests passed, from the first place that says so as true or false."""
    for place in places:
        for name in _VERDICTS:
            if isinstance(place.get(name), bool) or place.get(name) in (0, 1):
                return bool(place[name])
    return None


def episode(
    row: Row, request: dict[str, Any], turns: Sequence[Turn], instance: str, ending: Ending
) -> list[Imported]:
    """Return the interactions of a run, the last with its ending.

    Raises:
        NoAnswer: the model never answered.
    """
    messages = [(turn.message, turn.is_answer) for turn in turns]
    found = one_per_answer(row, request, messages)
    answers = [turn for turn in turns if turn.is_answer]
    for step, (imported, turn) in enumerate(zip(found, answers, strict=True)):
        _describe(imported.interaction, turn, {"instance_id": instance, "step": step})
    last = found[-1]
    last.interaction["attributes"] |= plain(ending.notes)
    if ending.resolved is not None:
        last.feedback.append(_success(row, ending.resolved))
    return found


def _describe(interaction: dict[str, Any], turn: Turn, attributes: dict[str, Any]) -> None:
    interaction["attributes"] = attributes
    columns = {"started_at": turn.started_at, **turn.columns}
    interaction |= {name: plain(value) for name, value in columns.items() if value is not None}
    if turn.response is not None:
        interaction["response"] = plain(turn.response)
        interaction |= flat_columns(interaction["request"], interaction["response"])


def _success(row: Row, resolved: bool) -> dict[str, Any]:
    return feedback_record(
        row.id("resolved"),
        "success",
        episode_id=row.episode,
        name="resolved",
        value=float(resolved),
        source="test",
        actor="the instance's tests",
        created_at=row.moment,
    )
