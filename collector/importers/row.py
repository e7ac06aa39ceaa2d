"""One row under translation: the ids, the episode and the columns that all its records share.

Ids derive from the row's content, its role and its project, so importing it again stores nothing,
and importing it for another role makes other records.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from collector.admission import EARLIEST
from collector.importers.lines import Imported
from collector.importers.moments import RECORDED_AT, moment_of
from collector.importers.source import Source
from collector.record import derived_id, feedback_record, interaction_record
from foundation.chat import Message
from foundation.ids import keyed_episode_id

_TIMES = ("timestamp", "created_at", "created", "started_at", "time", "date")


@dataclass(frozen=True)
class Row:
    """What the records of one row have in common.

    Args:
        format: name of the format.
        place: line or item number in the file.
        key: hash of the content.
        role, project, task_type: as the row says, else the defaults of the import.
        moment: its own time, else `RECORDED_AT`.
        own_episode: the episode that the row names, if it names one.
    """

    format: str
    place: int
    key: str
    role: str
    project: str
    task_type: str | None
    moment: datetime
    own_episode: UUID | None = None

    @classmethod
    def of(
        cls,
        format: str,
        raw: dict[str, Any],
        place: int,
        source: Source,
        *,
        role: str | None = None,
        moment: datetime | None = None,
    ) -> "Row":
        """Return the row of one JSON object.

        `agent_role` (or `role`), `project` and `task_type` are read from the object where they are
        text, its time from the usual fields.
        """
        text = json.dumps(raw, sort_keys=True)
        own_role = role or _text(raw, "agent_role") or _text(raw, "role")
        return cls(
            format,
            place,
            sha256(text.encode("utf-8", "replace")).hexdigest(),
            own_role or source.defaults.role,
            _text(raw, "project") or source.defaults.project,
            _text(raw, "task_type") or source.defaults.task_type,
            _believable(moment) or _own_time(raw) or RECORDED_AT,
        )

    def id(self, *parts: str, after_ms: int = 0) -> UUID:
        """Return the id of one of its records, `after_ms` milliseconds after its moment."""
        moment = self.moment + timedelta(milliseconds=after_ms)
        return derived_id(moment, self.format, self.role, self.project, self.key, *parts)

    def interaction_id(self, number: int) -> UUID:
        """Return the id of its interaction number `number`: they are in order of time."""
        return self.id(str(number), after_ms=number)

    @property
    def episode(self) -> UUID:
        """Id of the episode that its interactions share."""
        return self.own_episode or self.id("episode")

    def in_episode(self, named: UUID | str | None) -> "Row":
        """Return the row as a part of the episode of an id or of the caller's own key, if any."""
        if not named:
            return self
        found = keyed_episode_id(self.project, named) if isinstance(named, str) else named
        return replace(self, own_episode=found)

    def interaction(
        self,
        number: int,
        request: dict[str, Any],
        response: dict[str, Any] | None,
        feedback: Sequence[dict[str, Any]] = (),
        **columns: Any,
    ) -> Imported:
        """Return its interaction number `number`, a millisecond after the one before."""
        columns.setdefault("episode_id", self.episode)
        record = interaction_record(
            self.interaction_id(number),
            self.role,
            request,
            response,
            started_at=self.moment + timedelta(milliseconds=number),
            project=self.project,
            task_type=self.task_type,
            source=f"import:{self.format}",
            **columns,
        )
        return Imported(self.place, record, list(feedback))

    def feedback(self, number: int, kind: str, name: str, **columns: Any) -> dict[str, Any]:
        """Return a statement on its interaction number `number`."""
        return feedback_record(
            self.id("feedback", str(number), kind, name),
            kind,
            name=name,
            interaction_id=self.interaction_id(number),
            episode_id=columns.pop("episode_id", self.episode),
            created_at=self.moment,
            **columns,
        )

    def response(
        self, number: int, answer: Message, model: str | None = None, finish: str | None = None
    ) -> dict[str, Any]:
        """Return a chat completion whose only choice is `answer`; its usage was not recorded."""
        reason = finish or ("tool_calls" if answer.get("tool_calls") else "stop")
        return {
            "id": self.interaction_id(number).hex,
            "object": "chat.completion",
            "created": int(self.moment.timestamp()),
            "model": model,
            "choices": [{"index": 0, "message": answer, "finish_reason": reason}],
        }


def _text(raw: dict[str, Any], name: str) -> str | None:
    value = raw.get(name)
    return value.strip() or None if isinstance(value, str) else None


def _own_time(raw: dict[str, Any]) -> datetime | None:
    found = (_believable(moment_of(raw.get(name))) for name in _TIMES)
    return next((moment for moment in found if moment), None)


def _believable(moment: datetime | None) -> datetime | None:
    """Return a time that the collector takes; a number such as 20240101 is none of 1970."""
    return moment if moment is not None and moment >= EARLIEST else None
