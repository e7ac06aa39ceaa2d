"""The A/A noise floor: by how much a baseline differs from itself, before anything is compared.

Two runs of one model differ by the luck of its samples (and by whatever the harness adds). A gain
inside that range says nothing, however it looks. Measured from the samples of each task, or from a
second evaluation of the same model, which sees the harness's own noise too.
"""

from dataclasses import dataclass

import numpy as np

from evaluator.comparison import Outcomes, compare_outcomes, points, task_means
from evaluator.paired import interval
from foundation.intervals import Z_95

SAMPLES, REPEAT = "samples", "repeat"


@dataclass(frozen=True)
class NoiseFloor:
    """How far two runs of the baseline lie apart; percentage points.

    Attributes:
        points: 19 of 20 differences of two runs like this one are smaller.
        observed_points: a difference that was seen: of the two halves of the samples, or of the
            second evaluation.
        is_stable: whether what was seen agrees with luck; if not, the harness itself is in doubt.
        n_tasks: tasks it rests on.
        method: samples or repeat.
    """

    points: float
    observed_points: float
    is_stable: bool
    n_tasks: int
    method: str


def noise_of_samples(outcomes: Outcomes) -> NoiseFloor | None:
    """Estimate from the spread of the samples within each task; None if none has two.

    The difference of two runs has the variance `2 s^2 / k` in a task of k samples with variance
    s^2; a task whose samples agree adds nothing. Tasks with one answer are left out.
    """
    known = [[bool(one) for one in answers if one is not None] for answers in outcomes.values()]
    tasks = [answers for answers in known if len(answers) > 1]
    if not tasks:
        return None
    variances = [2 * float(np.var(answers, ddof=1)) / len(answers) for answers in tasks]
    error = np.sqrt(sum(variances)) / len(tasks)
    halves = [float(np.mean(answers[1::2]) - np.mean(answers[::2])) for answers in tasks]
    seen = interval(np.array([halves]), np.arange(len(tasks)), one_answer=False)
    return NoiseFloor(
        points=points(Z_95 * error),
        observed_points=points(seen.mean[0]),
        is_stable=bool(seen.low[0] <= 0 <= seen.high[0]),
        n_tasks=len(tasks),
        method=SAMPLES,
    )


def noise_of_repeat(outcomes: Outcomes, repeated: Outcomes) -> NoiseFloor:
    """Estimate from a second evaluation of the same model; raises BadInput for no common task."""
    means = task_means(outcomes, repeated)
    apart = means.candidate - means.baseline
    seen = compare_outcomes(outcomes, repeated)
    return NoiseFloor(
        points=points(Z_95 * np.sqrt(float((apart**2).sum())) / len(apart)),
        observed_points=seen.improvement_points,
        is_stable=seen.ci_low <= 0 <= seen.ci_high,
        n_tasks=len(apart),
        method=REPEAT,
    )
