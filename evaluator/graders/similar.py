"""Free text that must be like a reference, by a named metric and a threshold.

Reference keys:
    answer: the reference text, or a list of texts; the likest counts.
    metric: `chrf` (the default), `bleu`, `rouge1`, `rouge2`, `rougeL`, `normalised` or `exact`.
    min_score: least value of it that passes, 0-1; default 0.5.
    code: optional programming language of answer and reference: adds CodeBLEU to the metrics. It is
        a diagnostic and no threshold may be set on it.

Metrics: all of the above by name, and `code_bleu` where it can be computed. Likeness is not truth:
where an answer can be executed or looked up, use another grader.
"""

from collections.abc import Sequence
from typing import Final

from evaluator.graders.answers import extract_code
from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.metrics.text import METRICS, code_bleu, likeness
from evaluator.sandbox import Sandbox, Status
from foundation.errors import BadInput

MAX_CHARS: Final = 50_000
"""Of an answer that is compared, or four times the longest reference: ROUGE-L is quadratic."""


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades texts; the score is the metric's value. The sandbox is not used.

    Raises:
        BadInput: a task has no reference text, or names an unknown metric or threshold.
    """
    return [_grade(task, answer) for task, answer in zip(tasks, answers, strict=True)]


def _grade(task: GradedTask, answer: str) -> Grade:
    references, metric, least = _references(task), *_threshold(task)
    if not answer.strip():
        return LOST
    longest = max(MAX_CHARS, 4 * max(map(len, references)))
    if len(answer) > longest:
        return Grade.of(Status.WRONG, f"{len(answer)} characters, at most {longest} are compared")
    measured = likeness(answer, references)
    if language := task.reference.get("code"):
        measured |= _code_bleu(answer, references, str(language))
    score = measured[metric]
    if score >= least:
        return Grade.of(Status.PASS, "", score, measured)
    return Grade.of(Status.WRONG, f"{metric} is {score:.3f}, below {least:g}", score, measured)


def _code_bleu(answer: str, references: Sequence[str], language: str) -> dict[str, float]:
    code = extract_code(answer) if language == "python" else answer
    scores = [code_bleu(code, reference, language) for reference in references]
    known = [score for score in scores if score is not None]
    return {"code_bleu": max(known)} if known else {}


def _references(task: GradedTask) -> list[str]:
    given = task.reference.get("answer")
    references = [given] if isinstance(given, str) else given
    texts = references if isinstance(references, list) else []
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        what = f"task {task.task_id}: reference['answer']"
        raise BadInput(what, given, "a text or a list of texts", "Give it in the suite.")
    return texts


def _threshold(task: GradedTask) -> tuple[str, float]:
    metric, least = task.reference.get("metric", "chrf"), task.reference.get("min_score", 0.5)
    if metric not in METRICS:
        raise BadInput(
            f"task {task.task_id}: reference['metric']",
            metric,
            f"one of {', '.join(METRICS)}",
            "CodeBLEU is a diagnostic: it takes no threshold.",
        )
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0 < least <= 1:
        what = f"task {task.task_id}: reference['min_score']"
        raise BadInput(what, least, "a number above 0 and at most 1", "Correct the suite.")
    return metric, float(least)
