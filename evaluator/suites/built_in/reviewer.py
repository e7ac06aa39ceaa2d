"""Reviewer suites: find what was planted into a module, and nothing in a clean one.

Each task is a module of several pieces of one kind of work. In about a quarter of them every piece
is the clean version, one of them that of a plant: it looks like the fault and is none. So who
always reports something fails. Where a fault stands is known because it was put there; that it is
one is proven in the tests, by a rule of ruff or by running both versions.

Easy tasks have little around a plain fault; hard ones much around a subtle one, and some two.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from evaluator.suites.built_in.reviewer_bugs import KINDS as BUGS
from evaluator.suites.built_in.reviewer_bugs import PLANTS as BUG_PLANTS
from evaluator.suites.built_in.reviewer_maintainability import KINDS as HABITS
from evaluator.suites.built_in.reviewer_maintainability import PLANTS as HABIT_PLANTS
from evaluator.suites.built_in.reviewer_performance import KINDS as SLOWNESS
from evaluator.suites.built_in.reviewer_performance import PLANTS as SLOW_PLANTS
from evaluator.suites.built_in.reviewer_plants import (
    Kind,
    Module,
    Plant,
    Version,
    compose,
    fitting,
    read_plants,
)
from evaluator.suites.built_in.reviewer_security import KINDS as WEAKNESSES
from evaluator.suites.built_in.reviewer_security import PLANTS as WEAK_PLANTS
from evaluator.suites.task import Task
from foundation.chat import message

ORIGIN: Final = "agent-flywheel, generated"
LICENCE: Final = "Apache-2.0"

_AROUND: Final = {"easy": (2, 3), "medium": (3, 4), "hard": (5, 7)}
"""Difficulty -> least and most pieces around the one that the task is about."""

_TWO_FAULTS_IN: Final = 4
"""One hard task of so many has a second fault."""

_SUMMARIES: Final = {
    "web": ("Parts of a web shop.", "What the site's request handlers use.", "Views and forms."),
    "data-science": ("Steps of a nightly analysis.", "Helpers of a notebook.", "A data pipeline."),
    "devops": ("Jobs of the deployment tool.", "What the operations scripts share.", "A runner."),
    "mobile": ("The service behind a phone app.", "Synchronisation with phones.", "App backend."),
    "backend": ("Business rules of a service.", "The booking service.", "An internal service."),
}


@dataclass(frozen=True)
class Focus:
    """What a suite asks for.

    Attributes:
        name: of the suite, behind "reviewer-".
        asked: the words for it in the prompt.
        kinds: the kinds of faults, all that the prompt offers.
        plants: the faults to plant.
        around: plants whose clean versions may stand around; free of the faults asked for.
        n_tasks: of the suite.
        n_clean: of them without fault.
        names_kinds: whether a finding must name the kind; else its line decides.
        tolerance: lines that a finding may be off.
    """

    name: str
    asked: str
    kinds: dict[str, Kind]
    plants: Sequence[Plant]
    around: Sequence[Plant]
    n_tasks: int
    n_clean: int
    names_kinds: bool = True
    tolerance: int = 2


def security() -> list[Task]:
    """100 tasks about weaknesses that an attacker could use; 24 are clean."""
    return _tasks(focuses()["security"])


def performance() -> list[Task]:
    """100 tasks about needless work, memory and waiting; 24 are clean."""
    return _tasks(focuses()["performance"])


def maintainability() -> list[Task]:
    """64 tasks about habits that make code hard to change; 16 are clean."""
    return _tasks(focuses()["maintainability"])


def bugs() -> list[Task]:
    """72 tasks about wrong results, by the line that causes them; 18 are clean."""
    return _tasks(focuses()["bugs"])


def thorough() -> list[Task]:
    """40 tasks with a fault each of security, performance and maintainability; 10 are clean."""
    parts = [focuses()[name] for name in ("security", "performance", "maintainability")]
    return [_thorough_task(number, parts, number % 4 == 3) for number in range(40)]


def reference_answer(task: Task) -> str:
    """Return what a perfect reviewer answers: every planted fault, nothing else."""
    return json.dumps(
        [
            {
                "line": fault["line"],
                "kind": fault["kind"],
                "severity": fault["severity"],
                "comment": f"{fault['kind']}: a fault of {fault['area']}",
            }
            for fault in task.reference["planted"]
        ]
    )


@cache
def focuses() -> dict[str, Focus]:
    """Return what each suite asks for, by name."""
    weak, slow = read_plants(WEAK_PLANTS), read_plants(SLOW_PLANTS)
    habits, wrong = read_plants(HABIT_PLANTS), read_plants(BUG_PLANTS)
    found = (
        Focus(
            name="security",
            asked="security weaknesses",
            kinds=WEAKNESSES,
            plants=weak,
            around=[*weak, *slow, *wrong],
            n_tasks=100,
            n_clean=24,
        ),
        Focus(
            name="performance",
            asked="performance problems",
            kinds=SLOWNESS,
            plants=slow,
            around=[*slow, *wrong],
            n_tasks=100,
            n_clean=24,
        ),
        Focus(
            name="maintainability",
            asked="maintainability problems",
            kinds=HABITS,
            plants=habits,
            around=habits,
            n_tasks=64,
            n_clean=16,
        ),
        Focus(
            name="bugs",
            asked="bugs: places where it does not do what its docstrings say",
            kinds=BUGS,
            plants=wrong,
            around=[*wrong, *habits, *slow],
            n_tasks=72,
            n_clean=18,
            names_kinds=False,
            tolerance=1,
        ),
    )
    return {focus.name: focus for focus in found}


def _tasks(focus: Focus) -> list[Task]:
    """The tasks of a suite, clean ones among them; plants are taken in turn."""
    order = _interleaved(focus.plants)
    n_flawed = focus.n_tasks - focus.n_clean
    step = len(order) / focus.n_clean
    chosen = [(order[number % len(order)], False) for number in range(n_flawed)]
    chosen += [(order[int(number * step)], True) for number in range(focus.n_clean)]
    random.Random(f"reviewer-{focus.name}").shuffle(chosen)
    return [_task(focus, number, *one) for number, one in enumerate(chosen)]


def _interleaved(plants: Sequence[Plant]) -> list[Plant]:
    """The plants with those of one kind far apart: a second round may end in the middle."""
    seen: dict[str, int] = {}
    ranked = []
    for plant in plants:
        seen[plant.kind] = seen.get(plant.kind, 0) + 1
        ranked.append((seen[plant.kind], plant))
    return [plant for _, plant in sorted(ranked, key=lambda one: one[0])]


def _task(focus: Focus, number: int, plant: Plant, is_clean: bool) -> Task:
    dice = random.Random(f"reviewer-{focus.name} {number}")
    chosen = [plant.clean if is_clean else plant.flawed]
    if plant.difficulty == "hard" and not is_clean and number % _TWO_FAULTS_IN == 0:
        chosen += _second_fault(focus, plant, dice)
    module = _module(focus.around, plant, chosen, dice)
    return _made(focus, f"reviewer-{focus.name}-{number + 1:03d}", plant, module, focus.kinds)


def _second_fault(focus: Focus, plant: Plant, dice: random.Random) -> list[Version]:
    others = [
        one
        for one in focus.plants
        if one.kind != plant.kind and not one.flawed.names & plant.flawed.names
    ]
    return [dice.choice(others).flawed]


def _module(
    around: Sequence[Plant], plant: Plant, chosen: Sequence[Version], dice: random.Random
) -> Module:
    """The chosen pieces among clean ones, of the same domain as far as there are enough."""
    kinds = {piece.kind for piece in chosen}
    others = [one for one in around if one.kind not in kinds]
    dice.shuffle(others)
    others.sort(key=lambda one: one.domain != plant.domain)
    wanted = dice.randint(*_AROUND[plant.difficulty])
    taken = set().union(*(piece.names for piece in chosen))
    pieces = [*chosen, *fitting(others, wanted, taken)]
    dice.shuffle(pieces)
    return compose(dice.choice(_SUMMARIES[plant.domain]), pieces)


def _thorough_task(number: int, parts: Sequence[Focus], is_clean: bool) -> Task:
    """A task over three areas, one fault of each; its first plant gives domain and difficulty."""
    dice = random.Random(f"reviewer-thorough {number}")
    plants: list[Plant] = []
    for part in parts:
        taken = set().union(*(one.flawed.names | one.clean.names for one in plants))
        fits = [one for one in part.plants if not (one.flawed.names | one.clean.names) & taken]
        plants.append(dice.choice(fits))
    chosen = [plant.clean if is_clean else plant.flawed for plant in plants]
    module = _module(focuses()["maintainability"].around, plants[0], chosen, dice)
    kinds = {name: kind for part in parts for name, kind in part.kinds.items()}
    asked = "security, performance and maintainability"
    focus = Focus("thorough", asked, kinds, plants, (), n_tasks=40, n_clean=10)
    return _made(focus, f"reviewer-thorough-{number + 1:03d}", plants[0], module, kinds)


def _made(focus: Focus, task_id: str, plant: Plant, module: Module, kinds: dict[str, Kind]) -> Task:
    reference: dict[str, Any] = {
        "planted": [
            {
                "line": fault.line,
                "last_line": fault.last_line,
                "kind": fault.kind,
                "severity": kinds[fault.kind].severity,
                "area": kinds[fault.kind].area,
            }
            for fault in module.faults
        ],
        "tolerance": focus.tolerance,
    }
    if focus.names_kinds:
        reference["kinds"] = {name: kind.names for name, kind in kinds.items()}
    return Task(
        task_id=task_id,
        prompt=[message("user", _prompt(focus, module.code))],
        grader="review",
        reference=reference,
        attributes={
            "task_type": f"review-{focus.name}",
            "difficulty": plant.difficulty,
            "domain": plant.domain,
            "family": f"review-{focus.name}-{plant.kind}",
            "licence": LICENCE,
            "origin": ORIGIN,
        },
    )


def _prompt(focus: Focus, code: str) -> str:
    lines = code.splitlines()
    width = len(str(len(lines)))
    numbered = "\n".join(
        f"{number:>{width}} | {line}".rstrip() for number, line in enumerate(lines, 1)
    )
    kind = (
        f"one of {', '.join(focus.kinds)}" if focus.names_kinds else "a few words for what is wrong"
    )
    return (
        f"Review this Python module for {focus.asked}. Report what is really wrong with it and "
        "nothing else; a module may be without fault.\n\n"
        f"```\n{numbered}\n```\n\n"
        "Answer with a JSON list only, one object per fault: "
        '{"line": its line number, "kind": "...", "severity": "low, medium, high or critical", '
        '"comment": "one sentence"}.\n'
        f"kind is {kind}.\nAnswer [] when there is no fault."
    )
