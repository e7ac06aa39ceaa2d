"""What a call says about itself in its path and headers, free of personal data."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from collector.scrub import scrub_record
from foundation.errors import BadInput
from foundation.ids import keyed_episode_id
from foundation.settings import get_settings
from router.paths import Place

LONGEST = 200
"""Characters of a label at most."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Role, project and the other words that a call is counted by."""

    role: str | None
    project: str | None
    task_type: str | None
    difficulty: str | None
    unit: str | None
    episode_id: UUID | None
    parent_id: UUID | None


def labels_of(headers: Mapping[str, str], place: Place) -> Labels:
    """Return the labels of a call; the path goes before the headers.

    Raises:
        BadInput: one is longer than `LONGEST`, or a parent is no UUID.
    """
    project = _text(headers, "x-flywheel-project")
    texts = {
        "project": project,
        "task_type": _text(headers, "x-flywheel-task-type"),
        "difficulty": _text(headers, "x-flywheel-difficulty"),
        "unit_id": _text(headers, "x-flywheel-unit"),
    }
    if any(texts.values()):
        texts = scrub_record(texts)
    return Labels(
        role=place.role or _text(headers, "x-flywheel-role"),
        project=texts["project"],
        task_type=texts["task_type"],
        difficulty=texts["difficulty"],
        unit=texts["unit_id"],
        episode_id=_episode(place.episode or headers.get("x-flywheel-episode"), project),
        parent_id=_id("parent", headers.get("x-flywheel-parent")),
    )


def _text(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    if value is not None and len(value) > LONGEST:
        raise BadInput(name, value, f"at most {LONGEST} characters", "Shorten it.")
    return value or None


def _episode(said: str | None, project: str | None) -> UUID | None:
    """Return the episode that a path or header names: by its UUID, or by the caller's own key."""
    if not said:
        return None
    if len(said) > LONGEST:
        expected = f"a UUID, or a key of at most {LONGEST} characters"
        raise BadInput("episode", said, expected, "Shorten it.")
    try:
        return UUID(said)
    except ValueError:
        return keyed_episode_id(project or get_settings().project, said)


def _id(name: str, value: str | None) -> UUID | None:
    if not value:
        return None
    try:
        return UUID(value)
    except ValueError:
        raise BadInput(name, value, "a UUID", "Send the id of the call before it.") from None
