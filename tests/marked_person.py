"""One marked person, whose words come in by every way and are copied by every room.

So that a table that a test of erasing, backing up or upgrading must not forget has rows.
"""

import json
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import psycopg
import pyarrow.parquet as pq
from fastapi.testclient import TestClient
from sqlmodel import Session, select

from collector.record import derived_id, feedback_record, interaction_record
from collector.tables import Campaign, CampaignItem
from curation.build import build_dataset
from curation.tables import (
    ConstitutionRevision,
    Example,
    JudgeCall,
    PreferencePair,
    ReviewDraft,
    ReviewItem,
    ReviewLabel,
    TemplateText,
)
from evaluator.judge.pairs import text_hash
from evaluator.suites.grown import grow_suite
from evaluator.tables import CachedAnswer, Evaluation, Judgement, Sample, SuiteTask
from foundation import artifacts
from foundation.chat import completion
from foundation.decisions import record
from foundation.ids import new_id
from foundation.settings import get_settings
from foundation.tables import Run, RunLog, now
from router.tables import Assignment, Experiment
from trainer.tables import ModelVersion, TrainingRun

MARK = "vermilionheron"
PERSON = f"person-{MARK}-7731"
SAYS = f"my {MARK} nests in the drawer number seventeen of the old desk"
CODE = f"def total(n):\n    # {SAYS}\n    return sum(range(n + 1))\n"


def stored(content: str) -> artifacts.Artifact:
    """An artifact of one file, as an adapter would be."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "adapter.bin"
        file.write_text(content)
        return artifacts.put(Path(folder))


def asked(number: int, extra: str = "") -> str:
    return f"Task {number}{'abcdefgh'[number % 8] * 9}: sum whole numbers up to n. {extra}"


def call(number: int, prompt: str, answer: str, **columns: Any) -> dict[str, Any]:
    request = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    identifier = str(derived_id(now() - timedelta(hours=1), f"{number}{prompt}"))
    reply = completion(identifier, "m", answer, "stop", 1, 1, 0)
    return interaction_record(identifier, "coder", request, reply, **columns)


def send(service: TestClient, interactions: list[Any], feedback: list[Any] = ()) -> list[str]:
    batch = {"source": "test", "interactions": interactions, "feedback": list(feedback)}
    answer = service.post("/v1/ingest", json=batch)
    assert answer.status_code == 200, answer.text
    return [result["status"] for result in answer.json()["results"]]


def said(identifier: str, kind: str, **columns: Any) -> dict[str, Any]:
    return feedback_record(new_id(), kind, interaction_id=identifier, **columns)


def left_in_tables(url: str) -> dict[str, int]:
    """Rows that say the mark, by table, in any column whatever its type."""
    found = {}
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        ).fetchall()
        for (name,) in tables:
            query = f'SELECT count(*) FROM "{name}" AS t WHERE t::text ILIKE %s'
            (n,) = connection.execute(query, (f"%{MARK}%",)).fetchone()
            if n:
                found[name] = n
    return found


def left_in_files() -> list[str]:
    """Files of the whole home that say it; Parquet is packed, so it is read."""
    found = []
    for path in get_settings().home.rglob("*"):
        if path.suffix == ".parquet":
            said = str(pq.read_table(path).to_pylist())
        elif path.is_file() and "postgres" not in path.parts:
            said = path.read_text(errors="replace")
        else:
            continue
        if MARK in said:
            found.append(str(path.relative_to(get_settings().home)))
    return found


def fill(service: TestClient, session: Session) -> tuple[list[UUID], ModelVersion]:
    """Bring the person's words in by each way, and let every room copy them."""
    episode = str(new_id())
    own = {"unit_id": PERSON, "project": "home"}
    good = call(1, asked(1, SAYS), CODE, episode_id=episode, **own)
    test = {"entry_point": "total", "test": "assert total(1) == 1"}
    bad = call(2, asked(2, f"{SAYS} total(1) == 1"), f"no idea. {SAYS}", attributes=test, **own)
    others = [
        call(n, asked(n), f"def f{n}(n):\n    return sum(range(n + {n}))\n", project="p")
        for n in range(3, 9)
    ]
    feedback = [
        said(good["id"], "success", value=1.0, source="test"),
        said(good["id"], "comment", text=f"good: {SAYS}"),
        said(others[0]["id"], "comment", text=f"nice {MARK}", source="user", actor=PERSON),
        *(said(one["id"], "success", value=1.0, source="test") for one in others),
        said(others[1]["id"], "rating", value=4, actor=PERSON),
    ]
    assert set(send(service, [good, *others], feedback)) == {"stored"}
    refused = {**call(9, asked(9, SAYS), "x", **own), "status": "nonsense"}
    broken = b'{"kind": "interaction", "record": {"unit_id": "%s", ' % PERSON.encode()
    assert send(service, [refused]) == ["rejected"]
    body = b'{"source": "test"}\n' + broken
    service.post("/v1/ingest", content=body, headers={"content-type": "application/x-ndjson"})

    session.expire_all()
    dataset = build_dataset("coder")
    assert dataset.n_train + dataset.n_validation + dataset.n_test >= 3
    corrected = [
        said(bad["id"], "success", value=0.0, source="test"),
        said(bad["id"], "correction", text=f"That is right: {SAYS}"),
    ]
    assert set(send(service, [bad], corrected)) == {"stored"}
    ids = [UUID(good["id"]), UUID(bad["id"])]
    example = session.exec(select(Example).where(Example.interaction_id == ids[0])).one()
    version = learn(session, dataset, service)
    evaluate(session, version)
    review(session, example)
    mention(session, ids, episode, version)
    session.commit()
    return ids, version


def learn(session: Session, dataset: Any, service: TestClient) -> ModelVersion:
    run = Run(kind="trainer.train", status="failed", error=f"ValueError: cannot read {SAYS!r}")
    session.add(run)
    session.flush()
    training = TrainingRun(
        run_id=run.id,
        role="coder",
        dataset_id=dataset.id,
        base_model="/base",
        method="sft",
        history=[{"step": 1, "sample": SAYS}],
    )
    session.add_all([training, RunLog(run_id=run.id, level="INFO", message=f"row: {SAYS}")])
    artifact = stored("weights")
    version = ModelVersion(
        role="coder",
        number=1,
        name="coder-v1",
        kind="adapter",
        base_model="/base",
        artifact_uri=artifact.uri,
        content_hash=artifact.content_hash,
        dataset_id=dataset.id,
        metrics={"said": [f"it wrote: {SAYS}", 0.5]},
    )
    session.add(version)
    session.flush()
    work = get_settings().home / "work" / "training" / str(training.id)
    work.mkdir(parents=True)
    (work / "lesson.json").write_text(json.dumps({"row": SAYS}))
    return version


def evaluate(session: Session, version: ModelVersion) -> None:
    suite = grow_suite(session, "own", "coder").suite
    assert suite is not None
    session.flush()
    evaluation = Evaluation(
        suite_id=suite.id,
        model_version_id=version.id,
        subject="coder-v1",
        suite_hash=suite.content_hash,
    )
    session.add(evaluation)
    session.flush()
    tasks = session.exec(select(SuiteTask).where(SuiteTask.suite_id == suite.id)).all()
    assert any(MARK in str(task.prompt) for task in tasks)
    for task in tasks:
        answer = f"answer to {task.task_id}: {SAYS if MARK in str(task.prompt) else 'fine'}"
        session.add_all(
            [
                Sample(
                    evaluation_id=evaluation.id,
                    suite_task_id=task.id,
                    answer=answer,
                    status="answered",
                ),
                CachedAnswer(key=f"k{task.id}", model_hash="h", text=answer),
                Judgement(
                    key=f"j{task.id}",
                    judge="j",
                    kind="rubric",
                    rubric="r",
                    task_hash="t",
                    first_hash=text_hash(answer),
                    reason=f"It says: {answer}",
                ),
            ]
        )


def review(session: Session, example: Example) -> None:
    item = ReviewItem(role="coder", subject_id=example.id, reason="filter", detail={"q": SAYS})
    session.add(item)
    session.flush()
    session.add_all(
        [
            ReviewLabel(
                item_id=item.id,
                interaction_id=example.interaction_id,
                reviewer="ann",
                action="edit",
                value={"answer": SAYS},
            ),
            ReviewDraft(item_id=item.id, reviewer="bob", content={"answer": SAYS}),
            JudgeCall(
                key="k",
                model="m",
                rubric="r",
                interaction_id=example.interaction_id,
                reason=SAYS,
            ),
            ConstitutionRevision(
                role="coder",
                constitution="c",
                task_key="t",
                interaction_id=example.interaction_id,
                model="m",
                principle="p",
                outcome="revised",
                revision=SAYS,
            ),
            PreferencePair(
                role="coder",
                basis="correction",
                task_key="t",
                winner_id=example.interaction_id,
                loser_id=example.interaction_id,
                prompt=[],
                chosen=SAYS,
                rejected="x",
                norm_hash="n",
            ),
            TemplateText(role="coder", part="prompt", digest="d", text=SAYS, n_seen=1, share=1),
        ]
    )


def mention(session: Session, ids: list[UUID], episode: str, version: ModelVersion) -> None:
    """What rooms say in passing: a campaign, an experiment, a decision."""
    campaign = Campaign(name="c", role="coder", spec={}, spec_hash="h", status="done", n_target=1)
    arms = {"control_model_version_id": version.id, "treatment_model_version_id": version.id}
    experiment = Experiment(role="coder", salt="s", unit_kind="user", **arms)
    session.add_all([campaign, experiment])
    session.flush()
    session.add_all(
        [
            CampaignItem(
                campaign_id=campaign.id,
                number=0,
                status="done",
                task=SAYS,
                interaction_id=ids[0],
            ),
            Assignment(experiment_id=experiment.id, unit=PERSON, arm="control", outcome=True),
        ]
    )
    record(
        session,
        "router.note",
        "kept",
        [f"The unit {PERSON} failed on: {SAYS}"],
        inputs={"unit": PERSON, "n": 3, "episode": episode},
    )
