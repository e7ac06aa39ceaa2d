"""Front desk: what follows an erasure that is committed: files go, what is left is searched for.

Then there is a certificate of it, which names nobody.
"""

import shutil
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg.errors import QueryCanceled
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col, select

from curation.erase import FILES, NEIGHBOURS
from curation.tables import Erasure
from foundation.database import session_scope
from foundation.quotes import Sought
from foundation.settings import get_settings
from foundation.tables import QUEUED, RUNNING, Run, now
from router.erase import delete_files, search, searched
from trainer.tables import PRODUCTION, RETIRED, ModelVersion, TrainingRun


def prove(account: Erasure, sought: Sought, *, verify: bool = True, longest_ms: int = 0) -> Erasure:
    """Remove the files of an erasure that is committed, search for what is left, keep the proof.

    Args:
        account: the erasure.
        sought: what its traces are known by, asked before it was made.
        verify: whether every table is searched; it reads the whole database.
        longest_ms: what one table may take; one that takes longer leaves the search undone. 0: any.
    """
    with session_scope() as session:
        removed = delete_files(session)
        folders = _remove_work(session, account.dataset_ids)
    remaining = _remaining(sought, longest_ms) if verify else None
    with session_scope() as session:
        stored = session.get_one(Erasure, account.id, with_for_update=True)
        stored.proof = {
            **(stored.proof or {}),
            "at": now().isoformat(),
            "artifacts_removed": removed,
            "work_folders_removed": folders,
            "searched_for": 0 if remaining is None else _size(searched(sought)),
            "known_by": _size(sought),
            "remaining": remaining,
        }
        session.add(stored)
        session.flush()
        return stored


def certificate(session: Session, erasure: Erasure) -> dict[str, Any]:
    """Return what may be shown of an erasure: digests, counts, and what learned from it."""
    proof = erasure.proof or {}
    counts = {name: n for name, n in erasure.counts.items() if name not in (FILES, NEIGHBOURS)}
    return {
        "erasure": str(erasure.id),
        "erased_at": erasure.created_at.isoformat(),
        "actor": erasure.actor,
        "reason": erasure.reason,
        "scope": erasure.scope,
        "subject_sha256": erasure.subject_hash,
        "name_sha256": proof.get("digests", []),
        "rows_by_table": counts,
        "other_calls_of_the_episodes": int(erasure.counts.get(NEIGHBOURS, 0)),
        "datasets": erasure.dataset_ids,
        "suites": proof.get("suites", []),
        "artifacts_removed": proof.get("artifacts_removed", 0),
        "files_waiting": len(erasure.counts.get(FILES, [])),
        "model_versions": _models(session, erasure.model_versions),
        "verified": {
            "at": proof.get("at"),
            "searched_for": proof.get("searched_for", 0),
            "known_by": proof.get("known_by"),
            "remaining": proof.get("remaining"),
        },
    }


def _remaining(sought: Sought, longest_ms: int) -> dict[str, int] | None:
    """Return rows that still say it, by table; None: a table took longer than it may."""
    try:
        with session_scope() as session:
            session.execute(text(f"SET LOCAL statement_timeout = {longest_ms}"))
            return search(session, sought)
    except DBAPIError as error:
        if isinstance(error.orig, QueryCanceled):
            return None
        raise


def _size(sought: Sought) -> int:
    return len(sought.fragments) + len(sought.names)


def _models(session: Session, names: Sequence[str]) -> list[dict[str, str]]:
    """Return the versions that learned from it, and what is to be done about each."""
    query = select(ModelVersion).where(col(ModelVersion.name).in_(names))
    return [
        {"name": one.name, "stage": one.stage, "to_do": _to_do(one)}
        for one in session.exec(query.order_by(col(ModelVersion.name))).all()
    ]


def _to_do(version: ModelVersion) -> str:
    if version.files_removed_at is not None:
        return "nothing: its files are gone"
    if version.stage == RETIRED:
        return "let its files go: flywheel model gc"
    if version.stage == PRODUCTION:
        return "train its successor on the dataset as it is now, promote it, retire this one"
    return "train it again on the dataset as it is now, retire this one"


def _remove_work(session: Session, datasets: Sequence[str]) -> int:
    """Remove this machine's working folders of trainings on these datasets that have ended."""
    query = select(TrainingRun.id).where(
        col(TrainingRun.dataset_id).in_([UUID(one) for one in datasets])
    )
    root, n_removed = get_settings().home.absolute() / "work" / "training", 0
    for identifier in session.exec(query).all():
        if (folder := root / str(identifier)).is_dir() and _has_ended(session, identifier):
            shutil.rmtree(folder, ignore_errors=True)
            n_removed += 1
    return n_removed


def _has_ended(session: Session, training: UUID) -> bool:
    run = session.get_one(Run, session.get_one(TrainingRun, training).run_id)
    return run.status not in (QUEUED, RUNNING)
