"""GRPO with TRL: own answers, each against the mean reward of its group of answers."""

from typing import Any

from trl import GRPOConfig, GRPOTrainer

from trainer.lesson import Lesson, Prepared
from trainer.own_answers import OwnAnswers, adapted, arguments, keep, prepare

__all__ = ["build", "keep", "prepare"]


class Grpo(OwnAnswers, GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer over answers of ours."""

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        return self._answer(prompt_ids).answers, None


def build(lesson: Lesson, prepared: Prepared) -> Grpo:
    """Return the trainer; with `kl` it stays near the version it began from, or the base."""
    grpo = Grpo(
        model=adapted(lesson),
        reward_funcs=[lesson.reward],  # asked through OwnAnswers: TRL would log each prompt
        args=GRPOConfig(**arguments(lesson, prepared)),
        train_dataset=prepared.train,
        eval_dataset=prepared.validation,
        processing_class=lesson.tokenizer,
    )
    grpo.learn_from(lesson)
    return grpo
