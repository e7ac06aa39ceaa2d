"""Front desk: erase calls, and everything that was made of them.

Examples, their texts in the index and the evidence on them, embeddings, preference pairs, verdicts
of judges, review items and labels go; what repeated an erased example is opened again, so that the
next build promotes another one. Published versions lose the rows. Which models had learned from
them is named, not undone.

Waits until the builds at work end their step, and holds them until the caller commits.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, text
from sqlmodel import Session, col

from collector.erase import (
    EPISODE,
    INTERACTION,
    PROJECT,
    Reach,
    Subject,
    erase_log,
    interactions_of,
    n_neighbours,
    texts_of,
)
from curation import semantic
from curation.columns import EXAMPLES, example
from curation.dedupe.index import remove_texts
from curation.dedupe.settle import lock_verdicts
from curation.erase_traces import erase_templates, forget_ids
from curation.normalize import normalize
from curation.preferences.pairs import CONSTITUTION, GENERATED
from curation.publish.chosen import PAIRS, pair
from curation.publish.quality import novelty_text
from curation.publish.rows import make_row
from curation.publish.withdraw import count_rows, versions_with, withdraw
from curation.tables import DatasetShard, Erasure
from curation.templates import NO_TEMPLATES, load_templates
from foundation import artifacts

__all__ = ["Elsewhere", "Reach", "Subject", "delete_files", "erase"]

FILES: Final = "files_to_delete"
"""Entry of an erasure's counts: URIs of artifacts that held what is gone."""
NEIGHBOURS: Final = "neighbours"
"""Entry of an erasure's counts: other calls of the same episodes, whose prompts may quote it."""
_ROWS_AT_ONCE: Final = 2000

LearnedFrom = Callable[[Session, Sequence[UUID]], list[str]]
"""From ids of dataset versions to the names of the models that learned from them."""
Elsewhere = Callable[[Session, Reach], tuple[Counter[str], dict[str, Any]]]
"""Erases what floors above keep of a subject; returns rows by table, and what the proof says."""


def _nowhere_else(session: Session, reach: Reach) -> tuple[Counter[str], dict[str, Any]]:
    return Counter(), {}


def erase(
    session: Session,
    subject: Subject,
    *,
    actor: str,
    reason: str | None = None,
    learned_from: LearnedFrom = lambda session, datasets: [],
    elsewhere: Elsewhere = _nowhere_else,
    dry_run: bool = False,
) -> Erasure:
    """Erase a subject and return the account of it; nothing found is an account of nothing.

    After the commit, `delete_files` removes the files that held the text.

    Args:
        session: the caller commits.
        subject: interactions, an episode, a unit or a project.
        actor: who asked for it.
        reason: why.
        learned_from: tells which models learned from the versions.
        elsewhere: erases what floors above keep of it, before the first row goes here.
        dry_run: count what would go, exactly, and change nothing.
    """
    savepoint = session.begin_nested()
    hold_builds(session)
    ids = sorted({*interactions_of(session, subject), *_remembered(session, subject)})
    counts = Counter({NEIGHBOURS: n_neighbours(session, ids)})
    pairs = list(session.execute(_PAIRS_OF, {"ids": ids}).scalars())
    rows = [*session.execute(_EXAMPLES_OF, {"ids": ids}).scalars(), *pairs]
    versions = versions_with(session, rows)
    counts["dataset_row"] = count_rows(session, rows)
    reach = Reach(subject, ids, texts_of(session, ids))
    above, proof = elsewhere(session, reach)
    counts.update(above)
    files = [] if dry_run else withdraw(session, rows)
    counts.update(_erase_traces(session, ids, pairs, rows))
    counts.update(_erase_examples(session, ids))
    counts["template_text"] = erase_templates(session, reach.texts)
    forget_ids(session, ids)
    session.execute(_JUDGE_AGAIN, {"ids": ids})
    log = erase_log(session, subject, ids)
    account = Erasure(
        scope=subject.scope,
        subject_hash=subject.digest,
        reason=reason,
        actor=actor,
        counts={**+(counts + log.counts), FILES: [*files, *log.artifacts]},
        dataset_ids=[str(identifier) for identifier in versions],
        model_versions=learned_from(session, versions),
        proof={"digests": subject.digests, **proof},
    )
    if dry_run:
        savepoint.rollback()
        return account
    savepoint.commit()
    session.add(account)
    session.flush()
    return account


def delete_files(session: Session) -> int:
    """Delete the files of erasures that are committed; return how many went.

    Also those that an erasure before left because its process died.
    """
    waiting = session.execute(
        select(Erasure).where(col(Erasure.counts)[FILES] != text("'[]'::jsonb")).with_for_update()
    ).scalars()
    n_deleted = 0
    for erasure in waiting:
        for uri in erasure.counts[FILES]:
            if not _is_referred_to(session, uri):
                artifacts.delete(uri)
                n_deleted += 1
        erasure.counts = {**erasure.counts, FILES: []}
        session.add(erasure)
    session.flush()
    return n_deleted


def hold_builds(session: Session) -> None:
    """Wait until no build is in a step and no worker in a chunk; hold them until the commit."""
    session.execute(text("SELECT id FROM curation_build WHERE finished_at IS NULL FOR UPDATE"))
    session.execute(text("LOCK TABLE curation_chunk IN EXCLUSIVE MODE"))


def _remembered(session: Session, subject: Subject) -> list[UUID]:
    """Return the interactions of a subject that only examples still know of."""
    if subject.scope == INTERACTION:
        return subject.ids
    if subject.scope == EPISODE:
        of_subject = example.episode_id.in_(subject.ids)
    elif subject.scope == PROJECT:
        of_subject = example.project.in_(subject.names)
    else:
        return []
    return list(session.execute(select(example.interaction_id).where(of_subject)).scalars())


def _erase_examples(session: Session, ids: Sequence[UUID]) -> Counter[str]:
    """Delete the examples of interactions and their texts; open again what repeated them."""
    counts = Counter[str]()
    for some in _batches(ids):
        found = session.execute(select(EXAMPLES).where(example.interaction_id.in_(some)))
        gone = [dict(row) for row in found.mappings()]
        for role, variant in sorted({(row["role"], row["variant"]) for row in gone}):
            lock_verdicts(session, role, variant)
            mine = [r for r in gone if (r["role"], r["variant"]) == (role, variant)]
            counts["embedding"] += _erase_embeddings(session, role, mine)
            counts.update(_erase_of_variant(session, role, variant, mine))
    return counts


def _erase_of_variant(
    session: Session, role: str, variant: str, gone: Sequence[dict[str, Any]]
) -> dict[str, int]:
    ids = [row["id"] for row in gone]
    texts = sorted({r["text_id"] for r in gone} - {None})
    prompts = {row["prompt_text_id"] for row in gone} - {None}
    counts = {
        "reopened": _count(session, _REOPEN, {"ids": ids, "texts": texts}),
        "contamination": _count(session, _CONTAMINATIONS, {"ids": ids}),
        "example": _count(session, _EXAMPLES, {"ids": ids}),
    }
    orphans = session.execute(_WITHOUT_EXAMPLE, {"texts": texts}).scalars().all()
    semantic.forget(session, role, variant, orphans)
    counts["indexed_text"] = remove_texts(session, [*texts, *prompts])
    return counts


def _erase_embeddings(session: Session, role: str, gone: Sequence[dict[str, Any]]) -> int:
    """Delete the embeddings of what was compared and measured; those of others are made again."""
    hashes = set[str]()
    for templates in (NO_TEMPLATES, load_templates(session, role)):
        for row in gone:
            compared = normalize(row["prompt"], row["answer"], templates)
            hashes |= {_hash(compared.prompt), _hash(compared.answer)}
    hashes |= {_hash(novelty_text(make_row(row))) for row in gone}
    return _count(session, _EMBEDDINGS, {"hashes": sorted(hashes)})


def _erase_traces(
    session: Session, ids: Sequence[UUID], pairs: Sequence[UUID], rows: Sequence[UUID]
) -> Counter[str]:
    """Delete pairs, verdicts of judges, review items and labels, and samples on builds."""
    counts, answers = Counter[str](), list(ids)
    for some in _batches(pairs):
        found = [
            dict(row) for row in session.execute(select(PAIRS).where(pair.id.in_(some))).mappings()
        ]
        generated = [row for row in found if row["basis"] in (GENERATED, CONSTITUTION)]
        answers += [row[side] for row in generated for side in ("winner_id", "loser_id")]
        hashes = [_hash(novelty_text(make_row(row))) for row in found]
        counts["embedding"] += _count(session, _EMBEDDINGS, {"hashes": hashes})
        counts["preference_pair"] += _count(session, _PAIRS, {"ids": some})
    for some in _batches(ids):
        counts["constitution_revision"] += _count(session, _REVISIONS, {"ids": some})
    for some in _batches(answers):
        counts["judge_call"] += _count(session, _JUDGE_CALLS, {"ids": some})
        counts["review_label"] += _count(session, _REVIEW_LABELS, {"ids": some})
    for some in _batches(rows):
        counts["review_item"] += _count(session, _REVIEW_ITEMS, {"ids": some})
    session.execute(_BUILD_SAMPLES)
    session.execute(_CHUNK_SAMPLES)
    return counts


def _is_referred_to(session: Session, uri: str) -> bool:
    query = select(col(DatasetShard.uri)).where(col(DatasetShard.uri) == uri).limit(1)
    return session.execute(query).first() is not None


def _hash(embedded: str) -> str:
    return hashlib.sha256(embedded.encode("utf-8", "surrogatepass")).hexdigest()


def _count(session: Session, statement: Any, values: dict[str, Any]) -> int:
    return int(session.execute(statement, values).rowcount)  # type: ignore[attr-defined]


def _batches(ids: Sequence[UUID]) -> Iterator[list[UUID]]:
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        yield list(ids[start : start + _ROWS_AT_ONCE])


_EXAMPLES_OF = text("SELECT id FROM example WHERE interaction_id = ANY(CAST(:ids AS uuid[]))")
# Generated answers are no interactions; what they answer is.
_PAIRS_OF = text(
    """
    SELECT id FROM preference_pair
    WHERE winner_id = ANY(CAST(:ids AS uuid[])) OR loser_id = ANY(CAST(:ids AS uuid[]))
       OR basis IN ('generated', 'constitution')
       AND CAST(evidence->>'asked' AS uuid) = ANY(CAST(:ids AS uuid[]))
    """
)
_EXAMPLES = text("DELETE FROM example WHERE id = ANY(CAST(:ids AS uuid[]))")
# What was said of an erased call may have been said of another one too: a preference, a credit.
_JUDGE_AGAIN = text(
    """
    WITH gone AS (
        SELECT id, episode_id FROM interaction WHERE id = ANY(CAST(:ids AS uuid[]))
    ), said AS (
        SELECT loser_interaction_id AS id FROM feedback JOIN gone ON gone.id = interaction_id
        UNION
        SELECT interaction_id FROM feedback JOIN gone ON gone.id = loser_interaction_id
        UNION
        SELECT interaction.id FROM interaction JOIN gone USING (episode_id)
    )
    UPDATE example SET needs_judging = true FROM said WHERE example.interaction_id = said.id
    """
)
_CONTAMINATIONS = text("DELETE FROM contamination WHERE example_id = ANY(CAST(:ids AS uuid[]))")
_REVISIONS = text(
    "DELETE FROM constitution_revision WHERE interaction_id = ANY(CAST(:ids AS uuid[]))"
)
_EMBEDDINGS = text("DELETE FROM embedding WHERE text_hash = ANY(CAST(:hashes AS text[]))")
_REVIEW_ITEMS = text(
    """
    DELETE FROM review_item
    WHERE subject_id = ANY(CAST(:ids AS uuid[])) OR other_id = ANY(CAST(:ids AS uuid[]))
    """
)
_JUDGE_CALLS = text("DELETE FROM judge_call WHERE interaction_id = ANY(CAST(:ids AS uuid[]))")
_REVIEW_LABELS = text("DELETE FROM review_label WHERE interaction_id = ANY(CAST(:ids AS uuid[]))")
_PAIRS = text("DELETE FROM preference_pair WHERE id = ANY(CAST(:ids AS uuid[]))")

# What repeats a text has it, or is tied to it by a verified edge; both are found by an index.
_REOPEN = text(
    """
    UPDATE example SET needs_settling = true
    WHERE duplicate_of = ANY(CAST(:ids AS uuid[])) AND id <> ALL(CAST(:ids AS uuid[]))
      AND text_id IN (
        SELECT unnest(CAST(:texts AS bigint[]))
        UNION SELECT high FROM text_edge WHERE low = ANY(CAST(:texts AS bigint[]))
        UNION SELECT low FROM text_edge WHERE high = ANY(CAST(:texts AS bigint[]))
      )
    """
)
_WITHOUT_EXAMPLE = text(
    """
    SELECT given.id FROM unnest(CAST(:texts AS bigint[])) AS given (id)
    WHERE NOT EXISTS (SELECT FROM example WHERE example.text_id = given.id)
    """
)
_BUILD_SAMPLES = text("UPDATE curation_build SET counts = counts - 'hot' WHERE counts ? 'hot'")
_CHUNK_SAMPLES = text("UPDATE curation_chunk SET counts = counts - 'hot' WHERE counts ? 'hot'")
