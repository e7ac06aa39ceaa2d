"""A small installation some days into its life, with something in every corner of every page.

Rows come from the stages' own functions wherever these are quick: datasets are built from the log,
verdicts computed from samples, experiments decided by their rule. What took days is then dated
back. One seed, so that two runs differ in nothing but the time of day.
"""

import json
import math
import random
import tempfile
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from adapters_on_disk import weights
from sqlalchemy import text
from sqlmodel import Session, col, select

from admin.access import sessions, users
from admin.tables import AuditEntry
from collector.partitions import ensure_partitions
from collector.tables import DeadLetter, IngestCount, SpoolAccount
from curation.build import build_dataset
from curation.review import labels, leases, queue
from curation.review.samples import ShownSample, add_samples
from curation.tables import KEPT, Dataset, Erasure, Example, PreferencePair, ReviewItem, TextEdge
from evaluator import drift
from evaluator.answers import Answer, Subject
from evaluator.asking import Measured
from evaluator.compare import compare
from evaluator.graders import Grade
from evaluator.grading import Attempt
from evaluator.run import settings_of, store
from evaluator.sandbox import Sandbox, Status
from evaluator.suites.built_in import BUILT_IN, reference_answer
from evaluator.suites.store import add_suite, tasks_of
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask, Verdict
from foundation import artifacts
from foundation.database import get_engine
from foundation.decisions import decide
from foundation.tables import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    Run,
    RunLog,
    RunMeasure,
    now,
)
from router import emergency, keys, policy, windows
from router import experiment as experiments
from router.experiments.rule import needed_e
from router.keys import KeyLimits
from router.promote import initial, promote, rollback
from router.tables import (
    CONTROL,
    TREATMENT,
    Assignment,
    BudgetWindow,
    Experiment,
    ExperimentLook,
    GatewayProcess,
    UsageDay,
)
from tests.browser.seed_log import BASE, EXPERT, HOSTILE, Log, Serving, episodes, hostile_episode
from tests.browser.seed_log import broken as with_a_fault
from trainer import plan as training_plan
from trainer import registry
from trainer.recipe import Recipe
from trainer.tables import QUARANTINED, ModelVersion, TrainingRun

PEOPLE = {
    "vera": "viewer",
    "ines": "reviewer",
    "tom": "reviewer",
    "olga": "operator",
    "ada": "admin",
}


AHEAD = timedelta(hours=1)
"""Of the heartbeats of what is to be alive while it is looked at: nothing beats them here."""


@dataclass
class Seeded:
    """Ids of what is shown, by name; `tokens` are cookies of people who are signed in."""

    ids: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)


def seed() -> Seeded:
    """Fill the empty, migrated database of the settings; takes some seconds."""
    made = Seeded()
    log = Log(now().replace(microsecond=0))
    with Session(get_engine(), expire_on_commit=False) as session:
        ensure_partitions(session.connection(), log.present, 2)
        session.commit()
        people(session, made)
        versions = model_versions(session, made)
        session.commit()
        curated(session, made, log, versions)
        trainings(session, made, log, versions)
        proven(session, made, versions)
        session.commit()
        experimented(session, made, log, versions)
        session.commit()
        gateway(session, log)
        captured(session, log)
        jobs(session, made, log)
        reviewed(session, made)
        watched(session)
        changed_by_people(session, made, log)
        session.commit()
        date_back(session, log)
        name_more(session, made)
        session.commit()
        session.execute(text("ANALYZE"))
        session.commit()
    return made


def people(session: Session, made: Seeded) -> None:
    """Make a user of each role, signed in, and one who may not any more."""
    for name, role in PEOPLE.items():
        user = users.create(session, name, role, actor="flywheel")
        made.tokens[name] = made.tokens[role] = sessions.open_session(
            session, user, "code", "127.0.0.1", "Mozilla/5.0 (X11; Linux x86_64) Chromium/140"
        )
        made.ids[f"user/{name}"] = user.id
    gone = users.create(session, "mallory", "viewer", actor="ada")
    gone.disabled_at = now()
    session.add(gone)


def model_versions(session: Session, made: Seeded) -> dict[str, ModelVersion]:
    """Make the bases; what was trained follows with its trainings."""
    found = {
        role: registry.ensure_base_version(session, role, "Qwen/Qwen3-4B-Instruct")
        for role in ("coder", "tester", "reviewer")
    }
    for role in ("researcher", "coordinator"):
        found[role] = registry.ensure_base_version(session, role, EXPERT, kind="external")
        registry.ensure_base_version(session, role, "gpt-5", kind="external")
    for role, version in found.items():
        initial(session, role, version, reason="The first to serve the role.", actor="ada")
    return {f"{role}-base": version for role, version in found.items()}


def curated(session: Session, made: Seeded, log: Log, versions: dict[str, ModelVersion]) -> None:
    """Write the log in two parts and build datasets after each, as the days went."""
    suite = add_suite(
        *(session, "coder-held-out", "coder", BUILT_IN["coder-easy"][1]()[:48]),
        "Functions of coder-easy, written by hand.",
        description="Short functions with edge cases; graded by running them in the sandbox.",
    )
    add_suite(
        *(session, "tester-held-out", "tester", BUILT_IN["tester-unit"][1]()[:20]),
        "Functions of tester-unit.",
        is_draft=True,
    )
    made.ids["suite"] = suite.id
    session.commit()
    serving = Serving(versions["coder-base"].id, BASE)

    def serve(number: int, moment: datetime) -> Serving:
        return serving

    for number, _ in episodes(log, serve):
        if number == 56:
            _write(session, log)
            _build(session, made, "coder", "dataset/old")
    hostile_episode(log, log.present - timedelta(minutes=26))
    _write(session, log)
    made.ids["interaction/hostile"], made.ids["episode/hostile"] = (
        log.hostile,
        log.hostile_episode,
    )
    _build(session, made, "coder", "dataset")
    _build(session, made, "coder", "dataset/pairs", kind="preference")
    _build(session, made, "reviewer", "dataset/reviewer")


def _write(session: Session, log: Log) -> None:
    session.add_all(log.take())
    session.commit()


def _build(session: Session, made: Seeded, role: str, name: str, kind: str = "sft") -> None:
    run = Run(
        kind="curation.build",
        role=role,
        status=DONE,
        params={"role": role, "kind": kind},
        progress={"done": 3, "total": 3, "unit": "steps"},
        attempts=1,
        worker="forge:4117",
        started_at=now(),
        heartbeat_at=now(),
    )
    session.add(run)
    session.commit()
    dataset = build_dataset(role, kind=kind, run_id=run.id)
    run.finished_at, run.result = now(), {"dataset_id": str(dataset.id)}
    session.add(run)
    session.commit()
    made.ids[name] = dataset.id


def trainings(session: Session, made: Seeded, log: Log, versions: dict[str, ModelVersion]) -> None:
    """Finished trainings with the versions they made; one that runs, one that failed."""
    dataset = session.get_one(Dataset, made.ids["dataset"])
    old = session.get_one(Dataset, made.ids["dataset/old"])
    reviews = session.get_one(Dataset, made.ids["dataset/reviewer"])
    recipe = Recipe(r=16, epochs=3, lr=2e-4)
    plans: list[tuple[str, str, Dataset, Recipe, float, bool]] = [
        ("coder-v1", "coder", old, recipe, 5.2, False),
        ("coder-v2", "coder", old, replace(recipe, r=64, lr=6e-4), 3.6, False),
        ("reviewer-v1", "reviewer", reviews, recipe, 3.1, False),
        ("coder-v3", "coder", dataset, replace(recipe, r=32), 1.4, False),
        ("coder-v4-control", "coder", dataset, recipe, 0.7, True),
        ("coder-v5", "coder", dataset, replace(recipe, r=32, epochs=4, lr=1e-4), 0.4, False),
    ]
    for name, role, learned, knobs, days, is_control in plans:
        moment = log.present - timedelta(days=days)
        run = _training_run(session, log, role, DONE, moment, 240, 240)
        training = TrainingRun(
            run_id=run.id,
            role=role,
            dataset_id=learned.id,
            base_model="Qwen/Qwen3-4B-Instruct",
            method=knobs.method,
            recipe=asdict(knobs),
            seed=knobs.seed,
            history=_history(log.draw, 240, knobs.lr),
            metrics={
                "train_loss": 0.412,
                "validation_loss": round(0.52 + 0.2 * log.draw.random(), 4),
                "n_train_rows": learned.n_train,
                "n_trained_tokens": 412_338,
                "wall_s": 1873.2,
                "cpu_s": 2210.9,
            },
            manifest={"dataset_hash": learned.content_hash, "python": "3.12.3", "attempts": 1},
            created_at=moment,
        )
        session.add(training)
        session.flush()
        version = registry.register_adapter(
            session,
            training,
            _adapter(name),
            {"validation_loss": training.metrics["validation_loss"], "size_bytes": 33_040_384},
            is_control=is_control,
        )
        run.result = {"model_version_id": str(version.id), "name": version.name}
        versions[version.name] = version
        made.ids[f"training/{version.name}"] = training.id
        made.ids[f"run/{version.name}"] = run.id
    _live_training(session, made, log, dataset, replace(recipe, r=32, seed=11))
    _failed_training(session, made, log, dataset, replace(recipe, lr=2e-2))
    for role, wanted in (("coder", dataset), ("tester", None)):
        decide(
            session,
            training_plan.SHOULD_TRAIN,
            training_plan.ShouldTrainInputs(
                baseline_success=0.61, tasks_per_day=420.0 if wanted else 12.0, budget_usd=800.0,
                timeline_weeks=6.0,
            ),
            training_plan.ShouldTrainThresholds(),
            role=role,
        )  # fmt: skip


def _adapter(name: str) -> artifacts.Artifact:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "adapter_config.json").write_text('{"peft_type": "LORA", "r": 16}\n')
        Path(folder, "adapter_model.safetensors").write_bytes(weights(name * 512))
        return artifacts.put(Path(folder))


def _training_run(
    session: Session, log: Log, role: str, status: str, moment: datetime, done: int, total: int,
    **columns: Any,
) -> Run:  # fmt: skip
    ended = status in (DONE, FAILED)
    run = Run(
        **{
            "id": log.id_at(moment),
            "kind": "trainer.train",
            "role": role,
            "status": status,
            "params": {"role": role},
            "progress": {"done": done, "total": total, "unit": "steps",
                         **_measures(log.draw, done, total, 2e-4)},
            "attempts": 1,
            "worker": "forge:4120",
            "created_at": moment,
            "started_at": moment + timedelta(seconds=8),
            "heartbeat_at": moment + timedelta(minutes=31) if ended else log.present + AHEAD,
            "finished_at": moment + timedelta(minutes=31) if ended else None,
            **columns,
        }
    )  # fmt: skip
    session.add(run)
    session.flush()
    for step in range(5, done + 1, 5):
        session.add(
            RunMeasure(
                run_id=run.id,
                done=float(step),
                measures=_measures(log.draw, step, total, 2e-4),
                measured_at=moment + timedelta(seconds=8 + 7 * step),
            )
        )
    return run


def _measures(draw: random.Random, step: int, total: int, lr: float) -> dict[str, float]:
    warm = min(1.0, step / 20)
    told = {
        "loss": round(0.38 + 1.9 * math.exp(-step / 45) + draw.gauss(0, 0.025), 4),
        "lr": lr * warm * (1 - step / (total + 1)),
        "grad_norm": round(0.6 + draw.random() * 0.5, 3),
        "tokens_per_s": round(1810 + draw.gauss(0, 40), 1),
        "memory_gb": 11.4,
    }
    if step % 40 == 0:
        told["validation_loss"] = round(0.49 + 1.7 * math.exp(-step / 50), 4)
    return told


def _history(draw: random.Random, total: int, lr: float) -> list[dict[str, Any]]:
    lines = []
    for step in range(5, total + 1, 5):
        found = _measures(draw, step, total, lr)
        looked = found.pop("validation_loss", None)
        lines.append({"step": step, "epoch": round(3 * step / total, 2), **found})
        if looked is not None:
            lines.append({"step": step, "epoch": round(3 * step / total, 2),
                          "validation_loss": looked})  # fmt: skip
    return lines


def _live_training(
    session: Session, made: Seeded, log: Log, dataset: Dataset, recipe: Recipe
) -> None:
    moment = log.present - timedelta(minutes=19)
    run = _training_run(session, log, "coder", RUNNING, moment, 145, 240)
    training = TrainingRun(
        run_id=run.id, role="coder", dataset_id=dataset.id, base_model="Qwen/Qwen3-4B-Instruct",
        method=recipe.method, recipe=asdict(recipe), seed=recipe.seed, created_at=moment,
    )  # fmt: skip
    session.add(training)
    for n, line in enumerate(
        (
            f"dataset coder-sft-{dataset.number}: {dataset.n_train} rows, none too long",
            "base Qwen/Qwen3-4B-Instruct: 4.02 B parameters, bfloat16, 1 GPU",
            "adapter: r=32 on all linear layers, 66.1 M trainable parameters (1.6 %)",
            "step 40: validation loss 1.2538",
            "step 80: validation loss 0.8333",
            "checkpoint-120 is complete",
            "step 120: validation loss 0.6442",
        )
    ):
        session.add(_line(log, run, n, line))
    session.add(_line(log, run, 8, f"left out of the batch: {HOSTILE}", "WARNING"))
    session.flush()
    made.ids["training/live"], made.ids["run/live"] = training.id, run.id


def _line(log: Log, run: Run, minutes: int, message: str, level: str = "INFO") -> RunLog:
    moment = run.created_at + timedelta(minutes=minutes)
    return RunLog(
        run_id=run.id, id=log.id_at(moment), level=level, message=message, logged_at=moment
    )


def _failed_training(
    session: Session, made: Seeded, log: Log, dataset: Dataset, recipe: Recipe
) -> None:
    moment = log.present - timedelta(days=1, hours=3)
    error = (
        "Diverged: training loss: got nan at step 35, expected a finite number. Lower recipe.lr "
        "(now 0.02), or look for broken rows in the dataset."
    )
    run = _training_run(*(session, log, "coder", FAILED, moment, 35, 240), error=error, attempts=3)
    training = TrainingRun(
        run_id=run.id, role="coder", dataset_id=dataset.id, base_model="Qwen/Qwen3-4B-Instruct",
        method=recipe.method, recipe=asdict(recipe), created_at=moment,
    )  # fmt: skip
    session.add(training)
    session.add(_line(log, run, 1, "step 30: loss 14.8131, gradient norm 91.2", "WARNING"))
    session.add(_line(log, run, 2, error, "ERROR"))
    session.flush()
    made.ids["training/failed"], made.ids["run/failed"] = training.id, run.id


def proven(session: Session, made: Seeded, versions: dict[str, ModelVersion]) -> None:
    """Evaluations of the coder's versions over one suite, and verdicts between them."""
    suite = session.get_one(Suite, made.ids["suite"])
    tasks = list(tasks_of(session, suite))
    rates = {"coder-base": 0.46, "coder-v1": 0.63, "coder-v2": 0.41, "coder-v3": 0.74,
             "coder-v5": 0.66}  # fmt: skip
    with Sandbox(1) as sandbox:
        done = {
            name: _evaluated(session, suite, tasks, versions[name], rate, sandbox)
            for name, rate in rates.items()
        }
        again = _evaluated(session, suite, tasks, versions["coder-base"], 0.46, sandbox, seed=3)
    for name, (before, after) in {
        "verdict/v1": ("coder-base", "coder-v1"),
        "verdict/v2": ("coder-v1", "coder-v2"),
        "verdict": ("coder-v1", "coder-v3"),
        "verdict/v5": ("coder-v3", "coder-v5"),
    }.items():
        verdict: Verdict = compare(
            *(session, done[before], done[after]),
            repeated=again if before == "coder-base" else None,
            actor="flywheel",
        )
        made.ids[name] = verdict.id
        if verdict.decision_id:
            made.ids[f"decision/{name}"] = verdict.decision_id
    made.ids["evaluation"], made.ids["evaluation/base"] = done["coder-v3"].id, done["coder-base"].id
    _show_people(session, done["coder-v1"], done["coder-v3"], tasks)


def _evaluated(
    session: Session,
    suite: Suite,
    tasks: list[SuiteTask],
    version: ModelVersion,
    rate: float,
    sandbox: Sandbox,
    seed: int = 1,
) -> Evaluation:
    """Store four answers to each task; how hard a task is, is the same for every version."""
    draw = random.Random(f"{version.name}/{seed}")
    result = Measured(Subject(version.name, lambda prompts, seeds: [], model_version_id=version.id))
    for place, task in enumerate(tasks):
        ease = random.Random(place).gauss(0, 0.25)
        answer = reference_answer("coder-easy", task)  # type: ignore[arg-type]
        for number in range(4):
            passed = draw.random() < rate + ease
            kind = Status.PASS if passed else draw.choice([Status.WRONG] * 3 + [Status.TIMEOUT])
            said = answer if passed else with_a_fault(answer)
            seconds = draw.lognormvariate(0.2, 0.4)
            result.attempts.append(
                Attempt(
                    task,
                    number,
                    Answer(said, len(said) / 4, seconds, ttft_s=seconds / 6, cost_usd=1e-5),
                )
            )
            detail = "" if passed else f"case {number + 2} of 9: got [], expected [1, 2]"
            result.grades.append(Grade.of(kind, detail, 1.0 if passed else draw.random() * 0.8))
            result.output_tokens += len(said) / 4
            result.seconds += seconds / 8
    result.batch_rates = [round(120 + draw.gauss(0, 6), 1) for _ in range(24)]
    return store(session, suite, result, 4, sandbox, settings_of(suite, seed=seed))


def _show_people(
    session: Session, before: Evaluation, after: Evaluation, tasks: list[SuiteTask]
) -> None:
    """Put differing answers of two versions into the queue, blind."""
    rows = {
        (row.evaluation_id, row.suite_task_id): row
        for row in session.scalars(
            select(Sample).where(
                col(Sample.evaluation_id).in_([before.id, after.id]), Sample.number == 0
            )
        )
    }
    shown = []
    for task in tasks:
        one, other = rows[before.id, task.id], rows[after.id, task.id]
        if one.answer != other.answer:
            shown.append(
                ShownSample(one.id, other.id, task.prompt, one.answer, other.answer, "function")
            )
    add_samples(session, "coder", shown[:8])


def experimented(
    session: Session, made: Seeded, log: Log, versions: dict[str, ModelVersion]
) -> None:
    """The coder's experiments: one won, one harmful, one stopped, one that runs; a hold-back."""
    quick = experiments.plan_from("demo", hold_back_days=14.0)
    for role in ("coder", "reviewer"):
        held = 0.0 if role == "coder" else 0.1
        policy.set_policy(session, role, actor="olga", auto_promote="on", hold_back_share=held)

    won = experiments.start(session, "coder", versions["coder-v1"], quick, "olga")
    _play(session, won, log.draw, 0.42, 0.82, 160)
    made.ids["experiment/won"] = won.id
    if won.status == "running":
        experiments.stop(session, won, "Enough was seen.", "olga")

    bad = experiments.start(session, "coder", versions["coder-v2"], quick, "olga")
    _play(session, bad, log.draw, 0.8, 0.25, 120)
    made.ids["experiment/harmful"] = bad.id
    if bad.status == "running":
        experiments.stop(session, bad, "It is plainly worse.", "olga")
    if versions["coder-v2"].stage != QUARANTINED:
        registry.set_stage(session, versions["coder-v2"], QUARANTINED)

    mine = experiments.start(session, "reviewer", versions["reviewer-v1"], quick, "olga")
    _play(session, mine, log.draw, 0.4, 0.85, 160)
    made.ids["experiment/reviewer"] = mine.id
    held = session.exec(
        select(Experiment).where(Experiment.kind == "hold_back", Experiment.status == "running")
    ).first()
    if held is not None:
        _play(session, held, log.draw, 0.8, 0.76, 60)
        made.ids["experiment/hold-back"] = held.id

    promote(
        *(session, "tester", _external(session, "tester")),
        reason="The provider's model is better at edge cases.",
        actor="olga",
    )
    rollback(session, "tester", reason="It wrote tests that import nothing.", actor="olga")

    plan = experiments.plan_from(
        "default", ramp=(0.25, 0.5), ramp_days=0.0, ramp_units=10, hold_back_days=14.0
    )
    live = experiments.start(session, "coder", versions["coder-v3"], plan, "olga")
    _play(session, live, log.draw, 0.66, 0.8, 150)
    made.ids["experiment"] = live.id
    _give_calls(session, live)
    policy.set_policy(session, "coder", actor="olga", auto_promote="assisted")


def _give_calls(session: Session, live: Experiment) -> None:
    """Let the last episodes of the log be the last units of the experiment that runs."""
    session.execute(
        text(
            """
            WITH unit AS (
                SELECT id, row_number() OVER (ORDER BY sequence DESC) AS place
                FROM assignment WHERE experiment_id = :experiment
            ), task AS (
                SELECT unit_id, row_number() OVER (ORDER BY max(id::text) DESC) AS place
                FROM interaction WHERE project = 'atlas' AND unit_id IS NOT NULL GROUP BY unit_id
                ORDER BY place LIMIT 30
            )
            UPDATE assignment SET unit = task.unit_id FROM unit JOIN task USING (place)
            WHERE assignment.id = unit.id
            """
        ),
        {"experiment": live.id},
    )
    session.execute(
        text(
            """
            UPDATE interaction SET experiment_id = assignment.experiment_id, arm = assignment.arm,
                model_version_id = CASE assignment.arm WHEN 'control'
                    THEN CAST(:control AS uuid) ELSE CAST(:treatment AS uuid) END
            FROM assignment
            WHERE assignment.experiment_id = :experiment AND assignment.unit = interaction.unit_id
                AND interaction.role = 'coder' AND interaction.project = 'atlas'
            """
        ),
        {
            "experiment": live.id,
            "control": live.control_model_version_id,
            "treatment": live.treatment_model_version_id,
        },
    )


def _external(session: Session, role: str) -> ModelVersion:
    return registry.ensure_base_version(session, role, EXPERT, kind="external")


def _play(
    session: Session, running: Experiment, draw: random.Random, control: float, treatment: float,
    units: int,
) -> None:  # fmt: skip
    """Give an experiment units with calls and outcomes, and look after every tenth."""
    seen: dict[datetime, ExperimentLook] = {}
    rates = {CONTROL: control, TREATMENT: treatment}
    for number in range(units):
        session.refresh(running)
        if running.status != "running":
            break
        unit = f"atlas-{running.id.hex[-4:]}-{number}"
        row = experiments.assign(session, running, unit, f"function|easy|{number % 3}")
        for _ in range(draw.randint(1, 4)):
            experiments.record_call(
                session, running.id, unit, error=draw.random() < 0.006,
                latency_ms=draw.lognormvariate(6.6, 0.5), cost_usd=0.0012 * draw.random(),
                tokens=draw.randint(400, 2400), tool_calls=1,
            )  # fmt: skip
        session.refresh(row)
        row.outcome, row.outcome_at = draw.random() < rates[row.arm], now()
        session.add(row)
        session.flush()
        if number % 10 == 9:
            experiments.evaluate(session, running)
            session.refresh(running)
            look = _look(session, running)
            seen[look.looked_at] = look
    session.execute(
        text("DELETE FROM experiment_look WHERE experiment_id = :id"), {"id": running.id}
    )
    session.add_all(seen.values())
    session.flush()


def _look(session: Session, running: Experiment) -> ExperimentLook:
    from router.experiments.evidence import gather
    from router.experiments.plan import plan_of

    evidence, units = gather(session, running)
    state = running.state
    gain = state.get("difference") or {}
    known = [unit for unit in units if unit.is_analysed]
    return ExperimentLook(
        experiment_id=running.id,
        looked_at=now(),
        phase=running.phase,
        n_treatment=sum(unit.arm == TREATMENT for unit in known),
        n_control=sum(unit.arm == CONTROL for unit in known),
        e_value=state.get("e_value"),
        needed_e=needed_e(evidence, plan_of(running)),
        estimate=gain.get("estimate"),
        low=gain.get("low"),
        high=gain.get("high"),
        split_e=1.0,
    )


def gateway(session: Session, log: Log) -> None:
    """Processes that report, budgets, usage of some weeks, keys of every state."""
    circuits = [
        _circuit("vllm", "http://10.0.0.4:8000/v1", "coder-v1", calls=5120, failures=12),
        _circuit("vllm", "http://10.0.0.4:8000/v1", "coder-v3", calls=340, failures=1),
        _circuit("openai", "https://api.openai.com/v1", EXPERT, calls=2210, failures=9),
        _circuit("spare", "http://10.0.0.9:8000/v1", BASE, "down", calls=80, failures=31,
                 failures_in_a_row=12, last_failure="connect: no route to host", down_for_s=340.0,
                 next_look_s=12.0),
    ]  # fmt: skip
    counts = {"calls": 7750, "retries": 31, "fallbacks": 12, "refused": 4, "streams": 5120}
    cache = {"hits": 412, "misses": 7338, "entries": 380}
    file = {"name": "gateway.yaml", "digest": "9f2c" * 16}
    refused = {
        **file,
        "problem": "upstreams.spare.models: expected a list, got 'all'",
    }
    for pid, told in ((4125, file), (4126, refused)):
        session.add(
            GatewayProcess(
                id=log.id_at(log.present), host="forge", pid=pid,
                state={"upstreams": circuits, "counts": counts, "cache": cache, "file": told},
                started_at=log.present - timedelta(hours=9), seen_at=log.present + AHEAD,
            )
        )  # fmt: skip
    session.add(
        GatewayProcess(id=log.id_at(log.present), host="forge", pid=3980, state={},
                       seen_at=log.present - timedelta(minutes=20))
    )  # fmt: skip
    ci, _ = keys.create_key(
        session, "ci", roles=["coder", "tester"], projects=["atlas"],
        limits=KeyLimits(requests_per_minute=120), actor="ada",
    )  # fmt: skip
    keys.create_key(session, "laptop-dana", kind="user", actor="ada")
    keys.create_key(session, "old-runner", actor="ada")
    keys.revoke_key(session, "old-runner")
    windows.set_limit(session, "all", windows.COST_USD_PER_MONTH, 400.0, "ada")
    windows.set_limit(session, "role:coder", windows.TOKENS_PER_DAY, 2_000_000, "ada")
    windows.set_limit(session, "project:atlas", windows.COST_USD_PER_MONTH, 120.0, "ada")
    windows.set_limit(session, "key:ci", windows.TOKENS_PER_DAY, 500_000, "ada")
    used = {
        ("all", windows.COST_USD_PER_MONTH): (212.4, 3.0),
        ("role:coder", windows.TOKENS_PER_DAY): (1_710_000.0, 40_000.0),
        (f"key:{ci.id}", windows.TOKENS_PER_DAY): (498_200.0, 1_800.0),
    }
    for (scope, measure), (amount, leased) in used.items():
        session.add(
            BudgetWindow(scope=scope, measure=measure, used=amount, leased=leased,
                         starts_at=windows.window_start(measure, now()))
        )  # fmt: skip
    draw = random.Random(11)
    for ago in range(40):
        for role in ("coder", "tester", "reviewer", "researcher", "coordinator"):
            model = BASE if role in ("coder", "tester") else EXPERT
            calls = int((320 if role == "coder" else 110) * (0.6 + draw.random()))
            session.add(
                UsageDay(
                    day=(log.present - timedelta(days=ago)).date(), role=role, project="atlas",
                    model=model, key_name="ci" if role != "reviewer" else "", n_calls=calls,
                    n_errors=calls // 90, n_cached=calls // 25, n_estimated=calls // 200,
                    input_tokens=calls * 820, output_tokens=calls * 240,
                    cost_usd=round(calls * (0.0021 if model == EXPERT else 0.0002), 4),
                )
            )  # fmt: skip


def _circuit(upstream: str, address: str, model: str, state: str = "up", **told: Any) -> Any:
    return {"upstream": upstream, "address": address, "model": model, "state": state,
            "failures_in_a_row": 0, "first_byte_ms": 184.0, **told}  # fmt: skip


def captured(session: Session, log: Log) -> None:
    """The books of two writers and an importer, and records that were refused."""
    for writer, source, seen, waiting, dropped in (
        ("forge-4100-a1", "client", 9120, 14, {}),
        ("forge-4125-b7", "gateway", 15208, 0, {"too_large": 2}),
        ("laptop-771-c3", "client", 412, 0, {}),
    ):
        session.add(
            SpoolAccount(
                writer=writer, source=source, seen=seen, waiting=waiting, dropped=dropped,
                delivered=seen - waiting - sum(dropped.values()), reported_at=log.present,
            )
        )  # fmt: skip
    for source, outcome, n in (
        ("client", "stored", 9502), ("client", "duplicate", 8), ("client", "rejected:bad_role", 8),
        ("gateway", "stored", 15206), ("import:chat-jsonl", "stored", 1200),
        ("import:chat-jsonl", "rejected:too_long", 3),
    ):  # fmt: skip
        session.add(IngestCount(source=source, outcome=outcome, n=n))
    for n, (kind, reason) in enumerate(
        (
            ("interaction", "bad_role: got 'codr', expected one of coder, tester, reviewer"),
            ("interaction", "too_long: got 1,204,331 bytes, expected at most 1,000,000"),
            ("feedback", "out_of_range: rating: got 9, expected 1 to 5"),
            ("interaction", f"unreadable: {HOSTILE}"),
        )
    ):
        session.add(
            DeadLetter(
                id=log.id_at(log.present - timedelta(hours=n + 1)), kind=kind, source="client",
                record_id=f"record-{n}", code=reason.partition(":")[0],
                reason=reason, record='{"role": "codr", "messages": []}' if n < 3 else HOSTILE,
                received_at=log.present - timedelta(hours=n + 1),
            )
        )  # fmt: skip


def jobs(session: Session, made: Seeded, log: Log) -> None:
    """Jobs of every state beside the trainings: what a person may cancel or try again."""
    for name, kind, status, columns in (
        ("run/queued", "evaluator.evaluate", QUEUED, {"progress": None, "attempts": 0}),
        ("run/cancelled", "curation.build", CANCELLED, {}),
        ("run/broken", "curation.build", FAILED,
         {"error": "DatabaseUnavailable: the server closed the connection. Try again.",
          "attempts": 3}),
        ("run/evaluating", "evaluator.evaluate", RUNNING,
         {"progress": {"done": 31, "total": 192, "unit": "answers"}}),
    ):  # fmt: skip
        moment = log.present - timedelta(minutes=12)
        run = Run(
            **{
                "id": log.id_at(moment), "kind": kind, "role": "tester", "status": status,
                "params": {"role": "tester"}, "attempts": 1, "created_at": moment,
                "started_at": None if status == QUEUED else moment,
                "heartbeat_at": None if status == QUEUED else log.present + AHEAD,
                "finished_at": log.present if status in (CANCELLED, FAILED) else None,
                **columns,
            }
        )  # fmt: skip
        session.add(run)
        made.ids[name] = run.id


def reviewed(session: Session, made: Seeded) -> None:
    """Items of every kind and state, with what two reviewers said, who do not always agree."""
    draw = random.Random(5)
    _likenesses(session)
    queue.fill_queue(session, "coder")
    queue.fill_queue(session, "reviewer")
    queue_of = select(ReviewItem).where(ReviewItem.kind == "example", ReviewItem.role == "coder")
    items = list(session.exec(queue_of.order_by(col(ReviewItem.id))).all())
    missing = 64 - len(items)
    if missing > 0:
        items += _more_items(session, {item.subject_id for item in items}, missing)
    hostile = session.exec(
        select(Example).where(Example.interaction_id == made.ids["interaction/hostile"])
    ).one()
    items = [item for item in items if item.subject_id != hostile.id]
    for item in items[:16]:
        item.n_wanted = 2
        session.add(item)
    session.flush()
    for place, item in enumerate(items[:22]):
        _label(session, random.Random(place), item, "ines")
        if place < 14:
            own = draw if place % 5 == 3 else random.Random(place)
            _label(session, own, item, "tom")
    for item in items[22:25]:
        item.assigned_to = "tom"
        session.add(item)
    pairs = session.exec(
        select(PreferencePair).where(PreferencePair.status == KEPT).order_by(col(PreferencePair.id))
    ).all()
    known = set(session.scalars(select(ReviewItem.subject_id)).all())
    for pair in [pair for pair in pairs if pair.id not in known][:8]:
        session.add(ReviewItem(role="coder", kind="pair", subject_id=pair.id, reason="random",
                               priority=0.4))  # fmt: skip
    session.flush()
    held = leases.next_item(session, "tom", "coder", kind="example")
    if held is not None:
        leases.save_draft(session, held.id, "tom", {"answer": "def half_written(values):\n    ..."})
        made.ids["review/held"] = held.id
    made.ids["example/hostile"] = hostile.id
    waiting = select(ReviewItem.id).where(ReviewItem.subject_id == hostile.id)
    made.ids["review/hostile"] = session.exec(waiting).first()


def _more_items(session: Session, known: set[UUID], n: int) -> list[ReviewItem]:
    examples = session.exec(
        select(Example).where(Example.role == "coder").order_by(col(Example.id).desc())
    ).all()
    wanted = [example for example in examples if example.id not in known][:n]
    made = [
        ReviewItem(role="coder", subject_id=example.id, priority=0.5 - place / 1000,
                   reason=("uncertainty", "disagreement", "diversity", "filter")[place % 4])
        for place, example in enumerate(wanted)
    ]  # fmt: skip
    session.add_all(made)
    session.flush()
    return made


def _label(session: Session, draw: random.Random, item: ReviewItem, reviewer: str) -> None:
    session.refresh(item)
    if item.status != "open":
        return
    chance = draw.random()
    if chance < 0.62:
        labels.label(session, item.id, reviewer, "accept", {"rating": draw.randint(3, 5)})
    elif chance < 0.86:
        reason = draw.choice(["wrong for empty input", "does more than was asked", "unclear names"])
        labels.label(session, item.id, reviewer, "reject", reason=reason)
    else:
        labels.label(session, item.id, reviewer, "skip")


def _likenesses(session: Session) -> None:
    """Propose pairs of kept examples as repeats in other words, for a person to say."""
    known = session.exec(
        select(Example)
        .where(Example.role == "coder", Example.status == KEPT, col(Example.text_id).is_not(None))
        .order_by(col(Example.id))
    ).all()
    for one, other in list(zip(known, known[1:], strict=False))[:8:2]:
        (low, first), (high, second) = sorted(
            ((one.text_id or 0, one.id), (other.text_id or 0, other.id))
        )
        session.merge(TextEdge(low=low, high=high, kind="semantic", similarity=0.94))
        session.add(
            ReviewItem(
                role="coder", kind="likeness", subject_id=uuid5(first, str(second)),
                other_id=second, reason="semantic", priority=0.94,
                detail={"low": low, "high": high, "first": str(first), "similarity": 0.94},
            )
        )  # fmt: skip
    session.flush()


def watched(session: Session) -> None:
    """What drift is watched by, over the outcomes of the log."""
    drift.watch_all(session)


def changed_by_people(session: Session, made: Seeded, log: Log) -> None:
    """Entries of the audit log, with what was before and after; an emergency that is over."""
    session.add(
        Erasure(
            scope="unit", subject_hash="5e" * 32, reason="Asked for by the customer.", actor="ada",
            counts={"interactions": 12, "feedback": 31, "examples": 4},
            dataset_ids=[str(made.ids["dataset/old"])], model_versions=["coder-v1"],
        )
    )  # fmt: skip
    emergency.stop(session, "The provider answers with errors only.", "olga", "researcher")
    emergency.resume(session, "The provider is back.", "olga", "researcher")
    for n, (actor, role, action, kind, before, after, reason) in enumerate(
        (
            ("ada", "admin", "user.create", "users", None, {"name": "ines", "role": "reviewer"},
             None),
            ("ada", "admin", "budget.set", "traffic", {"amount": 300.0}, {"amount": 400.0},
             "November is a busy month."),
            ("olga", "operator", "experiment.stop", "experiments", {"status": "running"},
             {"status": "stopped"}, "It is plainly worse."),
            ("olga", "operator", "run.cancel", "runs", {"status": "running"},
             {"status": "cancelled"}, None),
            ("ines", "reviewer", "feedback.add", "interactions", None, {"text": HOSTILE}, HOSTILE),
        )
    ):  # fmt: skip
        moment = log.present - timedelta(hours=30 - 5 * n)
        session.add(
            AuditEntry(
                id=log.id_at(moment), actor=actor, role=role, action=action, subject_kind=kind,
                subject_id=str(made.ids["run/cancelled"]), before=before, after=after,
                reason=reason, via="password", address="10.0.0.23", created_at=moment,
            )
        )  # fmt: skip


def date_back(session: Session, log: Log) -> None:
    """Spread over the days what the functions above have dated today; the ids keep their order."""
    for table, column, days, until in (
        ("decision", "created_at", 5.5, 1.0),
        ("promotion", "created_at", 5.0, 1.0),
        ("evaluation", "created_at", 4.0, 0.9),
        ("verdict", "created_at", 3.5, 0.9),
        ("dataset", "created_at", 5.5, 0.9),
        ("example", "created_at", 5.5, 1.0),
        ("review_label", "created_at", 1.2, 1.0),
        ("experiment", "started_at", 5.0, 0.55),
    ):
        session.execute(
            text(
                f"""
                UPDATE {table} SET {column} = :present
                    - make_interval(secs => 86400 * :days * (1 - :until * place.share))
                    - interval '90 s'
                FROM (SELECT id, percent_rank() OVER (ORDER BY id) AS share FROM {table}) AS place
                WHERE place.id = {table}.id
                """
            ),
            {"present": log.present, "days": days, "until": until},
        )
    session.execute(
        text(
            """
            UPDATE model_version SET created_at = coalesce(
                (SELECT created_at + interval '31 min' FROM training_run
                 WHERE training_run.id = training_run_id), :present - interval '6 days')
            """
        ),
        {"present": log.present},
    )
    session.execute(
        text(
            """
            UPDATE experiment SET ended_at = started_at + interval '20 hours'
            WHERE ended_at IS NOT NULL
            """
        )
    )
    session.execute(
        text(
            """
            UPDATE experiment_phase SET started_at = experiment.started_at
                + number * (coalesce(ended_at, :present) - experiment.started_at) / 5
            FROM experiment WHERE experiment.id = experiment_id
            """
        ),
        {"present": log.present},
    )
    session.execute(
        text(
            """
            UPDATE experiment_look AS look SET looked_at = started_at
                + place.share * (coalesce(ended_at, :present) - started_at)
            FROM experiment, (
                SELECT experiment_id, looked_at, (rank() OVER own)::float / count(*) OVER (
                    PARTITION BY experiment_id) AS share
                FROM experiment_look WINDOW own AS (PARTITION BY experiment_id ORDER BY looked_at)
            ) AS place
            WHERE experiment.id = look.experiment_id AND place.experiment_id = look.experiment_id
                AND place.looked_at = look.looked_at
            """
        ),
        {"present": log.present},
    )
    session.execute(
        text(
            """
            UPDATE assignment SET assigned_at = started_at
                + place.share * (coalesce(ended_at, :present) - started_at)
            FROM experiment, (
                SELECT id, percent_rank() OVER (PARTITION BY experiment_id ORDER BY sequence)
                    AS share FROM assignment
            ) AS place
            WHERE experiment.id = assignment.experiment_id AND place.id = assignment.id
            """
        ),
        {"present": log.present},
    )


def name_more(session: Session, made: Seeded) -> None:
    """Name rows that pages are opened by: a coder's call with everything, a model that serves."""
    call = """
        SELECT interaction.id, interaction.episode_id FROM interaction JOIN example
            ON example.interaction_id = interaction.id
        WHERE example.role = 'coder' AND example.status = 'kept' AND example.project = 'atlas'
        ORDER BY interaction.id DESC LIMIT 1
    """
    made.ids["interaction"], made.ids["episode"] = session.execute(text(call)).one()
    for name, version in (("model", "coder-v3"), ("model/serving", "coder-v1")):
        made.ids[name] = registry.get_version(session, version).id
    for kind in ("example", "pair", "likeness", "sample"):
        waiting = select(ReviewItem.id).where(
            ReviewItem.kind == kind,
            ReviewItem.status == "open",
            col(ReviewItem.leased_by).is_(None),
            col(ReviewItem.assigned_to).is_(None),
        )
        made.ids[f"review/{kind}"] = session.exec(waiting.order_by(col(ReviewItem.id))).first()
    repeats = select(Example.id).where(col(Example.duplicate_of).is_not(None))
    made.ids["example/repeat"] = session.exec(repeats.order_by(col(Example.id))).first()
    kept = select(Example.id).where(
        Example.role == "coder", Example.status == KEPT, Example.project == "atlas"
    )
    made.ids["example"] = session.exec(kept.order_by(col(Example.id))).first()
    pairs = select(PreferencePair.id).where(PreferencePair.status == KEPT)
    made.ids["pair"] = session.exec(pairs.order_by(col(PreferencePair.id))).first()
    answers = select(Sample.id, Sample.suite_task_id).where(
        Sample.evaluation_id == made.ids["evaluation"], col(Sample.passed).is_(False)
    )
    made.ids["sample"], made.ids["task"] = session.exec(answers.order_by(col(Sample.id))).first()
    made.ids["erasure"] = session.exec(select(Erasure.id)).first()
    made.ids["audit"] = session.exec(select(AuditEntry.id).order_by(col(AuditEntry.id))).first()
    made.ids["unit"] = session.exec(
        select(Assignment.id)
        .where(Assignment.experiment_id == made.ids["experiment"])
        .order_by(col(Assignment.sequence).desc())
    ).first()


def main() -> None:
    """Bring the schema of the configured database up, fill it, and print what it holds as JSON."""
    from flywheel.schema import upgrade

    upgrade()
    made = seed()
    ids = {name: str(identifier) for name, identifier in made.ids.items()}
    print(json.dumps({"ids": ids, "tokens": made.tokens}))  # noqa: T201


if __name__ == "__main__":
    main()
