import pickle
from itertools import product

import pytest
import torch
from adapters_on_disk import stored, weights
from sqlmodel import Session

from curation.tables import Dataset
from foundation import artifacts
from foundation.artifacts import Artifact
from foundation.database import get_engine
from foundation.errors import BadInput, Conflict, NotFound
from foundation.ids import new_id
from foundation.tables import Run, now
from trainer.registry import (
    EXTERNAL,
    REWARD,
    STAGES,
    TRANSITIONS,
    ensure_base_version,
    get_version,
    list_versions,
    next_number,
    register_adapter,
    register_made,
    served_name,
    set_stage,
    version_folder,
)
from trainer.tables import TrainingRun


def add_training(session: Session, role: str = "coder", base_model: str = "/base") -> TrainingRun:
    run = Run(kind="trainer.train")
    dataset = Dataset(role=role, number=new_id().int % 10**6, content_hash="h", n_train=1)
    session.add_all([run, dataset])
    session.flush()
    training = TrainingRun(
        run_id=run.id, role=role, dataset_id=dataset.id, base_model=base_model, method="sft-lora"
    )
    session.add(training)
    session.flush()
    return training


def test_a_base_is_one_version_and_has_number_0(session):
    base = ensure_base_version(session, "coder", "/base")
    assert (base.number, base.name, base.kind) == (0, "coder-base", "base")
    assert ensure_base_version(session, "coder", "/base").id == base.id
    assert ensure_base_version(session, "tester", "/base").name == "tester-base"
    assert served_name(base) == "/base"
    with pytest.raises(NotFound, match="coder-base"):
        version_folder(base)


def test_a_second_base_takes_the_next_number(session):
    ensure_base_version(session, "coder", "/base")
    register_adapter(session, add_training(session), stored(), {})
    second = ensure_base_version(session, "coder", "/other")
    assert (second.number, second.name) == (2, "coder-base-2")


def test_a_training_never_ends_at_a_name_that_a_base_was_given(session):
    ensure_base_version(session, "coder", "/base", "coder-v1")
    made = register_adapter(session, add_training(session), stored(), {})
    assert (made.name, made.number) == ("coder-v2", 2)


def test_a_name_belongs_to_one_version(session):
    ensure_base_version(session, "coder", "/base", "first")
    with pytest.raises(Conflict, match="first"):
        ensure_base_version(session, "tester", "/base", "first")
    with pytest.raises(BadInput, match="plumber"):
        ensure_base_version(session, "plumber", "/base")


def test_registering_twice_makes_one_version_with_its_lineage(session):
    base = ensure_base_version(session, "coder", "/base")
    training = add_training(session)
    version = register_adapter(session, training, stored(), {"loss": 1.0})
    assert register_adapter(session, training, stored("b"), {}).id == version.id
    assert (version.name, version.number, version.kind) == ("coder-v1", 1, "adapter")
    assert version.parent_id == base.id
    assert version.dataset_id == training.dataset_id
    assert version.metrics == {"loss": 1.0}
    assert next_number(session, "coder") == 2
    assert next_number(session, "tester") == 1
    assert get_version(session, "coder-v1").id == version.id
    assert get_version(session, version.id).id == version.id
    assert get_version(session, str(version.id)).id == version.id
    assert [v.name for v in list_versions(session, "coder")] == ["coder-v1", "coder-base"]
    assert list_versions(session, stage="production") == []


def test_an_unknown_version_is_named(session):
    for unknown in ("coder-v9", new_id(), str(new_id())):
        with pytest.raises(NotFound, match=str(unknown)):
            get_version(session, unknown)


@pytest.mark.parametrize(("before", "after"), list(product(STAGES, STAGES)))
def test_only_the_allowed_stages_follow(session, before, after):
    version = ensure_base_version(session, "coder", "/base")
    version.stage = before
    session.add(version)
    session.flush()
    if after == before or after in TRANSITIONS[before]:
        assert set_stage(session, version, after).stage == after
    else:
        with pytest.raises(Conflict, match=after):
            set_stage(session, version, after)
        assert version.stage == before


def test_everything_may_be_quarantined_and_nothing_serves_from_there():
    assert all("quarantined" in TRANSITIONS[s] for s in STAGES if s != "quarantined")
    assert "production" not in TRANSITIONS["quarantined"]


def test_a_control_never_serves(session):
    version = register_adapter(session, add_training(session), stored(), {}, is_control=True)
    assert version.name == "coder-v1-control"
    for stage in ("experimental", "production"):
        with pytest.raises(Conflict, match="control"):
            set_stage(session, version, stage)
    assert set_stage(session, version, "retired").stage == "retired"


def test_an_unknown_stage_is_refused(session):
    version = ensure_base_version(session, "coder", "/base")
    with pytest.raises(BadInput, match="beta"):
        set_stage(session, version, "beta")


def test_two_transactions_do_not_take_the_same_number(session):
    """The second waits for the role until the first has committed."""
    from threading import Thread

    trainings = [add_training(session), add_training(session)]
    session.commit()

    def register(training: TrainingRun) -> None:
        with Session(get_engine()) as own:
            register_adapter(own, own.get(TrainingRun, training.id), stored(), {})
            own.commit()

    threads = [Thread(target=register, args=(training,)) for training in trainings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.expire_all()
    assert sorted(v.number for v in list_versions(session, "coder")) == [1, 2]
    assert {v.training_run_id for v in list_versions(session)} == {t.id for t in trainings}


def test_an_external_model_can_be_the_baseline(session):
    version = ensure_base_version(session, "coder", "openai/gpt-4o", kind="external")
    assert (version.name, version.kind, version.number) == ("coder-external", "external", 0)
    assert served_name(version) == "openai/gpt-4o"
    assert ensure_base_version(session, "coder", "openai/gpt-4o", kind="external") is version
    with pytest.raises(BadInput, match="kind of a baseline"):
        ensure_base_version(session, "coder", "m", kind="adapter")


def test_a_version_s_parent_is_what_its_training_went_on_from(session):
    ensure_base_version(session, "coder", "/base")
    first = register_adapter(session, add_training(session), stored(), {})
    training = add_training(session)
    training.from_version_id = first.id
    assert register_adapter(session, training, stored("b"), {}).parent_id == first.id


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["adapter_model.bin"], "adapter_model.bin"),
        (["adapter_model.safetensors", "more/training_args.bin"], "more/training_args.bin"),
        (["model.safetensors", "optimizer.pt"], "optimizer.pt"),
        (["model.safetensors", "SCALER.PKL"], "SCALER.PKL"),
        (["adapter_config.json"], "adapter_config.json"),
    ],
)
def test_files_that_run_code_when_read_are_not_registered(session, tmp_path, names, told):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    artifact = artifacts.put(tmp_path)
    with pytest.raises(BadInput, match=told):
        register_adapter(session, add_training(session), artifact, {})
    base = ensure_base_version(session, "coder", "/base")
    with pytest.raises(BadInput, match=told):
        register_made(session, base, "merged", artifact, made_by={}, metrics={})
    assert [v.name for v in list_versions(session)] == ["coder-base"]


@pytest.mark.parametrize("save", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_under_another_name_is_not_registered(session, tmp_path, save):
    (tmp_path / "adapter_model.safetensors").write_bytes(weights("a"))
    with (tmp_path / "state").open("wb") as file:
        save({"a": 1}, file)
    with pytest.raises(BadInput, match="state"):
        register_adapter(session, add_training(session), artifacts.put(tmp_path), {})
    assert list_versions(session) == []


def test_files_that_the_store_has_not_are_not_registered(session):
    with pytest.raises(NotFound, match="sha256/nowhere"):
        register_adapter(session, add_training(session), Artifact("sha256/nowhere", "h", 1), {})


def test_a_made_version_is_one_per_parent_kind_and_content(session):
    ensure_base_version(session, "coder", "/base")
    adapter = register_adapter(session, add_training(session), stored(), {})
    how = {"how": "merged", "of": [adapter.name]}

    def made(kind: str = "merged", content: str = "m", **more):
        return register_made(
            session, adapter, kind, stored(content), made_by=how, metrics={"mb": 1}, **more
        )

    merged = made()
    assert (merged.name, merged.kind, merged.base_model) == ("coder-v2-merged", "merged", "/base")
    assert (merged.parent_id, merged.dataset_id) == (adapter.id, adapter.dataset_id)
    assert (merged.made_by, merged.training_run_id) == (how, None)
    assert made().id == merged.id
    assert made("quantized", name_suffix="int8").name == "coder-v3-int8"
    assert made(content="other").id != merged.id
    assert made(role="tester").name == "tester-v1-merged"
    with pytest.raises(BadInput, match="kind of a made version"):
        made(EXTERNAL)


def test_what_is_made_of_a_control_is_one(session):
    control = register_adapter(session, add_training(session), stored(), {}, is_control=True)
    merged = register_made(session, control, "merged", stored("m"), made_by={}, metrics={})
    assert merged.is_control


def test_a_reward_model_never_answers(session):
    reward = register_adapter(session, add_training(session), stored(), {}, kind=REWARD)
    for stage in ("experimental", "production"):
        with pytest.raises(Conflict, match="reward"):
            set_stage(session, reward, stage)
    with pytest.raises(Conflict, match="reward"):
        register_made(session, reward, "merged", stored("m"), made_by={}, metrics={})
    assert set_stage(session, reward, "quarantined").stage == "quarantined"


def test_a_version_without_its_files_is_not_used_again(session):
    version = register_adapter(session, add_training(session), stored(), {})
    version.stage, version.files_removed_at = "retired", now()
    session.flush()
    with pytest.raises(Conflict, match="train it again"):
        set_stage(session, version, "production")
    with pytest.raises(Conflict, match="train it again"):
        version_folder(version)
    assert set_stage(session, version, "quarantined").stage == "quarantined"
