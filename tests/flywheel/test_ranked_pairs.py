"""Pairs ranked by execution in the sandbox, and by a reward model that was trained here."""

import json
from dataclasses import replace
from itertools import count

import pytest
from fitting import train
from judging_app import completion
from reply_app import replying
from sqlmodel import select
from stored_rows import store_example
from tiny_base import QUICK, build_tiny_base
from typer.testing import CliRunner

from collector.tables import Interaction, InteractionPayload
from curation.preferences.generate import Ranking, generate_pairs
from curation.preferences.rank import Asked
from curation.preferences.store import Task
from curation.recipe import CurationRecipe
from curation.tables import PreferencePair
from evaluator.sandbox import Sandbox, SandboxUnavailable
from flywheel.cli import app
from flywheel.pairs_by_execution import Execution
from flywheel.pairs_by_reward import ranked_by, require_reward_model
from foundation.chat import message
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.settings import get_settings
from foundation.tables import now

RECIPE = CurationRecipe()
RIGHT, WRONG = "def add(a, b):\n    return a + b", "def add(a, b):\n    return a - b"
ASKED = "Write add.\n>>> add(1, 2)\n3\n>>> add(2, 2)\n4"


@pytest.fixture
def coder(monkeypatch, settings):
    """A model that is right every second time."""
    turn = count()
    with replying(lambda asked: (RIGHT, WRONG)[next(turn) % 2]) as server:
        monkeypatch.setenv("FLYWHEEL_UPSTREAMS", server.upstreams("house-coder"))
        get_settings.cache_clear()
        yield server


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(workers=1) as made:
            yield made
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def logged(session, prompt, answer, attributes=None, **columns):
    example = store_example(session, prompt, answer, **columns)
    moment = now()
    session.add(
        Interaction(id=example.interaction_id, role="coder", started_at=moment, ingested_at=moment)
    )
    session.add(
        InteractionPayload(
            id=example.interaction_id,
            request={"messages": example.prompt},
            response=completion("m", answer),
            attributes=attributes,
        )
    )
    session.flush()
    return example


def generate(execution, **changed):
    ranking = Ranking("execution", execution.rank, execution.can)
    given = {"n_prompts": 10, "n_answers": 2, "ranking": ranking, **changed}
    return generate_pairs("coder", RECIPE, "house-coder", **given)


def test_what_passes_is_preferred_to_what_fails_and_other_prompts_cost_nothing(
    session, coder, sandbox
):
    logged(session, ASKED, RIGHT, outcome=True)
    logged(session, "Tell me a story about a sum that is long enough to be told.", "Once.")
    grader = {"grader": "calls", "reference": {"entry_point": "add"}}
    logged(session, "Write add, but nobody can grade it.", RIGHT, grader)
    session.commit()
    done = generate(Execution("coder", RECIPE, sandbox))
    assert done["prompts"] == 1
    assert len(coder.seen) == 2
    (pair,) = session.exec(select(PreferencePair))
    assert (pair.basis, pair.chosen, pair.rejected) == ("generated", RIGHT, WRONG)
    assert pair.margin == 1.0
    assert pair.evidence["ranked_by"] == "execution"


def test_the_callers_own_grader_comes_before_the_logged_answer(session, coder, sandbox):
    reference = {"entry_point": "add", "inputs": [[3, 1]], "expected": [2]}
    logged(session, ASKED, RIGHT, {"grader": "calls", "reference": reference}, outcome=True)
    session.commit()
    generate(Execution("coder", RECIPE, sandbox))
    (pair,) = session.exec(select(PreferencePair))
    assert (pair.chosen, pair.rejected) == (WRONG, RIGHT), "by this reference add subtracts"


def test_a_reward_model_ranks_as_it_learned(tmp_path):
    base = build_tiny_base(tmp_path / "tiny")
    rows = [
        {
            "prompt": [message("user", f"add {i} and {i}")],
            "chosen": [message("assistant", f"the sum is {2 * i}")],
            "rejected": [message("assistant", f"it is {2 * i}, I guess")],
        }
        for i in range(16)
    ]
    recipe = replace(QUICK, method="reward", lr=1e-2, epochs=4, dropout=0.0, eval_steps=100)
    trained = train(base, tmp_path / "run", recipe, rows, [])
    from trainer.reward_model import RewardModel

    rank = ranked_by(RewardModel(str(base), trained.folder))
    asked = Asked(Task("t", "p"), [message("user", "add 9 and 9")], None, new_id())
    good, bad = rank(asked, ["the sum is 18", "it is 18, I guess"])
    assert good - bad >= 0.2
    assert good + bad == pytest.approx(1)
    assert rank(asked, []) == []


def test_another_kind_of_version_is_no_reward_model():
    with pytest.raises(BadInput, match="coder-v1 \\(adapter\\)"):
        require_reward_model("coder-v1", "adapter")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--rank", "lot"], "--rank"),
        ([], "--judge"),
        (["--rank", "reward"], "--reward-model"),
        (["--rank", "execution", "--judge", "j"], "--judge"),
    ],
)
def test_a_ranking_needs_its_own_and_only_that(options, told):
    command = ["pairs", "generate", "--role", "coder", "--model", "m", *options]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, BadInput)
    assert result.exception.what == told


def test_execution_is_a_job_from_the_command_line(session, coder, sandbox):
    logged(session, ASKED, RIGHT, outcome=True)
    session.commit()
    command = ["pairs", "generate", "--role", "coder", "--model", "house-coder"]
    result = CliRunner().invoke(app, [*command, "--rank", "execution", "--answers", "2", "--json"])
    assert result.exception is None, result.output
    assert json.loads(result.stdout)["generated"] == 1
