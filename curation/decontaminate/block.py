"""Drops the kept examples of a role that repeat a protected text, each with its evidence.

An example is held against each protected source once: what it was checked against stands in
`Example.protection`, and a later source alone is looked at when it comes. All copies of a blocked
text go with it, and what repeated it nearly is checked at once, lest it be promoted one by one.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlmodel import Session

from curation.boilerplate import NO_TEMPLATES, Templates
from curation.decontaminate.check import KEY, Guard, Hit, Suspect
from curation.decontaminate.protect import (
    checked_until,
    protected_items,
    protection,
)
from curation.dedupe.settle import OPEN
from curation.recipe import RULE_VERSIONS, CurationRecipe
from curation.score.outcome import CONTAMINATED, OVER_QUOTA
from curation.split import TASK_PREFIX
from foundation.chat import joined

_CHARS_AT_ONCE: Final = 4_000_000
_ROWS_AT_ONCE: Final = 500


@dataclass(slots=True)
class Decontaminated:
    """What one pass found, counted in examples."""

    n_checked: int = 0
    n_blocked: int = 0
    """With the copies of blocked texts."""
    by_method: dict[str, int] = field(default_factory=dict)
    """Blocked ones by the surest method that found them."""


def decontaminate(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    templates: Templates = NO_TEMPLATES,
) -> Decontaminated:
    """Hold kept examples against the protected texts that they were not yet held against.

    A blocked example is dropped as `contaminated`, gets a `Contamination` row for each protected
    text that it repeats, and is marked `needs_settling`, so that a repeat of it may take its place:
    settle again, and call this again until it blocks nothing. The caller commits.
    """
    done = Decontaminated()
    now = protection(session)
    if not recipe.decontaminate or now.until is None:
        return done
    given = {"role": role, "variant": recipe.variant, "stamp": now.stamp}
    session.execute(_CHECK_AGAIN, given)
    for stamp in session.execute(_STAMPS, given).scalars().all():
        _check_all(session, given | {"old": stamp}, templates, done)
    return done


def suspect_of(columns: Any) -> Suspect:
    """Return an example's row as a suspect: all that was said in it but for system prompts."""
    task_key = columns.split_key.removeprefix(TASK_PREFIX)
    keys = {columns.project, task_key if task_key != columns.split_key else ""}
    history = joined(columns.prompt, ("assistant", "tool"))
    called = "\n".join(_strings_of_calls(columns.answer_message))
    return Suspect(
        joined(columns.prompt),
        "\n".join(part for part in (history, columns.answer, called) if part),
        frozenset(key for key in keys if key),
    )


def _check_all(
    session: Session, given: dict[str, Any], templates: Templates, done: Decontaminated
) -> None:
    """Check the examples of one old stamp, by id; each gets the new one."""
    items = protected_items(session, after=checked_until(given["old"]))
    if items:
        guard = Guard(items, templates)
        last = UUID(int=0)
        while rows := session.execute(_NEXT, given | {"last": last}).all():
            last = rows[-1].id
            found = _found(guard, rows)
            done.n_checked += len(rows)
            while found:
                _block(session, given, found, done)
                members = session.execute(
                    _MEMBERS, given | {"ids": [row.id for row, _ in found]}
                ).all()
                done.n_checked += len(members)
                found = _found(guard, members)
    session.execute(_STAMP, given)


def _found(guard: Guard, rows: Sequence[Row[Any]]) -> list[tuple[Row[Any], list[Hit]]]:
    """Return the rows that repeat something, a few megabytes of text in memory at a time."""
    found = []
    for some in _portions(rows):
        hits = guard.check([suspect_of(row) for row in some])
        found += [(row, hit) for row, hit in zip(some, hits, strict=True) if hit]
    return found


def _portions(rows: Sequence[Row[Any]]) -> Iterator[list[Row[Any]]]:
    size = 0

    def portion_of(row: Row[Any]) -> int:
        nonlocal size
        size += int(row.n_chars)
        return size // _CHARS_AT_ONCE

    for _, some in groupby(rows, portion_of):
        yield list(some)


def _block(
    session: Session,
    given: dict[str, Any],
    found: Sequence[tuple[Row[Any], list[Hit]]],
    done: Decontaminated,
) -> None:
    evidence = [
        {
            "id": str(row.id),
            # A key is the example's own; what its text repeats, its copies repeat too.
            "text_id": None if hit.method == KEY else row.text_id,
            "protected_id": str(hit.protected_id),
            "method": hit.method,
            "similarity": hit.similarity,
        }
        for row, hits in found
        for hit in hits
    ]
    arguments = given | {"evidence": json.dumps(evidence), "rule": RULE_VERSIONS["decontaminate"]}
    session.execute(_NAME, arguments)
    blocked = session.execute(_DROP, arguments | {"reason": CONTAMINATED}).scalars().all()
    done.n_blocked += len(blocked)
    for method, n in Counter(blocked).items():
        done.by_method[method] = done.by_method.get(method, 0) + n


def _strings_of_calls(message: dict[str, Any] | None) -> Iterable[str]:
    """Yield the texts among the arguments of a message's tool calls."""
    for call in (message or {}).get("tool_calls") or []:
        function = call.get("function") if isinstance(call, dict) else None
        arguments = (function or {}).get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                yield str(arguments)
                continue
        yield from strings_in(arguments)


def strings_in(value: Any) -> Iterator[str]:
    """Yield every string of a JSON value, in order."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            pending.extend(reversed(one.values()))
        elif isinstance(one, list):
            pending.extend(reversed(one))


_COLUMNS: Final = (
    "example.id, text_id, project, split_key, prompt, answer, answer_message, "
    "pg_column_size(prompt) + length(answer) AS n_chars"
)
_MINE: Final = "example.role = :role AND example.variant = :variant"
_STANDS: Final = f"(status = 'kept' OR drop_reason = '{OVER_QUOTA}')"
"""What a version may hold: a wider quota takes back what an earlier one left out."""

# A judgement since may have brought a blocked example back: its evidence has to be found again.
_CHECK_AGAIN = text(
    f"""
    WITH back AS (
        UPDATE example SET protection = '' WHERE {_MINE} AND {_STANDS}
          AND EXISTS (SELECT 1 FROM contamination c WHERE c.example_id = example.id)
        RETURNING id
    )
    DELETE FROM contamination c USING back WHERE c.example_id = back.id
    """
)
_STAMPS = text(
    f"SELECT DISTINCT protection FROM example WHERE {_MINE} AND {_STANDS} "
    "AND (protection < :stamp OR protection > :stamp) ORDER BY protection"
)
_NEXT = text(
    f"SELECT {_COLUMNS} FROM example WHERE {_MINE} AND {_STANDS} AND protection = :old "
    f"AND id > :last ORDER BY id LIMIT {_ROWS_AT_ONCE}"
)
_MEMBERS = text(
    f"SELECT DISTINCT ON (text_id) {_COLUMNS} FROM example WHERE {_MINE} AND {OPEN} "
    "AND cluster_id = ANY(CAST(:ids AS uuid[])) AND text_id IS NOT NULL ORDER BY text_id, id "
    f"LIMIT {_ROWS_AT_ONCE}"
)
_EVIDENCE: Final = (
    "SELECT * FROM json_to_recordset(CAST(:evidence AS json)) "
    "AS e (id uuid, text_id bigint, protected_id uuid, method text, similarity float)"
)
_REPEATS: Final = f"""
    WITH evidence AS ({_EVIDENCE}), repeats AS (
        SELECT id AS example_id, protected_id, method, similarity FROM evidence
        UNION ALL
        SELECT example.id, evidence.protected_id, evidence.method, evidence.similarity
        FROM evidence JOIN example ON example.text_id = evidence.text_id
        WHERE {_MINE} AND {OPEN} AND example.id <> evidence.id
    )
"""
_NAME = text(
    f"""
    {_REPEATS}
    INSERT INTO contamination
        (example_id, protected_id, method, similarity, rule_version, created_at)
    SELECT DISTINCT ON (example_id, protected_id)
        example_id, protected_id, method, similarity, :rule, now()
    FROM repeats ORDER BY example_id, protected_id, similarity DESC
    ON CONFLICT (example_id, protected_id) DO NOTHING
    """
)
_DROP = text(
    f"""
    {_REPEATS}, first AS (
        SELECT DISTINCT ON (example_id) example_id, method FROM repeats ORDER BY example_id
    )
    UPDATE example
    SET status = 'dropped', drop_reason = :reason, protection = :stamp, needs_settling = true
    FROM first WHERE example.id = first.example_id
    RETURNING first.method
    """
)
_STAMP = text(
    f"UPDATE example SET protection = :stamp WHERE {_MINE} AND {_STANDS} AND protection = :old"
)
