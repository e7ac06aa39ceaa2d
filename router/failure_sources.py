"""Who said of a promoted version's tasks that they failed: what a rollback rests on.

Asked once, when the guard is about to roll back, so that its decision can name a source whose word
alone makes up most of it. It changes nothing about the rollback: the version before is the safe
side, and to wait for a second voice would leave a broken one serving.
"""

from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.sources import MACHINE, is_heard, source_of, trusted
from foundation.ids import first_id_at
from router.experiments.sources import names_of
from router.tables import Promotion

NEWEST: Final = 20_000
"""Calls of the version that are looked at, the newest."""
OTHERS: Final = "others"
"""The machine, and sources that a person trusts: nobody is sent to look at them."""


def failure_sources(session: Session, promotion: Promotion) -> dict[str, int]:
    """Return how many failed tasks each source told of first, by the name a person gives it."""
    values = {
        "role": promotion.role,
        "version": promotion.to_model_version_id,
        "since": first_id_at(promotion.created_at),
        "newest": NEWEST,
    }
    told = {source: int(n) for source, n in session.execute(_TOLD, values)}
    names, spared = names_of(session, told), {MACHINE, *trusted(session)}
    found: dict[str, int] = {}
    for source, n in sorted(told.items()):
        name = OTHERS if source in spared else names.get(source, source)
        found[name] = found.get(name, 0) + n
    return found


_TOLD = text(
    f"""
    WITH ours AS MATERIALIZED (
        SELECT id, episode_id FROM interaction
        WHERE role = :role AND model_version_id = :version AND id >= :since
        ORDER BY id DESC LIMIT :newest
    ), told AS (
        SELECT coalesce(c.episode_id, c.id) AS task, f.value, 1 AS level, f.created_at, f.id,
               {source_of("f")} AS source
        FROM ours c JOIN feedback f ON f.interaction_id = c.id
        WHERE f.kind = 'success' AND f.value IS NOT NULL AND {is_heard("f")}
        UNION ALL
        SELECT f.episode_id, f.value, 0, f.created_at, f.id, {source_of("f")}
        FROM (SELECT DISTINCT episode_id FROM ours) c
        JOIN feedback f ON f.episode_id = c.episode_id AND f.interaction_id IS NULL
        WHERE f.kind = 'success' AND f.value IS NOT NULL AND {is_heard("f")}
    ), first AS (
        SELECT DISTINCT ON (task) task, value, source FROM told
        ORDER BY task, level, created_at, id
    )
    SELECT source, count(*) FROM first WHERE value < 0.5 GROUP BY source
    """
)
