"""Whose word examples rest on, and how many of a dataset may rest on one key's alone.

An example rests on a key if nothing but what came by that key judges it: `source` of a statement is
what its sender says of himself, the key is not (`collector.feedback.sources`). What somebody else
spoke of, too, or a reviewer let through, rests on nobody alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.sources import KEY, MACHINE, USER, is_heard, source_of, trusted

SEVERAL, REVIEW, USERS, THE_MACHINE, NOBODY = "several", "review", "users", "machine", "nobody"
"""What rows are counted as that rest on no key alone."""
_IDS_AT_ONCE: Final = 10_000


def over_source(ordered: Sequence[UUID], keys: Mapping[UUID, str], share: float) -> set[UUID]:
    """Return the rows to leave out so that no key has more than its share of what is left; pure.

    As few as possible, of each key the last ones. Rows of one key alone leave nothing.

    Args:
        ordered: the rows, the best first.
        keys: of rows that rest on one key alone, that key.
        share: of all rows that are left, in (0, 1].
    """
    present = Counter(keys[row] for row in ordered if row in keys)
    others = len(ordered) - present.total()
    most, total = Fraction(str(share)), len(ordered)
    while (left := others + sum(min(n, int(most * total)) for n in present.values())) < total:
        total = left
    allowed, taken, out = int(most * total), Counter[str](), set[UUID]()
    for row in ordered:
        if row in keys:
            taken[keys[row]] += 1
            if taken[keys[row]] > allowed:
                out.add(row)
    return out


def keys_of(session: Session, ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return of examples that rest on one key alone that key's source; trusted ones left out."""
    spared = trusted(session)
    return {
        row: source
        for row, source in _told(session, list(ids))
        if source.startswith(KEY) and source not in spared
    }


def rows_by_source(session: Session, ids: Sequence[UUID]) -> dict[str, int]:
    """Return how many examples rest on each key, by its name, and on whom else, most first.

    Empty where no key was ever made: then all is the machine's and its users' word.
    """
    return by_name(session, (source for _, source in _told(session, ids)), len(ids))


def by_name(session: Session, sources: Iterable[str], n_rows: int) -> dict[str, int]:
    """Return how many of `n_rows` rest on each source; rows that none is given of, on nobody."""
    if not has_keys(session):
        return {}
    found = Counter(sources)
    names = {f"{KEY}{key}": f"{KEY}{name}" for key, name in session.execute(_KEY_NAMES)}
    counts = Counter[str]()
    for source, n in found.items():
        counts[names.get(source, source) if source.startswith(KEY) else _group(source)] += n
    counts[NOBODY] += n_rows - found.total()
    return dict(sorted((+counts).items(), key=lambda one: (-one[1], one[0])))


def _group(source: str) -> str:
    """Return what rows that rest on no key are counted as; users have no name on a card."""
    if source.startswith(USER):
        return USERS
    return THE_MACHINE if source == MACHINE else source


def _told(session: Session, ids: Sequence[UUID]) -> Iterable[tuple[UUID, str]]:
    """Yield examples that somebody judged, with the source that they rest on."""
    if not has_keys(session):
        return
    for start in range(0, len(ids), _IDS_AT_ONCE):
        rows: Any = session.execute(_TOLD, {"ids": list(ids[start : start + _IDS_AT_ONCE])})
        yield from rows


def has_keys(session: Session) -> bool:
    """Return whether a key was ever made."""
    return bool(session.execute(text("SELECT EXISTS (SELECT 1 FROM gateway_key)")).scalar_one())


_KEY_NAMES = text("SELECT id, name FROM gateway_key")
_TOLD = text(
    f"""
    WITH wanted AS MATERIALIZED (
        SELECT id, interaction_id, episode_id, reviewed FROM example
        WHERE id = ANY(CAST(:ids AS uuid[]))
    ), told AS (
        SELECT w.id, {source_of("f")} AS source FROM wanted w
        JOIN feedback f ON f.interaction_id = w.interaction_id
        WHERE f.kind IN ('success', 'rating', 'correction', 'preference') AND {is_heard("f")}
        UNION ALL
        SELECT w.id, {source_of("f")} FROM wanted w
        JOIN feedback f ON f.episode_id = w.episode_id AND f.interaction_id IS NULL
        WHERE f.kind IN ('success', 'rating', 'correction', 'preference') AND {is_heard("f")}
        UNION ALL
        SELECT id, '{REVIEW}' FROM wanted WHERE reviewed IN ('accepted', 'edited')
    )
    SELECT id, CASE WHEN bool_or(source = '{REVIEW}') THEN '{REVIEW}'
                    WHEN count(DISTINCT source) > 1 THEN '{SEVERAL}' ELSE min(source) END
    FROM told GROUP BY id
    """
)
