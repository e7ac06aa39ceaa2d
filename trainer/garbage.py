"""Garbage: files of versions nobody needs, artifacts without a row, folders of ended runs.

What serves, what a Decision names, what such versions were made of or learned from, and what is
young is never removed; a version's row and card stay. Who registers files and who collects garbage
exclude each other (`registry.lock_files`), and the store itself keeps what is put at that moment.
What floors above know of (who serves, what is compared) comes in as `keep`.
"""

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session, col, select

from foundation.artifact_sweep import Stored, look_at, remove_unless_put, stored, unfinished
from foundation.database import get_engine, session_scope
from foundation.errors import BadInput
from foundation.settings import get_settings
from foundation.tables import QUEUED, RUNNING, Run, now
from trainer.registry import FILES_LOCK, REWARD
from trainer.tables import (
    CANDIDATE,
    EXPERIMENTAL,
    PRODUCTION,
    QUARANTINED,
    RETIRED,
    ModelExport,
    ModelVersion,
    TrainingRun,
)

DAYS: Final = 30
ORPHAN_AGE: Final = timedelta(days=1)
"""Nothing in the store leaves younger than this: its row may not be committed yet."""

VERSION, ARTIFACT, UNFINISHED, WORK = "version", "artifact", "unfinished", "work folder"


@dataclass(frozen=True)
class Piece:
    """Something that goes, or went.

    Attributes:
        kind: version, artifact, unfinished or work folder.
        name: of the version or folder; the URI of an artifact.
        why: in words.
        size_bytes: that its removal frees; 0 where a version shares its files with one that stays.
        uri: of the artifact, if it is one.
    """

    kind: str
    name: str
    why: str
    size_bytes: int
    uri: str | None = None


@dataclass(frozen=True)
class Collected:
    """What was found, and done with it.

    Attributes:
        pieces: what goes.
        kept: versions that have files and keep them, each with the reason.
        is_done: whether it went; False: a dry run.
    """

    pieces: tuple[Piece, ...]
    kept: Mapping[str, str] = field(default_factory=dict)
    is_done: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes that it frees."""
        return sum(piece.size_bytes for piece in self.pieces)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "size_bytes": self.size_bytes}


def collect(
    keep: Mapping[UUID, str],
    *,
    days: int = DAYS,
    remove: bool = False,
    moment: datetime | None = None,
) -> Collected:
    """Find what nobody needs, and remove it if asked to.

    Rows are marked and committed before their files go: killed between the two, files are left that
    the next collection finds without a row.

    Args:
        keep: versions that others need -> why.
        days: age from which a version may lose its files, at least 1.
        remove: False: a dry run.
        moment: the present time, UTC.

    Raises:
        BadInput: an impossible number of days.
    """
    if days < 1:
        raise BadInput("days", days, "1 or more", f"{DAYS} is the default.")
    moment = moment or now()
    with _alone():
        with session_scope() as session:
            versions = _versions(session)
            kept = kept_versions(session, versions, keep, days, moment)
            going = [version for version in versions if version.id not in kept]
            pieces = [*_versions_as_pieces(session, going, moment), *_orphans(session, moment)]
            pieces += _work_folders(session, days, moment)
            if remove:
                for version in going:
                    version.files_removed_at = moment
                    session.add(version)
        if remove:
            pieces = [piece for piece in pieces if _remove(piece, moment)]
    names = {version.name: kept[version.id] for version in versions if version.id in kept}
    return Collected(tuple(pieces), names, remove)


def kept_versions(
    session: Session,
    versions: Collection[ModelVersion],
    keep: Mapping[UUID, str],
    days: int,
    moment: datetime,
) -> dict[UUID, str]:
    """Return the versions whose files stay, with the first reason found, by id."""
    kept = dict(keep)
    oldest = moment - timedelta(days=days)
    exported = set(session.exec(select(ModelExport.model_version_id)).all())
    served = _served_numbers(session)
    for version in versions:
        reason = _own_reason(version, version.id in exported, served.get(version.role, -1), oldest)
        if reason is not None:
            kept.setdefault(version.id, reason)
    rest = [version for version in versions if version.id not in kept]
    for version in rest:
        if (where := _mentioned(session, version)) is not None:
            kept[version.id] = where
    _keep_what_they_rest_on(session, kept)
    return kept


def _own_reason(
    version: ModelVersion, is_exported: bool, newest_served: int, oldest: datetime
) -> str | None:
    """Return why a version's own row keeps its files; None where nothing in it does."""
    if version.pinned_because is not None:
        return f"pinned: {version.pinned_because}"
    if version.stage in (PRODUCTION, EXPERIMENTAL):
        return f"it is in the stage {version.stage}"
    if is_exported:
        return "an export was made of it"
    if version.created_at >= oldest:
        return f"it was made on {version.created_at:%Y-%m-%d}"
    if version.stage in (RETIRED, QUARANTINED):
        return None
    if version.kind == REWARD:
        return "a reward model scores until it is retired"
    if version.stage == CANDIDATE and version.number > newest_served:
        return "no later version of its role has served"
    return None


def _served_numbers(session: Session) -> dict[str, int]:
    """Return the highest number that serves or served, by role."""
    rows = session.execute(
        text("SELECT role, max(number) FROM model_version WHERE stage IN (:a, :b) GROUP BY role"),
        {"a": PRODUCTION, "b": RETIRED},
    )
    return {role: number for role, number in rows}


_MENTIONS: Final = {
    "a Decision names it": """
        SELECT 1 FROM decision WHERE subject_id = :id
            OR inputs::text ~ :pattern OR rule::text ~ :pattern OR reasons::text ~ :pattern""",
    "a run under way names it": """
        SELECT 1 FROM run WHERE status IN ('queued', 'running') AND params::text ~ :pattern""",
    "a training under way goes on from it or learns from it": """
        SELECT 1 FROM training_run t JOIN run r ON r.id = t.run_id
        WHERE r.status IN ('queued', 'running')
          AND (t.from_version_id = :id OR t.recipe::text ~ :pattern)""",
    "a schedule names it": "SELECT 1 FROM training_schedule WHERE training::text ~ :pattern",
    "its files are the base of another": """
        SELECT 1 FROM model_version WHERE id <> :id AND files_removed_at IS NULL
            AND base_model LIKE :folder
        UNION ALL
        SELECT 1 FROM training_run t JOIN run r ON r.id = t.run_id
        WHERE r.status IN ('queued', 'running') AND t.base_model LIKE :folder""",
}
"""Where else a version may be named: by its name or id, as a word of its own; or by its folder."""


def _mentioned(session: Session, version: ModelVersion) -> str | None:
    # A name that is longer (coder-v12, for coder-v1) is another one; names have no special signs
    # but those that are escaped here.
    name = "".join(c if c.isalnum() or c in "-_" else f"\\{c}" for c in version.name)
    values = {
        "id": version.id,
        "folder": f"%{version.artifact_uri}%",
        "pattern": f"(^|[^A-Za-z0-9_-])({name}|{version.id})($|[^A-Za-z0-9_-])",
    }
    for where, query in _MENTIONS.items():
        if session.execute(text(f"{query} LIMIT 1"), values).first() is not None:
            return where
    return None


def _keep_what_they_rest_on(session: Session, kept: dict[UUID, str]) -> None:
    """Add what kept versions were made of, went on from, or learned from, and so on down."""
    todo = list(kept)
    while todo:
        version = session.get(ModelVersion, todo.pop())
        if version is None:
            continue
        for found in _rests_on(session, version):
            if found not in kept:
                kept[found] = f"{version.name} rests on it"
                todo.append(found)


def _rests_on(session: Session, version: ModelVersion) -> Iterator[UUID]:
    if version.parent_id is not None:
        yield version.parent_id
    named = set(_strings(version.made_by))
    if version.training_run_id is not None:
        training = session.get_one(TrainingRun, version.training_run_id)
        if training.from_version_id is not None:
            yield training.from_version_id
        named |= set(_strings(training.recipe))  # a teacher, a reward model
    yield from session.exec(select(ModelVersion.id).where(col(ModelVersion.name).in_(named))).all()
    ids = [UUID(name) for name in named if _is_id(name)]
    yield from session.exec(select(ModelVersion.id).where(col(ModelVersion.id).in_(ids))).all()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _is_id(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True


def _versions(session: Session) -> list[ModelVersion]:
    """Return the versions that have files, locked: none changes its stage meanwhile."""
    return list(
        session.exec(
            select(ModelVersion)
            .where(
                col(ModelVersion.artifact_uri).is_not(None),
                col(ModelVersion.files_removed_at).is_(None),
            )
            .order_by(col(ModelVersion.id))
            .with_for_update()
        ).all()
    )


def _versions_as_pieces(
    session: Session, going: Iterable[ModelVersion], moment: datetime
) -> Iterator[Piece]:
    going = list(going)
    staying = referenced(session, without={version.id for version in going})
    told: set[str] = set()
    for version in going:
        uri = version.artifact_uri
        assert uri is not None
        why = f"{version.stage}, of {version.created_at:%Y-%m-%d}, and nothing rests on it"
        shared = uri in staying or uri in told
        told.add(uri)
        found = None if shared else look_at(uri)
        young = found is not None and found.put_at > moment - ORPHAN_AGE
        yield Piece(
            VERSION,
            version.name,
            why
            + ("; others have the same files" if shared else "")
            + ("; its files were put again lately, and go later" if young else ""),
            found.size_bytes if found and not young else 0,
            None if shared or young else uri,
        )


def referenced(session: Session, without: Collection[UUID] = ()) -> set[str]:
    """Return every artifact URI that a row holds, of any table: each column named `…uri`.

    A version whose files were removed holds none any more.

    Args:
        session: of the surrounding transaction.
        without: versions that do not count.
    """
    found: set[str] = set()
    for table, column in uri_columns(session):
        where = ""
        if table == ModelVersion.__tablename__:
            where = "AND files_removed_at IS NULL AND NOT id = ANY(:without)"
        query = f'SELECT DISTINCT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL {where}'
        values = {"without": list(without)} if where else {}
        found |= set(session.execute(text(query), values).scalars())
    return found


def uri_columns(session: Session) -> list[tuple[str, str]]:
    """Return table and column of everything that may hold an artifact's URI.

    The database is asked, not this code's floors: a table of a floor above counts, too.
    """
    rows = session.execute(
        text(
            """
            SELECT c.table_name, c.column_name FROM information_schema.columns c
            JOIN information_schema.tables t USING (table_schema, table_name)
            WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'
              AND (c.column_name = 'uri' OR c.column_name LIKE '%\\_uri')
              AND c.data_type IN ('text', 'character varying')
            ORDER BY 1, 2
            """
        )
    )
    return [(table, column) for table, column in rows]


def _orphans(session: Session, moment: datetime) -> Iterator[Piece]:
    # The list is made first: what is put and gets its row after it is not on it.
    found = [one for one in stored() if one.put_at <= moment - ORPHAN_AGE]
    needed = referenced(session) if found else set()
    for one in found:
        if one.uri not in needed and not _told_of(session, one):
            yield Piece(ARTIFACT, one.uri, "no row has it", one.size_bytes, one.uri)
    for one in unfinished():
        if one.put_at <= moment - ORPHAN_AGE:
            why = "a store or a removal of it was killed"
            yield Piece(UNFINISHED, one.uri, why, one.size_bytes, one.uri)


_TOLD = text(
    """
    SELECT 1 WHERE EXISTS (
        SELECT 1 FROM decision WHERE inputs::text LIKE :like OR reasons::text LIKE :like
    ) OR EXISTS (
        SELECT 1 FROM model_version WHERE base_model LIKE :like AND files_removed_at IS NULL
    ) OR EXISTS (
        SELECT 1 FROM run WHERE status IN ('queued', 'running')
          AND (params::text LIKE :like OR coalesce(progress::text, '') LIKE :like)
    )
    """
)


def _told_of(session: Session, one: Stored) -> bool:
    """Return whether a Decision, a base or a run under way tells of an artifact, by its hash."""
    like = {"like": f"%{one.uri.rsplit('/', 1)[-1]}%"}
    return session.execute(_TOLD, like).first() is not None


def _work_folders(session: Session, days: int, moment: datetime) -> Iterator[Piece]:
    """Yield this machine's folders of runs that have ended and are not to be taken up."""
    for folder in sorted(work_root().glob("*/*")):
        touched = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        run = _run_of(session, folder.name) if _is_id(folder.name) else None
        age = timedelta(days=days) if run else ORPHAN_AGE
        if (run and run.status in (QUEUED, RUNNING)) or touched > moment - age:
            continue
        why = f"its {run.kind} is {run.status}" if run else "no run has it"
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        yield Piece(WORK, f"{folder.parent.name}/{folder.name}", why, size)


def _run_of(session: Session, name: str) -> Run | None:
    """Return the run that a folder is of: named by its training, or by the run itself."""
    training = session.get(TrainingRun, UUID(name))
    return session.get(Run, training.run_id if training else UUID(name))


def work_root() -> Path:
    """Return this machine's folder of work under way: a folder of each kind, in it one a run."""
    return get_settings().home.absolute() / "work"


def _remove(piece: Piece, moment: datetime) -> bool:
    """Remove a piece; return whether it went: a version did when its row was marked."""
    if piece.kind == WORK:
        shutil.rmtree(work_root() / piece.name, ignore_errors=True)
        return True
    gone = piece.uri is None or remove_unless_put(piece.uri, moment - ORPHAN_AGE)
    return gone or piece.kind == VERSION


@contextmanager
def _alone() -> Iterator[None]:
    """Hold registrations off until the files are gone: longer than the transaction of the rows.

    A transaction of its own holds the lock: a session's would stay with a pooler's connection. The
    setting after it also ends the snapshot that the lock was waited for with: vacuum goes on.
    """
    with get_engine().begin() as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), FILES_LOCK
        )
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield
