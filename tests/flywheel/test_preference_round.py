"""From feedback to a preference dataset to a training from who serves, once for what is new."""

import json
from dataclasses import replace
from uuid import UUID

import pytest
from sqlmodel import select
from tiny_base import QUICK, build_tiny_base
from typer.testing import CliRunner

import flywheel.worker  # noqa: F401  registers every room's jobs
from collector.tables import Feedback, Interaction, InteractionPayload
from flywheel.cli import app
from flywheel.preference_round import preference_round
from foundation import runs
from foundation.chat import completion, message
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id
from foundation.tables import DONE, now
from router.promote import initial
from trainer.recipe import DPO, REWARD, SFT_LORA
from trainer.registry import ensure_base_version, get_version
from trainer.tables import TrainingRun
from trainer.tasks import start_training

RECIPE = replace(QUICK, method=DPO, lr=1e-2, max_steps=2, eval_steps=2)


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory):
    return build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def served(session, tiny_base):
    """The tiny base serves the coder."""
    version = ensure_base_version(session, "coder", str(tiny_base))
    initial(session, "coder", version)
    session.commit()
    return version


WORDS = "apple brick cloud drum eagle flute grape horse igloo jelly kite lemon".split()


def say(session, numbers):
    """Tasks with an answer that passed and one that failed."""
    for n in numbers:
        asked = f"{WORDS[n]}: what is {n} {WORDS[n]} and {n} more?"
        for said, passed in ((f"the sum of {WORDS[n]} {n}", True), (f"no idea {n}", False)):
            identifier, moment = new_id(), now()
            session.add(
                Interaction(id=identifier, role="coder", started_at=moment, ingested_at=moment)
            )
            session.add(
                InteractionPayload(
                    id=identifier,
                    request={"messages": [message("user", asked)]},
                    response=completion(str(identifier), "m", said, "stop", 1, 1, 0),
                    attributes=None,
                )
            )
            session.add(
                Feedback(
                    interaction_id=identifier,
                    kind="success",
                    value=float(passed),
                    source="test",
                    created_at=moment,
                    ingested_at=moment,
                )
            )
    session.commit()


def do(session, **more):
    run = preference_round(session, "coder", **{"recipe": RECIPE, "least_pairs": 3, **more})
    session.commit()
    done = runs.execute(run.id)
    assert done.status == DONE, done.error
    return done.result


def trainings(session):
    session.expire_all()
    return list(session.exec(select(TrainingRun).order_by(TrainingRun.id)))


@pytest.mark.slow
def test_feedback_becomes_a_candidate_from_who_serves_and_only_once(session, served):
    say(session, range(8))
    first = do(session)
    assert first["outcome"] == "training"
    again = do(session)
    assert again["outcome"] == "nothing new"
    assert again["training_run_id"] == first["training_run_id"]
    (training,) = trainings(session)
    assert training.method == DPO
    assert training.from_version_id is None, "a base has no adapter to go on from"
    done = runs.execute(UUID(first["training_job"]))
    assert done.status == DONE, done.error
    session.expire_all()
    version = get_version(session, done.result["name"])
    assert version.kind == "adapter"
    assert version.stage == "candidate"


def test_too_few_pairs_train_nothing(session, served):
    say(session, range(2))
    assert do(session, least_pairs=50)["outcome"] == "too few pairs"
    assert trainings(session) == []


def test_nobody_serves_or_the_method_reads_no_pairs(session, tiny_base):
    with pytest.raises(NotFound, match="serves"):
        preference_round(session, "coder", RECIPE)
    for method in (SFT_LORA, REWARD):
        with pytest.raises(BadInput, match="dpo, kto or orpo"):
            preference_round(session, "coder", replace(RECIPE, method=method))


@pytest.mark.slow
def test_winners_are_imitated_by_sft_and_a_basis_that_none_has_leaves_nothing(
    session, served, tiny_base
):
    say(session, range(8))
    found = do(session)
    recipe = replace(QUICK, method=SFT_LORA, max_steps=2, eval_steps=2)
    training = start_training(session, "coder", UUID(found["dataset_id"]), str(tiny_base), recipe)
    session.commit()
    done = runs.execute(training.run_id)
    assert done.status == DONE, done.error
    assert 0 < done.result["metrics"]["rows"] <= found["n_pairs"]
    only = replace(recipe, preference=replace(recipe.preference, bases=("constitution",)))
    training = start_training(session, "coder", UUID(found["dataset_id"]), str(tiny_base), only)
    session.commit()
    assert "0 rows" in runs.execute(training.run_id).error


def test_the_command_says_what_a_round_came_to(session, served):
    say(session, range(2))
    command = ["prefer", "--role", "coder", "--least-pairs", "50", "--preset", "demo", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exception is None, result.output
    assert json.loads(result.stdout)["outcome"] == "too few pairs"
