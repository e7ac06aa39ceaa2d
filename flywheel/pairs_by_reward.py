"""Preference pairs by a reward model of ours: several answers to a training prompt, scored."""

from collections.abc import Sequence
from math import exp
from typing import TYPE_CHECKING, Any

from curation.preferences.generate import Ranking, generate_pairs
from curation.preferences.rank import REWARD, Asked, Rank
from curation.recipe import CurationRecipe
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.runs import RunHandle, job
from trainer.methods import REWARD_MODEL
from trainer.registry import get_version, version_folder

if TYPE_CHECKING:
    from trainer.reward_model import RewardModel

JOB = "flywheel.pairs_by_reward"


@job(JOB, queue="gpu")
def make_pairs(
    run: RunHandle,
    *,
    role: str,
    recipe: dict[str, Any],
    model: str,
    n_prompts: int,
    n_answers: int,
    reward_model: str,
) -> dict[str, Any]:
    """Have a model answer training prompts several times, and pair what is scored apart."""
    return generate_pairs(
        role,
        CurationRecipe.from_json(recipe),
        model,
        n_prompts=n_prompts,
        n_answers=n_answers,
        ranking=Ranking(REWARD, ranked_by(load(reward_model))),
        progress=run.progress,
        check=run.check,
    )


def load(name: str) -> "RewardModel":
    """Return the reward model of a version, loading torch with it.

    Raises:
        NotFound: no such version.
        BadInput: it is no reward model.
    """
    from trainer.reward_model import RewardModel

    with session_scope() as session:
        version = get_version(session, name)
        require_reward_model(version.name, version.kind)
        base_model, folder = version.base_model, version_folder(version)
    return RewardModel(base_model, folder)


def require_reward_model(name: str, kind: str) -> None:
    """Check the kind of a version; raises BadInput."""
    if kind != REWARD_MODEL:
        raise BadInput(
            "reward model", f"{name} ({kind})", "a version that method reward made",
            "Train one: flywheel train --method reward",
        )  # fmt: skip


def ranked_by(model: "RewardModel") -> Rank:
    """Return what ranks answers by their scores, as shares of 0-1 around the mean of a prompt's.

    Scores of different prompts cannot be compared. Two answers 0.2 apart (the least gap of a pair)
    are, if they are the only two, 0.81 apart in logits: the better one wins 69 times of 100.
    """

    def rank(asked: Asked, answers: Sequence[str]) -> list[float | None]:
        scores = model.scores([(asked.prompt, answer) for answer in answers])
        middle = sum(scores) / len(scores) if scores else 0.0
        return [1 / (1 + exp(-(score - middle))) for score in scores]

    return rank
