"""What there is to look at: a role's interactions that are new, or newly spoken about.

A watermark on `ingested_at` says how far a build has looked. Commits come late and out of order, so
each build looks back by the recipe's overlap and leaves out what already became an example. New
feedback on an old interaction (or its episode) brings it back.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, and_, func, or_, select, tuple_, union
from sqlmodel import Session, col

from collector.tables import Feedback, Interaction, InteractionPayload
from curation.columns import example
from curation.recipe import CurationRecipe
from curation.score.outcome import Statement
from curation.tables import CurationWatermark
from foundation.chat import completion

TASK_KEY = "task_key"
"""Attribute of an interaction that names its task by meaning; splits go by it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An interaction with its payload and all that was said about it."""

    interaction: Interaction
    request: dict[str, Any]
    response: dict[str, Any] | None
    task_key: str | None
    has_payload: bool
    statements: tuple[Statement, ...]
    feedback_hash: str
    """Of the statements' ids: tells whether anything was said since."""
    seen_at: datetime
    """When the newest part of it was ingested."""
    stored: "StoredCopy | None"
    """What its example holds, if it became one before."""


@dataclass(frozen=True, slots=True)
class StoredCopy:
    """The part of an example that outlives its interaction's payload and its verdict."""

    prompt: list[dict[str, Any]]
    answer: str
    split_key: str


class CandidateSource:
    """The candidates of one role and variant, batch by batch."""

    def __init__(
        self, session: Session, role: str, recipe: CurationRecipe, everything: bool
    ) -> None:
        self.session, self.role, self.recipe = session, role, recipe
        self.everything = everything
        self._since: datetime | None = None
        seen_until = _seen_until(session, role, recipe.variant)
        if seen_until is not None and not everything:
            self._since = seen_until - timedelta(seconds=recipe.overlap_s)

    def count(self) -> int:
        """Return how many interactions `batches` will at least visit."""
        counted = select(func.count()).select_from(Interaction).where(self._is_unseen())
        return int(self.session.execute(counted).scalar_one())

    def batches(self) -> Iterator[list[Candidate]]:
        """Yield new interactions in order of arrival, then old ones with new feedback."""
        place: tuple[datetime, UUID] | None = None
        while batch := self._next_unseen(place):
            place = (batch[-1].ingested_at, batch[-1].id)
            yield self._with_all(batch)
        if self._since is not None:
            changed, size = self._spoken_about(), self.recipe.batch_size
            for start in range(0, len(changed), size):
                ids = changed[start : start + size]
                found = select(Interaction).where(col(Interaction.id).in_(ids))
                yield self._with_all(list(self.session.execute(found).scalars()))

    def move_watermark(self, seen_until: datetime) -> None:
        """Remember how far this build has looked; never backwards."""
        mark = self.session.get(CurationWatermark, (self.role, self.recipe.variant))
        if mark is None:
            mark = CurationWatermark(
                role=self.role, variant=self.recipe.variant, seen_until=seen_until
            )
        mark.seen_until = max(mark.seen_until, seen_until)
        self.session.add(mark)
        self.session.flush()

    def _next_unseen(self, place: tuple[datetime, UUID] | None) -> list[Interaction]:
        order = (col(Interaction.ingested_at), col(Interaction.id))
        query = select(Interaction).where(self._is_unseen())
        if place is not None:
            query = query.where(tuple_(*order) > tuple_(*place))
        query = query.order_by(*order).limit(self.recipe.batch_size)
        return list(self.session.execute(query).scalars())

    def _is_unseen(self) -> ColumnElement[bool]:
        conditions = [col(Interaction.role) == self.role]
        if self._since is not None:
            conditions.append(col(Interaction.ingested_at) >= self._since)
        if not self.everything:
            conditions.append(~self._example_of(col(Interaction.id)).exists())
        return and_(*conditions)

    def _example_of(self, interaction_id: Any) -> Any:
        return select(example.id).where(
            example.interaction_id == interaction_id, example.variant == self.recipe.variant
        )

    def _spoken_about(self) -> list[UUID]:
        """Return stored interactions whose feedback is not the one their example was judged by."""
        recent = col(Feedback.ingested_at) >= self._since
        direct = select(col(Feedback.interaction_id)).where(
            recent, col(Feedback.interaction_id).is_not(None)
        )
        by_episode = (
            select(col(Interaction.id))
            .join(Feedback, col(Feedback.episode_id) == col(Interaction.episode_id))
            .where(
                recent, col(Feedback.interaction_id).is_(None), col(Interaction.role) == self.role
            )
        )
        # A credit that moved to a later turn was a word on the turn before.
        lost = select(col(Feedback.details)["credited_before"].astext.cast(Uuid)).where(
            recent, col(Feedback.derived_from).is_not(None)
        )
        named = union(direct, by_episode, lost).subquery()
        rows = self.session.execute(
            select(example.interaction_id, example.episode_id, example.scores).where(
                example.interaction_id.in_(select(named.c[0])),
                example.variant == self.recipe.variant,
                example.role == self.role,
            )
        ).all()
        said = _feedback(self.session, [(row[0], row[1]) for row in rows])
        changed = [row[0] for row in rows if _hash(said[row[0]]) != row[2].get("feedback")]
        return sorted(changed)

    def _with_all(self, batch: Sequence[Interaction]) -> list[Candidate]:
        ids = [interaction.id for interaction in batch]
        payloads = _payloads(self.session, ids)
        stored = _stored_copies(self.session, ids, self.recipe.variant)
        said = _feedback(self.session, [(i.id, i.episode_id) for i in batch])
        return [_candidate(i, payloads.get(i.id), stored.get(i.id), said[i.id]) for i in batch]


def has_interactions(session: Session, role: str) -> bool:
    """Return whether the log holds anything of `role`."""
    found = select(col(Interaction.id)).where(col(Interaction.role) == role).limit(1)
    return session.execute(found).first() is not None


def _candidate(
    interaction: Interaction,
    payload: InteractionPayload | None,
    stored: StoredCopy | None,
    said: list[Feedback],
) -> Candidate:
    request: dict[str, Any] = payload.request if payload else {}
    response = payload.response if payload else None
    has_payload = payload is not None
    if payload is None and stored is not None and stored.prompt:
        # The raw payload may expire before its example, which carries its own copy.
        request, has_payload = {"messages": stored.prompt}, True
        response = completion("", "", stored.answer, None, 0, 0, 0)
    key = ((payload.attributes if payload else None) or {}).get(TASK_KEY)
    return Candidate(
        interaction=interaction,
        request=request,
        response=response,
        task_key=None if key is None else str(key),
        has_payload=has_payload,
        statements=tuple(_statement(one, interaction.id) for one in said),
        feedback_hash=_hash(said),
        seen_at=max([interaction.ingested_at, *(one.ingested_at for one in said)]),
        stored=stored,
    )


def _statement(said: Feedback, interaction_id: UUID) -> Statement:
    return Statement(
        kind=said.kind,
        value=said.value,
        text=said.text,
        source=said.source,
        actor=said.actor,
        name=said.name,
        direct=said.interaction_id == interaction_id,
        said_at=said.created_at,
    )


def _payloads(session: Session, ids: Sequence[UUID]) -> dict[UUID, InteractionPayload]:
    query = select(InteractionPayload).where(col(InteractionPayload.id).in_(ids))
    return {payload.id: payload for payload in session.execute(query).scalars()}


def _stored_copies(session: Session, ids: Sequence[UUID], variant: str) -> dict[UUID, StoredCopy]:
    query = select(example.interaction_id, example.prompt, example.answer, example.split_key).where(
        example.interaction_id.in_(ids), example.variant == variant
    )
    return {row[0]: StoredCopy(*row[1:]) for row in session.execute(query)}


def _feedback(
    session: Session, named: Sequence[tuple[UUID, UUID | None]]
) -> dict[UUID, list[Feedback]]:
    """Return what was said about each (interaction, episode), on itself or on its whole episode."""
    episodes = {episode for _, episode in named if episode is not None}
    query = select(Feedback).where(
        or_(
            col(Feedback.interaction_id).in_([i for i, _ in named]),
            and_(col(Feedback.interaction_id).is_(None), col(Feedback.episode_id).in_(episodes)),
        )
    )
    by_id: dict[UUID | None, list[Feedback]] = defaultdict(list)
    for said in session.execute(query).scalars():
        by_id[said.interaction_id or said.episode_id].append(said)
    return {
        i: sorted(by_id[i] + (by_id[episode] if episode else []), key=lambda f: f.id)
        for i, episode in named
    }


def _hash(said: Sequence[Feedback]) -> str:
    return hashlib.sha256(b"".join(one.id.bytes for one in said)).hexdigest()[:16]


def _seen_until(session: Session, role: str, variant: str) -> datetime | None:
    mark = session.get(CurationWatermark, (role, variant), populate_existing=True)
    return None if mark is None else mark.seen_until
