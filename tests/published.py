"""Kept examples and pairs, and the version that publishing makes of them."""

from typing import Any
from uuid import UUID

from sqlmodel import Session

from curation.publish.publish import publish
from curation.publish.rows import row_hash
from curation.publish.shards import ends_shard
from curation.recipe import CurationRecipe
from curation.tables import CurationBuild, Dataset, Example, PreferencePair
from curation.templates import NO_TEMPLATES
from foundation.chat import message
from foundation.ids import new_id

RECIPE = CurationRecipe()


def quiet_id() -> UUID:
    """An id whose row ends no shard, so that a few rows are always one."""
    while ends_shard(identifier := new_id()):
        pass
    return identifier


def add_example(session: Session, prompt: str, answer: str, **columns: Any) -> Example:
    """A kept example as judging and settling leave it; a few of them are one shard."""
    added = Example(
        id=columns.pop("id", None) or quiet_id(),
        role=columns.pop("role", "coder"),
        interaction_id=new_id(),
        prompt=[message("user", prompt)],
        answer=answer,
        norm_hash=answer,
        split_key=f"task:{prompt}",
        score=1.0,
        polarity="positive",
        **columns,
    )
    added.row_hash = row_hash(added.model_dump())
    session.add(added)
    return added


def add_pair(
    session: Session, prompt: str, chosen: str, rejected: str, **columns: Any
) -> PreferencePair:
    """A kept pair as mining leaves it."""
    added = PreferencePair(
        **{
            "id": quiet_id(),
            "role": "coder",
            "basis": "outcome",
            "task_key": prompt,
            "winner_id": new_id(),
            "loser_id": new_id(),
            "prompt": [message("user", prompt)],
            "chosen": chosen,
            "rejected": rejected,
            "norm_hash": "n",
            **columns,
        }
    )
    added.row_hash = row_hash(added.model_dump())
    session.add(added)
    session.flush()
    return added


def published(
    session: Session,
    recipe: CurationRecipe = RECIPE,
    kind: str = "sft",
    role: str = "coder",
    **columns: Any,
) -> tuple[Dataset, bool]:
    """What publishing makes of the rows as they stand."""
    build = CurationBuild(
        role=role,
        variant=recipe.variant,
        kind=kind,
        recipe=recipe.as_json(),
        recipe_fingerprint=recipe.fingerprint,
        everything=False,
        until_xid=1,
        **columns,
    )
    session.add(build)
    session.flush()
    made = publish(session, build, recipe, NO_TEMPLATES)
    session.delete(build)
    session.flush()
    return made
