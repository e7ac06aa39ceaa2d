"""Who is needed, as the rooms above the trainer know it; and the commands that tell and remove."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from adapters_on_disk import stored
from by_hand import Said
from sqlmodel import Session

from flywheel.garbage import needed
from foundation.settings import get_settings
from foundation.tables import now
from router import promote
from router.tables import Experiment, RolePolicy, SpecialistFit
from trainer.tables import ModelVersion


def add(session: Session, number: int, stage: str = "retired") -> ModelVersion:
    artifact = stored(f"weights {number}")
    version = ModelVersion(
        role="coder",
        number=number,
        name=f"coder-v{number}",
        kind="adapter",
        base_model="/base",
        artifact_uri=artifact.uri,
        content_hash=artifact.content_hash,
        stage=stage,
        created_at=now() - timedelta(days=100),
    )
    session.add(version)
    session.flush()
    return version


def kept(session: Session) -> dict[str, str]:
    session.commit()
    return {session.get_one(ModelVersion, id).name: why for id, why in needed(session).items()}


def test_who_serves_and_who_served_before_is_needed(session: Session) -> None:
    first, second, _ = (add(session, number, "candidate") for number in (1, 2, 3))
    promote.initial(session, "coder", first, reason="first", actor="ada")
    promote.promote(session, "coder", second, reason="better", actor="ada")
    assert kept(session) == {
        "coder-v1": "coder is rolled back to it",
        "coder-v2": "it serves coder",
    }


def test_both_arms_of_an_experiment_and_a_baseline_are_needed(session: Session) -> None:
    arms = add(session, 1), add(session, 2)
    session.add(
        Experiment(
            role="coder",
            control_model_version_id=arms[0].id,
            treatment_model_version_id=arms[1].id,
            salt="s",
        )
    )
    session.add(RolePolicy(role="coder", baseline_model_version_id=add(session, 3).id))
    add(session, 4)
    assert set(kept(session)) == {"coder-v1", "coder-v2", "coder-v3"}


def test_what_the_deployment_names_is_needed(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    versions = [add(session, number) for number in range(1, 7)]
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "roles: {coder: {specialists: {rules: [{model: coder-v1}]}}}  # not my-coder-v6"
    )
    monkeypatch.setenv("FLYWHEEL_GATEWAY_FILE", str(file))
    monkeypatch.setenv("FLYWHEEL_JUDGE_MODELS", json.dumps(["coder-v2"]))
    monkeypatch.setenv("FLYWHEEL_BASE_MODEL", f"/store/{versions[2].artifact_uri}")
    session.add(
        RolePolicy(role="coder", settings={"emergency_model_version_id": str(versions[3].id)})
    )
    fitted = {"columns": [], "weights": {"coder-v5": [0.0]}, "default": "coder-v5"}
    session.add(SpecialistFit(role="coder", n_outcomes=1, fitted=fitted, report={"outcome": "use"}))
    get_settings.cache_clear()
    assert kept(session) == {
        "coder-v1": "the gateway's file names it",
        "coder-v2": "a setting names it",
        "coder-v3": "a setting names it",
        "coder-v4": "a role's policy names it",
        "coder-v5": "a learned choice of specialists names it",
    }


def test_a_collection_is_told_before_it_is_done_and_a_pin_holds_it_off(
    command: Callable[..., Said], session: Session
) -> None:
    add(session, 1)
    session.commit()
    assert command("model", "pin", "coder-v1", "--reason", "the talk", "--json").json == {
        "version": "coder-v1",
        "pinned": "the talk",
    }
    held = command("model", "gc", "--json").json
    assert (held["pieces"], held["kept"]) == ([], {"coder-v1": "pinned: the talk"})
    assert command("model", "unpin", "coder-v1").code == 0
    told = command("model", "gc")
    assert (told.code, "--yes" in told.out, "coder-v1" in told.out) == (0, True, True)
    assert command("model", "gc", "--json").json["is_done"] is False
    done = command("model", "gc", "--yes", "--json").json
    assert ([piece["name"] for piece in done["pieces"]], done["is_done"]) == (["coder-v1"], True)
    late = command("model", "pin", "coder-v1", "--reason", "too late")
    assert (late.code, "removed" in late.err) == (2, True)
    assert command("model", "gc", "--days", "0").code == 2
