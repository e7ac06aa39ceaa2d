"""Answers that no program can check, graded by judges along criteria.

Reference keys:
    criteria: list of `{"name", "text", "weight"}` (weight 1 where absent), each graded 0-10.
    min_score: least weighted mean that passes, 0-1; default 0.7.
    answer: optional answer known to be good, shown to the judge as such.

The judges are those of FLYWHEEL_JUDGE_MODELS; what one said of a text is kept and not asked again.
An answer of which no judge says anything readable cannot be graded, which is not the model's fault:
`NoVerdict` is raised, and the harness counts that answer apart.

Metrics: each criterion by name under `criterion_`, `judges` that could be read, `judge_cost_usd`,
and of a fifth of the answers, drawn by hash, `judge_flipped`: the share of judges whose pass or
fail changed when they were asked for faults in place of merits. A mean of it above 0.2 makes the
score unfit to gate (`evaluator.judge.gate.may_rubric_gate`).
"""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.judge.judges import judges_of_settings
from evaluator.judge.pairs import conversation
from evaluator.judge.questions import Criterion
from evaluator.judge.rubric import Graded, Work, grade_by_rubric
from evaluator.sandbox import Sandbox, Status
from foundation.database import get_engine
from foundation.errors import BadInput


class NoVerdict(Exception):
    """No judge said anything readable of an answer."""

    def __init__(self, task_ids: Sequence[str]) -> None:
        self.task_ids = task_ids
        super().__init__(f"no judge said anything readable of an answer to {', '.join(task_ids)}")


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades answers; the score is the judges' mean. The sandbox is not used.

    Raises:
        BadInput: a task has no criteria, or no judge is set.
        JudgeUnavailable: no judge answers.
        NoVerdict: of some answer no judge says anything readable.
    """
    works = [_work(task, answer) for task, answer in zip(tasks, answers, strict=True)]
    limits = [_min_score(task) for task in tasks]
    judges = judges_of_settings()
    if not judges:
        raise BadInput(
            "FLYWHEEL_JUDGE_MODELS",
            [],
            f"a judge, as task {tasks[0].task_id} is graded by rubric",
            "Name one, as in docs/judging.md.",
        )
    grades = dict.fromkeys(range(len(tasks)), LOST)
    said = sorted((limits[at], at) for at, answer in enumerate(answers) if answer.strip())
    for limit, group in groupby(said, key=itemgetter(0)):
        places = [at for _, at in group]
        graded = grade_by_rubric(get_engine(), judges, [works[at] for at in places], limit)
        unjudged = [tasks[at].task_id for at, one in zip(places, graded, strict=True) if not one]
        if unjudged:
            raise NoVerdict(unjudged[:10])
        known = zip(places, graded, strict=True)
        grades |= {at: _grade(one, limit) for at, one in known if one}
    return [grades[at] for at in range(len(tasks))]


def _grade(graded: Graded, limit: float) -> Grade:
    measured: dict[str, Any] = {
        **{f"criterion_{name}": score for name, score in graded.criteria.items()},
        "judges": graded.n_judges,
    }
    if graded.flips:
        measured["judge_flipped"] = sum(graded.flips) / len(graded.flips)
    if graded.cost_usd is not None:
        measured["judge_cost_usd"] = graded.cost_usd
    if graded.score >= limit:
        return Grade.of(Status.PASS, "", graded.score, measured)
    worst = min(graded.criteria, key=lambda name: graded.criteria[name])
    detail = f"{graded.score:.2f}, below {limit:g}; least by {worst}"
    return Grade.of(Status.WRONG, detail, graded.score, measured)


def _work(task: GradedTask, answer: str) -> Work:
    given = task.reference.get("criteria")
    if not isinstance(given, list) or not given:
        raise _bad(task, "criteria", given, "a list of criteria with name and text")
    criteria = tuple(_criterion(task, one) for one in given)
    if len({one.name for one in criteria}) < len(criteria):
        raise _bad(task, "criteria", [one.name for one in criteria], "distinct names")
    good = task.reference.get("answer")
    if good is not None and not isinstance(good, str):
        raise _bad(task, "answer", good, "a text")
    return Work(criteria, conversation(task.prompt_messages), answer, good)


def _criterion(task: GradedTask, given: Any) -> Criterion:
    name, text = (given.get("name"), given.get("text")) if isinstance(given, dict) else (None, None)
    if not (isinstance(name, str) and name.strip() and isinstance(text, str) and text.strip()):
        raise _bad(task, "criteria", given, "an object with name and text")
    weight = given.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
        raise _bad(task, "criteria", weight, "a weight above 0")
    return Criterion(name, text, float(weight))


def _min_score(task: GradedTask) -> float:
    least = task.reference.get("min_score", 0.7)
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0 < least <= 1:
        raise _bad(task, "min_score", least, "a number above 0 and at most 1")
    return float(least)


def _bad(task: GradedTask, key: str, value: Any, expected: str) -> BadInput:
    what = f"task {task.task_id}: reference[{key!r}]"
    return BadInput(what, value, expected, "Correct the suite.")
