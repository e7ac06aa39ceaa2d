"""RLOO with TRL: own answers, each against the mean reward of the others to the same task."""

from typing import Any

from trl import RLOOConfig, RLOOTrainer

from trainer.lesson import Lesson, Prepared
from trainer.own_answers import OwnAnswers, adapted, arguments, keep, prepare

__all__ = ["build", "keep", "prepare"]


class Rloo(OwnAnswers, RLOOTrainer):  # type: ignore[misc]
    """TRL's trainer over answers of ours."""

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        return self._answer(prompt_ids).answers


def build(lesson: Lesson, prepared: Prepared) -> Rloo:
    """Return the trainer; with `kl` the distance from where it began is taken off each reward."""
    rloo = Rloo(
        model=adapted(lesson),
        reward_funcs=[lesson.reward],  # asked through OwnAnswers: TRL would log each prompt
        args=RLOOConfig(**arguments(lesson, prepared)),
        train_dataset=prepared.train,
        eval_dataset=prepared.validation,
        processing_class=lesson.tokenizer,
    )
    rloo.learn_from(lesson)
    return rloo
