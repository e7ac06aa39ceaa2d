"""Scrub again what is stored, after the rules have changed.

Walks interactions with their payloads, feedback, dead letters and campaigns in order of their ids,
in batches of one transaction each: what the present rules find is replaced, and `scrub_version`
says that a row has been looked at. Stopped and started again, it goes on with what is left.
A row of which something was removed counts as newly written: the examples made of it are stale.
"""

import json
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, update
from sqlmodel import Session, SQLModel, col, func, or_, select

from collector.dead_letters import UNKEPT
from collector.scrub import RuleSet, Scrubber, scrub_record, server_rules
from collector.tables import (
    WRITER,
    Campaign,
    CampaignItem,
    DeadLetter,
    Feedback,
    Interaction,
    InteractionPayload,
)
from foundation.database import session_scope

BATCH = 200
"""Rows per transaction."""


@dataclass
class Report:
    """What a rescan looked at and found.

    Attributes:
        version: of the rules that it used.
        seen: rows looked at, by table.
        changed: rows of which something was removed, by table.
        removed: what was removed, counted by kind.
        interactions: ids of the changed interactions: copies of their text are stale.
    """

    version: str
    seen: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    interactions: list[UUID] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "version": self.version,
            "seen": dict(self.seen),
            "changed": dict(self.changed),
            "removed": dict(self.removed),
        }


Progress = Callable[[int, int], None]
"""Told how many rows are done, of how many."""


@dataclass(frozen=True)
class Scope:
    """Which rows a rescan looks at: of one role, that came at or after a time, or all."""

    role: str | None = None
    since: datetime | None = None


def rescan(
    scope: Scope | None = None,
    *,
    dry_run: bool = False,
    progress: Progress = lambda done, total: None,
    rules: RuleSet | None = None,
) -> Report:
    """Scrub every stored row that was last scrubbed by other rules; return what was found.

    Args:
        scope: which rows; None: all.
        dry_run: count only, write nothing.
        progress: called after each batch.
        rules: by default those of the place where records are stored.

    Raises:
        ScrubFailed: a rule raised; the batch in hand is rolled back, earlier ones stay.
    """
    rules = rules or server_rules()
    scope = scope or Scope()
    report = Report(rules.version)
    walks = [walk(scope, rules) for walk in (_Interactions, _FeedbackRows, _Letters, _Campaigns)]
    with session_scope() as session:
        total = sum(walk.count(session) for walk in walks)
    for walk in walks:
        after: UUID | None = None
        while True:
            with session_scope() as session:
                after = walk.batch(session, after, report, dry_run)
            progress(sum(report.seen.values()), total)
            if after is None:
                break
    return report


class _Walk:
    """One table in batches: which rows are left, and what scrubbing makes of each."""

    table: type[SQLModel]

    def __init__(self, scope: Scope, rules: RuleSet) -> None:
        self.scope, self.rules = scope, rules

    @property
    def name(self) -> str:
        return str(self.table.__tablename__)

    def wanted(self) -> list[ColumnElement[bool]]:
        raise NotImplementedError

    def clean(self, session: Session, rows: Sequence[Any], report: Report) -> None:
        raise NotImplementedError

    def count(self, session: Session) -> int:
        return session.exec(
            select(func.count()).select_from(self.table).where(*self.wanted())
        ).one()

    def batch(
        self, session: Session, after: UUID | None, report: Report, dry_run: bool
    ) -> UUID | None:
        """Do the rows after an id; return the last one's, or None when there are no more."""
        id_ = self.table.id  # type: ignore[attr-defined]
        query = select(self.table).where(*self.wanted()).order_by(id_).limit(BATCH)
        if after is not None:
            query = query.where(id_ > after)
        rows: Sequence[Any] = session.exec(query.with_for_update()).all()
        if not rows:
            return None
        self.clean(session, rows, report)
        report.seen[self.name] += len(rows)
        last = rows[-1].id if len(rows) == BATCH else None
        if dry_run:
            session.rollback()
        return last

    def note(self, report: Report, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
        """Count what was removed between two states of a record; say whether anything was."""
        removed = Counter(after.get("scrub") or {}) - Counter(before.get("scrub") or {})
        report.removed.update(removed)
        report.changed[self.name] += bool(removed)
        return bool(removed)


def _other_version(table: Any, rules: RuleSet) -> ColumnElement[bool]:
    return col(table.scrub_version).is_distinct_from(rules.version)


class _Interactions(_Walk):
    table = Interaction

    def __init__(self, scope: Scope, rules: RuleSet) -> None:
        super().__init__(scope, rules)
        self._episodes: OrderedDict[UUID, Scrubber] = OrderedDict()

    def wanted(self) -> list[ColumnElement[bool]]:
        conditions = [_other_version(Interaction, self.rules)]
        if self.scope.role is not None:
            conditions.append(col(Interaction.role) == self.scope.role)
        if self.scope.since is not None:
            conditions.append(col(Interaction.ingested_at) >= self.scope.since)
        return conditions

    def clean(self, session: Session, rows: Sequence[Interaction], report: Report) -> None:
        ids = [row.id for row in rows]
        found = session.exec(select(InteractionPayload).where(col(InteractionPayload.id).in_(ids)))
        payloads = {payload.id: payload for payload in found}
        changed = [
            row.id for row in rows if self._clean_one(session, row, payloads.get(row.id), report)
        ]
        report.interactions += changed
        session.execute(
            update(Interaction).where(col(Interaction.id).in_(changed)).values(written_xid=WRITER)
        )
        session.execute(
            update(Interaction)
            .where(col(Interaction.id).in_(ids))
            .values(scrub_version=self.rules.version)
        )

    def _clean_one(
        self, session: Session, row: Interaction, payload: InteractionPayload | None, report: Report
    ) -> bool:
        before = row.model_dump() | (payload.model_dump() if payload is not None else {})
        after = scrub_record(before, Scrubber(self.rules))
        if not self.note(report, before, after):
            return False
        if row.episode_id is not None:
            after = scrub_record(before, self._scrubber_of(session, row.episode_id))
        else:
            after = scrub_record(before, numbered_after(self.rules, [before]))
        _assign(row, before, after)
        if payload is not None:
            _assign(payload, before, after)
        return True

    def _scrubber_of(self, session: Session, episode_id: UUID) -> Scrubber:
        """Return the episode's scrubber: equal values get one placeholder in all its calls."""
        scrubber = self._episodes.pop(episode_id, None)
        if scrubber is None:
            texts = session.exec(
                select(InteractionPayload.request, InteractionPayload.response)
                .join(Interaction, col(Interaction.id) == col(InteractionPayload.id))
                .where(Interaction.episode_id == episode_id)
            )
            scrubber = numbered_after(self.rules, [list(pair) for pair in texts])
        self._episodes[episode_id] = scrubber
        if len(self._episodes) > BATCH:
            self._episodes.popitem(last=False)
        return scrubber


class _FeedbackRows(_Walk):
    table = Feedback

    def wanted(self) -> list[ColumnElement[bool]]:
        conditions = [_other_version(Feedback, self.rules)]
        if self.scope.role is not None:
            of_role = select(Interaction.id).where(Interaction.role == self.scope.role)
            in_role = select(Interaction.episode_id).where(Interaction.role == self.scope.role)
            conditions.append(
                or_(
                    col(Feedback.interaction_id).in_(of_role),
                    col(Feedback.episode_id).in_(in_role),
                )
            )
        if self.scope.since is not None:
            conditions.append(col(Feedback.ingested_at) >= self.scope.since)
        return conditions

    def clean(self, session: Session, rows: Sequence[Feedback], report: Report) -> None:
        for row in rows:
            before = row.model_dump()
            after = scrub_record(before, numbered_after(self.rules, [before]))
            if self.note(report, before, after):
                _assign(row, before, after)
                row.written_xid = WRITER  # type: ignore[assignment]  # filled by the server
            row.scrub_version = self.rules.version


class _Letters(_Walk):
    """Dead letters: the version is inside the record's JSON text.

    Letters without it (nothing kept but the reason, or no object) are looked at every time.
    """

    table = DeadLetter

    def wanted(self) -> list[ColumnElement[bool]]:
        mark = f'%"scrub_version": "{self.rules.version}"%'
        conditions: list[ColumnElement[bool]] = [col(DeadLetter.record).not_like(mark)]
        if self.scope.role is not None:
            conditions.append(
                col(DeadLetter.record).like(f'%"role": {json.dumps(self.scope.role)}%')
            )
        if self.scope.since is not None:
            conditions.append(col(DeadLetter.received_at) >= self.scope.since)
        return conditions

    def clean(self, session: Session, rows: Sequence[DeadLetter], report: Report) -> None:
        for row in rows:
            record = json.loads(row.record) if row.record != UNKEPT else None
            scrubber = numbered_after(self.rules, [record])
            if isinstance(record, dict):
                after = scrub_record(record, scrubber)
                self.note(report, record, after)
            else:
                after, removed = scrubber.json(record)
                self.note(report, {}, {"scrub": removed})
            if record is not None:
                row.record = json.dumps(after)
            row.reason = scrubber.text(row.reason)[0]


class _Campaigns(_Walk):
    """Campaigns with what stands in their places: tasks, and why one failed."""

    table = Campaign

    def wanted(self) -> list[ColumnElement[bool]]:
        conditions = [_other_version(Campaign, self.rules)]
        if self.scope.role is not None:
            conditions.append(col(Campaign.role) == self.scope.role)
        if self.scope.since is not None:
            conditions.append(col(Campaign.updated_at) >= self.scope.since)
        return conditions

    def clean(self, session: Session, rows: Sequence[Campaign], report: Report) -> None:
        for row in rows:
            removed = self._clean_row(row, ("spec", "reason", "report"))
            for item in session.exec(_PLACES.where(CampaignItem.campaign_id == row.id)):
                removed += self._clean_row(item, ("task", "detail"))
            self.note(report, {}, {"scrub": removed})
            row.scrub_version = self.rules.version

    def _clean_row(self, row: SQLModel, columns: Sequence[str]) -> Counter[str]:
        before = {name: getattr(row, name) for name in columns}
        after, removed = numbered_after(self.rules, [before]).json(before)
        if removed:
            _assign(row, before, after)
        return removed


_PLACES = select(CampaignItem).where(
    or_(col(CampaignItem.task).is_not(None), col(CampaignItem.detail).is_not(None))
)


def _assign(row: SQLModel, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for name in type(row).model_fields:
        if name in after and after[name] != before.get(name):
            setattr(row, name, after[name])


_MARK = re.compile(r"\b([A-Z][A-Z_]*)_(\d{1,9})\b")


def numbered_after(rules: RuleSet, values: Sequence[Any]) -> Scrubber:
    """Return a scrubber that goes on counting after the placeholders in `values`."""
    highest: dict[str, int] = {}
    for kind, number in _marks(values):
        highest[kind] = max(int(number), highest.get(kind, 0))
    return Scrubber(rules, highest)


def _marks(values: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for value in values:
        text_ = value if isinstance(value, str) else json.dumps(value, default=str)
        yield from ((kind.lower(), number) for kind, number in _MARK.findall(text_))
