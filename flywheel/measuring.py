"""Measure models beside their answers: what they cost to serve, and how well they predict texts."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from evaluator.addresses import api_key_of
from evaluator.metrics.likelihood import BATCH_SIZE, difference, measure_likelihood, scorer
from evaluator.run import intact_tasks
from evaluator.serving_cost import CostPlan, measure_cost
from evaluator.speed import TOGETHER
from evaluator.suites import load_suite
from evaluator.tables import Evaluation, Suite
from evaluator.tasks import EvaluationPlan, Models
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.settings import get_settings
from trainer.tables import ModelVersion

Metrics = dict[str, dict[str, Any]]
"""By subject, what is stored in the metrics of its evaluation."""


def measure_models(
    suite: str,
    subjects: Sequence[str],
    plan: CostPlan,
    texts: Sequence[str] = (),
    base_url: str | None = None,
) -> list[dict[str, Any]]:
    """Measure models in turn, and store the figures in their newest evaluations of the suite.

    Args:
        suite: whose prompts are asked; `name` or `name@version`.
        subjects: model versions, or models of the engine or of an upstream.
        plan: how much is asked.
        texts: to measure likelihood on; none, and it is not measured.
        base_url: of the server (…/v1); None for the deployment's engine.

    Returns:
        One of each subject: `subject`, `serving`, `likelihood` (None without texts) and the
        `evaluation_id` that it was stored in (None if the subject has not answered the suite yet).

    Raises:
        NotFound: no such suite.
        BadInput: no subjects or a name twice, or what `measure_cost` refuses.
        NoPromptLogprobs: texts were given, and a server scores none.
        AdapterIgnored: a server answers for an adapter as its base does.
        ModelServerUnavailable: a server does not answer.
    """
    if not subjects or len(set(subjects)) < len(subjects):
        raise BadInput("subjects", subjects, "at least one, with distinct names", "Name each once.")
    with session_scope() as session:
        benchmark = load_suite(session, suite)
        prompts = [task.prompt for task in intact_tasks(session, benchmark)]
        versions = {
            name: session.exec(select(ModelVersion).where(ModelVersion.name == name)).first()
            for name in subjects
        }
    server = base_url or get_settings().engine_base_url
    how = EvaluationPlan(1, plan.temperature, plan.max_tokens, plan.seed, plan.batch_size, server)
    with ExitStack() as stack:
        models = Models(how, stack)
        asked = [models.subject(name, version) for name, version in versions.items()]
        likelihoods = _likelihoods(
            {one.name: one.settings for one in asked}, texts
        )  # first: it is what a server may not offer
        costs = measure_cost(asked, prompts, plan)
    with session_scope() as session:
        return [
            {
                "subject": name,
                "serving": costs[name],
                "likelihood": likelihoods.get(name),
                "evaluation_id": _store(
                    session, benchmark, name, {"serving": costs, "likelihood": likelihoods}
                ),
            }
            for name in subjects
        ]


def _likelihoods(settings: Mapping[str, Mapping[str, Any]], texts: Sequence[str]) -> Metrics:
    """Score the texts by all models in the same batches; say how far each is from each other."""
    if not texts:
        return {}
    scorers = {
        name: scorer(own["base_url"], own["model"], api_key_of(own["base_url"]))
        for name, own in settings.items()
        if "base_url" in own
    }
    found = measure_likelihood(scorers, texts, BATCH_SIZE)
    together = str(new_id())
    differences = {
        name: {other: difference(found[other], own) for other in found if other != name}
        for name, own in found.items()
    }
    return {
        name: {
            **own.as_json(),
            TOGETHER: together,
            "against": {other: gap and gap.as_json() for other, gap in differences[name].items()},
        }
        for name, own in found.items()
    }


def _store(
    session: Session, suite: Suite, subject: str, measured: Mapping[str, Metrics]
) -> UUID | None:
    """Put figures into the subject's newest evaluation of the suite; return its id."""
    query = select(Evaluation).where(Evaluation.suite_id == suite.id, Evaluation.subject == subject)
    newest = session.exec(query.order_by(col(Evaluation.id).desc())).first()
    if newest is None:
        return None
    figures = {name: found[subject] for name, found in measured.items() if subject in found}
    newest.metrics = {**newest.metrics, **figures}
    session.add(newest)
    return newest.id
