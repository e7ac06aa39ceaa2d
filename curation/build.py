"""Front desk: a role's log becomes an immutable dataset version.

`build_dataset` reads as its list of steps. It works in the caller's transaction: everything or
nothing is stored, and a failure burns no version number. Its cost goes by what is new in the log;
only choosing and writing look at all kept examples.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from sqlalchemy import and_, or_, select, text, update
from sqlalchemy import insert as insert_into
from sqlmodel import Session, col

from curation.choice.balance import Choice, over_quota
from curation.candidates import has_interactions
from curation.publish.card import Tally, make_card, prove_no_leak
from curation.columns import EXAMPLES, MEMBERS, example
from curation.dedupe.compare import BandIndex
from curation.export import SPLITS, make_row, split_writers, write_card
from curation.intake import Intake, Progress, take_in
from curation.recipe import CurationRecipe
from curation.score.outcome import OVER_QUOTA
from curation.split import split_of
from curation.tables import (
    DROPPED,
    KEPT,
    TEST,
    TRAIN,
    VALIDATION,
    Dataset,
)
from foundation.artifacts import put
from foundation.errors import NotFound
from foundation.settings import get_settings

SFT = "sft"
_ROWS_AT_ONCE = 2000


def build_dataset(
    session: Session,
    role: str,
    recipe: CurationRecipe | None = None,
    *,
    run_id: UUID | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Return the dataset of `role` as its log now stands: a new version, or the last one.

    A version is new only if its rows or the recipe differ from the last one's. It may have no rows
    (nobody gave feedback yet); its card then says why.

    Args:
        session: the caller commits it, or rolls all of it back.
        role: an agent role of the settings.
        recipe: how to choose; None is the default recipe.
        run_id: the run that this is part of.
        progress: called as `progress(done, total, "interactions")` after each batch.

    Raises:
        NotFound: the role is unknown, or nothing was logged for it.
    """
    recipe = recipe or CurationRecipe()
    require_logged_role(session, role)
    one_build_at_a_time(session, role, recipe.variant)
    last = latest_dataset(session, role, recipe.variant)
    is_same_recipe = last is not None and last.card["recipe_fingerprint"] == recipe.fingerprint
    intake = take_in(session, role, recipe, everything=not is_same_recipe, progress=progress)
    if last is not None and is_same_recipe and intake.is_empty:
        return last
    choose(session, role, recipe)
    return publish(session, role, recipe, last, intake, run_id)


def latest_dataset(
    session: Session, role: str, variant: str = "default", kind: str = SFT
) -> Dataset | None:
    """Return the newest version of a role's dataset, or None."""
    query = (
        select(Dataset)
        .where(
            col(Dataset.role) == role, col(Dataset.kind) == kind, col(Dataset.variant) == variant
        )
        .order_by(col(Dataset.number).desc())
        .limit(1)
    )
    return session.execute(query).scalar_one_or_none()


def require_logged_role(session: Session, role: str) -> None:
    """Check that there is something to curate.

    Raises:
        NotFound: the role is unknown, or nothing was logged for it.
    """
    roles = get_settings().roles
    if role not in roles:
        raise NotFound(
            "role", role, f"one of {', '.join(roles)}", "Add it to FLYWHEEL_ROLES, or correct it."
        )
    if not has_interactions(session, role):
        raise NotFound(
            "interactions of role",
            role,
            "at least one logged interaction",
            "Log some with collector.client or the gateway, or run: flywheel import",
        )


def one_build_at_a_time(session: Session, role: str, variant: str) -> None:
    """Wait for other builds of this role and variant; the lock ends with the transaction."""
    key = f"curation:{role}:{variant}"
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})


def choose(session: Session, role: str, recipe: CurationRecipe) -> None:
    """Drop what the recipe's quotas leave out, and take back what an earlier choice left out."""
    mine = and_(example.role == role, example.variant == recipe.variant)
    was_left_out = and_(mine, example.drop_reason == OVER_QUOTA)
    rows = session.execute(
        select(example.id, example.task_type, example.score, example.status)
        .where(or_(and_(mine, example.status == KEPT), was_left_out))
        .order_by(example.id)
    ).all()
    left_out = over_quota([Choice(*row[:3]) for row in rows], recipe)
    out = [row.id for row in rows if row.id in left_out and row.status == KEPT]
    back = [row.id for row in rows if row.id not in left_out and row.status != KEPT]
    for ids, status, reason in ((out, DROPPED, OVER_QUOTA), (back, KEPT, None)):
        if ids:
            session.execute(
                update(EXAMPLES)
                .where(example.id.in_(ids))
                .values(status=status, drop_reason=reason)
            )


def publish(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    last: Dataset | None,
    intake: Intake,
    run_id: UUID | None,
) -> Dataset:
    """Write the kept examples as the next version, or return the last one if it says the same."""
    with TemporaryDirectory(prefix="flywheel-dataset-") as name:
        folder = Path(name)
        content_hash, tally, members = _write_rows(session, role, recipe, folder)
        if last is not None and last.content_hash == content_hash:
            return last
        dataset = Dataset(
            role=role,
            kind=SFT,
            variant=recipe.variant,
            number=last.number + 1 if last else 1,
            content_hash=content_hash,
            n_train=tally.splits[TRAIN],
            n_validation=tally.splits[VALIDATION],
            n_test=tally.splits[TEST],
            run_id=run_id,
        )
        session.add(dataset)
        session.flush()
        _store_members(session, dataset.id, members)
        leak_proof = prove_no_leak(BandIndex(session, role, recipe), dataset.id, tally)
        card = make_card(session, role, recipe, tally, content_hash, leak_proof)
        write_card(folder, card)
        dataset.artifact_uri = put(folder).uri
        dataset.card = {**card, "build": _account_of(intake)}
        session.flush()
    return dataset


def _write_rows(
    session: Session, role: str, recipe: CurationRecipe, folder: Path
) -> tuple[str, Tally, list[tuple[UUID, str]]]:
    """Write the split files; return content hash, counts, and the (example, split) pairs."""
    tally, members = Tally(), []
    with split_writers(folder) as writers:
        for columns in _kept(session, role, recipe.variant):
            split = split_of(columns["split_key"], recipe)
            writers[split].write(make_row(columns))
            tally.add(columns, split)
            members.append((columns["id"], split))
    hashes = "".join(writers[split].content_hash for split in SPLITS)
    return hashlib.sha256((recipe.fingerprint + hashes).encode()).hexdigest(), tally, members


def _kept(session: Session, role: str, variant: str) -> Iterator[dict[str, Any]]:
    """Yield the kept examples in order of id, a few thousand in memory at a time."""
    rows = session.execute(
        select(EXAMPLES)
        .where(example.role == role, example.variant == variant, example.status == KEPT)
        .order_by(example.id),
        execution_options={"yield_per": _ROWS_AT_ONCE},
    )
    for row in rows.mappings():
        yield dict(row)


def _store_members(session: Session, dataset_id: UUID, members: list[tuple[UUID, str]]) -> None:
    rows = [{"dataset_id": dataset_id, "example_id": i, "split": split} for i, split in members]
    if rows:
        session.execute(insert_into(MEMBERS), rows)


def _account_of(intake: Intake) -> dict[str, int]:
    return {
        "new": intake.n_new,
        "judged_again": intake.n_judged_again,
        "reopened": intake.n_reopened,
        "compared_pairs": intake.n_compared,
        "hot_bucket_pairs": intake.n_hot,
    }
