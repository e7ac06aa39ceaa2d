"""Suite `general`: small questions of many skills, so that forgetting shows after a training.

Every answer is computed or checked by rule; nothing is a matter of taste. `task_type` is the skill,
so that a report shows which one suffered.
"""

import json
import random
from collections.abc import Mapping
from typing import Final

from evaluator.suites.built_in.general_language import FAMILIES as LANGUAGE
from evaluator.suites.built_in.general_logic import FAMILIES as LOGIC
from evaluator.suites.built_in.general_numbers import FAMILIES as NUMBERS
from evaluator.suites.built_in.general_question import Family
from evaluator.suites.built_in.general_reading import FAMILIES as READING
from evaluator.suites.built_in.general_writing import FAMILIES as WRITING
from evaluator.suites.task import Task
from foundation.chat import message

NAME: Final = "general"
ORIGIN: Final = "built in, generated"
_PER_FAMILY: Final = 4

SKILLS: Final[Mapping[str, Mapping[str, Family]]] = {
    **NUMBERS,
    **LANGUAGE,
    **LOGIC,
    **READING,
    **WRITING,
}
"""Skill -> family -> maker."""


def make_tasks() -> list[Task]:
    """Return the tasks, four per family, the same each time."""
    return [
        _task(skill, family, maker, variant)
        for skill, families in SKILLS.items()
        for family, maker in families.items()
        for variant in range(_PER_FAMILY)
    ]


def reference_answer(task: Task) -> str:
    """Return a right answer to a task of this suite."""
    reference = task.reference
    if task.grader == "exact":
        return str(reference["answer"][0])
    if task.grader == "json_schema":
        return json.dumps(reference["expected"])
    return str(reference["example"])


def _task(skill: str, family: str, maker: Family, variant: int) -> Task:
    made = maker(random.Random(f"{NAME}/{family}/{variant}"), variant)
    return Task(
        f"{NAME}/{family}-{variant + 1}",
        [message("user", made.text)],
        made.grader,
        made.reference,
        {
            "task_type": skill,
            "difficulty": made.difficulty,
            "domain": "general",
            "family": family,
            "origin": ORIGIN,
            "licence": "Apache-2.0",
        },
    )
