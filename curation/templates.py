"""The template texts of a role in the database: found by a search, switched on and off by people.

What a template is, and how it is taken off a text, is said in `curation.boilerplate`.
"""

from sqlmodel import Session, col, select

from curation.boilerplate import ANSWER, NO_TEMPLATES, PROMPT, Templates
from curation.recipe import CurationRecipe
from curation.tables import TemplateText

__all__ = ["NO_TEMPLATES", "Templates", "find_templates", "load_templates"]


def load_templates(session: Session, role: str) -> Templates:
    """Return the active templates of a role; none found yet gives none."""
    query = select(TemplateText).where(TemplateText.role == role, col(TemplateText.active))
    texts: dict[str, list[str]] = {PROMPT: [], ANSWER: []}
    for row in session.execute(query).scalars():
        texts[row.part].append(row.text)
    return Templates(tuple(texts[PROMPT]), tuple(texts[ANSWER]))


def find_templates(session: Session, role: str, recipe: CurationRecipe) -> bool:
    """Look for templates in a bounded sample of the role's log; return whether any is new."""
    return False
