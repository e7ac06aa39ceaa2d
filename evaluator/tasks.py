"""The jobs `evaluator.evaluate` (models of a server over one suite) and `evaluator.compare`."""

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from evaluator.addresses import api_key_of
from evaluator.answers import AnswersByRequest, ChatServer, Providers, Subject
from evaluator.cache import AnswerCache, folder_hash
from evaluator.compare import compare, shared_suite
from evaluator.identity import probe_identity
from evaluator.learned import require_unlearned
from evaluator.run import (
    BATCH_SIZE,
    SAMPLES_PER_TASK,
    get_evaluation,
    intact_tasks,
    measure,
    settings_of,
    store,
)
from evaluator.sandbox import Sandbox
from evaluator.speed import ADAPTER_USE, NO_ADAPTER, UNMERGED
from evaluator.suites import load_suite
from evaluator.tables import Evaluation, Verdict
from foundation.database import explain_row, session_scope
from foundation.errors import BadInput
from foundation.ids import first_id_at
from foundation.runs import RunHandle, cancel, enqueue, job
from foundation.settings import get_settings
from foundation.tables import DONE, QUEUED, RUNNING, Run
from serving.backends.openai_compatible import ensure_adapter
from trainer.registry import ADAPTER, EXTERNAL, served_name, version_folder
from trainer.tables import ModelVersion

EVALUATE_JOB = "evaluator.evaluate"
COMPARE_JOB = "evaluator.compare"
LITELLM = "litellm:"
"""Begins the name of a model that litellm is to be asked for."""
_LOOKED_BACK = 20


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
        use_cache: whether answers that the same model gave before are used; they count for no
            speed. Without it a killed run still goes on where it stood.
    """

    samples_per_task: int = SAMPLES_PER_TASK
    temperature: float = 1.0
    max_tokens: int = 512
    seed: int = 0
    batch_size: int = BATCH_SIZE
    base_url: str | None = None
    use_cache: bool = True

    def __post_init__(self) -> None:
        for name in ("samples_per_task", "max_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise BadInput(name, getattr(self, name), "1 or more", "The default will do.")
        if not self.temperature >= 0:
            raise BadInput("temperature", self.temperature, "0 or more", "Use 0 for greedy.")


def start_evaluation(
    session: Session,
    suite: str,
    subjects: Sequence[str],
    plan: EvaluationPlan | None = None,
    against: str | None = None,
    actor: str = "flywheel",
) -> Run:
    """Queue the evaluation of models, by their names, on one suite; return its run.

    Args:
        session: of the surrounding transaction; the message leaves with its commit.
        suite: `name` or `name@version`; the version is fixed now.
        subjects: names of model versions, or of whatever the server calls a model.
        plan: how to ask.
        against: the subject that the others are compared with when all have answered; None: no
            verdict is asked for.
        actor: who asks, for the verdict's Decision.

    Raises:
        NotFound: no such suite.
        BadInput: no subjects, a name twice, or `against` is none of them.
        Conflict: a subject learned from tasks of the suite.
    """
    known = load_suite(session, suite)
    require_unlearned(session, known, [_version(session, name) for name in subjects])
    params = evaluation_params(f"{known.name}@{known.version}", subjects, plan)
    if against is not None:
        if against not in subjects or len(subjects) < 2:
            raise BadInput("against", against, "one of two subjects or more", "Name it there too.")
        params |= {"against": against, "actor": actor}
    salt = _unfinished(session, params)
    if salt is not None:
        params["salt"] = salt
    return enqueue(session, EVALUATE_JOB, params, role=known.role)


def start_comparison(
    session: Session, baseline_id: UUID, candidate_id: UUID, actor: str = "flywheel"
) -> Run:
    """Queue the comparison of two stored evaluations; return its run, the open one if there is one.

    Raises:
        NotFound: no such evaluation.
        Conflict: they cannot be compared, as of `evaluator.compare.compare`.
    """
    pair = [get_evaluation(session, one) for one in (baseline_id, candidate_id)]
    role = shared_suite(session, pair[0], pair[1]).role
    params = {"baseline": str(baseline_id), "candidate": str(candidate_id), "actor": actor}
    return open_order(session, COMPARE_JOB, params) or enqueue(session, COMPARE_JOB, params, role)


def open_order(session: Session, kind: str, params: dict[str, Any]) -> Run | None:
    """Return the newest run that does the same and has not ended: a second click starts nothing."""
    query = select(Run).where(
        Run.kind == kind,
        col(Run.status).in_([QUEUED, RUNNING]),
        col(Run.params).contains(params),
    )
    newest = session.exec(query.order_by(col(Run.id).desc()).limit(_LOOKED_BACK))
    # A list in JSON contains its parts, too; whose answers a run goes on with makes no other order.
    return next((run for run in newest if _unsalted(run.params) == _unsalted(params)), None)


def _unsalted(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in ("salt", "actor")}


def _unfinished(session: Session, params: dict[str, Any]) -> str | None:
    """Return whose answers an order goes on with: those of its last run, if that did not finish.

    A run that a process of this machine left behind when it died is cancelled, so that no worker
    does it again beside the new one.
    """
    query = select(Run).where(Run.kind == EVALUATE_JOB, col(Run.params).contains(params))
    runs = session.exec(query.order_by(col(Run.id).desc()).limit(_LOOKED_BACK))
    last = next((run for run in runs if {**run.params, "salt": 0} == {**params, "salt": 0}), None)
    if last is None or last.status == DONE:
        return None
    if last.status == RUNNING and _is_dead(last.worker or ""):
        cancel(session, last.id)
    return str(last.params.get("salt") or last.id)


def _is_dead(worker: str) -> bool:
    """Return whether a worker (`host:pid:thread`) was a process of this machine that is gone."""
    host, _, process = worker.partition(":")
    pid = process.partition(":")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def evaluation_params(
    suite: str, subjects: Sequence[str], plan: EvaluationPlan | None = None
) -> dict[str, Any]:
    """Return the parameters of an evaluation run; raises BadInput for no or repeated subjects."""
    if not subjects or len(set(subjects)) < len(subjects):
        raise BadInput("subjects", subjects, "at least one, with distinct names", "Name each once.")
    return {"suite": suite, "subjects": list(subjects), **asdict(plan or EvaluationPlan())}


@job(EVALUATE_JOB)
def evaluate_models(
    run: RunHandle,
    *,
    suite: str,
    subjects: list[str],
    salt: str | None = None,
    against: str | None = None,
    actor: str = "flywheel",
    **plan: Any,
) -> dict[str, Any]:
    """Evaluate the subjects together; all evaluations are stored at once or not at all.

    Answers are kept as they come: started again, it asks for those that are missing only. Started
    again after it had finished, it returns what it stored. With `against` the others are compared
    with that one, and the verdicts are named in the result.
    """
    with session_scope() as session:
        stored = session.exec(select(Evaluation).where(Evaluation.run_id == run.id)).all()
        if stored:
            return _result(stored) | _compared(run, stored, against, actor)
        benchmark = load_suite(session, suite)
        tasks = intact_tasks(session, benchmark)
        versions = {name: _version(session, name) for name in subjects}
    how = EvaluationPlan(**plan)
    how = replace(how, base_url=how.base_url or get_settings().engine_base_url)
    settings = settings_of(benchmark, **asdict(how))
    cache = AnswerCache(run.id, salt or str(run.id), session_scope, how.use_cache)
    with ExitStack() as stack:
        models = Models(how, stack)
        asked = [models.subject(name, version) for name, version in versions.items()]
        sandbox = stack.enter_context(Sandbox())
        measured = measure(
            tasks,
            asked,
            how.samples_per_task,
            sandbox,
            how.seed,
            how.batch_size,
            run.progress,
            cache,
        )
        with session_scope() as session:
            evaluations = [
                store(session, benchmark, result, how.samples_per_task, sandbox, settings, run.id)
                for result in measured
            ]
            cache.forget(session, asked)
    return _result(evaluations) | _compared(run, evaluations, against, actor)


@job(COMPARE_JOB)
def compare_evaluations(
    run: RunHandle, *, baseline: str, candidate: str, actor: str = "flywheel"
) -> dict[str, Any]:
    """Compare two stored evaluations; started again, it returns the verdict that it stored."""
    return {"verdicts": [_verdict(run, UUID(baseline), UUID(candidate), actor)]}


def _compared(
    run: RunHandle, evaluations: Sequence[Evaluation], against: str | None, actor: str
) -> dict[str, Any]:
    """Return the verdicts of all others against one of the evaluations, if that is asked for."""
    baseline = next((one.id for one in evaluations if one.subject == against), None)
    if baseline is None:
        return {}
    others = [one.id for one in evaluations if one.id != baseline]
    return {"verdicts": [_verdict(run, baseline, one, actor) for one in others]}


def _verdict(run: RunHandle, baseline: UUID, candidate: UUID, actor: str) -> dict[str, str]:
    """Store the verdict on two evaluations, unless this run has already."""
    with session_scope() as session:
        begun = first_id_at(session.get_one(Run, run.id).created_at)
        known = session.exec(
            select(Verdict).where(
                Verdict.baseline_evaluation_id == baseline,
                Verdict.candidate_evaluation_id == candidate,
                col(Verdict.id) >= begun,
            )
        ).first()
        found = known or compare(
            session,
            get_evaluation(session, baseline),
            get_evaluation(session, candidate),
            actor=actor,
        )
        return {"id": str(found.id), "outcome": found.outcome}


class Models:
    """Finds who answers for a name: the engine, a server of FLYWHEEL_UPSTREAMS, or litellm.

    Args:
        plan: how to ask; its `base_url` is the engine's.
        stack: closes every connection that is opened.
    """

    def __init__(self, plan: EvaluationPlan, stack: ExitStack) -> None:
        self._plan, self._stack = plan, stack
        self._opened: dict[str, AnswersByRequest] = {}

    def subject(self, name: str, version: ModelVersion | None) -> Subject:
        """Return a version of ours, its adapter loaded, or a model that only a server knows.

        `litellm:openai/gpt-4o` is asked through litellm; so is an external version that no upstream
        names.
        """
        if version is None:
            return self._named(name, name, None)
        if version.kind == EXTERNAL:
            return self._named(version.base_model, version.name, version.id)
        engine = self._engine()
        subject = engine.subject(served_name(version), version.name, version.id)
        settings = {**subject.settings, "model_hash": version.content_hash, ADAPTER_USE: NO_ADAPTER}
        if version.kind == ADAPTER:
            key = api_key_of(engine.base_url)
            ensure_adapter(engine.base_url, version.name, version_folder(version), key)
            identity = probe_identity(
                engine.base_url,
                version.name,
                version.base_model,
                version.content_hash,
                key,
            )
            settings |= {ADAPTER_USE: UNMERGED, "identity": identity.as_json()}
        return replace(
            subject,
            model_hash=model_hash(version),
            settings=settings,
            # Another server may be another engine, or hold the weights in fewer bits.
            decoding={**subject.decoding, "server": engine.base_url},
        )

    def _named(self, model: str, name: str, version_id: UUID | None) -> Subject:
        upstream = self._upstream(model)
        if upstream is not None:
            return upstream.subject(model, name, version_id)
        if model.startswith(LITELLM) or version_id is not None:
            return self._litellm().subject(model.removeprefix(LITELLM), name, version_id)
        return self._engine().subject(model, name)

    def _upstream(self, model: str) -> AnswersByRequest | None:
        for entry in get_settings().upstreams.values():
            if model in (entry.get("models") or ()):
                return self._server(str(entry.get("base_url")), entry.get("api_key"))
        return None

    def _engine(self) -> ChatServer:
        base_url = str(self._plan.base_url)
        return self._server(base_url, api_key_of(base_url))

    def _server(self, base_url: str, api_key: str | None) -> ChatServer:
        opened = self._opened.get(base_url)
        if isinstance(opened, ChatServer):
            return opened
        server = ChatServer(
            base_url,
            temperature=self._plan.temperature,
            max_tokens=self._plan.max_tokens,
            concurrency=self._plan.batch_size,
            api_key=api_key,
        )
        self._opened[base_url] = self._stack.enter_context(server)
        return server

    def _litellm(self) -> AnswersByRequest:
        if LITELLM not in self._opened:
            self._opened[LITELLM] = self._stack.enter_context(
                Providers(
                    temperature=self._plan.temperature,
                    max_tokens=self._plan.max_tokens,
                    concurrency=self._plan.batch_size,
                )
            )
        return self._opened[LITELLM]


def model_hash(version: ModelVersion) -> str:
    """Return the hash of a version's content with its base's; empty where either is not known."""
    base = Path(version.base_model)
    if version.kind == ADAPTER and version.content_hash:
        beneath = folder_hash(base) if base.is_dir() else version.base_model
        return f"{version.content_hash}+{beneath}"
    if version.content_hash:
        return version.content_hash
    return f"folder:{folder_hash(base)}" if base.is_dir() else ""


def _version(session: Session, name: str) -> ModelVersion | None:
    return session.exec(select(ModelVersion).where(ModelVersion.name == name)).first()


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
