"""Fresh held-out tasks of a role, as a suite: from the test split, and never trained on.

The evaluator's suites grow from them, and from corrected failures that nobody trained on.

A version's test rows are good tasks to measure by only if nothing that anybody trained on asked the
same: groups move when they grow together, and another variant or a set of pairs may have taught
what this one holds out. So a task counts as fresh when no train split of any version holds its
interaction, prompt, episode or group.

A task needs something to grade by. The caller's own comes first (`grader` and `reference` among the
interaction's attributes). Else a proven answer is the reference: a Python function is called on
the examples that its prompt shows, a short answer is compared word for word. A task with neither
is left out and counted.
"""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from curation.recipe import CurationRecipe
from foundation.chat import Message, joined

CALLS, EXACT = "calls", "exact"
"""Graders of the evaluator that a proven answer can be the reference of."""
SHORT_ANSWER: Final = 80
"""Characters of the last line of an answer that is compared word for word."""
SHORT_WORDS: Final = 5
"""Its words: a longer line is a sentence, which nobody else says in the same words."""
LEAST_CALLS: Final = 2
"""Calls that a prompt must show for its function to be graded by them."""
_ROWS_AT_ONCE: Final = 200

_FENCE = re.compile(r"^[ \t]*```(?:python|py)?[ \t]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class EvalTask:
    """One held-out task; `row` is a line of the evaluator's exchange format."""

    task_id: str
    prompt: list[Message]
    grader: str
    reference: dict[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> dict[str, Any]:
        """The task as JSON values."""
        return {
            "task_id": self.task_id,
            "prompt": self.prompt,
            "grader": self.grader,
            "reference": self.reference,
            "attributes": self.attributes,
        }


def held_out_tasks(
    session: Session, role: str, recipe: CurationRecipe
) -> Iterator[tuple[UUID, EvalTask | None]]:
    """Yield each fresh example of a role and its task, one for each prompt, in order of their ids.

    None stands for a task that nothing can be graded by.
    """
    rows = session.execute(
        _HELD_OUT,
        {"role": role, "variant": recipe.variant},
        execution_options={"yield_per": _ROWS_AT_ONCE},
    )
    for row in rows:
        yield row.id, _task(role, row)


def write_suite(session: Session, role: str, recipe: CurationRecipe, path: Path) -> dict[str, int]:
    """Write the fresh tasks of a role as a suite file, JSON lines; return the counts.

    Returns:
        `tasks` written; of the others `not_gradable`, and `same_name`, whose task key a task before
        has.
    """
    counts = {"tasks": 0, "not_gradable": 0, "same_name": 0}
    names: set[str] = set()
    with path.open("w", encoding="utf-8") as file:
        for _, task in held_out_tasks(session, role, recipe):
            if task is None:
                counts["not_gradable"] += 1
            elif task.task_id in names:
                counts["same_name"] += 1
            else:
                counts["tasks"] += 1
                names.add(task.task_id)
                file.write(json.dumps(task.row, sort_keys=True) + "\n")
    return counts


def task_of(
    session: Session, role: str, recipe: CurationRecipe, interaction_id: UUID
) -> EvalTask | None:
    """Return an example as a task to grade other answers to it by, whatever its split.

    None where nothing can be graded by, or no such example is known.
    """
    given = {"role": role, "variant": recipe.variant, "id": interaction_id}
    row = session.execute(_ONE, given).first()
    return None if row is None else _task(role, row)


def fresh_ids(session: Session, role: str, recipe: CurationRecipe) -> list[UUID]:
    """Return the examples that `held_out_tasks` goes through, without their text."""
    given = {"role": role, "variant": recipe.variant}
    return list(session.execute(_FRESH_IDS, given).scalars())


def taught(
    session: Session, role: str, recipe: CurationRecipe, interactions: Sequence[UUID]
) -> set[UUID]:
    """Return which interactions are no fresh tasks: a train split holds the like of them."""
    given = {"role": role, "variant": recipe.variant, "ids": list(interactions)}
    return set(session.execute(_TAUGHT, given).scalars())


def grading_of(
    prompt: Sequence[Message],
    attributes: dict[str, Any],
    answer: str | None,
    code_language: str | None = None,
) -> tuple[str, dict[str, Any]] | None:
    """Return the grader of a task and what it needs, or None if nothing can be graded by; pure.

    Args:
        prompt: what was asked.
        attributes: the caller's, of the interaction.
        answer: one that is proven right; None: there is none.
        code_language: of the answer; None: prose.
    """
    grader, reference = attributes.get("grader"), attributes.get("reference")
    if isinstance(grader, str) and isinstance(reference, dict):
        return grader, reference
    if answer is None or not answer.strip():
        return None
    code = code_in(answer)
    if code is not None:
        asked = joined(prompt)
        entry_point = function_asked_for(asked, code)
        inputs = calls_in(asked, entry_point) if entry_point else []
        if len(inputs) < LEAST_CALLS:
            return None
        return CALLS, {"entry_point": entry_point, "inputs": inputs, "code": code}
    last = answer.strip().splitlines()[-1].strip()
    is_short = len(last) <= SHORT_ANSWER and len(last.split()) <= SHORT_WORDS
    if code_language is not None or not is_short:
        return None
    return EXACT, {"answer": last, "last_line": True}


def code_in(answer: str) -> str | None:
    """Return the Python of an answer that defines a function, fenced or plain; else None."""
    fenced = _FENCE.findall(answer)
    code = "\n".join(fenced) if fenced else answer
    return code if _functions(code) else None


def function_asked_for(asked: str, code: str) -> str | None:
    """Return the function of `code` that the prompt names; of several the last one defined."""
    named = [name for name in _functions(code) if re.search(rf"\b{re.escape(name)}\b", asked)]
    return named[-1] if named else None


def calls_in(asked: str, name: str) -> list[list[Any]]:
    """Return the distinct lists of arguments that a text calls a function with.

    Only plain JSON values count, and only by position: what a tuple or a keyword means to the
    function, JSON cannot say.
    """
    found: list[list[Any]] = []
    for match in re.finditer(rf"(?<![\w.]){re.escape(name)}\(", asked):
        arguments = _arguments(asked[match.start() :])
        if arguments is not None and arguments not in found:
            found.append(arguments)
    return found


def _task(role: str, row: Any) -> EvalTask | None:
    proven = row.answer if row.corrected or row.outcome else None
    graded = grading_of(row.prompt, row.attributes or {}, proven, row.code_language)
    if graded is None:
        return None
    attributes = {
        "task_type": row.task_type,
        "difficulty": row.difficulty,
        "project": row.project,
        "origin": "log",
    }
    return EvalTask(
        row.task_key or f"{role}-{row.id}",
        row.prompt,
        *graded,
        {name: value for name, value in attributes.items() if value is not None},
    )


def _functions(code: str) -> list[str]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def _arguments(text_from_call: str) -> list[Any] | None:
    """Return the arguments of the call that a text begins with, or None."""
    line = text_from_call.split("\n", 1)[0]
    for end in (i + 1 for i, letter in enumerate(line) if letter == ")"):
        try:
            call = ast.parse(line[:end], mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if not isinstance(call, ast.Call) or call.keywords or not call.args:
            return None
        try:
            values = [ast.literal_eval(argument) for argument in call.args]
        except (ValueError, TypeError, RecursionError, MemoryError):
            return None
        return values if _is_json(values) else None
    return None


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return value is None or isinstance(value, str | int | float)


_TRAINED: Final = """
    WITH trained_rows AS (
        SELECT DISTINCT r.row_id FROM dataset_shard s JOIN shard_row r ON r.shard = s.shard
        WHERE s.split = 'train'
    ), trained AS (
        SELECT e.interaction_id FROM trained_rows t JOIN example e ON e.id = t.row_id
        UNION
        SELECT side.id FROM trained_rows t JOIN preference_pair p ON p.id = t.row_id
        CROSS JOIN LATERAL unnest(ARRAY[p.winner_id, p.loser_id]) AS side(id)
    ), known AS (
        SELECT e.interaction_id, e.prompt_text_id, e.episode_id, nullif(e.split_key, '') AS key
        FROM trained t JOIN example e ON e.interaction_id = t.interaction_id
        WHERE e.role = :role AND e.variant = :variant
    )
"""

_FRESH: Final = f"""
    {_TRAINED}, fresh AS (
        SELECT DISTINCT ON (coalesce(e.prompt_text_id::text, e.id::text)) e.id
        FROM example e
        WHERE e.role = :role AND e.variant = :variant AND e.status = 'kept' AND e.split = 'test'
          AND NOT EXISTS (SELECT FROM trained t WHERE t.interaction_id = e.interaction_id)
          AND NOT EXISTS (SELECT FROM known k WHERE k.prompt_text_id = e.prompt_text_id)
          AND NOT EXISTS (SELECT FROM known k WHERE k.episode_id = e.episode_id)
          AND NOT EXISTS (SELECT FROM known k WHERE k.key = e.split_key)
        ORDER BY coalesce(e.prompt_text_id::text, e.id::text),
                 e.scores->'rank' DESC NULLS LAST, e.id
    )
"""

_TAUGHT = text(
    f"""
    {_TRAINED}
    SELECT i.id FROM interaction i
    LEFT JOIN example e
      ON e.interaction_id = i.id AND e.role = :role AND e.variant = :variant
    WHERE i.id = ANY(:ids) AND (
        EXISTS (SELECT FROM trained t WHERE t.interaction_id = i.id)
        OR EXISTS (SELECT FROM known k WHERE k.prompt_text_id = e.prompt_text_id)
        OR EXISTS (SELECT FROM known k WHERE k.episode_id = i.episode_id)
        OR EXISTS (SELECT FROM known k WHERE k.key = e.split_key)
    )
    """
)

_FRESH_IDS = text(f"{_FRESH} SELECT id FROM fresh ORDER BY id")

_TASK_COLUMNS: Final = """
    e.id, e.prompt, e.answer, e.task_type, e.difficulty, e.project, e.code_language,
    e.corrected, (e.scores->>'outcome')::boolean AS outcome, p.attributes,
    coalesce(e.scores->>'task_key', p.attributes->>'task_key') AS task_key
"""

_ONE = text(
    f"""
    SELECT {_TASK_COLUMNS} FROM example e
    LEFT JOIN interaction_payload p ON p.id = e.interaction_id
    WHERE e.role = :role AND e.variant = :variant AND e.interaction_id = :id
    """
)

_HELD_OUT = text(
    f"""
    {_FRESH}
    SELECT {_TASK_COLUMNS}
    FROM fresh JOIN example e USING (id)
    LEFT JOIN interaction_payload p ON p.id = e.interaction_id
    ORDER BY e.id
    """
)
