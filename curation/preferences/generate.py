"""A round of pairs made on purpose: prompts drawn, answered several times, judged, paired, stored.

One prompt at a time, each stored in a transaction of its own: a round that is stopped keeps what it
has, and the next one goes on with prompts that have no pair yet.
"""

from collections.abc import Callable
from typing import Any

from curation.preferences.rank import (
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


def generate_pairs(
    role: str,
    recipe: CurationRecipe,
    model: str,
    *,
    n_prompts: int,
    n_answers: int,
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
        progress: called as `progress(done, total, "prompts")`.
        check: called before each prompt; raises to stop.

    Raises:
        BadInput: no judge, or fewer than two answers.
        ProviderError: the model cannot be asked.
    """
    if recipe.judge_model is None:
        raise BadInput("judge_model", None, "a model that ranks the answers", "Name a judge.")
    if n_answers < 2:
        raise BadInput("answers to a prompt", n_answers, "two or more", "One answer is no pair.")
    connection = llm.connection_of(model)
    generate = generated_by(connection.pop("model"), n_answers, **connection)
    since, counts = now(), dict[str, int]()
    with session_scope() as session:
        asked = open_prompts(session, role, recipe, n_prompts)
    for done, one in enumerate(asked, start=1):
        if check is not None:
            check()
        with session_scope() as session:
            found = list(ranked([one], generate, ranked_by_judge(session, recipe, since), model))
            counts = store_ranked(session, role, recipe, found)
        if progress is not None:
            progress(done, len(asked), "prompts")
    return {"prompts": len(asked), **counts}
