"""Front desk of preferences: pairs of a better and a worse answer, out of what really happened.

Pairs are formed over all examples of a task, before and whatever dedupe makes of them: a repeat's
failure is a failure. Sources: outcomes and ratings of answers to one task, corrections against
what was corrected, and what people preferred. What did not change is not mined again.
"""

from sqlmodel import Session

from curation.preferences.answers import name_tasks
from curation.preferences.benchmarks import check_pairs
from curation.preferences.corrections import mine_corrections
from curation.preferences.outcomes import mine_tasks
from curation.preferences.people import mine_preferences
from curation.preferences.places import assign_splits
from curation.preferences.sources import cap_sources
from curation.preferences.store import count_pairs, settle
from curation.recipe import CurationRecipe
from curation.templates import load_templates


def mine_pairs(session: Session, role: str, recipe: CurationRecipe) -> dict[str, int]:
    """Bring the pairs of a role up to date with its examples; return what there is now.

    Works in the caller's transaction, on examples that are judged. Mining again changes nothing.

    Returns:
        Counts: kept pairs by basis (`outcome`, `correction`, `human`, `rating`, `generated`),
        dropped ones by reason, and `tasks`, those that were mined for outcomes and ratings.
    """
    templates = load_templates(session, role)
    name_tasks(session, role, recipe, templates)
    n_tasks = mine_tasks(session, role, recipe)
    mine_corrections(session, role, recipe)
    mine_preferences(session, role, recipe)
    assign_splits(session, role, recipe, templates)
    check_pairs(session, role, recipe, templates)
    settle(session, role, recipe)
    cap_sources(session, role, recipe)
    return {"tasks": n_tasks, **count_pairs(session, role, recipe)}
