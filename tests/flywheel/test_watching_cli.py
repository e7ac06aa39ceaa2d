"""`flywheel drift`, `flywheel gaps` and `flywheel roi`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from by_hand import Said
from sqlmodel import Session, select

from collector.tables import Campaign, CampaignItem, Feedback, Interaction
from foundation.ids import new_id
from trainer.tables import PRODUCTION, ModelVersion

Command = Callable[..., Said]


def log(session: Session, version: ModelVersion | None, task_type: str, failed: list[bool]) -> None:
    for one in failed:
        call = Interaction(
            role="coder",
            task_type=task_type,
            episode_id=new_id(),
            model_version_id=version.id if version else None,
        )
        session.add(call)
        session.add(Feedback(interaction_id=call.id, kind="success", value=0.0 if one else 1.0))
    session.commit()


@pytest.fixture
def serving(session: Session) -> ModelVersion:
    version = ModelVersion(
        role="coder", number=1, name="coder-v1", kind="adapter", base_model="tiny", stage=PRODUCTION
    )
    session.add(version)
    session.commit()
    return version


def test_drift_is_steady_then_alarm_and_the_exit_code_says_so(
    command: Command, session: Session, serving: ModelVersion
) -> None:
    log(session, serving, "sort", [i % 10 == 0 for i in range(320)])
    steady = command("drift")
    assert steady.code == 0, steady.err
    assert "coder-v1" in steady.out
    log(session, serving, "sort", [i % 2 == 0 for i in range(120)])
    alarmed = command("drift", "--json")
    assert alarmed.code == 1
    [watch] = json.loads(alarmed.out)
    assert watch["alarm_decision_id"]
    assert watch["drop_points"] > 20
    assert command("drift", "--role", "tester").code == 0


def test_nobody_in_service_is_said(command: Command, database: str) -> None:
    assert "No version is in service" in command("drift").out


def campaign_file(folder: Path, **changes: object) -> Path:
    spec = {
        "name": "fill-gaps",
        "role": "coder",
        "n": 12,
        "models": [{"model": "openai/mock", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}],
        "task": {"template": "Write a function about $topic, variant $number."},
        **changes,
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_gaps_are_ranked_and_drafted_as_a_campaign(
    command: Command, session: Session, tmp_path: Path
) -> None:
    log(session, None, "parsing", [True] * 30 + [False] * 10)
    log(session, None, "sorting", [True] * 10 + [False] * 50)
    shown = command("gaps", "--role", "coder")
    assert shown.out.index("parsing") < shown.out.index("sorting")
    answer = json.loads(
        command("gaps", "--role", "coder", "--campaign", str(campaign_file(tmp_path)), "--json").out
    )
    assert answer["campaign"] == "fill-gaps"
    assert answer["recipe"] == {"balance_by": ["task_type"], "balance_weight": "sqrt"}
    campaign = session.exec(select(Campaign)).one()
    assert (campaign.status, campaign.reason) == ("paused", "not started")
    topics = [item.topic for item in session.exec(select(CampaignItem))]
    assert (topics.count("parsing"), topics.count("sorting")) == (9, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"role": "tester"}, "tester"), ({"n": 1, "task": {"items": ["a"]}}, "items")],
)
def test_a_campaign_that_cannot_take_gaps_is_refused(
    command: Command, session: Session, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    log(session, None, "parsing", [True] * 5)
    said = command("gaps", "--role", "coder", "--campaign", str(campaign_file(tmp_path, **changes)))
    assert said.code == 2
    assert words in said.err
    assert session.exec(select(Campaign)).all() == []


def test_without_failures_there_is_nothing_to_draft(
    command: Command, database: str, tmp_path: Path
) -> None:
    assert "No failures of coder are known" in command("gaps", "--role", "coder").out
    said = command("gaps", "--role", "coder", "--campaign", str(campaign_file(tmp_path)))
    assert said.code == 2
    assert command("gaps", "--role", "poet").code == 2


def test_roi_names_what_is_unknown(command: Command, database: str, tmp_path: Path) -> None:
    costs = tmp_path / "costs.yaml"
    costs.write_text("training_usd: 500\ntasks_per_month: 1000\n")
    said = command("roi", str(costs))
    assert said.code == 0, said.err
    assert said.out.startswith("unknown")
    assert "rework_usd_per_failure" in said.out
    decision = json.loads(command("roi", str(costs), "--json").out)
    assert (decision["kind"], decision["outcome"]) == ("evaluator.roi", "unknown")
    assert command("decide", "replay", decision["id"]).code == 0
    assert command("roi", str(costs), "--verdict", str(new_id())).code == 2
    costs.write_text("training_eur: 5")
    assert "training_eur" in command("roi", str(costs)).err
