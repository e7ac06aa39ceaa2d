"""`flywheel dataset` and `flywheel erase`: what is shown, asked and refused, the exit codes."""

import json

import pytest
from published import add_example, published
from sqlmodel import select
from typer.testing import CliRunner

from collector.tables import Interaction
from curation.tables import Dataset, Erasure, Example
from flywheel.cli import app
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id
from trainer.lineage import learned_from
from trainer.tables import ModelVersion


def run(*arguments, answer: str | None = None):
    result = CliRunner().invoke(app, [*map(str, arguments)], input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def value_of(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture
def versions(session):
    first = add_example(session, "a", "b", episode_id=new_id(), project="home")
    session.add(
        Interaction(
            id=first.interaction_id, role="coder", project="home", episode_id=first.episode_id
        )
    )
    session.flush()
    old, _ = published(session)
    add_example(session, "c", "d", task_type="new")
    session.flush()
    new, _ = published(session)
    session.commit()
    return old, new


def test_versions_are_listed_and_named(versions):
    old, new = versions
    assert [row["number"] for row in value_of("dataset", "list", "--role", "coder")] == [2, 1]
    assert value_of("dataset", "list", "--role", "tester") == []
    assert f"{new.id}  coder@2  default" in run("dataset", "list").stdout
    shown = run("dataset", "show", "coder").stdout
    assert [line.split()[0] for line in shown.splitlines()[:5]] == list(Dataset.model_fields)[:5]
    for name, number in (("coder", 2), ("coder@1", 1), ("coder/sft@2", 2), (old.id, 1)):
        assert value_of("dataset", "show", name)["number"] == number
    for name in ("coder@3", "cook", "coder/preference", "coder@x", new_id()):
        with pytest.raises(NotFound, match="dataset"):
            run("dataset", "show", name)


def test_a_version_is_shown_with_its_quality_and_warnings(versions):
    shown = run("dataset", "show", "coder").stdout
    assert "Verified by a person" in shown
    assert "not met" in shown
    assert "Nothing was dropped" in shown
    assert "the validation split is empty" in shown


def test_a_card_is_printed_or_written(versions, tmp_path):
    assert value_of("dataset", "card", "coder")["number"] == 2
    page = tmp_path / "card.html"
    assert value_of("dataset", "card", "coder", "--out", page) == {"page": str(page)}
    assert page.read_text().startswith("<!doctype html>")


def test_two_versions_are_compared(versions):
    found = value_of("dataset", "diff", "coder@1", "coder@2")
    assert (found["added"], found["task_types"]) == (1, {"new": [0, 1]})
    shown = run("dataset", "diff", "coder@1", "coder@2").stdout
    assert "coder v1 → v2" in shown
    assert "added: " in shown


def test_a_version_is_exported(versions, tmp_path):
    out = tmp_path / "out"
    found = value_of("dataset", "export", "coder", out, "--format", "chat")
    assert found == {"folder": str(out), "format": "chat", "train": 2, "validation": 0, "test": 0}
    assert (out / "train.jsonl").read_text().count("\n") == 2
    with pytest.raises(BadInput, match="folder"):
        run("dataset", "export", "coder", out)


def test_a_proof_is_an_exit_code(versions, session):
    assert run("dataset", "prove", "coder").exit_code == 0
    for example in session.exec(select(Example)):
        example.episode_id = new_id()
    first, second = session.exec(select(Example)).all()
    second.episode_id = first.episode_id
    second.split = "test"
    session.flush()
    published(session)
    session.commit()
    result = run("dataset", "prove", "coder", "--json")
    assert json.loads(result.stdout)["cross_split_episodes"] == 1
    assert result.exit_code == 1


def test_erasing_says_what_goes_asks_and_does_it(versions, session):
    first = session.exec(select(Example).where(Example.project == "home")).one()
    model = ModelVersion(
        role="coder",
        number=1,
        name="coder-v1",
        kind="adapter",
        base_model="tiny",
        dataset_id=versions[0].id,
    )
    session.add(model)
    session.commit()
    episode = ("erase", "--episode", first.episode_id)
    said = value_of(*episode, "--dry-run")
    assert (said["erased"], said["counts"]["example"], said["models"]) == (False, 1, ["coder-v1"])
    assert said["datasets"] == [str(dataset.id) for dataset in versions]
    refused = run(*episode, answer="n\n")
    assert refused.exit_code == 1
    assert "coder-v1" in refused.stdout
    assert session.exec(select(Erasure)).all() == []
    done = run(*episode, "--reason", "asked", "--actor", "ann", answer="y\n")
    assert done.exit_code == 0
    (account,) = session.exec(select(Erasure)).all()
    assert (account.actor, account.reason, account.scope) == ("ann", "asked", "episode")
    assert account.counts["files_to_delete"] == []
    assert value_of("dataset", "show", "coder")["n_train"] == 1
    again = value_of(*episode, "--yes")
    assert (again["erased"], again["counts"]) == (True, {})


def test_one_thing_is_to_be_named_and_a_program_must_mean_it(versions):
    with pytest.raises(BadInput, match="what to erase"):
        run("erase")
    with pytest.raises(BadInput, match="what to erase"):
        run("erase", "--unit", "u", "--project", "p")
    with pytest.raises(BadInput, match="--json"):
        run("erase", "--project", "home", "--json")
    with pytest.raises(BadInput, match="interaction"):
        run("erase", "--interaction", "no id", "--dry-run")


def test_models_that_learned_from_such_a_model_are_named_too(versions, session):
    made = {}
    for name, parent in (("base", None), ("first", "base"), ("second", "first"), ("other", "base")):
        made[name] = ModelVersion(
            role="coder",
            number=len(made) + 1,
            name=name,
            kind="adapter",
            base_model="tiny",
            dataset_id=versions[0].id if name == "first" else None,
            parent_id=made[parent].id if parent else None,
        )
        session.add(made[name])
        session.flush()
    assert learned_from(session, [versions[0].id]) == ["first", "second"]
    assert learned_from(session, []) == []
