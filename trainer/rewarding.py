"""What each of a model's own answers is worth, asked once for a whole batch of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foundation.errors import FlywheelError
from trainer.lesson import Reward
from trainer.recipe.reinforcement import LEFT_OUT, NOTHING


class NothingGraded(FlywheelError):
    """Not one answer of a batch has a reward."""

    def __init__(self, n_answers: int) -> None:
        self.n_answers = n_answers
        super().__init__(
            f"reward: got none for {n_answers} answers, expected at least one. "
            "The grader fails on its tasks: try it with flywheel evaluate, or name another reward."
        )


class Rewarder:
    """Turns answers into rewards, by the recipe's policy on those that were cut.

    Args:
        reward: who says what an answer is worth.
        rows: that were asked; answers name theirs by its place.
        cut_answers: of `Reinforcement.cut_answers`.
        say: writes into the log of the run.
    """

    def __init__(
        self,
        reward: Reward,
        rows: Sequence[Mapping[str, Any]],
        cut_answers: str,
        say: Callable[[str, str], None] = lambda level, text: None,
    ) -> None:
        self._reward, self._rows, self._cut = reward, rows, cut_answers
        self._say = say
        self._alike = 0

    def __call__(
        self, places: Sequence[int], answers: Sequence[str], is_cut: Sequence[bool]
    ) -> list[float | None]:
        """Return one reward per answer; None where nothing can be said of it.

        Raises:
            NothingGraded: nothing can be said of any.
        """
        rewards = self._reward([self._rows[place] for place in places], answers)
        if len(rewards) != len(answers):
            raise NothingGraded(len(answers))
        if all(reward is None for reward in rewards):
            raise NothingGraded(len(answers))
        self._note_spread(rewards)
        return [
            self._of_cut(reward) if cut else reward
            for reward, cut in zip(rewards, is_cut, strict=True)
        ]

    def _of_cut(self, reward: float | None) -> float | None:
        if self._cut == NOTHING:
            return 0.0
        return None if self._cut == LEFT_OUT else reward

    def _note_spread(self, rewards: Sequence[float | None]) -> None:
        """Say once when batch after batch teaches nothing: all answers are worth the same."""
        self._alike = self._alike + 1 if len({r for r in rewards if r is not None}) < 2 else 0
        if self._alike == 5:
            self._say(
                "WARNING",
                "five batches of answers in a row were all worth the same: nothing is learned from "
                "them. The tasks are too hard or too easy for this model, or the reward is blind.",
            )
