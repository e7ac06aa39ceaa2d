"""Nobody decides alone: what an experiment would have shown without each source of feedback.

Who has one key can say what he likes about every answer, before anybody else does. So a proof must
also stand as if he had never spoken, for each source in turn: on what the *others* said, in the
order in which that came. Of the set of units and outcomes that is left, nothing was chosen by him,
so its e-value keeps its promise: whatever one source says, a treatment that is no better is
promoted with a chance of at most alpha. (It could not be promised if his units were only taken out:
he would speak first where the treatment fails, and such units would be spared.)

- A unit of which others spoke, too, has the first outcome that they told.
- One of which nobody else spoke is open as long as somebody may (it counts against the claim), and
  then left out. So that he cannot spare a treatment that hangs, what is left out must be split
  between the arms as planned.

The least evidence of all counts, so the guard can take a proof away and never makes one. What came
by the master key, and sources that a person trusts, are not left out.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.sources import KEY, MACHINE, is_heard, source_of, trusted
from router import stats
from router.experiments.plan import SCORE, SUCCESS, ExperimentPlan
from router.experiments.units import Unit
from router.preferences import Choice, first_choices
from router.tables import CONTROL, EPISODE, TREATMENT, Experiment

MOST: Final = 50
"""Sources that are left out in turn: those that spoke of most units."""
KEPT: Final = 5
"""Of them the ones that are written down: first those without which too few units are left, or an
uneven split, then those without which least is shown."""


class Evident(Protocol):
    """What is asked of the evidence without a source."""

    @property
    def log_e(self) -> float:
        """Log E of 'the treatment is better'."""

    @property
    def log_e_harm(self) -> float:
        """Log E of 'the treatment is worse'."""

    @property
    def analysed(self) -> Mapping[str, int]:
        """Units with an outcome, per arm."""

    @property
    def looks(self) -> Sequence[Mapping[str, float]]:
        """Looks that were due, where looks are planned."""


@dataclass(frozen=True, slots=True)
class Word:
    """The first thing that a source said of a task of a unit."""

    sequence: int
    """Of the unit."""
    task: str
    source: str
    value: float
    """Success 0 or 1, or the score 0-1."""
    level: int
    """0: about the whole episode, 1: about a call of it."""
    heard_at: datetime


@dataclass(frozen=True)
class LeftOut:
    """What stands without one source; logarithms are natural."""

    source: str
    name: str
    share: float
    """Units whose outcome it told first, of all that somebody told, 0-1."""
    control: int
    """Units with an outcome that are left, of each arm."""
    treatment: int
    log_e: float
    log_e_harm: float
    split_e: float
    """E-value that what had to be left out is not split between the arms as planned."""
    z: float | None = None
    """Of the last look, where looks are planned; None: none was due."""
    bound: float | None = None


def left_out(
    session: Session,
    experiment: Experiment,
    plan: ExperimentPlan,
    units: Sequence[Unit],
    moment: datetime,
    compare: Callable[[list[Unit]], Evident],
) -> list[dict[str, Any]]:
    """Return what stands without each source that may not decide alone, what fails first.

    Empty where all that was said came from sources that may. One query for all words on the
    experiment's units, and one comparison for each source.
    """
    words = read_words(session, experiment, plan)
    sources = bound(words, trusted(session))
    names, shares = names_of(session, sources), firsts(words)
    shown = dict(enumerate(plan.shares))
    found = []
    for source in sources:
        rest, gone = without(units, words, source, plan, moment)
        seen = compare(rest)
        look = _deciding(seen.looks)
        found.append(
            LeftOut(
                source=source,
                name=names.get(source, source),
                share=shares[source],
                control=seen.analysed[CONTROL],
                treatment=seen.analysed[TREATMENT],
                log_e=seen.log_e,
                log_e_harm=seen.log_e_harm,
                split_e=_split_e(gone, shown),
                z=look["z"] if look else None,
                bound=look["bound"] if look else None,
            )
        )
    by_looks = any(one.z is not None for one in found)
    found.sort(key=lambda one: (_is_sound(one, plan), _shown(one, by_looks)))
    return [asdict(one) for one in found[:KEPT]]


def _is_sound(one: LeftOut, plan: ExperimentPlan) -> bool:
    """Return whether what is left may be judged at all, however much it shows."""
    left = min(one.control, one.treatment)
    return one.split_e < plan.srm_e and left >= plan.min_per_arm


def _shown(one: LeftOut, by_looks: bool) -> float:
    """Return how much is shown without a source; by looks: how far above the bound of its look."""
    if not by_looks:
        return one.log_e
    return -math.inf if one.z is None or one.bound is None else one.z - one.bound


def choices_left_out(
    session: Session,
    plan: ExperimentPlan,
    choices: Sequence[Choice],
    compare: Callable[[Sequence[Choice]], Evident],
) -> list[dict[str, Any]]:
    """Return what stands without each source of choices between two answers, what fails first."""
    firsts = Counter(one.source for one in first_choices(choices, lambda one: one.heard_at))
    spoke = Counter(one.source for one in choices)
    for source in (MACHINE, *trusted(session)):
        spoke.pop(source, None)
    sources = [source for source, _ in spoke.most_common(MOST)]
    names = names_of(session, sources)
    found = []
    for source in sources:
        rest = [one for one in choices if one.source != source]
        seen = compare(first_choices(rest, lambda one: one.heard_at))
        left = seen.analysed[TREATMENT]
        share = firsts[source] / max(1, firsts.total())
        found.append(
            LeftOut(
                *(source, names.get(source, source), share, left, left),
                *(seen.log_e, seen.log_e_harm, 1.0),
            )
        )
    found.sort(key=lambda one: (_is_sound(one, plan), one.log_e))
    return [asdict(one) for one in found[:KEPT]]


def _deciding(looks: Sequence[Mapping[str, float]]) -> Mapping[str, float] | None:
    """Return the first look that proves, else the last one; None: none was due."""
    proves = (look for look in looks if look["z"] >= look["bound"])
    return next(proves, looks[-1] if looks else None)


def bound(words: Iterable[Word], may_decide: set[str]) -> list[str]:
    """Return the sources that may not decide alone, those that spoke of most first."""
    spoke = Counter(word.source for word in words)
    for source in (MACHINE, *may_decide):
        spoke.pop(source, None)
    return [source for source, _ in spoke.most_common(MOST)]


def firsts(words: Iterable[Word]) -> dict[str, float]:
    """Return the share of tasks of which each source spoke first, 0-1; of a source with none 0."""
    told = Counter(said[0].source for said in _by_task(words).values())
    n = sum(told.values())
    return defaultdict(float, {source: count / n for source, count in told.items()})


def without(
    units: Iterable[Unit],
    words: Iterable[Word],
    source: str,
    plan: ExperimentPlan,
    moment: datetime,
) -> tuple[list[Unit], list[Unit]]:
    """Return the units as they would be if a source had never spoken, and those to leave out.

    Pure. A unit of which it said nothing stays as it is.

    Args:
        units: all of the experiment.
        words: all that was said, of each task and source the first.
        source: whose word is taken away.
        plan: for the kind of outcome, and how long somebody may still speak.
        moment: now.
    """
    spoken = defaultdict[int, list[Word]](list)
    for word in words:
        spoken[word.sequence].append(word)
    rest, gone = list[Unit](), list[Unit]()
    for unit in units:
        said = spoken.get(unit.sequence, [])
        if all(word.source != source for word in said):
            rest.append(unit)
            continue
        others = [word for word in said if word.source != source]
        if plan.unit_kind != EPISODE:
            rest.append(_recounted(unit, others))
        elif others:
            rest.append(_told(unit, min(others, key=_order), plan))
        elif moment < unit.assigned_at + timedelta(seconds=plan.outcome_timeout_s):
            rest.append(_open(unit))
        else:
            gone.append(unit)
    return rest, gone


def _told(unit: Unit, word: Word, plan: ExperimentPlan) -> Unit:
    """Return a unit with the outcome that a word gives it, late if it came after the time-out."""
    ends = unit.assigned_at + timedelta(seconds=plan.outcome_timeout_s)
    is_late = word.heard_at > ends
    if is_late and plan.outcome_kind == SCORE:  # a late score changes nothing
        return replace(unit, outcome=False, score=0.0, outcome_at=ends, timed_out=True)
    return replace(
        unit,
        outcome=word.value >= 0.5,
        score=word.value if plan.outcome_kind == SCORE else unit.score,
        outcome_at=ends if is_late else word.heard_at,
        timed_out=is_late,
        late_at=word.heard_at if is_late else None,
    )


def _open(unit: Unit) -> Unit:
    return replace(unit, outcome=None, score=None, outcome_at=None, timed_out=False, late_at=None)


def _recounted(unit: Unit, words: Iterable[Word]) -> Unit:
    """Return a sticky unit by the first word on each of its tasks; a task without one is none."""
    told = [said[0].value >= 0.5 for said in _by_task(words).values()]
    return replace(unit, n_tasks=len(told), n_successes=sum(told))


def _by_task(words: Iterable[Word]) -> dict[tuple[int, str], list[Word]]:
    tasks = defaultdict[tuple[int, str], list[Word]](list)
    for word in words:
        tasks[word.sequence, word.task].append(word)
    return {task: sorted(said, key=_order) for task, said in tasks.items()}


def _order(word: Word) -> tuple[datetime, int]:
    """Order by when it came, which the sender cannot choose as he can `created_at`."""
    return word.heard_at, word.level


def _split_e(gone: Sequence[Unit], shares: Mapping[int, float]) -> float:
    """Return the e-value of a split that is not the planned one; a gross one is meant: k = 1."""
    treated = Counter(unit.phase for unit in gone if unit.arm == TREATMENT)
    counts = Counter(unit.phase for unit in gone)
    log_e = sum(
        float(stats.log_e_srm(treated[phase], n, shares[phase], k=1.0))
        for phase, n in sorted(counts.items())
        if 0 < shares[phase] < 1
    )
    return stats.e_value(log_e)


def names_of(session: Session, sources: Iterable[str]) -> dict[str, str]:
    """Return what a person calls the sources that are keys."""
    ids = [source.removeprefix(KEY) for source in sources if source.startswith(KEY)]
    rows = session.execute(_KEY_NAMES, {"ids": ids}).all() if ids else []
    return {f"{KEY}{identifier}": f"{KEY}{name}" for identifier, name in rows}


_KEY_NAMES = text("SELECT id, name FROM gateway_key WHERE id = ANY(CAST(:ids AS uuid[]))")

_SAID = f"""
    said AS (
        SELECT f.*, {source_of("f")} AS spoken_by, {{value}} AS said_value FROM feedback f
        WHERE {{kind}} AND value IS NOT NULL AND ingested_at >= :since AND {is_heard("f")}
    )
"""
_EPISODES = f"""
    WITH units AS (
        SELECT sequence, unit FROM assignment WHERE experiment_id = :experiment {{newest}}
    ),
    {_SAID}, told AS (
        SELECT units.sequence, units.unit AS task, said.spoken_by, said.said_value, 0 AS level,
               said.ingested_at, said.id
        FROM units JOIN said ON said.episode_id::text = units.unit
        WHERE said.interaction_id IS NULL
        UNION ALL
        SELECT units.sequence, units.unit, said.spoken_by, said.said_value, 1,
               said.ingested_at, said.id
        FROM said JOIN interaction i ON i.id = said.interaction_id AND i.role = :role
        JOIN units ON units.unit IN (i.episode_id::text, i.unit_id)
    )
"""
_STICKY = f"""
    WITH units AS (
        SELECT sequence, unit FROM assignment WHERE experiment_id = :experiment {{newest}}
    ),
    {_SAID}, told AS (
        SELECT units.sequence, coalesce(i.episode_id, i.id)::text AS task, said.spoken_by,
               said.said_value, 1 AS level, said.ingested_at, said.id
        FROM said JOIN interaction i ON i.id = said.interaction_id
        JOIN units ON units.unit = i.unit_id WHERE i.experiment_id = :experiment
        UNION ALL
        SELECT DISTINCT units.sequence, i.episode_id::text, said.spoken_by,
               said.said_value, 0, said.ingested_at, said.id
        FROM said JOIN interaction i ON i.episode_id = said.episode_id
        JOIN units ON units.unit = i.unit_id
        WHERE said.interaction_id IS NULL AND i.experiment_id = :experiment
    )
"""
_FIRST = """
    SELECT DISTINCT ON (sequence, task, spoken_by)
           sequence, task, spoken_by, said_value, level, ingested_at
    FROM told ORDER BY sequence, task, spoken_by, ingested_at, level, id
"""
_SUCCESS = {"value": "f.value", "kind": "f.kind = 'success'"}
_SCORE = {
    "value": """least(1.0, greatest(0.0,
        CASE WHEN f.kind = 'rating' THEN (f.value - 1) / 4 ELSE f.value END))""",
    "kind": """(f.kind = 'metric' AND f.name = CAST(:name AS text)
        OR f.kind = 'rating' AND CAST(:name AS text) = 'rating')""",
}


_NEWEST_SINCE = text(
    """
    SELECT min(assigned_at) FROM (
        SELECT assigned_at FROM assignment WHERE experiment_id = :experiment
        ORDER BY sequence DESC LIMIT :newest
    ) units
    """
)


def read_words(
    session: Session, experiment: Experiment, plan: ExperimentPlan, newest: int | None = None
) -> list[Word]:
    """Return what was said of an experiment's units, of each task and source the first.

    Of all of them, or (to be shown) of the `newest` alone.
    """
    said = _SCORE if plan.outcome_kind == SCORE else _SUCCESS
    query = _EPISODES if experiment.unit_kind == EPISODE else _STICKY
    values: dict[str, Any] = {"experiment": experiment.id, "since": experiment.started_at}
    if experiment.unit_kind == EPISODE:
        values["role"] = experiment.role
    if plan.outcome_kind != SUCCESS:
        values["name"] = plan.score_name
    if newest is not None:
        values["newest"] = newest
        values["since"] = session.execute(_NEWEST_SINCE, values).scalar() or values["since"]
    limit = "" if newest is None else "ORDER BY sequence DESC LIMIT :newest"
    rows = session.execute(text((query + _FIRST).format(newest=limit, **said)), values).all()
    return [Word(*row) for row in rows]
