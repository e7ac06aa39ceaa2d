"""The life of a build: opened or taken up again, alone at its steps, and closed once.

What a build was judged by is its fingerprint. A build that was left open is gone on with if that is
still the same, else abandoned; after an abandoned one, or after a change, everything is judged.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col

from curation import chunks
from curation.candidates import Mark, seen_xid
from curation.recipe import CurationRecipe
from curation.tables import CurationBuild
from curation.templates import Templates
from foundation.database import database_url, get_engine, safe_url, session_scope
from foundation.errors import Conflict, DatabaseUnavailable
from foundation.tables import now

log = logging.getLogger(__name__)

PUBLISHED, UNCHANGED, ABANDONED = "published", "unchanged", "abandoned"
DATABASE: Final = "database"
"""Entry of a build's counts: the cluster that numbered its transactions."""
POLL_S: Final = 0.5
"""How often a worker that waits for another one's build looks again."""
_LOOKED_BACK: Final = 50
"""Builds looked at for the last whole one."""


def fingerprint_of(recipe: CurationRecipe, templates: Templates) -> str:
    """SHA-256 of all that can change the verdict on an interaction."""
    return hashlib.sha256((recipe.judging_fingerprint + templates.digest).encode()).hexdigest()


def take_up(
    session: Session, role: str, recipe: CurationRecipe, templates: Templates, present: Mark
) -> CurationBuild | None:
    """Return the build that somebody left, if it can go on as it began; one that cannot is closed.

    Args:
        session: its transaction closes the build.
        role: of the log.
        recipe: as it is now.
        templates: as they are now.
        present: up to where the log is settled.
    """
    build = open_build(session, role, recipe.variant)
    if build is None:
        return None
    goes_on = (
        build.recipe_fingerprint == fingerprint_of(recipe, templates)
        and build.counts.get(DATABASE) == present.database
        and build.until_xid <= present.xid
    )
    if not goes_on:
        close(session, build, ABANDONED)
        session.flush()
    return build if goes_on else None


def open_new(
    session: Session, role: str, recipe: CurationRecipe, templates: Templates, present: Mark
) -> CurationBuild:
    """Open a build of what is new since the last one, or of everything where rules changed."""
    fingerprint = fingerprint_of(recipe, templates)
    newest_first = _builds(role, recipe.variant).order_by(col(CurationBuild.finished_at).desc())
    before = session.execute(newest_first.limit(_LOOKED_BACK)).scalars().all()
    seen_in = judged_alike(before, fingerprint)
    build = CurationBuild(
        role=role,
        variant=recipe.variant,
        recipe=recipe.as_json(),
        recipe_fingerprint=fingerprint,
        everything=seen_in is None,
        from_xid=seen_xid(session, role, recipe.variant, present, seen_in),
        until_xid=present.xid,
        counts={DATABASE: present.database},
    )
    session.add(build)
    session.flush()
    return build


def judged_alike(before: Sequence[CurationBuild], fingerprint: str) -> str | None:
    """Return the database of the last whole build, if all examples were judged as now; else None.

    A build that was abandoned half way may have judged some of them otherwise.

    Args:
        before: the builds of a role and variant, newest first.
        fingerprint: of the rules as they are now.
    """
    for build in before:
        if build.recipe_fingerprint != fingerprint:
            return None
        if build.outcome != ABANDONED:
            return str(build.counts.get(DATABASE))
    return None


def open_build(session: Session, role: str, variant: str) -> CurationBuild | None:
    """Return the build of a role and variant that has not ended; there is one at most."""
    query = _builds(role, variant).where(col(CurationBuild.finished_at).is_(None))
    found: CurationBuild | None = session.execute(query).scalar_one_or_none()
    return found


def close(session: Session, build: CurationBuild, outcome: str) -> None:
    """End a build; of its chunks only what came of them is kept."""
    build.counts = {**chunks.counts_of(session, build.id), **build.counts}
    build.step, build.outcome, build.finished_at = "done", outcome, now()
    chunks.forget(session, build.id)
    session.add(build)


def count(build: CurationBuild, name: str, found: Any) -> None:
    """Add to a build's account what came of one of its steps: a dataclass or a dictionary."""
    counts = found if isinstance(found, dict) else asdict(found)
    build.counts = {**build.counts, name: chunks.added([build.counts.get(name, {}), counts])}


def analyze_if_grown(n_rows: int) -> None:
    """Have the planner count again once a step has written much compared with what it knows.

    On the statistics of an empty table it walks a whole index for each look-up.

    Args:
        n_rows: interactions or texts that the step was about.
    """
    with session_scope() as session:
        n_known = session.execute(_N_KNOWN).scalar_one()
        if n_rows >= max(_FEW_ROWS, _GROWN * n_known):
            session.execute(_ANALYZE)


_FEW_ROWS: Final = 500
_GROWN: Final = 0.1
_N_KNOWN = text("SELECT reltuples FROM pg_class WHERE oid = 'example'::regclass")
_ANALYZE = text("ANALYZE example, indexed_text, text_band, text_edge")


@contextmanager
def step(build_id: UUID, name: str) -> Iterator[tuple[Session, CurationBuild]]:
    """Open the transaction of a step that one worker does alone; the build's row is its lock.

    Raises:
        Conflict: the build has ended, which another worker can only do once this one's lock is
            lost.
    """
    with session_scope() as session:
        locked = select(CurationBuild).where(col(CurationBuild.id) == build_id).with_for_update()
        build = session.execute(locked).scalar_one()
        if build.finished_at is not None:
            raise Conflict(
                "curation",
                f"build {build.id} of {build.role}, {build.outcome}",
                "an open build",
                "Another worker has ended it meanwhile; run it again.",
            )
        build.step = name
        session.add(build)
        yield session, build


@contextmanager
def alone(role: str, variant: str, meanwhile: Callable[[], bool]) -> Iterator[None]:
    """Wait until nobody else builds the same; the lock dies with its holder.

    The transaction that holds it has no number and no snapshot: it keeps nobody's mark back.

    Args:
        role: of the log.
        variant: of the curation.
        meanwhile: called again and again until the lock is free; returns whether it did anything.
    """
    with Session(get_engine()) as session:

        def is_taken() -> bool:
            key = {"key": f"curation:{role}:{variant}"}
            taken: bool = session.execute(_TRY, key).scalar_one()
            session.execute(_LET_GO)
            return taken

        while not is_taken():
            if not meanwhile():
                time.sleep(POLL_S)
        yield
        try:
            session.rollback()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            # Each step has a lock of its own, so nothing went wrong.
            log.warning("the lock on curating %s was lost on the way", role)


_TRY = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))")
_LET_GO = text("SET LOCAL idle_in_transaction_session_timeout = 0")
"""A second statement also ends the snapshot of the one before it: vacuum goes on."""


@contextmanager
def database_watched() -> Iterator[None]:
    """Say in plain words that the database was lost.

    Raises:
        DatabaseUnavailable: the connection broke, or a new one could not be made.
    """
    try:
        yield
    except DBAPIError as error:
        if not error.connection_invalidated and error.statement is not None:
            raise
        raise DatabaseUnavailable(safe_url(database_url()), str(error.orig).strip()) from error


def _builds(role: str, variant: str) -> Any:
    return select(CurationBuild).where(
        col(CurationBuild.role) == role, col(CurationBuild.variant) == variant
    )
