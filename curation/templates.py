"""The template texts of a role in the database: found by a search, switched on and off by people.

What a template is, and how it is taken off a text, is said in `curation.boilerplate`.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, SQLModel, col, select

from curation.boilerplate import ANSWER, NO_TEMPLATES, PROMPT, SharedText, Templates, shared_texts
from curation.normalize import normalize
from curation.recipe import CurationRecipe
from curation.tables import TemplateText
from foundation.chat import answer_text, prompt_messages
from foundation.errors import BadInput, NotFound

__all__ = [
    "NO_TEMPLATES",
    "Templates",
    "find_templates",
    "get_template",
    "list_templates",
    "load_templates",
    "switch_template",
]

_PLACES, _ROWS_AT_PLACE, _NEWEST = 40, 50, 1000
"""The sample: so many calls from each of so many moments of the log, and the newest ones."""
_MOST_BYTES: Final = 200_000
"""Stored size of a request that is still read; templates show in the smaller ones."""
_TEMPLATES = SQLModel.metadata.tables[str(TemplateText.__tablename__)]


def load_templates(session: Session, role: str, recipe: CurationRecipe | None = None) -> Templates:
    """Return the active templates of a role; none found yet, or a recipe without, gives none."""
    if recipe is not None and not recipe.strip_templates:
        return NO_TEMPLATES
    return _templates([row for row in list_templates(session, role) if row.active])


def find_templates(session: Session, role: str, recipe: CurationRecipe) -> bool:
    """Look for templates in a bounded sample of the role's log; return whether any is new.

    Found ones stay, and one that a person switched off stays off: neither is looked for again. The
    cost does not grow with the log.
    """
    if not recipe.strip_templates:
        return False
    known = _templates(list_templates(session, role))
    texts = _sample(session, role)
    found = []
    for part in (PROMPT, ANSWER):
        rest = {known.strip(part, one) for one in texts[part]}
        found += [_row(role, part, one) for one in shared_texts(sorted(rest - {""}), part)]
    if not found:
        return False
    stored = session.execute(
        insert(_TEMPLATES).values(found).on_conflict_do_nothing().returning(_TEMPLATES.c.id)
    )
    return bool(stored.all())


def list_templates(session: Session, role: str | None = None) -> list[TemplateText]:
    """Return the templates of a role, or of all, by role and part, the most shared first."""
    query = select(TemplateText).order_by(
        col(TemplateText.role),
        col(TemplateText.part).desc(),
        col(TemplateText.share).desc(),
        col(TemplateText.digest),
    )
    if role is not None:
        query = query.where(TemplateText.role == role)
    return list(session.execute(query).scalars())


def get_template(session: Session, digest: str, role: str | None = None) -> TemplateText:
    """Return the template whose digest begins so.

    Raises:
        NotFound: none does.
        BadInput: several do, or the same text is a template of several roles and none is named.
    """
    found = [
        row for row in list_templates(session, role) if digest and row.digest.startswith(digest)
    ]
    if not found:
        raise NotFound("template", digest, "the beginning of a digest", "See: template list")
    if len(found) > 1:
        named = ", ".join(f"{row.digest[:12]} of {row.role}" for row in found[:5])
        raise BadInput("template", digest, f"one of {named}", "Give more of it, or --role.")
    return found[0]


def switch_template(
    session: Session, digest: str, *, active: bool, role: str | None = None
) -> TemplateText:
    """Take a template off compared texts from the next build on, or leave it in; return it."""
    template = get_template(session, digest, role)
    template.active = active
    session.add(template)
    session.flush()
    return template


def _templates(rows: Sequence[TemplateText]) -> Templates:
    texts: dict[str, list[str]] = {PROMPT: [], ANSWER: []}
    for row in rows:
        texts[row.part].append(row.text)
    return Templates(tuple(texts[PROMPT]), tuple(texts[ANSWER]))


def _row(role: str, part: str, found: SharedText) -> dict[str, Any]:
    row = TemplateText(
        role=role,
        part=part,
        digest=hashlib.sha256(f"{part}\0{found.text}".encode()).hexdigest(),
        text=found.text,
        n_seen=found.n_seen,
        share=found.share,
    )
    return row.model_dump()


def _sample(session: Session, role: str) -> dict[str, list[str]]:
    """Return normalised prompts and answers, one call of each task or episode."""
    given = {"role": role, "places": _PLACES, "rows": _ROWS_AT_PLACE, "newest": _NEWEST}
    texts: dict[str, list[str]] = {PROMPT: [], ANSWER: []}
    seen: set[str] = set()
    for row in session.execute(_SAMPLE, given | {"most": _MOST_BYTES}):
        if row.unit in seen:
            continue
        seen.add(row.unit)
        compared = normalize(prompt_messages(row.request), answer_text(row.response))
        texts[PROMPT].append(compared.prompt)
        texts[ANSWER].append(compared.answer)
    return texts


_SAMPLE = text(
    """
    WITH span AS (
        SELECT min(ingested_at) AS first, max(ingested_at) AS last
        FROM interaction WHERE role = :role
    ), chosen AS (
        SELECT drawn.id, drawn.episode_id
        FROM span, generate_series(0, :places - 1) AS place, LATERAL (
            SELECT id, episode_id FROM interaction
            WHERE role = :role
              AND ingested_at >= span.first + (span.last - span.first) * place / :places
            ORDER BY ingested_at LIMIT :rows
        ) AS drawn
        UNION
        (SELECT id, episode_id FROM interaction WHERE role = :role
         ORDER BY ingested_at DESC LIMIT :newest)
    )
    SELECT payload.request, payload.response,
        coalesce(payload.attributes->>'task_key', chosen.episode_id::text, chosen.id::text) AS unit
    FROM chosen JOIN interaction_payload AS payload ON payload.id = chosen.id
    WHERE pg_column_size(payload.request) <= :most
      AND coalesce(pg_column_size(payload.response), 0) <= :most
    ORDER BY chosen.id
    """
)
