"""Front desk: erase a person, an episode, a project or single calls wherever a copy is kept.

From the top floor that keeps any down to the log: units of experiments, tasks and answers of
evaluations, then `curation.erase`, which erases examples and datasets and calls the log's. Last,
what merely quotes an erased text (lines of runs, reasons, reports) is blanked where it stands.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from collector.erase import EPISODE, INTERACTION, UNIT, Reach, Subject, interactions_of, texts_of
from curation import erase as of_curation
from curation.erase import delete_files
from curation.tables import Erasure
from evaluator.erase import erase_tasks
from foundation.quotes import Column, Sought, blank, find, fragments
from trainer.lineage import learned_from

__all__ = ["Subject", "delete_files", "erase", "search", "searched", "sought_of"]

_CONTENT: Final = frozenset(
    {
        *("interaction", "interaction_payload", "feedback", "example", "preference_pair"),
        *("indexed_text", "text_edge", "template_text", "protected_text", "suite_task", "sample"),
        *("review_label", "review_draft", "constitution_revision", "campaign", "metric", "media"),
        *("erasure", "alembic_version", "gateway_key", "admin_user", "admin_session"),
        *("admin_sign_in_code", "admin_sign_in_attempt", "run", "dataset_shard", "shard_row"),
    }
)
"""Tables where a quotation stands for itself: another call's text, which is not what was named."""
_NAMED: Final = frozenset(
    {"actor", "reviewer", "name", "role", "kind", "status", "source", "model"}
)
_RUN_COLUMNS: Final = frozenset({"result", "progress", "error"})
MOST_SEARCHED: Final = 60
"""Fragments that the search of every table looks for: it reads each row of the database once."""
MOST_NAMES_SEARCHED: Final = 600
"""Names that it looks for: all of a person's, more than a few single calls' ids."""


def erase(
    session: Session,
    subject: Subject,
    *,
    actor: str,
    reason: str | None = None,
    dry_run: bool = False,
) -> Erasure:
    """Erase a subject wherever a copy is kept, and return the account of it.

    After the commit, `delete_files` removes the files that held the text, and `search` proves it.

    Args:
        session: the caller commits.
        subject: interactions, an episode, a unit (a person) or a project.
        actor: who asked for it.
        reason: why.
        dry_run: count what would go, exactly, and change nothing.
    """
    return of_curation.erase(
        session,
        subject,
        actor=actor,
        reason=reason,
        learned_from=learned_from,
        elsewhere=_above,
        dry_run=dry_run,
    )


def sought_of(session: Session, subject: Subject) -> Sought:
    """Return what a subject's traces are known by, to be asked before it is erased."""
    ids = interactions_of(session, subject)
    return _sought(subject, texts_of(session, ids), ids)


def search(session: Session, sought: Sought) -> dict[str, int]:
    """Search every table for what is left of a subject; return rows by table, best none.

    What is found after an erasure are texts of others that say the same, or quote it. A project's
    name is not looked for, which settings and sums go on bearing.
    """
    return find(session, searched(sought), without={"erasure"})


def searched(sought: Sought) -> Sought:
    """Return what of it `search` looks for, the names that were given before the calls'; pure."""
    step = max(1, len(sought.fragments) // MOST_SEARCHED)
    few = sought.fragments[::step][:MOST_SEARCHED]
    return Sought(few, sought.names[:MOST_NAMES_SEARCHED])


def _above(session: Session, reach: Reach) -> tuple[Counter[str], dict[str, Any]]:
    counts, suites = erase_tasks(session, reach.ids)
    counts["assignment"] = _erase_units(session, reach.subject)
    sought = _sought(reach.subject, reach.texts, reach.ids)
    counts["quotation"] = blank(session, sought, _may_be_blanked).total()
    return counts, {"suites": suites, "n_fragments": len(sought.fragments)}


def _erase_units(session: Session, subject: Subject) -> int:
    """Let assignments forget whose they were; what they count in an experiment stays."""
    if subject.scope not in (UNIT, EPISODE, INTERACTION):
        return 0
    given = {"names": list(subject.names)}
    return int(session.execute(_UNITS, given).rowcount)  # type: ignore[attr-defined]


def _sought(subject: Subject, texts: Sequence[str], ids: Sequence[UUID]) -> Sought:
    is_named = subject.scope in (UNIT, EPISODE, INTERACTION)
    names = [*(subject.names if is_named else ()), *map(str, ids[:MOST_SEARCHED])]
    return Sought(tuple(fragments(texts)), tuple(dict.fromkeys(names)))


def _may_be_blanked(column: Column) -> bool:
    """Return whether a quotation in a column may give way: it explains, and is no more."""
    if column.table == "run":
        return column.name in _RUN_COLUMNS
    if column.table in _CONTENT or column.table.startswith(("kombu_", "curation_chunk")):
        return False
    return column.is_json or column.name not in _NAMED and not column.name.endswith(_KEYS)


_KEYS: Final = ("_hash", "key", "uri", "_id", "version", "unit", "scope", "measure", "endpoint")
_UNITS = text(
    "UPDATE assignment SET unit = 'erased-' || id::text WHERE unit = ANY(CAST(:names AS text[]))"
)
