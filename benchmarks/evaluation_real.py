"""Do our verdicts agree with what is known of real answers?

    python -m benchmarks.evaluation --only real

Three public sets, none of them ours:

- `coder_outputs`: 2,181 answers of real models to HumanEval and MBPP, each with the verdict of
  whoever ran it first. All are executed again. Where we say otherwise, the answer is executed once
  more by each way of asking that a source is known to have had; the first whose verdict is the
  recorded one explains it, and what nothing explains misses the bar.
- the same answers, base model against its fine-tune: what our rule makes of each pair.
- `quixbugs`: every buggy program must fail and every correct one pass; those that the set itself
  calls slow may run out of time or memory, and are listed.
"""

import ast
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.bars import Figure
from evaluator.comparison import Comparison, compare_outcomes
from evaluator.decide import DeployInputs, DeployThresholds, deploy_rule, more_tasks_needed
from evaluator.graders import Grade, GradedTask, grade_many
from evaluator.sandbox import Limits, Sandbox, Status
from evaluator.suites import READERS, Task
from evaluator.suites.jsonl import read_rows
from evaluator.suites.readers.quixbugs import read_quixbugs

Row = dict[str, Any]

DATA: Final = Path(
    os.environ.get("FLYWHEEL_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
SETS: Final = ("coder_outputs", "humaneval", "mbpp", "quixbugs")
_QUICK: Final = 8
"""A quick look takes one task of so many, with all answers to it: runs are compared by tasks."""

_PATIENT: Final = Limits(cpu_s=10.0, wall_s=30.0)
"""What the sources allowed: ten seconds."""


@dataclass(frozen=True)
class Judged:
    """A recorded answer with our verdict."""

    row: Row
    task: Task
    grade: Grade

    @property
    def agrees(self) -> bool:
        """Whether our verdict is the recorded one; a lost answer passes nowhere."""
        return self.grade.passed is bool(self.row["exec_pass"])


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures; `quick` executes the answers to an eighth of the tasks."""
    missing = [name for name in SETS if not list((DATA / name).glob("*.jsonl*"))]
    if missing:
        note = f"no {', '.join(missing)}: set FLYWHEEL_TEST_DATA to the folder of public data"
        return [Figure("verdicts on real answers", None, "", at_least=1, note=note)]
    with Sandbox() as sandbox:
        return [*coder_figures(sandbox, quick), *quixbugs_figures(sandbox)]


# --- coder_outputs


def coder_figures(sandbox: Sandbox, quick: bool) -> list[Figure]:
    """Execute the recorded answers again; return agreement and the verdict of each pair."""
    started = time.perf_counter()
    judged = judge_answers(sandbox, quick)
    seconds = time.perf_counter() - started
    differing = [one for one in judged if not one.agrees]
    explained = explain(differing, sandbox)
    classes = Counter(reason for _, reason in explained)
    lost = sum(one.grade.status is Status.LOST for one in judged)
    return [
        Figure(
            f"coder_outputs: verdicts equal to exec_pass, {len(judged):,} answers executed again",
            100 * (1 - len(differing) / len(judged)),
            "%",
            detail={
                "statuses": dict(Counter(str(one.grade.status) for one in judged)),
                "answers_per_s": len(judged) / seconds,
                "lost": lost,
                "disagreements_by_class": dict(classes),
            },
            note=f"{len(differing)} differ, {lost} lost",
        ),
        Figure(
            "coder_outputs: disagreements that nothing explains",
            classes[UNEXPLAINED],
            "answers",
            at_most=0,
            detail={"disagreements": [_shown(one, reason) for one, reason in explained]},
            note="; ".join(f"{count} {reason}" for reason, count in classes.most_common()),
        ),
        *pair_figures(judged),
    ]


def judge_answers(sandbox: Sandbox, quick: bool = False) -> list[Judged]:
    """Grade every recorded answer by its task's own asserts, flawed tasks included."""
    tasks = {task.task_id: task for task in _tasks()}
    rows = [row for _, row in read_rows(_file("coder_outputs"))]
    asked = set(sorted({row["task_id"] for row in rows})[:: _QUICK if quick else 1])
    rows = [row for row in rows if row["task_id"] in tasks and row["task_id"] in asked]
    graded = _grade([(tasks[row["task_id"]], row) for row in rows], sandbox)
    return [
        Judged(row, tasks[row["task_id"]], grade) for row, grade in zip(rows, graded, strict=True)
    ]


def _tasks() -> list[Task]:
    from evaluator.suites.readers.mbpp import read_mbpp

    return [*READERS["humaneval"](_file("humaneval")), *read_mbpp(_file("mbpp"), keep_flawed=True)]


def _file(name: str) -> Path:
    return min((DATA / name).glob("*.jsonl*"))


def _grade(asked: Sequence[tuple[Task, Row]], sandbox: Sandbox) -> list[Grade]:
    tasks = [
        GradedTask(task.task_id, task.prompt, task.grader, task.reference) for task, _ in asked
    ]
    return grade_many(tasks, [row["solution"] for _, row in asked], sandbox)


# --- why verdicts differ

UNEXPLAINED: Final = "unexplained"


def explain(differing: Sequence[Judged], sandbox: Sandbox) -> list[tuple[Judged, str]]:
    """Return each disagreement with the way of asking that gives the recorded verdict."""
    asserts = {row["task_id"]: row["test_list"] for _, row in read_rows(_file("mbpp"))}
    reasons = {id(one): UNEXPLAINED for one in differing}
    for reason, ask in WAYS.items():
        left = [one for one in differing if reasons[id(one)] == UNEXPLAINED]
        changed = [(one, ask(one.task, asserts.get(one.task.task_id))) for one in left]
        asked = [(one, task) for one, task in changed if task is not None]
        graded = _grade([(task, one.row) for one, task in asked], sandbox)
        for (one, _), grade in zip(asked, graded, strict=True):
            if grade.passed == one.row["exec_pass"]:
                reasons[id(one)] = reason
    patient = [one for one in differing if one.grade.status is Status.TIMEOUT]
    if patient:
        with Sandbox(limits=_PATIENT) as slow:
            again = _grade([(one.task, one.row) for one in patient], slow)
        for one, grade in zip(patient, again, strict=True):
            if grade.passed == one.row["exec_pass"]:
                reasons[id(one)] = "needs more than our 2 s of CPU time"
    return [(one, reasons[id(one)]) for one in differing]


def _original(task: Task, asserts: list[str] | None) -> Task | None:
    return _asking(task, "\n".join(asserts or ()))


def _listed(task: Task, asserts: list[str] | None) -> Task | None:
    return _asking(task, with_lists(task.reference.get("assertion") or ""))


def _listed_original(task: Task, asserts: list[str] | None) -> Task | None:
    return _asking(task, with_lists("\n".join(asserts or ())))


WAYS: Final[dict[str, Callable[[Task, list[str] | None], Task | None]]] = {
    "by MBPP's original asserts, which EvalPlus corrected": _original,
    "asked for lists where MBPP has tuples": _listed,
    "asked for lists where MBPP has tuples, by its original asserts": _listed_original,
}
"""Words for a way of asking -> the task as it was asked that way, None where it cannot have been.

The lists are those of Reflexion, whose MBPP went through a format that knows no tuples.
"""


def _asking(task: Task, assertion: str) -> Task | None:
    if not assertion:
        return None
    return Task(task.task_id, task.prompt, task.grader, {**task.reference, "assertion": assertion})


def with_lists(code: str) -> str:
    """Return code with every tuple that is written out turned into a list."""
    return ast.unparse(_Lists().visit(ast.parse(code)))


class _Lists(ast.NodeTransformer):
    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        self.generic_visit(node)
        return ast.copy_location(ast.List(node.elts, node.ctx), node)


def _shown(one: Judged, reason: str) -> dict[str, Any]:
    return {
        "run": one.row["run"],
        "task_id": one.row["task_id"],
        "recorded": one.row["exec_pass"],
        "measured": str(one.grade.status),
        "detail": one.grade.detail,
        "reason": reason,
    }


# --- base against fine-tune


def pair_figures(judged: Sequence[Judged]) -> list[Figure]:
    """Return the gain of each fine-tune over its base, with interval and verdict."""
    outcomes: dict[tuple[str, str], dict[str, list[bool | None]]] = defaultdict(dict)
    for one in judged:
        lost = one.grade.status is Status.LOST
        key = one.row["run"], one.row["dataset"]
        said = outcomes[key].setdefault(one.row["task_id"], [])
        said.append(None if lost else one.grade.passed)
    found = [
        _pair_figure(base, tuned, dataset, outcomes)
        for base, tuned in pairs({run for run, _ in outcomes})
        for dataset in sorted({name for run, name in outcomes if run == tuned})
        if (base, dataset) in outcomes
    ]
    return found or [Figure("base against DPO", None, "points", note="no such pair of runs")]


def pairs(runs: Iterable[str]) -> list[tuple[str, str]]:
    """Return (base, fine-tune by DPO) of one family of models, both instructed or both not."""
    known = sorted(runs)
    return [
        (base, tuned)
        for tuned in known
        for base in known
        if tuned.endswith("_dpo")
        and not base.endswith("_dpo")
        and _family(base) == _family(tuned)
        and ("instruct" in base) == ("instruct" in tuned)
    ]


def _family(run: str) -> str:
    """`llama` of `meta-llama-3-8b` and of `llama3_base_dpo`."""
    words = re.findall(r"[a-z]+", run.removeprefix("meta-"))
    return words[0] if words else ""


def _pair_figure(
    base: str,
    tuned: str,
    dataset: str,
    outcomes: dict[tuple[str, str], dict[str, list[bool | None]]],
) -> Figure:
    found = compare_outcomes(outcomes[base, dataset], outcomes[tuned, dataset])
    verdict = deploy_rule(_inputs(found), asdict(DeployThresholds()))
    return Figure(
        f"{base} -> {tuned}, {dataset}: gain",
        found.improvement_points,
        "points",
        detail={**asdict(found), "verdict": verdict.outcome, "reasons": list(verdict.reasons)},
        note=f"{found.ci_low:+.1f} to {found.ci_high:+.1f}, {found.n_tasks} tasks, p = "
        f"{found.p_value:.2g}: {verdict.outcome}",
    )


def _inputs(found: Comparison) -> dict[str, Any]:
    limits = DeployThresholds()
    return asdict(
        DeployInputs(
            improvement_points=found.improvement_points,
            ci_low=found.ci_low,
            ci_high=found.ci_high,
            bound_low=found.bound_low,
            bound_high=found.bound_high,
            more_tasks=more_tasks_needed(
                found.bound_low, found.bound_high, found.n_tasks, limits.minimum_points
            ),
        )
    )


# --- quixbugs


def quixbugs_figures(sandbox: Sandbox) -> list[Figure]:
    """Grade both versions of every program by its cases, or by its own tests."""
    path = _file("quixbugs")
    rows = {f"QuixBugs/{row['name']}": row for _, row in read_rows(path)}
    tasks = read_quixbugs(path, keep_slow=True)
    buggy = _versions(tasks, rows, "buggy", sandbox)
    correct = _versions(tasks, rows, "correct", sandbox)
    passing = [name for name, grade in buggy.items() if grade.passed]
    slow = [name for name, grade in correct.items() if _ran_out(grade) and rows[name]["slow"]]
    failing = {
        name: f"{grade.status} {grade.detail}"
        for name, grade in correct.items()
        if not grade.passed and name not in slow
    }
    return [
        Figure(
            f"quixbugs: buggy programs that fail, of {len(buggy)}",
            100 * (1 - len(passing) / len(buggy)),
            "%",
            at_least=100,
            detail={"passing": passing, "statuses": _statuses(buggy)},
        ),
        Figure(
            f"quixbugs: correct programs that pass or are listed as slow, of {len(correct)}",
            100 * (1 - len(failing) / len(correct)),
            "%",
            at_least=100,
            detail={"failing": failing, "ran_out": slow, "statuses": _statuses(correct)},
            note=f"out of time or memory, as the set says: {', '.join(slow) or 'none'}",
        ),
    ]


def _versions(
    tasks: Sequence[Task], rows: dict[str, Row], version: str, sandbox: Sandbox
) -> dict[str, Grade]:
    asked = [(task, {"solution": rows[task.task_id][version]}) for task in tasks]
    graded = _grade(asked, sandbox)
    return {task.task_id: grade for task, grade in zip(tasks, graded, strict=True)}


def _ran_out(grade: Grade) -> bool:
    """Of time or of memory: exponential programs take whichever ends first."""
    return grade.status in (Status.TIMEOUT, Status.MEMORY)


def _statuses(grades: dict[str, Grade]) -> dict[str, int]:
    return dict(Counter(str(grade.status) for grade in grades.values()))
