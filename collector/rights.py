"""What a key of some roles or projects may write: their calls, and feedback on those.

Feedback on a call that is here is checked against that call: where several have the name, against
the one to which `collector.feedback.joining` joins it. Of one that is not here yet only the project
is known: it is taken, and carries the key by which it came. An episode must have a call that is the
key's, and none of another project.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, or_
from sqlmodel import Session, col, select

from collector.admission import Refusal
from collector.delivery import INTERACTION
from collector.scrub import kept_name, server_rules
from collector.tables import Interaction
from foundation.access import Bearer

NOT_ALLOWED: Final = "not_allowed"


@dataclass(frozen=True)
class Named:
    """A call as far as rights go by it, and all that feedback may name it by."""

    id: UUID
    key: str | None
    response_id: str | None
    episode_id: UUID | None
    project: str
    role: str


class Rights:
    """The limits of one key, for one batch."""

    def __init__(self, bearer: Bearer) -> None:
        self._bearer = bearer
        self._roles, self._projects = bearer.roles, None
        if bearer.projects is not None:
            rules = server_rules()
            self._projects = {kept_name("project", name, rules) for name in bearer.projects}

    def completed(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a record with the project of a key that has just one, if it states none."""
        projects = self._bearer.projects
        if projects is None or len(projects) != 1 or record.get("project") is not None:
            return record
        return {**record, "project": projects[0]}

    def require(self, kind: str, columns: Mapping[str, Any]) -> None:
        """Check a record's own columns; raises Refusal."""
        if kind == INTERACTION:
            if not self._bearer.writes_calls:
                raise self._refusal("a call", "feedback only")
            if self._roles is not None and columns["role"] not in self._roles:
                raise self._refusal(f"role {columns['role']!r}", _listed(self._roles))
        stated = columns["project"]
        if self._projects is not None and stated is not None and stated not in self._projects:
            raise self._refusal(f"project {stated!r}", _listed(self._projects))

    def faults(
        self, session: Session, statements: Sequence[Mapping[str, Any]]
    ) -> dict[UUID, Refusal]:
        """Return why statements are refused that speak of calls which are not the key's, by id."""
        if self._roles is None and self._projects is None:
            return {}
        calls = _named_calls(session, statements)
        return {
            said["id"]: self._refusal("feedback on a call of another", self._own())
            for said in statements
            if not self._speaks_of_own(said, calls)
        }

    def _speaks_of_own(self, said: Mapping[str, Any], calls: Sequence[Named]) -> bool:
        for is_it in _meant(said):
            meant = [call for call in calls if is_it(call)]
            if meant and not self._is_own(max(meant, key=lambda call: call.id)):
                return False
        if said["episode_id"] is None:
            return True
        episode = [call for call in calls if call.episode_id == said["episode_id"]]
        return (
            not episode
            or any(map(self._is_own, episode))
            and all(map(self._is_of_project, episode))
        )

    def _is_own(self, call: Named) -> bool:
        is_of_role = self._roles is None or call.role in self._roles
        return is_of_role and self._is_of_project(call)

    def _is_of_project(self, call: Named) -> bool:
        return self._projects is None or call.project in self._projects

    def _own(self) -> str:
        parts = {"role": self._roles, "project": self._projects}
        return "; ".join(f"{name} {_listed(of)}" for name, of in parts.items() if of is not None)

    def _refusal(self, found: str, expected: str) -> Refusal:
        return Refusal(NOT_ALLOWED, f"{found}, key {self._bearer.name!r} may write: {expected}")


def rights_of(bearer: Bearer) -> Rights | None:
    """Return the limits of who sends a batch, or None without any."""
    is_free = bearer.roles is None and bearer.projects is None and bearer.writes_calls
    return None if is_free else Rights(bearer)


def _named_calls(session: Session, statements: Sequence[Mapping[str, Any]]) -> list[Named]:
    """Return the calls that statements name, and those of the episodes that they name."""
    found = list[ColumnElement[bool]]()
    for column, names in (
        (col(Interaction.id), ("interaction_id", "loser_interaction_id")),
        (col(Interaction.key), ("interaction_key", "loser_interaction_key")),
        (col(Interaction.gen_ai_response_id), ("response_id", "loser_response_id")),
        (col(Interaction.episode_id), ("episode_id",)),
    ):
        named = {said[name] for said in statements for name in names if said[name] is not None}
        if named:
            found.append(column.in_(named))
    if not found:
        return []
    columns = (
        Interaction.id,
        Interaction.key,
        Interaction.gen_ai_response_id,
        Interaction.episode_id,
        Interaction.project,
        Interaction.role,
    )
    rows = session.execute(select(*columns).where(or_(*found)))  # type: ignore[call-overload]
    return [Named(*row) for row in rows]


def _meant(said: Mapping[str, Any]) -> Iterable[Any]:
    """Yield a test of each call that a statement speaks of; by names as `joining` looks them up."""
    project = said["project"]
    for prefix in ("", "loser_"):
        by_id = said[f"{prefix}interaction_id"]
        by_key = said[f"{prefix}interaction_key"]
        by_response = said[f"{prefix}response_id"]
        if by_id is not None:
            yield lambda call, wanted=by_id: call.id == wanted
        if by_key is not None:
            yield lambda call, wanted=by_key: call.key == wanted and project in (None, call.project)
        if by_response is not None:
            yield (
                lambda call, wanted=by_response: (
                    call.response_id == wanted and project in (None, call.project)
                )
            )


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
