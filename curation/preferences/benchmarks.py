"""Pairs that teach a benchmark: each is held against the protected texts, like an example.

Of the answers in a pair only kept examples were; a failed one, or one that people preferred and
nobody executed, is looked at here first.
"""

import json
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from curation.decontaminate import Guard, Suspect, protected_items, protection_digest
from curation.preferences.store import SUPERSEDED
from curation.recipe import CurationRecipe
from curation.templates import Templates
from foundation.chat import joined

_ROWS_AT_ONCE: Final = 200


def check_pairs(session: Session, role: str, recipe: CurationRecipe, templates: Templates) -> None:
    """Note with each pair what it was held against, and what it was found to repeat."""
    stamp = protection_digest(session) if recipe.decontaminate else ""
    given: dict[str, Any] = {
        "role": role,
        "variant": recipe.variant,
        "stamp": stamp,
        "superseded": SUPERSEDED,
        "count": _ROWS_AT_ONCE,
        "last": UUID(int=0),
    }
    rows = session.execute(_UNCHECKED, given).all()
    guard = Guard(protected_items(session) if stamp else [], templates) if rows else None
    while rows and guard is not None:
        hits = guard.check([_suspect(row) for row in rows])
        found = [
            {
                "id": str(row.id),
                "hit": {
                    "protected_id": str(of_row[0].protected_id),
                    "method": of_row[0].method,
                    "similarity": of_row[0].similarity,
                }
                if of_row
                else None,
            }
            for row, of_row in zip(rows, hits, strict=True)
        ]
        session.execute(_NOTE, {**given, "found": json.dumps(found)})
        rows = session.execute(_UNCHECKED, given | {"last": rows[-1].id}).all()


def _suspect(row: Any) -> Suspect:
    history = joined(row.prompt, ("assistant", "tool"))
    said = "\n".join(part for part in (history, row.chosen, row.rejected) if part)
    kind, _, key = row.task_key.partition(":")
    return Suspect(
        joined(row.prompt), said, frozenset({row.project, *([key] if kind == "task" else [])})
    )


_UNCHECKED = text(
    """
    SELECT id, task_key, project, prompt, chosen, rejected FROM preference_pair
    WHERE role = :role AND variant = :variant AND drop_reason IS DISTINCT FROM :superseded
      AND coalesce(evidence->>'protection', '') <> :stamp AND id > :last
    ORDER BY id LIMIT :count
    """
)

_NOTE = text(
    """
    UPDATE preference_pair p
    SET evidence = (p.evidence - 'contamination')
        || jsonb_build_object('protection', CAST(:stamp AS text))
        || CASE WHEN checked.hit IS NULL THEN '{}'
                ELSE jsonb_build_object('contamination', checked.hit) END
    FROM json_to_recordset(CAST(:found AS json)) AS checked(id uuid, hit jsonb)
    WHERE p.id = checked.id
    """
)
