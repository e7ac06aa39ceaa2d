"""A run of a software-engineering agent as an episode: its turns, and how it ended.

Every answer of the model becomes an interaction whose request is the conversation so far; the test
result becomes a `success` feedback on the episode.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from collector.importers.lines import Imported, NoAnswer
from collector.importers.row import Row
from collector.record import feedback_record, plain
from foundation.chat import Message

_VERDICTS = ("resolved", "passed", "success", "test_passed", "exec_pass")
"""Names under which data sets say whether the tests passed at the end, the usual first."""


@dataclass(frozen=True)
class Turn:
    """One message of a run; an answer may have its time and what was sent and got beside it.

    `asked` are the messages that were sent, where they were other than the conversation so far.
    """

    message: Message
    is_answer: bool = False
    started_at: datetime | None = None
    asked: list[Message] | None = None
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
    found: list[Imported] = []
    conversation: list[Message] = []
    for turn in turns:
        if turn.is_answer:
            asked = {**request, "messages": turn.asked or list(conversation)}
            found.append(_answered(row, asked, turn, found, instance))
        conversation.append(turn.message)
    if not found:
        raise NoAnswer("the model never answered")
    found[-1].interaction["attributes"] |= plain(ending.notes)
    if ending.resolved is not None:
        found[-1].feedback.append(_success(row, ending.resolved))
    return found


def _answered(
    row: Row, request: dict[str, Any], turn: Turn, before: Sequence[Imported], instance: str
) -> Imported:
    step = len(before)
    imported = row.interaction(
        step,
        request,
        turn.response or row.response(step, turn.message, request.get("model")),
        parent_id=before[-1].interaction["id"] if before else None,
        attributes={"instance_id": instance, "step": step},
        **turn.columns,
    )
    moment = turn.started_at or _after(row, before)
    return replace(imported, interaction={**imported.interaction, "started_at": moment.isoformat()})


def _after(row: Row, before: Sequence[Imported]) -> datetime:
    """Return when an answer without a time of its own was given: after the one before."""
    last = before[-1].interaction["started_at"] if before else None
    return datetime.fromisoformat(last) + timedelta(milliseconds=1) if last else row.moment


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
