"""Knowledge gaps: where a role fails, from production's outcomes and from its benchmark.

Tasks are grouped by type, difficulty and domain; production knows only the type. What a group is
worth is its share of the tasks times its failure rate: the success that would be won if all of its
tasks worked. That ranks them, not the failure rate alone: a kind of task that nobody asks for is no
gap worth filling. Groups whose failures may be luck (few outcomes) are marked by their interval.

`topics_for` and `difficulties_for` are what active collection asks more of; `recipe_for` is what
curation spreads its examples over.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session, col, select

from collector.feedback.sources import is_heard
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask
from foundation.intervals import wilson

PRODUCTION, BENCHMARK = "production", "benchmark"
ATTRIBUTES = ("task_type", "difficulty", "domain")
_ALPHA = 0.05
UNTYPED = "(none)"
"""Tasks of production that nobody gave a type."""


@dataclass(frozen=True)
class Tally:
    """Tasks of one group; a task of a benchmark counts by its share of failed samples."""

    source: str
    attribute: str
    value: str
    n_tasks: int
    failed: float


@dataclass(frozen=True)
class Gap:
    """One group of tasks and what there is to win; shares and rates are 0-1.

    Attributes:
        source: production or benchmark.
        attribute: task_type, difficulty or domain.
        value: of the attribute.
        n_tasks: tasks with an outcome.
        failure_rate: of those.
        failure_low: lower end of its 95 % interval (Wilson).
        failure_high: upper end.
        share: of the source's tasks.
        worth_points: share times failure rate, in percentage points of the role's success.
        is_shown: whether the group fails more often than all of its source together: the exact
            binomial p-value, adjusted for the number of groups (Holm), is below 5 %.
    """

    source: str
    attribute: str
    value: str
    n_tasks: int
    failure_rate: float
    failure_low: float
    failure_high: float
    share: float
    worth_points: float
    is_shown: bool


def ranked(tallies: Iterable[Tally]) -> list[Gap]:
    """Return the gaps, those worth most first; groups without a failure are none."""
    sources: dict[tuple[str, str], list[Tally]] = defaultdict(list)
    for tally in tallies:
        if tally.n_tasks:
            sources[tally.source, tally.attribute].append(tally)
    from evaluator.paired import holm  # which loads scipy

    gaps = [
        _gap(tally, sum(t.n_tasks for t in group), p_value)
        for group in sources.values()
        for tally, p_value in zip(group, holm(_p_values(group)), strict=True)
        if tally.failed
    ]
    return sorted(gaps, key=lambda gap: (-gap.worth_points, gap.attribute, gap.value))


def _p_values(group: Sequence[Tally]) -> list[float]:
    """Return, for each group of a source, how likely so many failures are if all fail alike.

    Shares of failed samples count as so many failures, and the binomial tail is continued between
    whole numbers. One failure of one task is no evidence, whatever an interval says of so few.
    """
    from scipy.special import betainc

    rate = sum(t.failed for t in group) / sum(t.n_tasks for t in group)
    return [
        float(betainc(t.failed, t.n_tasks - t.failed + 1, rate)) if t.failed else 1.0 for t in group
    ]


def _gap(tally: Tally, n_all: int, p_value: float) -> Gap:
    rate = tally.failed / tally.n_tasks
    low, high = wilson(rate, tally.n_tasks)
    share = tally.n_tasks / n_all
    return Gap(
        tally.source,
        tally.attribute,
        tally.value,
        tally.n_tasks,
        rate,
        low,
        high,
        share,
        100 * share * rate,
        p_value < _ALPHA,
    )


def gaps_of(
    session: Session, role: str, days: int = 30, version_id: UUID | None = None
) -> list[Gap]:
    """Return a role's gaps in production and in its newest evaluation, worth most first.

    Args:
        session: to read.
        role: agent role.
        days: how far back production's outcomes count.
        version_id: only what this version answered; None: whoever did.
    """
    return ranked(
        [
            *_in_production(session, role, days, version_id),
            *_in_benchmark(session, role, version_id),
        ]
    )


def _in_production(session: Session, role: str, days: int, version_id: UUID | None) -> list[Tally]:
    values = {"role": role, "days": days, "version": version_id}
    return [
        Tally(PRODUCTION, "task_type", task_type or UNTYPED, int(n), float(failed))
        for task_type, n, failed in session.execute(_PRODUCTION, values)
    ]


_PRODUCTION = text(
    f"""
    WITH calls AS (
        SELECT id, coalesce(episode_id, id) AS task, task_type FROM interaction
        WHERE role = :role AND ingested_at > now() - make_interval(days => :days)
          AND (CAST(:version AS uuid) IS NULL OR model_version_id = :version)
    ), told AS (
        SELECT calls.task, calls.task_type, f.value, f.created_at, f.id
        FROM calls JOIN feedback f ON f.interaction_id = calls.id
        WHERE f.kind = 'success' AND f.source <> 'judge' AND f.value IS NOT NULL AND {is_heard("f")}
        UNION ALL
        SELECT calls.task, calls.task_type, f.value, f.created_at, f.id
        FROM calls JOIN feedback f ON f.episode_id = calls.task AND f.interaction_id IS NULL
        WHERE f.kind = 'success' AND f.source <> 'judge' AND f.value IS NOT NULL AND {is_heard("f")}
    ), first AS (
        SELECT DISTINCT ON (task) task, task_type, value FROM told ORDER BY task, created_at, id
    )
    SELECT task_type, count(*), count(*) FILTER (WHERE value < 0.5) FROM first GROUP BY task_type
    """
)
"""A task counts once, by what was said first about it by somebody who is not distrusted."""


def _in_benchmark(session: Session, role: str, version_id: UUID | None) -> list[Tally]:
    newest = (
        select(Evaluation)
        .join(Suite, col(Suite.id) == col(Evaluation.suite_id))
        .where(Suite.role == role)
        .order_by(col(Evaluation.id).desc())
        .limit(1)
    )
    if version_id is not None:
        newest = newest.where(Evaluation.model_version_id == version_id)
    evaluation = session.exec(newest).first()
    if evaluation is None:
        return []
    rows = session.exec(
        select(SuiteTask.task_id, SuiteTask.attributes, Sample.passed)
        .join(Sample, col(Sample.suite_task_id) == SuiteTask.id)
        .where(Sample.evaluation_id == evaluation.id, col(Sample.passed).is_not(None))
    )
    answers: dict[str, list[bool]] = defaultdict(list)
    attributes: dict[str, Mapping[str, Any]] = {}
    for task, own, passed in rows:
        answers[task].append(bool(passed))
        attributes[task] = own
    return _tallies(answers, attributes)


def _tallies(
    answers: Mapping[str, Sequence[bool]], attributes: Mapping[str, Mapping[str, Any]]
) -> list[Tally]:
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for task, passed in answers.items():
        for attribute in ATTRIBUTES:
            if attribute in attributes[task]:
                failed = 1 - sum(passed) / len(passed)
                groups[attribute, str(attributes[task][attribute])].append(failed)
    return [
        Tally(BENCHMARK, attribute, value, len(failed), sum(failed))
        for (attribute, value), failed in groups.items()
    ]


def topics_for(gaps: Sequence[Gap]) -> dict[str, float]:
    """Return task types with the weights that active collection should ask them by.

    Production's word goes first; a benchmark speaks where production has none.
    """
    return _weights(gaps, "task_type")


def difficulties_for(gaps: Sequence[Gap]) -> dict[str, float]:
    """Return difficulties with the weights that active collection should ask them by."""
    return _weights(gaps, "difficulty")


def _weights(gaps: Sequence[Gap], attribute: str) -> dict[str, float]:
    for source in (PRODUCTION, BENCHMARK):
        found = {
            gap.value: round(gap.worth_points, 3)
            for gap in gaps
            if (gap.source, gap.attribute) == (source, attribute) and gap.value != UNTYPED
        }
        if any(found.values()):
            return {value: weight for value, weight in found.items() if weight > 0}
    return {}


def recipe_for(gaps: Sequence[Gap]) -> dict[str, Any]:
    """Return the curation knobs that give rare failing kinds of tasks their place; empty for none.

    A limited dataset is spread over the attribute with gaps that are shown, each kind by the square
    root of its size instead of its size.
    """
    shown = [gap.attribute for gap in gaps if gap.is_shown]
    spread = tuple(name for name in ("task_type", "difficulty") if name in shown)
    return {"balance_by": list(spread), "balance_weight": "sqrt"} if spread else {}
