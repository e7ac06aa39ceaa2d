"""The job `evaluator.evaluate`, and how to order one: models of a server over one suite."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

from sqlmodel import Session, select

from evaluator.answers import ChatServer, Subject
from evaluator.run import BATCH_SIZE, SAMPLES_PER_TASK, measure, store
from evaluator.sandbox import Sandbox
from evaluator.suites import load_suite, tasks_of
from evaluator.tables import Evaluation
from foundation.database import explain_row, session_scope
from foundation.errors import BadInput
from foundation.runs import RunHandle, enqueue, job
from foundation.settings import get_settings
from foundation.tables import Run
from serving.backends.openai_compatible import ensure_adapter
from trainer.registry import ADAPTER, served_name, version_folder
from trainer.tables import ModelVersion

EVALUATE_JOB = "evaluator.evaluate"


@dataclass(frozen=True)
class EvaluationPlan:
    """How to ask.

    Attributes:
        samples_per_task: answers per task and model.
        temperature: of sampling; 0 is greedy.
        max_tokens: the longest answer.
        seed: of all sampling.
        batch_size: requests in flight at once.
        base_url: of the server (…/v1); None for the deployment's engine.
    """

    samples_per_task: int = SAMPLES_PER_TASK
    temperature: float = 1.0
    max_tokens: int = 512
    seed: int = 0
    batch_size: int = BATCH_SIZE
    base_url: str | None = None

    def __post_init__(self) -> None:
        for name in ("samples_per_task", "max_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise BadInput(name, getattr(self, name), "1 or more", "The default will do.")
        if not self.temperature >= 0:
            raise BadInput("temperature", self.temperature, "0 or more", "Use 0 for greedy.")


def start_evaluation(
    session: Session, suite: str, subjects: Sequence[str], plan: EvaluationPlan | None = None
) -> Run:
    """Queue the evaluation of models, by their names, on one suite; return its run.

    Args:
        session: of the surrounding transaction; the message leaves with its commit.
        suite: `name` or `name@version`; the version is fixed now.
        subjects: names of model versions, or of whatever the server calls a model.
        plan: how to ask.

    Raises:
        NotFound: no such suite.
        BadInput: no subjects, or a name twice.
    """
    known = load_suite(session, suite)
    ref = f"{known.name}@{known.version}"
    return enqueue(session, EVALUATE_JOB, evaluation_params(ref, subjects, plan), role=known.role)


def evaluation_params(
    suite: str, subjects: Sequence[str], plan: EvaluationPlan | None = None
) -> dict[str, Any]:
    """Return the parameters of an evaluation run; raises BadInput for no or repeated subjects."""
    if not subjects or len(set(subjects)) < len(subjects):
        raise BadInput("subjects", subjects, "at least one, with distinct names", "Name each once.")
    return {"suite": suite, "subjects": list(subjects), **asdict(plan or EvaluationPlan())}


@job(EVALUATE_JOB)
def evaluate_models(
    run: RunHandle, *, suite: str, subjects: list[str], **plan: Any
) -> dict[str, Any]:
    """Evaluate the subjects together; all evaluations are stored at once or not at all.

    Started again after it had finished, it returns what it stored.
    """
    with session_scope() as session:
        stored = session.exec(select(Evaluation).where(Evaluation.run_id == run.id)).all()
        if stored:
            return _result(stored)
        benchmark = load_suite(session, suite)
        tasks = tasks_of(session, benchmark)
        versions = {name: _version(session, name) for name in subjects}
    how = EvaluationPlan(**plan)
    how = replace(how, base_url=how.base_url or get_settings().engine_base_url)
    settings = {**asdict(how), "suite_hash": benchmark.content_hash}
    with _server(how) as server, Sandbox() as sandbox:
        asked = [_subject(server, name, version) for name, version in versions.items()]
        measured = measure(
            tasks, asked, how.samples_per_task, sandbox, how.seed, how.batch_size, run.progress
        )
        with session_scope() as session:
            evaluations = [
                store(session, benchmark, result, how.samples_per_task, sandbox, settings, run.id)
                for result in measured
            ]
    return _result(evaluations)


def _server(plan: EvaluationPlan) -> ChatServer:
    return ChatServer(
        str(plan.base_url),
        temperature=plan.temperature,
        max_tokens=plan.max_tokens,
        concurrency=plan.batch_size,
        api_key=_api_key(),
    )


def _subject(server: ChatServer, name: str, version: ModelVersion | None) -> Subject:
    """Return a version of ours, its adapter loaded, or a model that only the server knows."""
    if version is None:
        return server.subject(name)
    if version.kind == ADAPTER:
        ensure_adapter(server.base_url, version.name, version_folder(version), _api_key())
    subject = server.subject(served_name(version), version.name, version.id)
    return replace(subject, settings={**subject.settings, "model_hash": version.content_hash})


def _version(session: Session, name: str) -> ModelVersion | None:
    return session.exec(select(ModelVersion).where(ModelVersion.name == name)).first()


def _api_key() -> str | None:
    key = get_settings().api_key
    return key.get_secret_value() if key else None


def _result(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    shown = {"id", "subject", "success_rate", "ci_low", "ci_high", "n_samples", "n_lost"}
    return {
        "evaluations": [
            {name: value for name, value in explain_row(row).items() if name in shown}
            for row in evaluations
        ]
    }


def evaluation_ids(run: Run) -> dict[str, UUID]:
    """Return subject -> evaluation id of a finished run; empty if it has not finished."""
    found = (run.result or {}).get("evaluations", [])
    return {entry["subject"]: UUID(entry["id"]) for entry in found}
