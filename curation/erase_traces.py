"""What curation keeps beside examples that may tell of an erased call: shared texts, ids."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, text
from sqlmodel import Session, col

from curation.normalize import comparable, comparable_lines
from curation.tables import Example, TemplateText


def erase_templates(session: Session, texts: Sequence[str]) -> int:
    """Delete templates that erased texts hold and no example does any more; return their number.

    A template is a text that many calls share: as a rule others still have it, and it stays.
    """
    if not texts:
        return 0
    compared = [form(one) for one in texts for form in (comparable, comparable_lines)]
    n_gone = 0
    for template in session.execute(select(TemplateText)).scalars().all():
        if any(template.text in one for one in compared) and not _is_used(session, template):
            session.delete(template)
            n_gone += 1
    session.flush()
    return n_gone


def _is_used(session: Session, template: TemplateText) -> bool:
    query = select(col(Example.prompt), col(Example.answer)).where(
        col(Example.role) == template.role
    )
    rows = session.execute(query, execution_options={"yield_per": 500})
    for prompt, answer in rows:
        said = "\n".join([*(str(message.get("content")) for message in prompt), answer])
        if template.text in comparable(said) or template.text in comparable_lines(said):
            return True
    return False


def forget_ids(session: Session, ids: Sequence[UUID]) -> None:
    """Take the ids of erased calls out of the lists of builds' chunks."""
    session.execute(_CHUNKS, {"ids": [str(identifier) for identifier in ids]})


_CHUNKS = text(
    """
    UPDATE curation_chunk SET ids = ids - CAST(:ids AS text[])
    WHERE ids ?| CAST(:ids AS text[])
    """
)
