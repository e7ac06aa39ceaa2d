"""Nobody is examined on what they learned from: the tasks that trainings were rewarded on.

Datasets are kept free of suites (`suites.protect`), but a training may be rewarded on a suite by
intent. Its versions, and all that came of them, then answer that suite too well, so no evaluation
of them on it is begun and no verdict rests on one. Tasks count and not only names: a copy of the
suite under another name is the same exam.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlmodel import Session, col, select

from evaluator.suites.store import tasks_of
from evaluator.tables import Suite, SuiteTask
from foundation.chat import joined
from foundation.errors import Conflict
from trainer.tables import ModelVersion, TrainingRun


def require_unlearned(
    session: Session, suite: Suite, versions: Iterable[ModelVersion | UUID | None]
) -> None:
    """Check that none of the versions learned from tasks of a suite.

    Raises:
        Conflict: naming the version, what it learned from, and how many tasks they share.
    """
    for one in versions:
        version = session.get(ModelVersion, one) if isinstance(one, UUID) else one
        if version is None:
            continue
        for learner, ref in learned_suites(session, version):
            n_shared = _n_shared(session, suite, ref)
            if n_shared or _name(ref) == suite.name:
                origin = "" if learner.id == version.id else f", by way of {learner.name}"
                raise Conflict(
                    f"evaluation on {suite.name}@{suite.version}",
                    f"{version.name}, which learned from {ref}{origin} ({n_shared} of its "
                    f"{suite.n_tasks} tasks)",
                    "a model that has not seen the tasks",
                    "Evaluate it on a suite of other tasks; how it does on the learned ones is in "
                    "its training's rewards.",
                )


def learned_suites(session: Session, version: ModelVersion) -> list[tuple[ModelVersion, str]]:
    """Return the suites that a version was rewarded on, or one that it came of, with that one."""
    found = []
    for one in _lineage(session, version):
        training = _training(session, one)
        if training is not None and training.suite is not None:
            found.append((one, training.suite))
    return found


def _lineage(session: Session, version: ModelVersion) -> list[ModelVersion]:
    """Return a version and what it came of: begun from, merged of, made smaller of, taught by."""
    known = {version.id: version}
    unseen = [version]
    while unseen:
        new = [one for one in _sources(session, unseen.pop()) if one.id not in known]
        known |= {one.id: one for one in new}
        unseen += new
    return list(known.values())


def _sources(session: Session, version: ModelVersion) -> Sequence[ModelVersion]:
    training = _training(session, version)
    names = list(version.made_by.get("of", []))
    ids = [version.parent_id]
    if training is not None:
        ids.append(training.from_version_id)
        names.append(training.recipe.get("distillation", {}).get("teacher"))
    query = select(ModelVersion).where(
        col(ModelVersion.id).in_(filter(None, ids))
        | col(ModelVersion.name).in_(filter(None, names))
    )
    return session.exec(query).all()


def _training(session: Session, version: ModelVersion) -> TrainingRun | None:
    return session.get(TrainingRun, version.training_run_id) if version.training_run_id else None


def _n_shared(session: Session, suite: Suite, ref: str) -> int:
    """Return how many tasks of a suite are asked in one that was learned from, by any version."""
    query = select(SuiteTask).join(Suite).where(Suite.name == _name(ref))
    number = ref.partition("@")[2]
    if number.isdecimal():
        query = query.where(Suite.version == int(number))
    learned = {_asked(task) for task in session.exec(query)}
    return sum(_asked(task) in learned for task in tasks_of(session, suite))


def _asked(task: SuiteTask) -> str:
    return " ".join(joined(task.prompt).split())


def _name(ref: str) -> str:
    return ref.partition("@")[0]
