"""Rows of the log as lists show them: how texts begin, who answered, whether it worked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Select, Text, case, cast, func, select
from sqlmodel import Session, col

from admin.log_filters import as_stored, response_text
from collector.tables import Feedback, Interaction, InteractionPayload
from trainer.tables import ModelVersion

PREVIEW_CHARACTERS: Final = 220
_BEFORE_HIT, _AROUND_HIT = 40, 260
_ESCAPE: Final = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')


@dataclass(frozen=True)
class Hit:
    """A place where the text that was looked for stands."""

    where: str
    """asked or answered."""
    before: str
    found: str
    after: str


@dataclass(frozen=True)
class Row:
    """One line of the list: the call, how its texts begin, which version answered, and if it did.

    `worked` is what was said of the call itself, else of its episode; None while nobody has.
    """

    call: Interaction
    asked: str
    answered: str
    version: str | None = None
    worked: bool | None = None
    hit: Hit | None = None

    @property
    def model(self) -> str | None:
        """Who answered: a version of ours, or a model by the name it was called by."""
        return self.version or self.call.gen_ai_response_model or self.call.gen_ai_request_model

    @property
    def outcome(self) -> str | None:
        """What came of it, in a word; None while nobody has said."""
        return None if self.worked is None else "worked" if self.worked else "failed"


def previews(words: str = "") -> Select[Any]:
    """Return calls with the beginnings of their texts, cut in the database: prompts stay there.

    Args:
        words: a text whose surroundings are read as well.
    """
    request, response = col(InteractionPayload.request), col(InteractionPayload.response)
    asked = request["messages"][-1]["content"].astext
    answered = response["choices"][0]["message"]["content"].astext
    query = select(
        Interaction,
        func.left(asked, PREVIEW_CHARACTERS),
        func.left(answered, PREVIEW_CHARACTERS),
    ).outerjoin(InteractionPayload, col(InteractionPayload.id) == col(Interaction.id))
    if words:
        query = query.add_columns(
            _around(cast(request, Text), words), _around(response_text(), words)
        )
    return query


def rows_of(session: Session, ids: Sequence[UUID], words: str = "") -> list[Row]:
    """Return the rows of calls in the order of their ids, in three queries however many they are.

    One that is erased meanwhile is left out.
    """
    query = previews(words).where(col(Interaction.id).in_(ids))
    if ids:  # the same range of both tables, so that few partitions are planned for
        query = query.where(col(Interaction.id).between(min(ids), max(ids)))
        of_payload = col(InteractionPayload.id)
        query = query.where(of_payload.is_(None) | of_payload.between(min(ids), max(ids)))
    place = {identifier: n for n, identifier in enumerate(ids)}
    found = sorted(session.execute(query).all(), key=lambda one: place[one[0].id])
    calls = [one[0] for one in found]
    versions, worked = versions_of(session, calls), outcomes_of(session, calls)
    return [
        Row(
            one[0],
            one[1] or "",
            one[2] or "",
            versions.get(one[0].model_version_id),
            worked.get(one[0].id, worked.get(one[0].episode_id)),
            hit_of(words, one[3], one[4]) if words else None,
        )
        for one in found
    ]


def hit_of(words: str, asked: str | None, answered: str | None) -> Hit | None:
    """Return where `words` stand in the stored texts around it; pure."""
    for where, stored in (("answered", answered), ("asked", asked)):
        text = unescaped(stored or "")
        found = re.search(re.escape(words), text, re.IGNORECASE)
        if found:
            return Hit(where, text[: found.start()], found.group(), text[found.end() :])
    return None


def unescaped(stored: str) -> str:
    """Return a piece of stored JSON as it reads, though it may be cut anywhere."""
    named = {"n": "\n", "t": "\t", "r": "\r", "b": "", "f": ""}

    def read(found: re.Match[str]) -> str:
        code, name = found.groups()
        if name:
            return named.get(name, name)
        made = chr(int(code, 16))
        return "\ufffd" if "\ud800" <= made <= "\udfff" else made

    return _ESCAPE.sub(read, stored)


def versions_of(session: Session, calls: Sequence[Interaction]) -> dict[UUID | None, str]:
    """Return the names of the model versions that answered `calls`, by id."""
    ids = {call.model_version_id for call in calls} - {None}
    query = select(col(ModelVersion.id), col(ModelVersion.name))
    return {row[0]: row[1] for row in session.execute(query.where(col(ModelVersion.id).in_(ids)))}


def outcomes_of(session: Session, calls: Sequence[Interaction]) -> dict[UUID | None, bool]:
    """Return whether `calls` worked, by the id of the call or of the episode spoken of.

    The first word stands, as it does for experiments.
    """
    about, episode = col(Feedback.interaction_id), col(Feedback.episode_id)
    episodes = {call.episode_id for call in calls} - {None}
    query = (
        select(func.coalesce(about, episode), col(Feedback.value))
        .where(col(Feedback.kind) == "success", col(Feedback.value).is_not(None))
        .where(about.in_([call.id for call in calls]) | (about.is_(None) & episode.in_(episodes)))
        .order_by(col(Feedback.created_at).desc(), col(Feedback.id).desc())
    )
    return {row[0]: row[1] >= 0.5 for row in session.execute(query)}


def _around(stored: Any, words: str) -> ColumnElement[str]:
    """Return the piece of a stored text around `words`, in any case; empty where it has none."""
    place = func.strpos(func.lower(stored), func.lower(as_stored(words)), type_=Integer)
    piece = func.substr(stored, func.greatest(place - _BEFORE_HIT, 1), _AROUND_HIT)
    return case((place > 0, piece), else_="")
