"""Nothing that anybody needs is ever removed, whatever the rows look like."""

import os
import random
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from adapters_on_disk import weights
from locks import holders
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

import router.tables  # noqa: F401  every table of the house, as in the service
from collector.tables import Media
from curation.tables import Dataset, DatasetShard
from foundation import artifacts, decisions
from foundation.artifact_store import PUT_AGAIN
from foundation.artifact_sweep import stored
from foundation.database import get_engine, session_scope
from foundation.errors import BadInput, Conflict
from foundation.ids import new_id
from foundation.settings import get_settings
from foundation.tables import CANCELLED, DONE, QUEUED, Run, now
from trainer.garbage import collect, uri_columns, work_root
from trainer.registry import get_version, lock_files, pin, register_made, version_folder
from trainer.tables import ModelExport, ModelVersion, TrainingRun, TrainingSchedule

OLD = now() - timedelta(days=100)


@pytest.fixture(autouse=True)
def _home(settings: object) -> None:
    """Each test has a store of its own."""


def put(content: str, days_ago: float = 50) -> artifacts.Artifact:
    folder = get_settings().home / "making" / content
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(weights(content))
    artifact = artifacts.put(folder)
    moment = (now() - timedelta(days=days_ago)).timestamp()
    root = Path(get_settings().artifacts_root)
    marks = root / PUT_AGAIN / artifact.content_hash
    for file in (root / artifact.uri / "model.safetensors", marks):
        if file.exists():
            os.utime(file, (moment, moment))
    return artifact


def add(session: Session, number: int, content: str | None = None, **own) -> ModelVersion:
    artifact = put(content or f"weights {number}")
    version = ModelVersion(
        **{
            "role": "coder",
            "number": number,
            "name": f"coder-v{number}",
            "kind": "adapter",
            "base_model": "/base",
            "artifact_uri": artifact.uri,
            "content_hash": artifact.content_hash,
            "stage": "retired",
            "created_at": OLD,
            **own,
        }
    )
    session.add(version)
    session.flush()
    return version


def trained(session: Session, version: ModelVersion, status: str = DONE, **own) -> TrainingRun:
    run = Run(kind="trainer.train", status=status)
    session.add(run)
    session.flush()
    training = TrainingRun(
        run_id=run.id, role="coder", base_model="/base", method="sft-lora", **own
    )
    session.add(training)
    session.flush()
    version.training_run_id = training.id
    session.add(version)
    return training


def gone(keep=None, **more) -> list[str]:
    """Collect for real; return the names of what went."""
    return sorted(piece.name for piece in collect(keep or {}, remove=True, **more).pieces)


def has_files(version: ModelVersion) -> bool:
    return artifacts.exists(version.artifact_uri)


def test_a_dry_run_tells_what_would_go_and_removes_nothing(session):
    version = add(session, 1)
    session.commit()
    found = collect({})
    assert [(p.kind, p.name, p.size_bytes) for p in found.pieces] == [("version", "coder-v1", 50)]
    assert (found.is_done, found.size_bytes) == (False, 50)
    assert has_files(version)
    session.refresh(version)
    assert version.files_removed_at is None


def test_an_old_retired_version_loses_its_files_and_keeps_its_row(session):
    version = add(session, 1, metrics={"loss": 1.0})
    session.commit()
    assert gone() == ["coder-v1"]
    session.refresh(version)
    assert not has_files(version)
    assert (version.metrics, version.content_hash is not None) == ({"loss": 1.0}, True)
    with pytest.raises(Conflict, match="train it again"):
        version_folder(version)
    assert gone() == []


KEPT = {
    "serves": {"stage": "production"},
    "in an experiment": {"stage": "experimental"},
    "young": {"created_at": now() - timedelta(days=29)},
    "pinned": {"pinned_because": "the figures of the talk"},
    "not yet compared": {"stage": "candidate"},
    "scores": {"stage": "candidate", "kind": "reward"},
}


@pytest.mark.parametrize("own", KEPT.values(), ids=KEPT)
def test_what_its_own_row_keeps_stays(session, own):
    version = add(session, 1, **own)
    session.commit()
    assert gone() == []
    assert has_files(version)


def test_a_candidate_that_a_later_version_overtook_goes(session):
    add(session, 1, stage="candidate")
    add(session, 2, stage="production")
    add(session, 3, stage="candidate")
    session.commit()
    assert gone() == ["coder-v1"]


def test_what_others_need_stays(session):
    version = add(session, 1)
    session.commit()
    found = collect({version.id: "it serves coder"}, remove=True)
    assert (found.pieces, found.kept) == ((), {"coder-v1": "it serves coder"})


def _by_inputs(session, version):
    decisions.record(session, "a", "b", [], inputs={"deep": [{"candidate": version.name}]})


def _by_id(session, version):
    decisions.record(session, "a", "b", [], inputs={"version": str(version.id)})


def _by_subject(session, version):
    decisions.record(session, "a", "b", [], subject_id=version.id)


def _by_reason(session, version):
    decisions.record(session, "a", "b", [f"{version.name}: 3 of 4 tasks failed."])


def _by_training(session, version):
    waiting = add(session, 50, stage="production")
    trained(session, waiting, QUEUED, from_version_id=version.id)
    waiting.training_run_id = None


def _by_teaching(session, version):
    trained(
        session,
        add(session, 50, stage="production"),
        recipe={"distillation": {"teacher": version.name}},
    )


def _by_run(session, version):
    session.add(Run(kind="evaluator.evaluate", params={"subjects": [version.name, "x"]}))


def _by_export(session, version):
    exported = put("gguf")
    session.add(
        ModelExport(
            model_version_id=version.id,
            format="gguf-f16",
            artifact_uri=exported.uri,
            content_hash=exported.content_hash,
            size_bytes=1,
        )
    )


def _by_child(session, version):
    middle = add(session, 51, parent_id=version.id)
    add(session, 52, stage="production", parent_id=middle.id)


def _by_combination(session, version):
    add(session, 53, stage="production", made_by={"of": ["other", version.name]})


def _by_schedule(session, version):
    session.add(TrainingSchedule(role="coder", training={"recipe": {"distillation": version.name}}))


def _by_base(session, version):
    folder = str(version_folder(version))
    add(session, 54, stage="production", base_model=folder, artifact_uri=None, kind="base")


def _by_training_on_its_files(session, version):
    other = add(session, 55, stage="production")
    trained(session, other, QUEUED).base_model = str(version_folder(version))
    other.training_run_id = None


@pytest.mark.parametrize(
    "name",
    [
        *(_by_inputs, _by_id, _by_subject, _by_reason, _by_training, _by_teaching, _by_run),
        *(_by_export, _by_child, _by_combination, _by_schedule),
        *(_by_base, _by_training_on_its_files),
    ],
    ids=lambda function: function.__name__[4:],
)
def test_what_is_named_or_rested_on_stays(session, name):
    version = add(session, 1)
    name(session, version)
    session.commit()
    assert "coder-v1" not in gone()
    assert has_files(version)


def test_a_longer_name_is_another_version(session):
    add(session, 1)
    decisions.record(session, "a", "b", ["coder-v12 and coder-v1-int8 and my-coder-v1 are others"])
    session.commit()
    assert gone() == ["coder-v1"]


def test_files_that_two_versions_share_go_with_the_last(session):
    first = add(session, 1, "same")
    second = add(session, 2, "same", stage="production")
    session.commit()
    assert gone() == ["coder-v1"]
    assert has_files(second)
    session.refresh(first)
    assert first.files_removed_at is not None
    second.stage = "retired"
    session.add(second)
    session.commit()
    assert gone() == ["coder-v2"]
    assert not has_files(second)


def test_two_that_share_files_and_both_go_count_them_once(session):
    for number in (1, 2):
        add(session, number, "same")
    session.commit()
    found = collect({}, remove=True)
    assert [p.size_bytes for p in found.pieces] == [45, 0]
    assert not list(stored())


def test_files_put_again_lately_stay_in_the_store(session):
    """A training made the same weights again: its row may come any moment."""
    version = add(session, 1, "same")
    session.commit()
    artifacts.put(get_settings().home / "making" / "same")
    assert gone() == ["coder-v1"]
    assert has_files(version)
    later = now() + timedelta(days=2)
    assert gone(moment=later) == [version.artifact_uri]


def test_every_column_with_an_artifact_is_known(session):
    """Who adds a column of another name must say so here, or its artifacts would go."""
    assert uri_columns(session) == [
        ("dataset", "artifact_uri"),
        ("dataset_shard", "uri"),
        ("media", "uri"),
        ("model_export", "artifact_uri"),
        ("model_version", "artifact_uri"),
    ]


def test_only_artifacts_without_any_row_go(session):
    shard, card, image, orphan = (put(name) for name in ("shard", "card", "image", "orphan"))
    young = put("young", days_ago=0.5)
    told = put("told")
    dataset = Dataset(role="coder", number=1, content_hash="h", artifact_uri=card.uri)
    session.add(dataset)
    session.flush()
    session.add(
        DatasetShard(
            dataset_id=dataset.id, split="train", position=0, shard="s", n_rows=1, uri=shard.uri
        )
    )
    session.add(Media(content_hash="c", uri=image.uri, media_type="image/png", size_bytes=1))
    decisions.record(session, "a", "b", [], inputs={"hash": told.content_hash})
    session.commit()
    assert gone() == [orphan.uri]
    left = {shard.uri, card.uri, image.uri, young.uri, told.uri}
    assert {one.uri for one in stored()} == left


KILLED = """
import os, signal
from pathlib import Path
from sqlmodel import Session
from foundation import artifacts
from foundation.database import get_engine
from trainer import registry
from trainer.tables import TrainingRun

honest = registry._safe_files

def kill(session, artifact, base_model):
    honest(session, artifact, base_model)
    os.kill(os.getpid(), signal.SIGKILL)

registry._safe_files = kill
folder = Path(os.environ["FOLDER"])
with Session(get_engine()) as session:
    parent = registry.get_version(session, "coder-v1")
    registry.register_made(
        session, parent, "merged", artifacts.put(folder), made_by={}, metrics={}
    )
    session.commit()
"""


def test_killed_between_files_and_row_only_an_orphan_is_left_and_found(session, tmp_path):
    add(session, 1, stage="production")
    session.commit()
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "model.safetensors").write_bytes(weights("merged"))
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={
            **os.environ,
            "FOLDER": str(tmp_path / "merged"),
            "FLYWHEEL_HOME": str(get_settings().home),
        },
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert [v.name for v in session.exec(select(ModelVersion))] == ["coder-v1"]
    assert gone() == []  # it is young: somebody may be about to register it
    (orphan,) = gone(moment=now() + timedelta(days=2))
    assert orphan.startswith("sha256/")
    assert len(list(stored())) == 1


def test_registering_waits_for_a_collection_and_never_gets_a_row_without_files(session):
    """The files of a new version are the same as those that a collection is about to remove."""
    old = add(session, 1, "same")
    parent = add(session, 2, stage="production")
    session.commit()
    artifact = artifacts.put(get_settings().home / "making" / "same")
    failed: list[Exception] = []

    def register() -> None:
        try:
            with session_scope() as own:
                register_made(
                    own, get_version(own, parent.id), "merged", artifact, made_by={}, metrics={}
                )
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=register), threading.Thread(target=gone)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    merged = get_version(session, "coder-v3-merged")
    assert has_files(merged)
    assert merged.artifact_uri == old.artifact_uri


def test_the_lock_of_a_collection_is_an_open_transaction_s_and_ends_with_it(session, monkeypatch):
    """A lock of the session would stay behind with a connection of a pooler."""
    add(session, 1)
    session.commit()
    waits, seen = [], []

    def removed(uri: str, before: object) -> bool:
        seen.extend(holders())
        with Session(get_engine()) as other:
            other.execute(text("SET LOCAL lock_timeout = 50"))
            with pytest.raises(OperationalError, match="lock timeout"):
                lock_files(other)
            waits.append(uri)
        return True

    monkeypatch.setattr("trainer.garbage.remove_unless_put", removed)
    assert gone() == ["coder-v1"]
    assert (len(waits), seen) == (1, [("idle in transaction", None, None)])
    lock_files(session)


@pytest.mark.parametrize("kind", ["training", "export"])
def test_folders_of_ended_runs_go_once_nobody_will_take_them_up(session, kind):
    def folder(status: str | None, days_ago: float) -> str:
        made = new_id()
        if status is not None:
            training = trained(session, add(session, new_id().int % 10**6, "w"), status)
            made = training.id if kind == "training" else training.run_id
        name = f"{kind}/{made}"
        (work_root() / name).mkdir(parents=True)
        (work_root() / name / "checkpoint").write_text("x")
        moment = (now() - timedelta(days=days_ago)).timestamp()
        os.utime(work_root() / name, (moment, moment))
        return name

    going = {folder("failed", 40), folder(CANCELLED, 40), folder(DONE, 40), folder(None, 2)}
    staying = {folder("failed", 3), folder(QUEUED, 40), folder("running", 40), folder(None, 0.5)}
    session.commit()
    pieces = collect({}, remove=True).pieces
    assert {p.name for p in pieces if p.kind == "work folder"} == going
    assert {f"{kind}/{place.name}" for place in (work_root() / kind).iterdir()} == staying


def test_a_pin_needs_a_reason_and_files(session):
    version = add(session, 1)
    with pytest.raises(BadInput, match="reason"):
        pin(session, version, " ")
    assert pin(session, version, "for the talk").pinned_because == "for the talk"
    assert pin(session, version, None).pinned_because is None
    version.files_removed_at = now()
    with pytest.raises(Conflict, match="removed"):
        pin(session, version, "too late")
    with pytest.raises(BadInput, match="days"):
        collect({}, days=0)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_rows_nothing_needed_is_removed(session, seed):
    """A random registry: all that is kept, and all that it rests on, has its files afterwards."""
    draw = random.Random(seed)
    versions: list[ModelVersion] = []
    for number in range(1, 16):
        before = draw.choice([None, *versions]) if versions else None
        version = add(
            session,
            number,
            draw.choice([None, "shared a", "shared b"]),
            stage=draw.choice(["candidate", "experimental", "retired", "retired", "quarantined"]),
            created_at=now() - timedelta(days=draw.choice([1, 40, 90])),
            parent_id=before.id if before and draw.random() < 0.4 else None,
            made_by={"of": [before.name]} if before and draw.random() < 0.2 else {},
        )
        if before and draw.random() < 0.3:
            trained(session, version, from_version_id=before.id)
        if draw.random() < 0.15:
            decisions.record(session, "a", "b", [f"{version.name} was better"])
        versions.append(version)
    keep = {draw.choice(versions).id: "it serves"}
    session.commit()
    collect(keep, remove=True)
    session.expire_all()
    with Session(get_engine()) as fresh:
        rows = fresh.exec(select(ModelVersion)).all()
        named = " ".join(r for d in decisions.newest(fresh, None, 99) for r in d.reasons).split()
        have = {v.id for v in rows if v.files_removed_at is None}
        by_name = {v.name: v.id for v in rows}
        for version in rows:
            assert (version.id not in have) or has_files(version)
            is_needed = (
                version.id in keep
                or version.stage == "experimental"
                or version.name in named
                or version.created_at > now() - timedelta(days=30)
            )
            assert not is_needed or version.id in have
            if version.id not in have:
                continue
            training = version.training_run_id and fresh.get(TrainingRun, version.training_run_id)
            rested_on = {
                version.parent_id,
                *(by_name[name] for name in version.made_by.get("of", [])),
                training.from_version_id if training else None,
            } - {None}
            assert rested_on <= have
