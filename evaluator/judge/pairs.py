"""Two answers to one task, as they are put to a judge and to people."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy import select, tuple_
from sqlmodel import Session, col

from evaluator.tables import Evaluation, Sample, SuiteTask
from foundation.chat import Message, text_of
from foundation.errors import BadInput
from foundation.marks import key_of

CANDIDATE, BASELINE, TIE = "candidate", "baseline", "tie"

JUDGING_GRADERS: Final = ("rubric",)
"""Whose `passed` is itself a judge's word, and no truth to hold a judge against."""

_IDS: Final = UUID("0d0f3a5e-6a55-5c0b-9a1e-8b6a51d0c1a7")


@dataclass(frozen=True)
class Pair:
    """The answers of baseline and candidate to one task.

    Attributes:
        task_id: of the suite.
        prompt: chat messages that both were asked.
        baseline: its answer.
        candidate: its answer.
        truth: which of them is right, as execution says, where one is and the other is not.
        task_type: of the task.
    """

    task_id: str
    prompt: Sequence[Message]
    baseline: str
    candidate: str
    truth: str | None = None
    task_type: str | None = None

    @cached_property
    def asked(self) -> str:
        """The whole conversation as one text."""
        return conversation(self.prompt)

    @cached_property
    def key(self) -> str:
        """Hash of the prompt and both answers: the same texts are the same pair."""
        return key_of("pair", self.asked, self.baseline, self.candidate)

    @property
    def is_identical(self) -> bool:
        """Whether the answers are the same but for outer white space: nobody needs to be asked."""
        return self.baseline.strip() == self.candidate.strip()

    @property
    def longer(self) -> str:
        """Which answer has more characters; a tie if neither."""
        return _greater(len(self.candidate.strip()), len(self.baseline.strip()))

    def id_of(self, side: str) -> UUID:
        """Return the id that people's choice is kept under; it follows from the texts."""
        return uuid5(_IDS, f"{side}:{self.key}")


def conversation(prompt: Iterable[Message]) -> str:
    """Return chat messages as one text, each turn with its speaker."""
    return "\n\n".join(_turn(one) for one in prompt)


def text_hash(text: str) -> str:
    """Return the hash under which a judged text is named in table `judgement`."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def pairs_of(
    session: Session, baseline: Evaluation, candidate: Evaluation, number: int = 0
) -> list[Pair]:
    """Return the answers of two evaluations of one suite side by side, in the suite's order.

    Tasks of which an answer was lost are left out.

    Args:
        session: reads the samples.
        baseline: what is compared with.
        candidate: of the same suite.
        number: which sample of each task; tasks are what counts, more samples of one add little.

    Raises:
        BadInput: the evaluations are of different suites.
    """
    if baseline.suite_id != candidate.suite_id:
        raise BadInput(
            "suites of the two evaluations",
            [str(baseline.suite_id), str(candidate.suite_id)],
            "one and the same",
            "Evaluate both on one suite.",
        )
    tasks = session.execute(
        select(SuiteTask)
        .where(col(SuiteTask.suite_id) == baseline.suite_id)
        .order_by(col(SuiteTask.task_id))
    ).scalars()
    before, after = (_samples(session, one.id, number) for one in (baseline, candidate))
    return [
        _pair(task, before[task.id], after[task.id])
        for task in tasks
        if task.id in before and task.id in after
    ]


def pairs_at(
    session: Session, baseline: Evaluation, candidate: Evaluation, numbers: Mapping[UUID, int]
) -> list[Pair]:
    """Return the answers of some tasks side by side, by the task's id.

    Args:
        session: reads the samples.
        baseline: what is compared with.
        candidate: of the same suite.
        numbers: id of a suite's task -> which sample of it.
    """
    samples = session.execute(
        select(Sample).where(
            col(Sample.evaluation_id).in_([baseline.id, candidate.id]),
            tuple_(col(Sample.suite_task_id), col(Sample.number)).in_(list(numbers.items())),
        )
    ).scalars()
    found = {(sample.evaluation_id, sample.suite_task_id): sample for sample in samples}
    tasks = session.execute(
        select(SuiteTask).where(col(SuiteTask.id).in_(numbers)).order_by(col(SuiteTask.task_id))
    ).scalars()
    return [
        _pair(task, found[baseline.id, task.id], found[candidate.id, task.id])
        for task in tasks
        if (baseline.id, task.id) in found and (candidate.id, task.id) in found
    ]


def truth_of(baseline_passed: bool | None, candidate_passed: bool | None) -> str | None:
    """Return which of two executed answers is right, if exactly one is."""
    if baseline_passed is None or candidate_passed is None:
        return None
    return (
        None if baseline_passed == candidate_passed else CANDIDATE if candidate_passed else BASELINE
    )


def chosen(pairs: Iterable[Pair], at_most: int | None) -> list[Pair]:
    """Return the pairs to be judged: all, or those that chance by hash draws, in their order."""
    listed = list(pairs)
    if at_most is None or len(listed) <= at_most:
        return listed
    drawn = set(sorted(range(len(listed)), key=lambda place: listed[place].key)[:at_most])
    return [pair for place, pair in enumerate(listed) if place in drawn]


def _samples(session: Session, evaluation_id: UUID, number: int) -> dict[UUID, Sample]:
    query = select(Sample).where(
        col(Sample.evaluation_id) == evaluation_id,
        col(Sample.number) == number,
        col(Sample.passed).is_not(None),
    )
    return {sample.suite_task_id: sample for sample in session.execute(query).scalars()}


def _pair(task: SuiteTask, baseline: Sample, candidate: Sample) -> Pair:
    is_executed = task.grader not in JUDGING_GRADERS
    return Pair(
        task.task_id,
        task.prompt,
        baseline.answer,
        candidate.answer,
        truth_of(baseline.passed, candidate.passed) if is_executed else None,
        task.attributes.get("task_type"),
    )


def _turn(turn: dict[str, Any]) -> str:
    return f"{turn.get('role', 'user')}: {text_of(turn.get('content'))}"


def _greater(candidate: int, baseline: int) -> str:
    return TIE if candidate == baseline else CANDIDATE if candidate > baseline else BASELINE
