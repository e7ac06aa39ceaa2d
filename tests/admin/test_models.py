"""Models: the list, one version's lineage, files and history, and its stage set by hand."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import Session, select
from starlette.testclient import TestClient

from admin import models
from admin.access import sessions
from admin.formats import size
from admin.pages import create_admin_app
from admin.tables import AuditEntry
from curation.tables import Dataset
from foundation import artifacts
from foundation.settings import get_settings
from foundation.tables import DONE, Decision, Run, now
from router.tables import STOPPED, Experiment, Promotion, RoleServing
from trainer.tables import CANDIDATE, PRODUCTION, QUARANTINED, RETIRED, ModelVersion, TrainingRun

Get = Callable[..., httpx.Response]
FORM = {"sec-fetch-site": "same-origin"}


def version(session: Session, number: int = 1, **columns: Any) -> ModelVersion:
    made = ModelVersion(
        **{
            "role": "coder",
            "number": number,
            "name": f"coder-v{number}",
            "kind": "adapter",
            "base_model": "tiny",
            **columns,
        }
    )
    session.add(made)
    session.commit()
    return made


def trained(session: Session, number: int, recipe: dict[str, Any], **columns: Any) -> ModelVersion:
    dataset = Dataset(role="coder", number=number, content_hash="ab" * 32, n_train=8)
    run = Run(kind="trainer.train", role="coder", status=DONE)
    session.add_all([dataset, run])
    session.flush()
    training = TrainingRun(
        run_id=run.id,
        role="coder",
        dataset_id=dataset.id,
        base_model="tiny",
        method="sft-lora",
        recipe=recipe,
        manifest={"code_version": "1.0"},
    )
    session.add(training)
    session.flush()
    return version(session, number, dataset_id=dataset.id, training_run_id=training.id, **columns)


def serve(session: Session, one: ModelVersion) -> None:
    promotion = Promotion(role="coder", kind="initial", to_model_version_id=one.id, reason="first")
    session.add(promotion)
    session.flush()
    session.add(RoleServing(role="coder", model_version_id=one.id, promotion_id=promotion.id))
    session.commit()


def experiment(session: Session, one: ModelVersion, other: ModelVersion, **columns: Any) -> None:
    session.add(
        Experiment(
            role="coder",
            control_model_version_id=one.id,
            treatment_model_version_id=other.id,
            salt="s",
            **columns,
        )
    )
    session.commit()


def test_each_version_is_one_row_with_where_it_serves(session: Session, get: Get) -> None:
    base = version(session, 0, name="coder-base", kind="base", stage=PRODUCTION)
    child = version(session, 1, parent_id=base.id, metrics={"size_bytes": 2048})
    serve(session, base)
    experiment(session, base, child, treatment_share=0.2)
    exported = [
        json.loads(line) for line in get("/admin/models?format=jsonl&sort=name").text.splitlines()
    ]
    assert [(row["name"], row["served"], row["parent"]) for row in exported] == [
        ("coder-base", "serves coder", "tiny"),
        ("coder-v1", "treatment, 20% of coder", "coder-base"),
    ]
    assert exported[1]["size_bytes"] == 2048
    assert size(2048) in get("/admin/models?stage=candidate").text
    for sort in models.LISTING.sortable:
        assert get(f"/admin/models?sort=-{sort}").status_code == 200, sort


def test_files_are_shown_with_their_sizes_and_hashes(
    session: Session, get: Get, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    artifact = artifacts.put(folder)
    one = version(session, artifact_uri=artifact.uri, content_hash=artifact.content_hash)
    page = models.detail(session, one.id)
    assert [(file.name, file.size_bytes, file.sha256) for file in page.files] == [
        ("adapter_config.json", 2, hashlib.sha256(b"{}").hexdigest()),
        ("adapter_model.safetensors", 7, hashlib.sha256(b"weights").hexdigest()),
    ]
    assert artifacts.listed(artifact.uri) == [
        ("adapter_config.json", 2),
        ("adapter_model.safetensors", 7),
    ]
    answer = get(f"/admin/models/{one.id}/manifest.json")
    assert 'filename="coder-v1.manifest.json"' in answer.headers["content-disposition"]
    assert [file["name"] for file in answer.json()["files"]] == [file.name for file in page.files]


def test_files_that_are_gone_are_said_to_be(session: Session, get: Get) -> None:
    one = version(session, artifact_uri=f"sha256/{'0' * 64}")
    assert models.detail(session, one.id).files_gone
    assert "not in the artifact store" in get(f"/admin/models/{one.id}").text
    one.files_removed_at = now()
    session.commit()
    assert "Collected as garbage" in get(f"/admin/models/{one.id}").text


def test_exports_on_this_machine_are_known(session: Session) -> None:
    folder = get_settings().home.absolute() / "served"
    folder.mkdir(parents=True)
    (folder / "coder-v1.gguf").write_bytes(b"GGUF")
    (folder / "outside.gguf").write_bytes(b"GGUF")
    one = version(session)
    assert [(file.name, file.size_bytes) for file in models.exports_of(one)] == [
        ("coder-v1.gguf", 4)
    ]
    assert models.exports_of(version(session, 2, name="../served/outside")) == ()


def test_what_differs_from_another_version(session: Session, get: Get) -> None:
    one = trained(session, 1, {"r": 8}, metrics={"rows": 5})
    two = trained(session, 2, {"r": 16}, metrics={"rows": 9})
    against = models.detail(session, two.id, one.id).against
    assert against is not None
    assert [(d.name, d.here, d.there) for d in against.differences] == [
        ("dataset", "coder v2", "coder v1"),
        ("metrics.rows", 9, 5),
        ("recipe.r", 16, 8),
    ]
    assert get(f"/admin/models/{two.id}?against={one.id}").status_code == 200
    assert get(f"/admin/models/{two.id}?against={two.id}").status_code == 400
    assert get(f"/admin/models/{two.id}?against={UUID(int=7)}").status_code == 400


def test_its_page_leads_to_its_card_and_to_all_that_differs(session: Session, get: Get) -> None:
    one, two = (trained(session, n, {"r": 8 * n}, metrics={"rows": n}) for n in (1, 2))
    shown = get(f"/admin/models/{two.id}?against={one.id}").text
    for path in (f"/admin/models/{two.id}/card", f"/admin/models/{two.id}/diff/{one.id}.json"):
        assert f'{path}"' in shown
        assert get(path).status_code == 200
    card = get(f"/admin/models/{two.id}/card")
    assert card.headers["content-security-policy"].startswith("default-src 'none'")
    found = get(f"/admin/models/{two.id}/diff/{one.id}.json").json()
    assert (found["versions"], found["recipe"]["r"]) == (["coder-v1", "coder-v2"], [8, 16])
    assert get(f"/admin/models/{UUID(int=7)}/card").status_code == 404


def test_what_happened_to_a_version_stands_newest_first(session: Session) -> None:
    one = version(session)
    session.add(
        Decision(kind="evaluator.deploy", outcome="deploy", reasons=["better"], subject_id=one.id)
    )
    session.commit()
    serve(session, one)
    page = models.detail(session, one.id)
    assert [(one.what, one.reason) for one in page.happenings] == [
        ("initial", "first"),
        ("evaluator.deploy: deploy", "better"),
    ]
    assert page.first_promotion is not None


@pytest.fixture
def browser(session: Session, signed_in: Callable[..., str]) -> Callable[[str], TestClient]:
    def opened(role: str) -> TestClient:
        app = FastAPI()
        app.mount("/admin", create_admin_app())
        client = TestClient(app, follow_redirects=False)
        client.cookies.set(sessions.COOKIE, signed_in(session, role, f"{role}-of-test"))
        return client

    return opened


def set_stage(client: TestClient, one: ModelVersion, stage: str) -> int:
    form = {"stage": stage, "reason": "it repeats itself"}
    answer = client.post(f"/admin/models/{one.id}/stage", data=form, headers=FORM)
    return int(answer.status_code)


def stage_of(session: Session, one: ModelVersion) -> str:
    session.expire_all()
    return session.get_one(ModelVersion, one.id).stage


def test_an_operator_sets_a_stage_and_it_is_written_down(
    session: Session, browser: Callable[[str], TestClient]
) -> None:
    one = version(session)
    client = browser("operator")
    assert set_stage(client, one, QUARANTINED) == 303
    assert stage_of(session, one) == QUARANTINED
    assert set_stage(client, one, CANDIDATE) == 409, "it may only retire now"
    assert set_stage(client, one, RETIRED) == 303
    entries = session.exec(select(AuditEntry).where(AuditEntry.action == "model.stage")).all()
    assert [(e.before, e.after, e.reason) for e in entries] == [
        ({"stage": CANDIDATE}, {"stage": QUARANTINED}, "it repeats itself"),
        ({"stage": QUARANTINED}, {"stage": RETIRED}, "it repeats itself"),
    ]
    history = [(h.what, h.actor) for h in models.detail(session, one.id).happenings]
    assert history == [
        ("stage: retired", "operator-of-test"),
        ("stage: quarantined", "operator-of-test"),
    ]
    kept = session.exec(select(Decision).where(Decision.kind == "trainer.stage")).all()
    assert [(d.outcome, d.reasons, d.actor) for d in kept] == [
        (QUARANTINED, ["it repeats itself"], "operator-of-test"),
        (RETIRED, ["it repeats itself"], "operator-of-test"),
    ]


def test_who_serves_or_is_tried_keeps_its_stage(
    session: Session, browser: Callable[[str], TestClient]
) -> None:
    one = version(session, 1, stage=PRODUCTION)
    two = version(session, 2, stage="experimental")
    serve(session, one)
    experiment(session, one, two)
    client = browser("operator")
    for busy in (one, two):
        assert models.detail(session, busy.id).stages == []
        assert set_stage(client, busy, RETIRED) == 409
    assert (stage_of(session, one), stage_of(session, two)) == (PRODUCTION, "experimental")


def test_one_whose_experiment_has_ended_may_be_set_aside(
    session: Session, browser: Callable[[str], TestClient]
) -> None:
    one, two = version(session, 1, stage=PRODUCTION), version(session, 2)
    experiment(session, one, two, status=STOPPED)
    assert set_stage(browser("operator"), two, RETIRED) == 303


def test_no_stage_of_traffic_is_set_by_hand_nor_any_by_others(
    session: Session, browser: Callable[[str], TestClient]
) -> None:
    one = version(session)
    assert set_stage(browser("operator"), one, PRODUCTION) == 400
    for role in ("viewer", "reviewer"):
        client = browser(role)
        assert set_stage(client, one, RETIRED) == 403
        assert "set-stage" not in client.get(f"/admin/models/{one.id}").text
    assert stage_of(session, one) == CANDIDATE


@pytest.mark.parametrize("part", ["", "/manifest.json"])
def test_a_version_that_is_not_there(get: Get, part: str) -> None:
    assert get(f"/admin/models/{UUID(int=7)}{part}").status_code == 404


def test_an_empty_database_says_what_to_do(get: Get) -> None:
    assert re.search("No model version yet", get("/admin/models").text)
