"""Coordinator: a plan of steps, checked for coverage, order, role choice, time and money.

Reference keys:
    work: name of a piece of work -> {"hours": number, "roles": [roles that may do it]}; each piece
        must be planned exactly once, and nothing else.
    before: list of [earlier, later] names; the later must come after the earlier, at any distance.
    deadline_hours: optional; the longest chain of steps may take no longer.
    prices: optional, role -> price of an hour.
    budget: optional; the sum over the steps of hours x price may be no more. Needs `prices`.
    max_steps: optional, role -> the most steps it may be given.

The answer's last JSON object is read: {"steps": [{"id": 1, "role": "coder", "task": "…", "after":
[ids]}]}. Steps wait only for what `after` names, so the order is partial: every plan that breaks no
rule passes, however it is written down. `after` may name a step by its id or by its task.

Metrics, each 0 to 1: `coverage` (F1 of the pieces planned), `order` (share of the dependencies
kept), `roles` (share of the pieces with a fitting role), `parallelism` (the shortest possible
longest chain over the plan's), and `invented` (steps for no piece of work, among all steps).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from evaluator.graders.exact import normalise
from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.graders.json_text import last_object
from evaluator.sandbox import Sandbox, Status
from foundation.errors import BadInput

_MAX_STEPS: Final = 500
_SLACK: Final = 1e-9


@dataclass(frozen=True)
class Work:
    """What a plan has to do.

    Attributes:
        hours: per piece of work.
        roles: per piece, who may do it.
        before: (earlier, later) pairs.
        deadline_hours: of the longest chain, None for none.
        prices: of an hour, per role.
        budget: of all steps, None for none.
        max_steps: per role; a role that is not named may take any number.
    """

    hours: Mapping[str, float]
    roles: Mapping[str, frozenset[str]]
    before: Sequence[tuple[str, str]]
    deadline_hours: float | None = None
    prices: Mapping[str, float] | None = None
    budget: float | None = None
    max_steps: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Step:
    """One step of an answer, its names normalised; `after` holds positions in the plan."""

    task: str
    role: str
    after: tuple[int, ...]


class Malformed(ValueError):
    """An answer that is no plan; the text says why."""


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grade plans; the score is the mean of coverage, order and roles. The sandbox is not used.

    Raises:
        BadInput: a task lacks `work`, or names unknown work in `before`.
    """
    return [_grade(work_of(task), answer) for task, answer in zip(tasks, answers, strict=True)]


def work_of(task: GradedTask) -> Work:
    """Return what a task asks for; raises BadInput as `grade_many`."""
    reference = task.reference
    work, before = reference.get("work"), reference.get("before", [])
    named = {name for pair in before for name in pair}
    if not isinstance(work, dict) or not work or not named <= work.keys():
        raise BadInput(
            f"task {task.task_id}: reference['work'] and ['before']",
            (work, before),
            "name -> hours and roles, and pairs of those names",
            "Give them in the suite.",
        )
    return Work(
        hours={normalise(name): float(one["hours"]) for name, one in work.items()},
        roles={name: frozenset(map(normalise, one["roles"])) for name, one in _folded(work)},
        before=[(normalise(first), normalise(later)) for first, later in before],
        deadline_hours=reference.get("deadline_hours"),
        prices=dict(_folded(reference.get("prices") or {})),
        budget=reference.get("budget"),
        max_steps=dict(_folded(reference.get("max_steps") or {})),
    )


def longest_chain(hours: Sequence[float], after: Sequence[Sequence[int]]) -> float:
    """Return the hours of the longest chain of steps; raises CycleError where they wait in a ring.

    Args:
        hours: per step.
        after: per step, the positions of those it waits for.
    """
    ends: dict[int, float] = {}
    for step in TopologicalSorter(dict(enumerate(after))).static_order():
        ends[step] = hours[step] + max((ends[earlier] for earlier in after[step]), default=0.0)
    return max(ends.values(), default=0.0)


def shortest_time(work: Work) -> float:
    """Return the hours of the longest chain when nothing waits but for its own dependencies."""
    names = list(work.hours)
    after = [[names.index(a) for a, b in work.before if b == name] for name in names]
    return longest_chain([work.hours[name] for name in names], after)


def faults_of(work: Work, steps: Sequence[Step]) -> tuple[list[str], dict[str, float]]:
    """Return every rule that a plan breaks, in words, and the plan's metrics."""
    planned = Counter(step.task for step in steps)
    covered = planned.keys() & work.hours.keys()
    extra = sum(planned.values()) - len(covered)
    coverage = 2 * len(covered) / (len(work.hours) + len(covered) + extra)
    metrics = {
        "coverage": coverage,
        "invented": sum(step.task not in work.hours for step in steps) / max(1, len(steps)),
    }
    faults = [f"not planned: {name}" for name in work.hours if name not in planned]
    faults += [f"nobody asked for: {name}" for name in planned if name not in work.hours]
    faults += [f"planned {n} times: {name}" for name, n in planned.items() if n > 1]
    try:
        faults += _order_faults(work, steps, metrics)
    except CycleError:
        faults.append("steps wait for each other in a ring")
        metrics |= {"order": 0.0, "parallelism": 0.0}
    faults += _role_faults(work, steps, metrics)
    faults += _price_faults(work, steps)
    return faults, metrics


def read_plan(answer: str) -> list[Step]:
    """Return the steps of an answer.

    Raises:
        Malformed: no JSON object with a list of steps, or `after` names a step that is not there.
    """
    found = last_object(answer)
    rows = found.get("steps") if found else None
    if not isinstance(rows, list) or not rows or len(rows) > _MAX_STEPS:
        raise Malformed(f"the answer holds no JSON object with 1 to {_MAX_STEPS} steps")
    if not all(isinstance(row, dict) for row in rows):
        raise Malformed("a step is not an object")
    tasks = [_text(row.get("task")) for row in rows]
    ids = [_text(row.get("id", task)) for row, task in zip(rows, tasks, strict=True)]
    if len(set(ids)) < len(ids):
        raise Malformed("two steps have the same id")
    places = {name: place for place, name in enumerate(tasks)}
    places |= {name: place for place, name in enumerate(ids)}
    return [
        Step(task, _text(row.get("role")), _after(row.get("after"), places))
        for task, row in zip(tasks, rows, strict=True)
    ]


def _grade(work: Work, answer: str) -> Grade:
    if not answer.strip():
        return LOST
    try:
        steps = read_plan(answer)
    except Malformed as error:
        return Grade.of(Status.WRONG, str(error))
    faults, metrics = faults_of(work, steps)
    score = (metrics["coverage"] + metrics["order"] + metrics["roles"]) / 3
    return Grade.of(Status.WRONG if faults else Status.PASS, "; ".join(faults), score, metrics)


def _order_faults(work: Work, steps: Sequence[Step], metrics: dict[str, float]) -> list[str]:
    """Check dependencies and deadline; adds `order` and `parallelism` to the metrics."""
    hours = [work.hours.get(step.task, 0.0) for step in steps]
    chain = longest_chain(hours, [step.after for step in steps])
    earlier = _all_earlier(steps)
    place = {step.task: index for index, step in enumerate(steps)}
    broken = [
        f"{later} does not wait for {first}"
        for first, later in work.before
        if first not in place or later not in place or place[first] not in earlier[place[later]]
    ]
    metrics["order"] = 1 - len(broken) / len(work.before) if work.before else 1.0
    # A plan that leaves work out is shorter than any right one; that is no parallelism.
    metrics["parallelism"] = min(1.0, shortest_time(work) / chain) if chain else 0.0
    if work.deadline_hours is not None and chain > work.deadline_hours + _SLACK:
        broken.append(f"takes {chain:g} hours, {work.deadline_hours:g} allowed")
    return broken


def _all_earlier(steps: Sequence[Step]) -> dict[int, set[int]]:
    """Return, per step, every step that is done before it, directly or not."""
    earlier: dict[int, set[int]] = {}
    graph = {index: step.after for index, step in enumerate(steps)}
    for index in TopologicalSorter(graph).static_order():
        direct = graph[index]
        earlier[index] = set(direct).union(*(earlier[one] for one in direct))
    return earlier


def _role_faults(work: Work, steps: Sequence[Step], metrics: dict[str, float]) -> list[str]:
    """Check who does what; adds `roles` to the metrics."""
    unfit = [
        f"{step.role or 'nobody'} may not do {step.task}"
        for step in steps
        if step.task in work.roles and step.role not in work.roles[step.task]
    ]
    fitting = {step.task for step in steps if step.role in work.roles.get(step.task, ())}
    metrics["roles"] = len(fitting) / len(work.roles)
    counts = Counter(step.role for step in steps)
    return unfit + [
        f"{role} has {counts[role]} steps, {most} allowed"
        for role, most in (work.max_steps or {}).items()
        if counts[role] > most
    ]


def _price_faults(work: Work, steps: Sequence[Step]) -> list[str]:
    if work.budget is None:
        return []
    prices = work.prices or {}
    price = sum(work.hours.get(step.task, 0.0) * prices.get(step.role, 0.0) for step in steps)
    return [f"costs {price:g}, {work.budget:g} allowed"] if price > work.budget + _SLACK else []


def _after(value: Any, places: Mapping[str, int]) -> tuple[int, ...]:
    names = value if isinstance(value, list) else [] if value is None else [value]
    unknown = [name for name in names if _text(name) not in places]
    if unknown:
        raise Malformed(f"a step waits for {unknown[0]!r}, which is no step"[:200])
    return tuple(places[_text(name)] for name in names)


def _text(value: Any) -> str:
    return normalise(str(value)) if isinstance(value, str | int | float) else ""


def _folded(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(normalise(name), value) for name, value in mapping.items()]
