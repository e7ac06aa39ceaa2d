"""Recorded answers of coding models to HumanEval and MBPP tasks, with their execution results.

Each line is one answer of one run to one task: it becomes an interaction of the role `coder`, in an
episode of that run and task, with a `success` feedback from the tests. The prompts are read from
the folders `humaneval` and `mbpp` beside the data's own, where they exist; else the task's name
stands for its prompt.

An empty answer is a lost answer (the recording dropped it), not what the model wrote: it is kept as
an incomplete interaction with `error_type="lost_answer"` and gets no feedback, so that nothing
learns from it or counts it as a failure.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from collector.importers.lines import Imported, Malformed, Reject, read_rows, text_field
from collector.importers.moments import RECORDED_AT
from collector.importers.source import Source
from collector.record import CUT, SUCCESS, derived_id, feedback_record, interaction_record
from foundation.chat import completion, message

ROLE = "coder"
DATASETS = ("humaneval", "mbpp")
_KEPT = ("run", "strategy", "dataset", "task_id", "label_reported", "label_plus_reported", "source")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    prompts = read_prompts(source.path.absolute().parent.parent)
    return read_rows(source, lambda row, place, _: [_imported(place, row, prompts)])


def read_prompts(folder: Path) -> dict[str, str]:
    """Return the prompts of the task files under `folder`, by task id; empty if there are none."""
    prompts: dict[str, str] = {}
    for dataset in DATASETS:
        for path in sorted((folder / dataset).glob("*.jsonl*")):
            for _, _, row in Source(path).rows():
                if isinstance(row, dict) and "task_id" in row and "prompt" in row:
                    prompts[str(row["task_id"])] = str(row["prompt"])
    return prompts


def _imported(number: int, row: dict[str, Any], prompts: Mapping[str, str]) -> Imported:
    run, task, model = (text_field(row, name) for name in ("run", "task_id", "model"))
    dataset, solution = text_field(row, "dataset"), text_field(row, "solution")
    passed = row.get("exec_pass")
    if dataset not in DATASETS:
        raise Malformed(f"dataset: got {dataset!r}, expected one of {', '.join(DATASETS)}")
    if not isinstance(passed, bool):
        raise Malformed(f"exec_pass: got {passed!r}, expected true or false")
    lost = not solution.strip()
    identifier = derived_id(RECORDED_AT, "coder_outputs", run, dataset, task)
    episode = derived_id(RECORDED_AT, "coder_outputs", "episode", run, dataset, task)
    interaction = interaction_record(
        identifier,
        ROLE,
        {"model": model, "messages": [message("user", prompts.get(task, task))]},
        None if lost else _response(identifier.hex, model, solution),
        started_at=RECORDED_AT,
        episode_id=episode,
        task_type=dataset,
        status=CUT if lost else SUCCESS,
        error_type="lost_answer" if lost else None,
        completed=not lost,
        source="import:coder_outputs",
        attributes={
            "task_key": task,
            **{name: row[name] for name in _KEPT if row.get(name) is not None},
        },
    )
    feedback = [] if lost else [_feedback(identifier, episode, run, dataset, task, passed)]
    return Imported(number, interaction, feedback, lost)


def _response(identifier: str, model: str, solution: str) -> dict[str, Any]:
    response = completion(
        identifier, model, solution, "stop", 0, 0, created=int(RECORDED_AT.timestamp())
    )
    del response["usage"]  # not recorded; zeros would be a lie
    return response


def _feedback(
    interaction: Any, episode: Any, run: str, dataset: str, task: str, passed: bool
) -> dict[str, Any]:
    return feedback_record(
        derived_id(RECORDED_AT, "coder_outputs", "exec_pass", run, dataset, task),
        "success",
        interaction_id=interaction,
        episode_id=episode,
        name="exec_pass",
        value=float(passed),
        source="test",
        actor=f"{dataset} tests",
        created_at=RECORDED_AT,
    )
