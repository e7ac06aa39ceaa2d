"""A round of pairs made on purpose: prompts drawn, answered several times, ranked, paired, stored.

One prompt at a time, each stored in a transaction of its own: a round that is stopped keeps what it
has, and the next one goes on with prompts that have no pair yet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from curation.preferences.rank import (
    JUDGE,
    Asked,
    Rank,
    generated_by,
    open_prompts,
    ranked,
    ranked_by_judge,
    store_ranked,
)
from curation.recipe import CurationRecipe
from foundation import llm
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.tables import now

Progress = Callable[..., Any]


@dataclass(frozen=True)
class Ranking:
    """Who ranks the answers, if not the recipe's judge.

    Attributes:
        by: its name, kept with the pairs.
        rank: scores the answers to a prompt.
        can: whether it can rank answers to a prompt; None: to any. No other prompt is answered.
    """

    by: str
    rank: Rank
    can: Callable[[Asked], bool] | None = None


def generate_pairs(
    role: str,
    recipe: CurationRecipe,
    model: str,
    *,
    n_prompts: int,
    n_answers: int,
    ranking: Ranking | None = None,
    progress: Progress | None = None,
    check: Callable[[], None] | None = None,
) -> dict[str, int]:
    """Return how many prompts were answered, and the counts of the role's pairs after it.

    Args:
        role: whose training prompts are answered; each once in its life.
        recipe: names the judge that ranks; its `judge_calls` bound the whole round.
        model: a litellm name, or a model of the settings' upstreams.
        n_prompts: prompts at most.
        n_answers: answers to each, two or more.
        ranking: who ranks them; None: the recipe's judge.
        progress: called as `progress(done, total, "prompts")`.
        check: called before each prompt; raises to stop.

    Raises:
        BadInput: no judge, or fewer than two answers.
        ProviderError: the model cannot be asked.
    """
    if ranking is None and recipe.judge_model is None:
        raise BadInput("judge_model", None, "a model that ranks the answers", "Name a judge.")
    if n_answers < 2:
        raise BadInput("answers to a prompt", n_answers, "two or more", "One answer is no pair.")
    connection = llm.connection_of(model)
    generate = generated_by(connection.pop("model"), n_answers, **connection)
    since, counts = now(), dict[str, int]()
    with session_scope() as session:
        asked = open_prompts(session, role, recipe, n_prompts, ranking.can if ranking else None)
    for done, one in enumerate(asked, start=1):
        if check is not None:
            check()
        with session_scope() as session:
            rank = ranking.rank if ranking else ranked_by_judge(session, recipe, since)
            by = ranking.by if ranking else JUDGE
            found = list(ranked([one], generate, rank, model, by))
            counts = store_ranked(session, role, recipe, found)
        if progress is not None:
            progress(done, len(asked), "prompts")
    return {"prompts": len(asked), **counts}
