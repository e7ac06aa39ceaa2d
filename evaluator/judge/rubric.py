"""Answers graded by criteria: by every judge of a panel, some twice with the scale turned round."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from sqlalchemy import Engine

from evaluator.judge.ask import Answers, JudgeUnavailable, Progress, ask
from evaluator.judge.judges import Judge
from evaluator.judge.questions import FAULT, MERIT, Criterion, RubricQuestion

REPEATED_SHARE: Final = 0.2
"""Of the questions, by hash: which are also asked by the scale of faults."""


@dataclass(frozen=True)
class Work:
    """An answer to be graded.

    Attributes:
        criteria: at least one.
        asked: the task's whole conversation as one text.
        answer: of the agent.
        model_answer: one known to be good, if there is one.
    """

    criteria: tuple[Criterion, ...]
    asked: str
    answer: str
    model_answer: str | None = None


@dataclass(frozen=True)
class Graded:
    """What judges say of an answer.

    Attributes:
        score: 0-1, the mean over judges of the weighted mean over criteria.
        criteria: score of each, 0-1.
        flips: for each judge that was asked both ways, whether pass and fail changed with it.
        n_judges: whose grades could be read.
        cost_usd: of all questions about it; None if no price is known.
    """

    score: float
    criteria: dict[str, float]
    flips: tuple[bool, ...]
    n_judges: int
    cost_usd: float | None


def grade_by_rubric(
    engine: Engine,
    judges: Sequence[Judge],
    works: Sequence[Work],
    min_score: float,
    progress: Progress | None = None,
) -> list[Graded | None]:
    """Return the grades of answers, in order; None where no judge said anything readable.

    Args:
        engine: of the database, which keeps what was said.
        judges: at least one.
        works: what is graded.
        min_score: score from which an answer passes: what a flip is held against.
        progress: told of each judge's answers.

    Raises:
        JudgeUnavailable: no judge answered any question.
    """
    asked = [
        (judge, ask(engine, judge, _questions(judge.model, works), progress)) for judge in judges
    ]
    if works and not any(answers.rows for _, answers in asked):
        raise JudgeUnavailable([judge.model for judge in judges])
    return [_graded(work, asked, min_score) for work in works]


def _questions(judge: str, works: Iterable[Work]) -> Iterable[RubricQuestion]:
    for work in works:
        question = _question(judge, work, MERIT)
        yield question
        if int(question.key[:8], 16) < REPEATED_SHARE * 2**32:
            yield _question(judge, work, FAULT)


def _question(judge: str, work: Work, wording: str) -> RubricQuestion:
    return RubricQuestion(judge, work.criteria, work.asked, work.answer, work.model_answer, wording)


def _graded(work: Work, asked: Sequence[tuple[Judge, Answers]], min_score: float) -> Graded | None:
    merits: list[dict[str, float]] = []
    scores: list[float] = []
    flips: list[bool] = []
    costs: list[float] = []
    for judge, answers in asked:
        rows = [
            row
            for wording in (MERIT, FAULT)
            if (row := answers.rows.get(_question(judge.model, work, wording).key))
        ]
        costs += [row.cost_usd for row in rows if row.cost_usd is not None]
        said = [
            (row.score, json.loads(row.said)) for row in rows if row.said and row.score is not None
        ]
        if not said:
            continue
        scores.append(fmean(score for score, _ in said))
        merits += [grades for _, grades in said]
        if len(said) > 1:
            flips.append(len({score >= min_score for score, _ in said}) > 1)
    if not scores:
        return None
    return Graded(
        score=fmean(scores),
        criteria={one.name: fmean(said[one.name] for said in merits) for one in work.criteria},
        flips=tuple(flips),
        n_judges=len(scores),
        cost_usd=sum(costs) if costs else None,
    )
