"""A filled database, and a way to get pages of the admin application without a server."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlmodel import Session, col

from admin.access import sessions, users
from admin.pages import create_admin_app
from admin.tables import AuditEntry
from collector.tables import Feedback, Interaction, InteractionPayload
from curation.tables import (
    DROPPED,
    Dataset,
    DatasetShard,
    Example,
    PreferencePair,
    ShardRow,
)
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask, Verdict
from foundation.ids import new_id
from foundation.tables import DONE, FAILED, RUNNING, Decision, Run, now
from router.tables import Assignment, Experiment, Promotion, RoleServing
from trainer.tables import ModelVersion, TrainingRun

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}</textarea>\u202e"

Get = Callable[..., httpx.Response]


def signed_in(session: Session, role: str = "admin", name: str = "ada") -> str:
    """Return what the cookie of a signed-in user of `role` holds."""
    user = users.find(session, name) or users.create(session, name, role, actor="test")
    token = sessions.open_session(session, user, "code")
    session.commit()
    return token


def getter(app: FastAPI, root_path: str = "", token: str | None = None) -> Get:
    def get(
        path: str, method: str = "GET", data: dict[str, Any] | None = None, **headers: str
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            # Errors become the answers that a browser would see.
            transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path=root_path)
            cookies = {sessions.COOKIE: token} if token else {}
            async with httpx.AsyncClient(
                transport=transport, base_url="http://wheel", cookies=cookies
            ) as client:
                return await client.request(method, path, data=data, headers=headers)

        return asyncio.run(ask())

    return get


OURS = {"sec-fetch-site": "same-origin"}
"""What a browser says of a form that one of our pages sends."""


@dataclass
class Browser:
    """Keeps cookies by their path, follows nothing, and sends forms as a page of ours would."""

    app: FastAPI
    base: str = "http://127.0.0.1:8710"
    cookies: httpx.Cookies = field(default_factory=httpx.Cookies)
    address: str = "127.0.0.1"

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(
                self.app, raise_app_exceptions=False, client=(self.address, 40_000)
            )
            async with httpx.AsyncClient(
                transport=transport, base_url=self.base, cookies=self.cookies
            ) as client:
                answer = await client.request(method, path, **given)
                self.cookies = client.cookies
                return answer

        return asyncio.run(go())

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("GET", f"/admin{path}", headers=headers)

    def post(self, path: str, **fields: Any) -> httpx.Response:
        return self.ask("POST", f"/admin{path}", data=fields, headers=OURS)

    @property
    def token(self) -> str | None:
        return self.cookies.get(sessions.COOKIE)


@pytest.fixture
def visit(session: Session) -> Callable[..., Browser]:
    """Return browsers of the service; of a role, one that is signed in as somebody of it."""
    service = FastAPI()
    service.mount("/admin", create_admin_app())

    def open_browser(role: str = "", name: str = "", **given: Any) -> Browser:
        browser = Browser(given.pop("app", service), **given)
        if role:
            token = signed_in(session, role, name or f"a {role}")
            browser.cookies.set(
                sessions.COOKIE, token, domain=httpx.URL(browser.base).host, path="/admin"
            )
        return browser

    return open_browser


@pytest.fixture(name="getter")
def getter_fixture() -> Callable[..., Get]:
    return getter


@pytest.fixture(name="add_call")
def add_call_fixture() -> Callable[..., UUID]:
    return add_call


@pytest.fixture(name="signed_in")
def signed_in_fixture() -> Callable[..., str]:
    return signed_in


def audited(session: Session, n: int = 1) -> list[AuditEntry]:
    """Return the newest entries of the audit log, the newest first."""
    session.expire_all()
    query = select(AuditEntry).order_by(col(AuditEntry.id).desc()).limit(n)
    return list(session.scalars(query).all())


@pytest.fixture(name="audited")
def audited_fixture() -> Callable[..., list[AuditEntry]]:
    return audited


@pytest.fixture
def hostile() -> str:
    return HOSTILE


@pytest.fixture
def get(session: Session) -> Get:
    """Get a page of the application as the service mounts it at /admin, signed in as an admin."""
    service = FastAPI()
    service.mount("/admin", create_admin_app())
    return getter(service, token=signed_in(session))


@dataclass
class Filled:
    """Ids of one row of each noun, and where each is shown."""

    ids: dict[str, UUID] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    """Pages of a noun's other kinds."""

    @property
    def paths(self) -> list[str]:
        return [
            *(f"/admin/{noun}/{identifier}" for noun, identifier in self.ids.items()),
            *self.more,
        ]


def add_call(session: Session, role: str = "coder", text: str = HOSTILE, **columns: Any) -> UUID:
    identifier: UUID = columns.pop("id", None) or new_id()
    session.add(Interaction(id=identifier, role=role, **columns))
    messages = [
        {"role": "system", "content": f"You are a {role}."},
        {"role": text, "content": [{"type": "text", "text": text}], "name": text},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": text}}]},
        {"role": "user", "content": text},
    ]
    answer = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    session.add(
        InteractionPayload(
            id=identifier, request={"messages": messages}, response=answer, attributes={text: text}
        )
    )
    return identifier


@pytest.fixture
def filled(session: Session) -> Filled:
    """One of everything, with hostile text wherever a person or a model may write."""
    episode, h = new_id(), timedelta(hours=1)
    call = add_call(
        session,
        task_type=HOSTILE,
        episode_id=episode,
        source=HOSTILE,
        error_type=HOSTILE,
        gen_ai_response_model=HOSTILE,
        scrub={HOSTILE: 2, "email": 1},
        arm="treatment",
    )
    add_call(session, role="tester", episode_id=episode)
    for kind, said in (
        ("success", {"value": 1.0}),
        ("rating", {"value": 4.0}),
        ("comment", {"text": HOSTILE}),
    ):
        session.add(Feedback(interaction_id=call, kind=kind, actor=HOSTILE, **said))
    session.add(Feedback(episode_id=episode, kind="correction", text=HOSTILE))

    build = Run(
        kind="curation.build",
        role="coder",
        status=FAILED,
        error=HOSTILE,
        started_at=now(),
        attempts=1,
    )
    train = Run(
        kind="trainer.train",
        role="coder",
        status=RUNNING,
        progress={"done": 30, "total": 40, "unit": "steps", "loss": 0.5},
        params={"note": HOSTILE},
        started_at=now() - h,
        heartbeat_at=now(),
    )
    session.add_all([build, train, Run(kind="evaluator.evaluate", status=DONE, result={"ok": 1})])
    session.flush()

    dataset = Dataset(
        role="coder",
        number=1,
        content_hash="ab" * 32,
        n_train=8,
        n_validation=1,
        n_test=1,
        run_id=build.id,
        card={
            "dropped_by_reason": {"near_duplicate": 3, "failed_outcome": 9, HOSTILE: 1},
            "task_types": {HOSTILE: 4},
            "warnings": [HOSTILE],
            "verified_share": 0.5,
            "quality": {
                "coverage": {"value": 0.5, "target": 0.8, "met": False, "why_not": None},
                "novelty": {"value": None, "target": None, "met": None, "why_not": HOSTILE},
            },
            "n_tokens": {"p50": 40},
        },
    )
    prompt = [{"role": "user", "content": HOSTILE}]
    words = {"role": "coder", "prompt": prompt, "answer": HOSTILE, "norm_hash": "x"}
    kept = Example(interaction_id=call, **words, created_at=now() - h)
    repeat = Example(
        interaction_id=new_id(),
        **words,
        status=DROPPED,
        drop_reason="near_duplicate",
        duplicate_of=kept.id,
        similarity=0.91,
        created_at=now() - h,
    )
    session.add_all([dataset, kept, repeat])
    session.flush()
    session.add(
        DatasetShard(
            dataset_id=dataset.id, split="train", position=0, shard="s", n_rows=1, uri="sha256/s"
        )
    )
    session.add(ShardRow(shard="s", row_id=kept.id))

    pairs = Dataset(role="coder", kind="preference", number=1, content_hash="cd" * 32, n_train=1)
    pair = PreferencePair(
        role="coder",
        basis="outcome",
        task_key=HOSTILE,
        winner_id=call,
        loser_id=new_id(),
        prompt=prompt,
        chosen=HOSTILE,
        rejected=HOSTILE,
        norm_hash="x",
    )
    session.add_all([pairs, pair])
    session.flush()
    session.add(
        DatasetShard(
            dataset_id=pairs.id, split="train", position=0, shard="p", n_rows=1, uri="sha256/p"
        )
    )
    session.add(ShardRow(shard="p", row_id=pair.id))

    training = TrainingRun(
        run_id=train.id,
        role="coder",
        dataset_id=dataset.id,
        base_model=HOSTILE,
        method="sft-lora",
        recipe={"r": 16},
        metrics={"validation_loss": 0.4},
        history=[
            {"step": 5, "loss": 2.0},
            {"step": 10, "loss": 1.0, "lr": 1e-4},
            {"step": 10, "validation_loss": 1.2},
        ],
    )
    session.add(training)
    session.flush()
    base = ModelVersion(role="coder", number=1, name="coder-base", kind="base", base_model="tiny")
    session.add(base)
    session.flush()
    model = ModelVersion(
        role="coder",
        number=2,
        name=f"coder-v1 {HOSTILE}",
        kind="adapter",
        base_model="tiny",
        training_run_id=training.id,
        dataset_id=dataset.id,
        parent_id=base.id,
        stage="production",
    )
    suite = Suite(name="held-out", role="coder", content_hash="cd" * 32, n_tasks=2, origin=HOSTILE)
    session.add_all([model, suite])
    session.flush()

    sides = [
        Evaluation(
            suite_id=suite.id,
            model_version_id=version.id,
            subject=version.name,
            success_rate=rate,
            ci_low=rate - 0.1,
            ci_high=rate + 0.1,
            n_samples=4,
            settings={"seed": 7, "batch_tokens_per_s": [123.25] * 500},
        )
        for version, rate in ((base, 0.25), (model, 0.75))
    ]
    tasks = [
        SuiteTask(
            suite_id=suite.id,
            task_id=f"t/{n} {HOSTILE}",
            prompt=prompt,
            grader="calls",
            reference={},
            attributes={"task_type": ["map", "filter"][n]},
        )
        for n in range(2)
    ]
    session.add_all([*sides, *tasks])
    session.flush()
    for side, results in zip(
        sides, ([True, False, False, False], [True, True, True, False]), strict=True
    ):
        session.add_all(
            Sample(
                evaluation_id=side.id,
                suite_task_id=tasks[n // 2].id,
                number=n % 2,
                answer=HOSTILE,
                passed=passed,
                status="PASS" if passed else "WRONG",
                detail=HOSTILE,
            )
            for n, passed in enumerate(results)
        )

    decision = Decision(
        kind="evaluator.deploy",
        role="coder",
        outcome="deploy",
        reasons=[HOSTILE, "It is better."],
        inputs={
            **{"improvement_points": 50.0, "ci_low": 20.0, "ci_high": 80.0},
            "evidence": {"note": HOSTILE, "nested": {"a": None}},
        },
        rule={"deploy_points": 10, "minimum_points": 5, "speed_ratio": 1.5, "reading": "interval"},
        subject_id=model.id,
    )
    session.add(decision)
    session.flush()
    verdict = Verdict(
        role="coder",
        suite_id=suite.id,
        baseline_evaluation_id=sides[0].id,
        candidate_evaluation_id=sides[1].id,
        n_tasks=2,
        improvement_points=50.0,
        ci_low=20.0,
        ci_high=80.0,
        p_value=0.01,
        outcome="deploy",
        decision_id=decision.id,
    )
    experiment = Experiment(
        role="coder",
        control_model_version_id=base.id,
        treatment_model_version_id=model.id,
        salt="s",
        plan={"alpha": 0.05},
        state={
            "wins": 9,
            "losses": 2,
            "ties": 4,
            "e_value": 7.5,
            "difference": {"estimate": 0.2, "low": -0.1, "high": 0.5, "n_units": 6},
            "reasons": [HOSTILE],
        },
    )
    session.add_all([verdict, experiment])
    session.flush()
    for n, (arm, outcome) in enumerate(
        [("control", True), ("control", False), ("treatment", True), ("treatment", None)]
    ):
        session.add(
            Assignment(
                experiment_id=experiment.id, unit=f"u{n}", arm=arm, outcome=outcome, n_calls=2
            )
        )
    promotion = Promotion(
        role="coder",
        kind="promote",
        from_model_version_id=base.id,
        to_model_version_id=model.id,
        experiment_id=experiment.id,
        reason=HOSTILE,
    )
    session.add(promotion)
    session.flush()
    session.add(RoleServing(role="coder", model_version_id=model.id, promotion_id=promotion.id))
    session.commit()
    return Filled(
        {
            "interactions": call,
            "datasets": dataset.id,
            "runs": train.id,
            "models": model.id,
            "evaluations": sides[1].id,
            "verdicts": verdict.id,
            "experiments": experiment.id,
            "decisions": decision.id,
        },
        more=(f"/admin/datasets/{pairs.id}", f"/admin/datasets/{pairs.id}?show=dropped"),
    )
