"""Language models as judges, and how far each may be trusted: asked both ways, then measured.

Front desk: `judge_evaluations` (two stored evaluations by the judges of the settings) and
`judge_stored` (the same, without a transaction meanwhile), `compare_answers` (any pairs by any
panel), `pairs_of` (answers side by side). The grader `rubric` grades single answers.
"""

from evaluator.judge.compare import compare_answers
from evaluator.judge.evaluations import (
    is_graded_by_rubric,
    judge_evaluations,
    judge_stored,
    require_judges,
    rubric_flips,
)
from evaluator.judge.gate import GateThresholds
from evaluator.judge.judges import Judge, judges_of_settings
from evaluator.judge.pairs import Pair, pairs_of
from evaluator.judge.report import JudgeReport

__all__ = [
    "GateThresholds",
    "Judge",
    "JudgeReport",
    "Pair",
    "compare_answers",
    "is_graded_by_rubric",
    "judge_evaluations",
    "judge_stored",
    "judges_of_settings",
    "pairs_of",
    "require_judges",
    "rubric_flips",
]
