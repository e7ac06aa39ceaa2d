"""What answers are rewarded for. The graders live floors above: they sign up here by name.

`evaluator.rewards` signs up the tasks of stored suites, graded in the sandbox; a worker imports it.
No torch until a reward model is asked for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session

from foundation.errors import NotFound
from trainer.data import Row

Reward = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], list[float | None]]
"""`reward(rows, answers)`: one per answer, 0-1 as a rule; None where nothing can be said."""


@dataclass(frozen=True)
class TaskRows:
    """Tasks to answer, and who says what an answer is worth.

    Attributes:
        rows: `{"prompt": [messages], "task_id": …}`.
        validation: the same, never learned from.
        reward: of answers to any of them.
    """

    rows: Sequence[Row]
    validation: Sequence[Row]
    reward: Reward


GradedTasks = Callable[[str], AbstractContextManager[TaskRows]]
RequireSuite = Callable[[Session, str], object]
_signed_up: list[tuple[GradedTasks, RequireSuite]] = []


def sign_up(open_tasks: GradedTasks, require: RequireSuite) -> None:
    """Register who opens the tasks of a suite by its name, and who says whether there is one."""
    _signed_up[:] = [(open_tasks, require)]


def require_suite(session: Session, suite: str) -> None:
    """Check a suite before anything is ordered with it, where this process knows suites.

    Raises:
        NotFound: no such suite.
        Conflict: it is a draft.
    """
    for _, require in _signed_up:
        require(session, suite)


def graded_tasks(suite: str) -> AbstractContextManager[TaskRows]:
    """Return the tasks of a suite with their graders, to be entered.

    Raises:
        NotFound: nobody grades in this process.
    """
    if not _signed_up:
        raise NotFound("graders", suite, "a process that loads them", "Train in a worker.")
    open_tasks, _ = _signed_up[0]
    return open_tasks(suite)


def model_reward(base_model: str, folder: Path) -> Reward:
    """Return the reward of a reward model, 0-1; it is loaded when first asked.

    The sigmoid of its score: the odds by which it prefers the answer to one of score 0. So a reward
    has bounds, and nothing is worth less than an answer that was cut.
    """
    loaded: list[Any] = []

    def reward(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[float | None]:
        if not loaded:
            from trainer.reward_model import RewardModel

            loaded.append(RewardModel(base_model, folder))
        pairs = [(row["prompt"], answer) for row, answer in zip(rows, answers, strict=True)]
        return [(1 + math.tanh(score / 2)) / 2 for score in loaded[0].scores(pairs)]

    return reward
