"""Pairs that people preferred: feedback of kind `preference`, imported pairs included.

Of each speaker the last word counts, and of several the majority. A key can call itself a hundred
speakers: where others spoke, too, what came by one key is one vote, that of its majority, unless a
person trusts the key. A preference between answers to two prompts is left out: nobody was asked one
question.
"""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.sources import KEY, is_heard, source_of, trusted
from curation.candidates import move_watermark
from curation.preferences.answers import (
    ANSWER,
    HAS_ANSWER,
    IS_MINE,
    LEARNABLE,
    MAY_WIN,
    TASK,
    answer_of,
    parameters,
)
from curation.preferences.pairs import Pair, preference
from curation.preferences.store import Task, columns_of, retire_preferences, store
from curation.recipe import RULE_VERSIONS, CurationRecipe
from curation.score.outcome import LOW_SCORE, NO_OUTCOME, TOO_LITTLE_FEEDBACK
from curation.tables import CurationWatermark
from foundation.tables import now

PEOPLE: Final = ("human", "user")
"""Sources whose preference counts as a person's."""
PREFERABLE: Final = (*LEARNABLE, LOW_SCORE, NO_OUTCOME, TOO_LITTLE_FEEDBACK)
"""Drop reasons that do not weigh against a person's word."""
_ROWS_AT_ONCE: Final = 200


def mine_preferences(session: Session, role: str, recipe: CurationRecipe) -> None:
    """Pair what people preferred with what they preferred it to, where anything new was said."""
    people, spared = {"people": list(PEOPLE)}, trusted(session)
    known = parameters(role, recipe, PREFERABLE)
    since, until = _seen_xid(session, role, _mark(recipe)), _seen_xid(session, role, recipe.variant)
    said = session.execute(_PREFERENCES, {**known, **people, "from_xid": since}).all()
    for start in range(0, len(said), _ROWS_AT_ONCE):
        some = said[start : start + _ROWS_AT_ONCE]
        ids = sorted({i for row in some for i in (row.one, row.other)})
        found = session.execute(_COMPARED, {**known, "ids": ids})
        answers = {row.interaction_id: row for row in found}
        rows = [
            columns_of(pair, task, role, recipe.variant)
            for pair, task in _preferred(some, answers, spared)
        ]
        retire_preferences(session, recipe.variant, [(row.one, row.other) for row in some])
        store(session, rows)
    if until is not None:
        move_watermark(session, role, _mark(recipe), until, now())


def votes_of(said: Sequence[Mapping[str, Any]], spared: Container[str]) -> list[bool]:
    """Return the votes for the first of two answers; pure.

    Args:
        said: statements, oldest first: `who` spoke, `by` which source, and whether `for_one`.
        spared: keys each of whose speakers has a vote.
    """
    last = {(vote["by"], vote["who"]): bool(vote["for_one"]) for vote in said}
    of_source = defaultdict[str, list[bool]](list)
    for (source, _), vote in last.items():
        of_source[source].append(vote)
    votes = list[bool]()
    for source, some in of_source.items():
        if len(of_source) > 1 and source.startswith(KEY) and source not in spared:
            some = [] if 2 * sum(some) == len(some) else [2 * sum(some) > len(some)]
        votes += some
    return votes


def _preferred(
    said: Sequence[Any], answers: Mapping[UUID, Any], spared: Container[str]
) -> Iterator[tuple[Pair, Task]]:
    for row in said:
        one, other = answers.get(row.one), answers.get(row.other)
        if one is None or other is None or one.task is None:
            continue
        if (one.task, one.prompt_text_id) != (other.task, other.prompt_text_id):
            continue
        pair = preference(answer_of(one), answer_of(other), votes_of(row.votes or (), spared))
        if pair is not None:
            yield pair, Task(one.task, one.project)


def _seen_xid(session: Session, role: str, variant: str) -> int | None:
    mark = session.get(CurationWatermark, (role, variant), populate_existing=True)
    return None if mark is None else mark.seen_xid


def _mark(recipe: CurationRecipe) -> str:
    """Return the name of the watermark of preferences, which a change of the rules resets.

    It follows the one of the log: only interactions that were looked at have an example to pair.
    """
    return f"{recipe.variant}/pairs-{RULE_VERSIONS['preferences']}"


_PREFERENCES = text(
    f"""
    SELECT pair.one, pair.other, (
        SELECT jsonb_agg(
            jsonb_build_object('who', concat_ws('|', f.source, f.actor), 'by', {source_of("f")},
                               'for_one', f.interaction_id = pair.one)
            ORDER BY f.created_at, f.id)
        FROM feedback f
        WHERE f.interaction_id IN (pair.one, pair.other)
          AND f.loser_interaction_id IN (pair.one, pair.other)
          AND f.kind = 'preference' AND f.source = ANY(:people) AND {is_heard("f")}
    ) AS votes
    FROM (
        SELECT DISTINCT least(interaction_id, loser_interaction_id) AS one,
                        greatest(interaction_id, loser_interaction_id) AS other
        FROM feedback
        WHERE kind = 'preference' AND source = ANY(:people)
          AND interaction_id <> loser_interaction_id
          AND (CAST(:from_xid AS bigint) IS NULL OR written_xid >= :from_xid)
    ) AS pair
    JOIN example e ON e.interaction_id = pair.one AND {IS_MINE}
    ORDER BY 1, 2
    """
)
"""Without a transaction to start from, all that was ever said."""

_COMPARED = text(
    f"""
    SELECT {TASK} AS task, {ANSWER}, {MAY_WIN} AS may_win
    FROM example e
    WHERE e.interaction_id = ANY(CAST(:ids AS uuid[]))
      AND {IS_MINE} AND {HAS_ANSWER} AND NOT e.corrected
    """
)
