"""What a list of the log is narrowed to, as conditions on its rows.

Times become ranges of the UUIDv7 id, so that whole partitions are skipped. Every other condition is
only ever asked of a bounded stretch of the log (`admin.log_walk`): the log has no index for it, and
gets none, since each would be paid for by every record that comes in.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Text, cast, func, literal, or_, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from admin.paging import WITHIN, Narrowing
from collector.tables import Feedback, Interaction, InteractionPayload
from foundation.errors import BadInput
from foundation.ids import first_id_at
from foundation.tables import now
from trainer.tables import ModelVersion

WORKED, FAILED, UNKNOWN = "worked", "failed", "unknown"
OUTCOMES: Final = (WORKED, FAILED, UNKNOWN)
WITH, WITHOUT = "with", "without"
TEXT_CHARACTERS: Final = 200
"""Of a text that is looked for."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """What a list of interactions is narrowed to; empty means all."""

    role: str = ""
    task_type: str = ""
    model: str = ""
    """Name of a version, or of a model as the caller or the provider calls it."""
    arm: str = ""
    experiment: str = ""
    outcome: str = ""
    """worked, failed or unknown: as was first said of the call, else of its episode."""
    status: str = ""
    source: str = ""
    project: str = ""
    scrubbed: str = ""
    """with: secrets or personal data were removed; without: none were found."""
    within: str = ""
    since: str = ""
    until: str = ""
    """Times in ISO 8601, UTC."""
    q: str = ""
    """Text of what was asked or answered, in any case."""

    @property
    def low(self) -> UUID | None:
        """First id of the time asked for; None: from the beginning.

        Raises:
            BadInput: `since` is no time.
        """
        bounds = [_moment("since", self.since)] if self.since else []
        if self.within in WITHIN:
            bounds.append(now() - WITHIN[self.within])
        return first_id_at(max(bounds)) if bounds else None

    @property
    def high(self) -> UUID | None:
        """First id after the time asked for; None: up to now. Raises as `low`."""
        return first_id_at(_moment("until", self.until)) if self.until else None

    @property
    def words(self) -> str:
        """The text looked for."""
        return self.q.strip()

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what a row of `Interaction` must fulfil, its time and its texts aside.

        Raises:
            BadInput: a filter has a value that none could have.
        """
        wanted: list[ColumnElement[bool]] = [
            col(column) == _storable(value)
            for column, value in (
                (Interaction.role, self.role),
                (Interaction.task_type, self.task_type),
                (Interaction.arm, self.arm),
                (Interaction.status, self.status),
                (Interaction.source, self.source),
                (Interaction.project, self.project),
            )
            if value
        ]
        if self.model:
            wanted.append(_answered_by(_storable(self.model)))
        if self.experiment:
            wanted.append(col(Interaction.experiment_id) == _id("experiment", self.experiment))
        if self.scrubbed:
            removed = func.coalesce(cast(col(Interaction.scrub), Text), "{}")
            wanted.append(removed != "{}" if self.scrubbed == WITH else removed == "{}")
        if self.outcome:
            wanted.append(_came_to(self.outcome))
        return wanted

    def of_texts(self) -> list[ColumnElement[bool]]:
        """Return what a row of `InteractionPayload` must fulfil."""
        if not self.words:
            return []
        pattern = as_stored(self.words)
        texts = (cast(col(InteractionPayload.request), Text), response_text())
        return [or_(*(one.icontains(pattern, autoescape=True) for one in texts))]


def response_text() -> ColumnElement[str]:
    """Return the stored text of what was answered; empty where nothing was."""
    return func.coalesce(cast(col(InteractionPayload.response), Text), "")


def as_stored(words: str) -> str:
    """Return a text as it stands inside stored JSON: quotes and line ends escaped.

    Raises:
        BadInput: it is longer than `TEXT_CHARACTERS`, or no text.
    """
    if len(words) > TEXT_CHARACTERS:
        expected = f"up to {TEXT_CHARACTERS} characters"
        raise BadInput("text to look for", words, expected, "Look for a part of it.")
    return json.dumps(_storable(words), ensure_ascii=False)[1:-1]


def first_word() -> ColumnElement[bool]:
    """Return whether a call worked, in SQL: what was first said of it, else of its episode.

    NULL while nobody has said anything, as of experiments the first word stands.
    """
    said = aliased(Feedback)
    word = (
        select(col(said.value) >= 0.5)
        .where(col(said.kind) == "success", col(said.value).is_not(None))
        .order_by(col(said.created_at), col(said.id))
        .limit(1)
        .correlate(Interaction)
    )
    of_call = word.where(col(said.interaction_id) == col(Interaction.id))
    of_episode = word.where(
        col(said.episode_id) == col(Interaction.episode_id), col(said.interaction_id).is_(None)
    )
    return func.coalesce(of_call.scalar_subquery(), of_episode.scalar_subquery())


def _came_to(outcome: str) -> ColumnElement[bool]:
    if outcome not in OUTCOMES:
        raise BadInput("outcome", outcome, f"one of {', '.join(OUTCOMES)}", "Choose one.")
    if outcome == UNKNOWN:
        return first_word().is_(None)
    return first_word() == literal(outcome == WORKED)


def _answered_by(name: str) -> ColumnElement[bool]:
    versions = select(col(ModelVersion.id)).where(col(ModelVersion.name) == name)
    return or_(
        col(Interaction.gen_ai_response_model) == name,
        col(Interaction.gen_ai_request_model) == name,
        col(Interaction.model_version_id).in_(versions),
    )


def _moment(name: str, given: str) -> datetime:
    try:
        moment = datetime.fromisoformat(given)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        first_id_at(moment)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "a time such as 2026-11-21T08:00Z"
        raise BadInput(name, given, expected, "Choose it in the field.") from None


def _id(name: str, given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError:
        raise BadInput(name, given, "an id", "Choose it from the list.") from None


def _storable(value: str) -> Any:
    """Return a text that PostgreSQL can hold, hence find; raises BadInput."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadInput("filter", value, "text", "Correct it.") from None
    if "\0" in value:
        raise BadInput("filter", value, "a text without NUL characters", "Take them out.")
    return value
