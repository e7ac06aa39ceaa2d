"""Trainings: the list, one training beside another, and what is told of it while it runs."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlmodel import Session
from tiny_base import QUICK, build_tiny_base, make_rows

from admin import runs, streams, trainings
from admin.access import sessions
from curation.publish.rows import make_row
from curation.publish.shards import FILE, write_shard
from curation.tables import Dataset, DatasetShard
from foundation import artifacts
from foundation.database import get_engine
from foundation.queue import declare_queues
from foundation.runs import execute
from foundation.tables import DONE, RUNNING, Run, RunLog, RunMeasure, now
from trainer.recipe import Recipe
from trainer.tables import ModelVersion, TrainingRun
from trainer.tasks import start_training


def stored(
    session: Session,
    dataset: Dataset,
    status: str = DONE,
    recipe: dict[str, Any] | None = None,
    **columns: Any,
) -> TrainingRun:
    run = Run(
        kind="trainer.train",
        role="coder",
        status=status,
        started_at=now(),
        heartbeat_at=now(),
        attempts=1,
        progress={"done": 3, "total": 4, "unit": "steps", "loss": 0.5, "tokens_per_s": 1234.5},
    )
    session.add(run)
    session.flush()
    training = TrainingRun(
        run_id=run.id,
        role="coder",
        dataset_id=dataset.id,
        method="sft-lora",
        recipe=recipe or {"r": 8, "lr": 0.001},
        **{"base_model": "tiny", **columns},
    )
    session.add(training)
    session.commit()
    return training


@pytest.fixture
def dataset(session: Session) -> Dataset:
    made = Dataset(role="coder", number=3, content_hash="ab" * 32, n_train=8)
    session.add(made)
    session.commit()
    return made


def test_each_training_is_one_row_with_what_it_made(
    session: Session, dataset: Dataset, get: Callable[..., httpx.Response]
) -> None:
    first = stored(session, dataset, metrics={"best_validation_loss": 0.25, "last_loss": 0.5})
    second = stored(session, dataset, RUNNING)
    version = ModelVersion(
        role="coder",
        number=1,
        name="coder-v1",
        kind="adapter",
        base_model="tiny",
        training_run_id=first.id,
    )
    session.add(version)
    session.commit()
    session.expunge_all()
    page = get("/admin/trainings?role=coder")
    assert page.status_code == 200
    shown = re.findall(r"/admin/trainings/([0-9a-f-]{36})\"", page.text)
    assert list(dict.fromkeys(shown)) == [str(second.id), str(first.id)]
    assert "0.2500" in page.text
    assert "coder-v1" in page.text
    exported = get("/admin/trainings?format=jsonl&sort=validation_loss").text.splitlines()
    assert '"model": "coder-v1"' in exported[0]
    assert len(exported) == 2
    assert str(first.id) not in get("/admin/trainings?status=running").text
    for sort in trainings.LISTING.sortable:
        assert get(f"/admin/trainings?sort=-{sort}").status_code == 200, sort


@pytest.mark.parametrize("status", ["queued", RUNNING, DONE, "failed", "cancelled"])
def test_a_training_has_a_page_at_each_point_of_its_way(
    session: Session, dataset: Dataset, get: Callable[..., httpx.Response], status: str
) -> None:
    training = stored(session, dataset, status)
    for part in ("", "/row", "/curves"):
        answer = get(f"/admin/trainings/{training.id}{part}")
        assert answer.status_code == 200, part
    page = get(f"/admin/trainings/{training.id}").text
    assert ("data-live" in page) == (status in ("queued", RUNNING))
    assert ("retry-run" in page) == (status in ("failed", "cancelled"))


def test_what_differs_from_the_training_before(session: Session, dataset: Dataset) -> None:
    manifest = {"code_version": "1.0", "libraries": {"torch": "2.0"}, "cpu_s": 3.0}
    newer = {**manifest, "libraries": {"torch": "2.1"}, "cpu_s": 9.0}
    before = stored(session, dataset, manifest=manifest)
    other = Dataset(role="coder", number=4, content_hash="cd" * 32, n_train=9)
    session.add(other)
    session.commit()
    training = stored(session, other, recipe={"r": 16, "lr": 0.001}, manifest=newer)
    page = trainings.detail(session, training.id)
    assert page.against is not None
    assert page.against.other.id == before.id
    assert [(d.name, d.here, d.there) for d in page.against.differences] == [
        ("dataset", "coder v4", "coder v3"),
        ("dataset rows", 9, 8),
        ("libraries.torch", "2.1", "2.0"),
        ("recipe.r", 16, 8),
    ]
    assert trainings.detail(session, before.id).against is None
    chosen = trainings.detail(session, before.id, training.id).against
    assert chosen is not None
    assert len(chosen.differences) == 4


def test_one_that_runs_is_not_said_to_lack_what_it_does_not_know_yet(
    session: Session, dataset: Dataset
) -> None:
    stored(session, dataset, manifest={"code_version": "1.0", "device": "cpu"})
    training = stored(session, dataset, RUNNING)
    against = trainings.detail(session, training.id).against
    assert against is not None
    assert against.differences == []


def test_curves_are_those_of_the_history_once_there_is_one(
    session: Session, dataset: Dataset
) -> None:
    training = stored(session, dataset, RUNNING)
    session.add(RunMeasure(run_id=training.run_id, done=2, measures={"loss": 9.0}))
    session.commit()
    assert runs.curve(trainings.points_of(session, training), "loss") == [(2, 9.0)]
    training.history = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    assert runs.curve(trainings.points_of(session, training), "loss") == [(1, 2.0), (2, 1.0)]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (f"/admin/trainings/{UUID(int=7)}", 404),
        (f"/admin/trainings/{UUID(int=7)}/row", 404),
        (f"/admin/trainings/{UUID(int=7)}/curves", 404),
        ("/admin/trainings/none", 404),
        ("/admin/trainings?sort=colour", 400),
        ("/admin/trainings", 200),
    ],
)
def test_addresses(get: Callable[..., httpx.Response], address: str, status: int) -> None:
    assert get(address).status_code == status


def test_what_cannot_be_compared(
    session: Session, dataset: Dataset, get: Callable[..., httpx.Response]
) -> None:
    training = stored(session, dataset)
    for other in (training.id, UUID(int=7)):
        assert get(f"/admin/trainings/{training.id}?against={other}").status_code == 400


# Live: a real server, a real worker


@contextmanager
def served() -> Iterator[str]:
    """The admin view in a real server on loopback, as the service mounts it."""
    from flywheel.app import create_app

    application: FastAPI = create_app()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(application, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


Told = tuple[str, str, str]
"""An event: its name, id and text."""


def listen(url: str, token: str, after: str = "", most: int = 1000) -> Iterator[Told]:
    """Read a run's events until the server ends them."""
    headers = {"Last-Event-ID": after} if after else {}
    cookies = {sessions.COOKIE: token}
    with httpx.stream("GET", url, headers=headers, cookies=cookies, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = identifier = ""
        data: list[str] = []
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("id: "):
                identifier = line[4:]
            elif line.startswith("data: "):
                data.append(line[6:])
            elif not line and name:
                yield name, identifier, "\n".join(data)
                name, data = "", []
                most -= 1
                if not most:
                    return


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_tiny_base(tmp_path_factory.mktemp("base") / "tiny"))


def ordered(session: Session, folder: Any, base: str) -> TrainingRun:
    """Order a training of 24 steps on 48 rows."""
    declare_queues()
    rows = make_rows(64)
    dataset = Dataset(role="coder", number=1, content_hash="x", n_train=48, n_validation=16)
    session.add(dataset)
    session.flush()
    for split, examples in (("train", rows[:48]), ("validation", rows[48:])):
        (folder / split).mkdir(parents=True)
        write_shard(
            folder / split / FILE,
            [
                make_row(
                    {
                        "id": UUID(int=place),
                        "interaction_id": UUID(int=place),
                        "task_type": row["task_type"],
                        "prompt": row["prompt"],
                        "answer": row["completion"][0]["content"],
                        "score": 1.0,
                    }
                )
                for place, row in enumerate(examples)
            ],
        )
        artifact = artifacts.put(folder / split)
        session.add(
            DatasetShard(
                dataset_id=dataset.id,
                split=split,
                position=0,
                shard=artifact.content_hash,
                n_rows=len(examples),
                uri=artifact.uri,
            )
        )
    session.flush()
    training = start_training(session, "coder", dataset.id, base, QUICK)
    session.commit()
    return training


@pytest.mark.slow
def test_a_training_is_watched_from_its_start_to_its_end(
    session: Session, tmp_path: Any, tiny_base: str, signed_in: Callable[..., str]
) -> None:
    training = ordered(session, tmp_path / "dataset", tiny_base)
    token = signed_in(session, "viewer", "bea")
    worker = threading.Thread(target=execute, args=(training.run_id,))
    with served() as url:
        worker.start()
        address = f"{url}/admin/runs/{training.run_id}/events"
        told: list[Told] = []
        while not told or told[-1][0] != "end":  # as a browser does, which comes again
            told += listen(address, token, after=told[-1][1] if told else "")
        worker.join()
        page = httpx.get(
            f"{url}/admin/trainings/{training.id}", cookies={sessions.COOKIE: token}
        ).text
    session.expire_all()
    run = session.get_one(Run, training.run_id)
    assert run.status == DONE, run.error
    names = [name for name, *_ in told]
    assert names[-1] == "end"
    assert {"state", "measures", "lines"} <= set(names)
    said = "".join(text for name, _, text in told if name == "lines")
    assert "learning from 48 rows" in said
    assert "trainer.train is done" in said
    state = [text for name, _, text in told if name == "state"][-1]
    assert "24 of 24 steps" in state
    for name in ("tokens/s", "peak memory", "learning rate", "gradient norm", "epoch"):
        assert name in state
    assert "data-live" not in page
    assert "coder-v1" in page
    assert "Loss by step" in page
    assert run.progress is not None
    assert run.progress["tokens_per_s"] > 0
    assert run.progress["eta_s"] == 0
    points = trainings.points_of(session, session.get_one(TrainingRun, training.id))
    assert len(runs.curve(points, "validation_loss")) == 6
    measured = runs.measured(session, run.id)
    assert measured[-1][0] == 24


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "EVERY_S", 0.05)


def watched(session: Session) -> Run:
    run = Run(
        kind="trainer.train",
        status=RUNNING,
        worker="here:1:1",
        started_at=now(),
        heartbeat_at=now(),
        progress={"done": 1, "total": 9, "unit": "steps"},
    )
    session.add(run)
    session.flush()
    session.add(RunLog(run_id=run.id, level="INFO", message="line <1>\nof two"))
    session.commit()
    return run


def test_who_comes_again_is_told_only_what_is_new(
    session: Session, quick_looks: None, signed_in: Callable[..., str]
) -> None:
    run, token = watched(session), signed_in(session, "viewer", "bea")
    with served() as url:
        address = f"{url}/admin/runs/{run.id}/events"
        first = list(listen(address, token, most=2))
        assert [name for name, *_ in first] == ["state", "lines"]
        assert "line &lt;1&gt;\nof two" in first[1][2]
        session.add(RunLog(run_id=run.id, level="INFO", message="line 2"))
        session.add(RunMeasure(run_id=run.id, done=2.5, measures={"loss": 1.0}))
        session.commit()
        second = list(listen(address, token, after=first[1][1], most=2))
        assert [name for name, *_ in second] == ["measures", "lines"]
        assert "line 2" in second[1][2]
        assert "line &lt;1" not in second[1][2]
        run.status, run.finished_at = DONE, now()
        session.add(run)
        session.commit()
        third = list(listen(address, token, after=second[1][1]))
        assert [name for name, *_ in third] == ["state", "end"]
        assert [name for name, *_ in listen(address, token, after=third[0][1])] == ["end"]


def test_only_so_many_watch_at_once_and_who_leaves_makes_room(
    session: Session,
    quick_looks: None,
    signed_in: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "MOST_STREAMS", 1)
    monkeypatch.setattr(streams, "BEAT_EVERY_S", 0.0)
    run, token = watched(session), signed_in(session, "viewer", "bea")
    cookies = {sessions.COOKIE: token}
    with served() as url:
        address = f"{url}/admin/runs/{run.id}/events"
        with httpx.stream("GET", address, cookies=cookies) as one:
            lines = one.iter_lines()  # one that is dropped closes the answer
            next(lines)
            assert len(streams._open) == 1
            refused = httpx.get(address, cookies=cookies)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        for _ in range(400):
            if not streams._open:
                break
            time.sleep(0.05)
        assert not streams._open, "a page that was left still holds its place"


def test_a_stream_holds_no_connection_between_two_looks(
    session: Session, signed_in: Callable[..., str]
) -> None:
    run, token = watched(session), signed_in(session, "viewer", "bea")
    cookies = {sessions.COOKIE: token}
    with served() as url:
        address = f"{url}/admin/runs/{run.id}/events"
        held = get_engine().pool.checkedout()  # type: ignore[attr-defined]
        seen = set()
        with ExitStack() as watching:
            told = [
                watching.enter_context(httpx.stream("GET", address, cookies=cookies)).iter_lines()
                for _ in range(4)
            ]
            for lines in told:
                while "event: lines" not in next(lines):
                    pass
            for _ in range(100):
                seen.add(get_engine().pool.checkedout() - held)  # type: ignore[attr-defined]
                if 0 in seen:
                    break
                time.sleep(0.02)
            assert len(streams._open) == 4
        run.status = DONE
        session.add(run)
        session.commit()
    assert min(seen) == 0, seen


def test_a_stream_ends_by_itself_so_that_the_door_is_passed_anew(
    session: Session,
    quick_looks: None,
    signed_in: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "LONGEST_S", 0.2)
    run, token = watched(session), signed_in(session, "viewer", "bea")
    with served() as url:
        address = f"{url}/admin/runs/{run.id}/events"
        assert [name for name, *_ in listen(address, token)] == ["state", "lines"]
        refused = httpx.get(address)
    assert refused.status_code == 303, "nobody watches who is not signed in"


@pytest.mark.parametrize(
    ("method", "teacher", "group"),
    [("sft-lora", None, None), ("dpo", None, "preference"), ("distill", "v1", "distillation")],
)
def test_a_recipe_is_shown_without_what_its_method_does_not_use(
    method: str, teacher: str | None, group: str | None
) -> None:
    recipe = Recipe.from_dict({"method": method, "distillation": {"teacher": teacher}})
    shown = trainings.own_knobs(TrainingRun(method=method, recipe=recipe.to_dict()))
    assert [name for name in shown if isinstance(shown[name], dict)] == ([group] if group else [])
    assert shown["lr"] == recipe.lr
