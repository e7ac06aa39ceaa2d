"""How far an evaluation is, for whoever watches: answered, graded, success so far, rate, cost."""

import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from evaluator.asking import Measured
from evaluator.estimate import success_rate
from evaluator.graders import Grade
from evaluator.grading import Grading

UNIT: Final = "answers graded"


class Progress(Protocol):
    """Is told how far something is."""

    def __call__(self, done: float, total: float, unit: str, **measures: Any) -> None:
        """Take in that `done` of `total` units are done, with the latest measurements."""


class Watch:
    """Tells a progress at most twice a second, and at the end.

    Args:
        total: answers that there will be.
        progress: who is told; None for nobody.
    """

    PERIOD_S: Final = 0.5

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._started = time.monotonic()
        self._told = self._started

    def tell(self, measured: Sequence[Measured], grading: Grading, is_last: bool = False) -> None:
        """Say how far it is by now; also takes in what is graded, and raises as `settle`."""
        moment = time.monotonic()
        if not is_last and moment - self._told < self.PERIOD_S:
            return
        self._told = moment
        grading.settle()
        if self._progress is not None:
            done, measures = state_of(measured, grading)
            measures |= self._pace(measures, moment - self._started)
            self._progress(done, self._total, UNIT, **measures)

    def _pace(self, measures: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return how fast answers come that had to be asked for, and when all will be there."""
        n_asked = measures["answered"] - measures["cached"]
        if not n_asked or not seconds:
            return {"per_s": None, "eta_s": None}
        per_s = n_asked / seconds
        left = self._total - measures["answered"]
        return {"per_s": round(per_s, 2), "eta_s": round(left / per_s, 1)}


def state_of(measured: Sequence[Measured], grading: Grading) -> tuple[int, dict[str, Any]]:
    """Return how many answers need nothing more, and the counts and rates so far."""
    made = [attempt.answer for result in measured for attempt in result.attempts]
    success, done = {}, 0
    for result in measured:
        outcomes: dict[Any, list[bool | None]] = {}
        for attempt in result.attempts:
            graded = grading.of(attempt)
            done += graded is not None or attempt.answer.text is None
            passed = graded.passed if isinstance(graded, Grade) else None
            outcomes.setdefault(attempt.task.id, []).append(passed)
        estimate = success_rate(outcomes.values(), result.families())
        success[result.subject.name] = [estimate.rate, estimate.low, estimate.high]
    costs = [answer.cost_usd for answer in made if answer.cost_usd is not None]
    return done, {
        "answered": len(made),
        "cached": sum(answer.is_cached for answer in made),
        "lost": sum(answer.text is None for answer in made),
        "success": success,
        "cost_usd": round(sum(costs), 6) if costs else None,
    }
