"""Examples written straight into the table as judging leaves them, and the steps that follow it."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session, select

from curation.boilerplate import NO_TEMPLATES
from curation.dedupe.index import Compared, compare_texts, index_texts
from curation.dedupe.settle import Settled, settle
from curation.groups import assign_groups
from curation.normalize import normalize
from curation.recipe import CurationRecipe
from curation.tables import DROPPED, KEPT, Example
from foundation.chat import message
from foundation.ids import new_id


def words(n: int, seed: object, prefix: str = "w") -> list[str]:
    """Return `n` words that no other seed has, but by chance."""
    draw = random.Random(str(seed))
    return [f"{prefix}{draw.randrange(10**9)}" for _ in range(n)]


@dataclass
class Shelf:
    """The examples of one role and variant."""

    session: Session
    role: str = "coder"
    recipe: CurationRecipe = field(default_factory=CurationRecipe)

    def put(
        self,
        prompt: str,
        answer: str,
        rank: Sequence[float] = (1.0,),
        *,
        id: UUID | None = None,
        drop_reason: str | None = None,
        **columns: Any,
    ) -> UUID:
        """Write one example, its texts indexed where nothing ruled it out."""
        messages = [message("user", prompt)]
        text_id, prompt_text_id = None, None
        if drop_reason is None:
            compared = normalize(messages, answer)
            ((text_id, prompt_text_id),) = index_texts(
                self.session, self.role, self.recipe, [compared]
            )
        made = Example(
            id=id or new_id(),
            role=self.role,
            variant=self.recipe.variant,
            interaction_id=new_id(),
            prompt=messages,
            answer=answer,
            status=KEPT if drop_reason is None else DROPPED,
            drop_reason=drop_reason,
            scores={"rank": list(rank)},
            text_id=text_id,
            prompt_text_id=prompt_text_id,
            norm_hash="",
            needs_settling=True,
            **columns,
        )
        self.session.add(made)
        self.session.flush()
        return made.id

    def change(self, id: UUID, **columns: Any) -> None:
        """Judge an example again: new columns, its duplicates open."""
        row = self.example(id)
        for name, value in columns.items():
            setattr(row, name, value)
        row.needs_settling = True
        self.session.add(row)
        self.session.flush()

    def unsettled_texts(self) -> list[int]:
        """Return the texts that the step of comparing would be given."""
        query = text(
            "SELECT DISTINCT text_id FROM example WHERE role = :role AND variant = :variant "
            "AND needs_settling AND text_id IS NOT NULL ORDER BY text_id"
        )
        given = {"role": self.role, "variant": self.recipe.variant}
        return list(self.session.execute(query, given).scalars())

    def compare(self, chunk: int = 1000) -> list[Compared]:
        """Compare what is unsettled, chunk by chunk."""
        self.session.commit()
        texts = self.unsettled_texts()
        done = []
        for start in range(0, len(texts), chunk):
            some = texts[start : start + chunk]
            done.append(compare_texts(self.session, self.role, self.recipe, NO_TEMPLATES, some))
            self.session.commit()
        return done

    def settle(self) -> Settled:
        """Settle, and tie the groups of what stands."""
        done = settle(self.session, self.role, self.recipe)
        assign_groups(self.session, self.role, self.recipe, NO_TEMPLATES)
        self.session.commit()
        return done

    def work(self, chunk: int = 1000) -> Settled:
        """Take the steps from judging to splits."""
        self.compare(chunk)
        return self.settle()

    def example(self, id: UUID) -> Example:
        return self.examples([id])[0]

    def examples(self, ids: Iterable[UUID] | None = None) -> list[Example]:
        """Return examples as stored, in the given order, or all by id."""
        query = select(Example).where(
            Example.role == self.role, Example.variant == self.recipe.variant
        )
        fresh = query.order_by(Example.id).execution_options(populate_existing=True)  # type: ignore[arg-type]
        found = {row.id: row for row in self.session.exec(fresh)}
        return list(found.values()) if ids is None else [found[i] for i in ids]
