"""A build killed, helped, cancelled, or cut off from its database ends as if nothing had been."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from by_hand import environment_with, wait_until
from sqlalchemy import text
from sqlmodel import Session, select

import curation.tasks  # noqa: F401  registers the jobs
from curation.build import build_dataset, help_build
from curation.chunks import COMPARE, JUDGE
from curation.recipe import CurationRecipe
from curation.tables import CurationBuild, CurationChunk, Dataset, Example
from foundation import runs
from foundation.database import session_scope
from foundation.errors import DatabaseUnavailable
from foundation.ids import new_id
from foundation.runs import RunCancelled, run_here
from foundation.tables import CANCELLED, Run

RECIPE = CurationRecipe(batch_size=25)
TABLES = (
    *("dataset_shard", "shard_row", "dataset", "example", "indexed_text", "text_band", "text_edge"),
    *("template_text", "curation_watermark", "curation_build", "curation_chunk", "calibration"),
    *("review_item", "preference_pair", "embedding"),
)


@pytest.fixture
def expected(session: Session, log: Any) -> str:
    """The content of the dataset of a varied log, as one worker alone makes it at one go."""
    words = random.Random(3)
    episodes = [new_id() for _ in range(40)]
    for number in range(300):
        asked = f"Write a function f(x) that returns the numbers increased by {number % 90}."
        before, after = words.choice(["", "Hello. "]), words.choice(["", " Thanks!"])
        log.call(
            before + asked + after,
            f"def f(x):\n    return x + {number % 90 + (number % 11 == 0)}",
            passed=number % 5 > 0,
            task_type="abc"[number % 3],
            episode_id=words.choice([*episodes, None]),
        )
    made = build_dataset("coder")
    assert made.card["kept"] > 60
    assert {"exact_duplicate", "near_duplicate"} <= made.card["dropped_by_reason"].keys()
    session.execute(text(f"TRUNCATE {', '.join(TABLES)} CASCADE"))
    session.commit()
    session.expunge_all()
    return made.content_hash


def n_done(session: Session, step: str = JUDGE) -> int:
    session.rollback()
    done = select(CurationChunk.id).where(CurationChunk.step == step, CurationChunk.done_at != None)  # noqa: E711
    return len(session.exec(done).all())


SLOW = """
import sys, time
from curation import build
from curation.recipe import CurationRecipe

def dawdle(*at, **measures):
    time.sleep(float(sys.argv[1]))

build.build_dataset("coder", CurationRecipe(batch_size=25), progress=dawdle)
"""


@contextmanager
def a_process(pause_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """A build in a process of its own, which pauses after each chunk."""
    command = [sys.executable, "-c", SLOW, str(pause_s)]
    with subprocess.Popen(command, env=environment_with(), start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("step", [JUDGE, COMPARE])
def test_a_killed_build_is_taken_up_where_it_was(
    session: Session, expected: str, step: str
) -> None:
    with a_process(0.3) as process:
        wait_until(lambda: n_done(session, step) >= 3, f"some chunks of {step}")
        os.killpg(process.pid, signal.SIGKILL)
    assert session.exec(select(Dataset)).all() == []
    before = {c.id: c.done_at for c in session.exec(select(CurationChunk)) if c.done_at}
    dataset = build_dataset("coder", RECIPE)
    assert (dataset.number, dataset.content_hash) == (1, expected)
    session.expire_all()
    after = {c.id: c.done_at for c in session.exec(select(CurationChunk))}
    assert before.items() <= after.items(), "no chunk was done twice"
    assert len(session.exec(select(CurationBuild)).all()) == 1
    assert len(session.exec(select(Example)).all()) == 300


def test_two_processes_make_what_one_makes(session: Session, expected: str) -> None:
    with a_process(0.05) as one, a_process(0.05) as other:
        assert [one.wait(120), other.wait(120)] == [0, 0]
    [dataset] = session.exec(select(Dataset))
    assert dataset.content_hash == expected
    assert dataset.card["build"]["new"] == 300


def test_helpers_do_chunks_and_change_nothing(session: Session, expected: str) -> None:
    helped: list[int] = []
    with ThreadPoolExecutor(2) as pool:

        def call_helpers(build_id: UUID, step: str) -> None:
            waiting = [pool.submit(help_build, build_id, step) for _ in range(2)]
            helped.append(sum(one.result() for one in waiting))

        dataset = build_dataset("coder", RECIPE, call_helpers=call_helpers)
    assert dataset.content_hash == expected
    assert len(helped) == 2, "to judge, and to compare"
    assert helped[0] == 12


def test_the_job_calls_helpers_to_each_step(session: Session, expected: str) -> None:
    params = {"role": "coder", "recipe": RECIPE.as_json(), "helpers": 2}
    run = run_here("curation.build", params, role="coder")
    assert run.result is not None
    assert session.get(Dataset, UUID(run.result["dataset_id"])).content_hash == expected
    helping = session.exec(select(Run).where(Run.kind == "curation.help")).all()
    assert sorted(run.params["step"] for run in helping) == [COMPARE, COMPARE, JUDGE, JUDGE]
    done = runs.execute(helping[0].id)
    assert done is not None
    assert done.result == {"chunks": 0}, "the build has ended"
    assert run.progress is not None
    assert {"step", "rows_per_s", "eta_s"} <= run.progress.keys() or run.progress[
        "unit"
    ] == "shards"


def test_a_cancelled_build_stops_between_chunks_and_goes_on_later(
    session: Session, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session_scope() as own:
        run = runs.enqueue(
            own, "curation.build", {"role": "coder", "recipe": RECIPE.as_json()}, role="coder"
        )
    honest = runs.RunHandle.progress

    def cancel_then_report(self: runs.RunHandle, *at: Any, **measures: Any) -> None:
        with session_scope() as own:
            runs.cancel(own, run.id)
        honest(self, *at, **measures)

    monkeypatch.setattr(runs.RunHandle, "progress", cancel_then_report)
    assert runs.execute(run.id) is None
    with session_scope() as own:
        assert runs.get_run(own, run.id).status == CANCELLED
    assert 0 < n_done(session) < 12
    assert session.exec(select(Dataset)).all() == []
    assert build_dataset("coder", RECIPE).content_hash == expected


def test_another_recipe_abandons_what_was_begun_and_judges_everything(
    session: Session, expected: str
) -> None:
    calls = []

    def stop_at_the_third() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise RunCancelled("stop")

    other = CurationRecipe(batch_size=25, min_score=0.9, keep_corrections=False)
    with pytest.raises(RunCancelled):
        build_dataset("coder", other, check=stop_at_the_third)
    assert n_done(session) > 0
    assert build_dataset("coder", RECIPE).content_hash == expected
    outcomes = session.exec(select(CurationBuild.outcome).order_by(CurationBuild.started_at))
    assert list(outcomes) == ["abandoned", "published"]


@pytest.fixture
def trigger(session: Session, database: str) -> Iterator[None]:
    """The server ends the connection that stores a certain example, in the middle of a chunk."""
    session.execute(text(ENDS_CONNECTION))
    session.commit()
    yield
    session.execute(text("DROP FUNCTION IF EXISTS end_connection CASCADE"))
    session.commit()


ENDS_CONNECTION = """
    CREATE FUNCTION end_connection() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NEW; END';
    CREATE TRIGGER end_connection BEFORE INSERT ON example
    FOR EACH ROW WHEN (NEW.answer LIKE '%x + 77') EXECUTE FUNCTION end_connection();
"""


def test_a_lost_database_is_named_and_the_build_goes_on_later(
    session: Session, expected: str, trigger: None
) -> None:
    with pytest.raises(DatabaseUnavailable, match="terminat"):
        build_dataset("coder", RECIPE)
    assert 0 < n_done(session) < 12
    assert session.exec(select(Dataset)).all() == []
    assert len(session.exec(select(Example)).all()) == 25 * n_done(session)
    session.execute(text("DROP FUNCTION end_connection CASCADE"))
    session.commit()
    dataset = build_dataset("coder", RECIPE)
    assert (dataset.number, dataset.content_hash) == (1, expected)


@pytest.mark.usefixtures("broker_afresh")
def test_connections_lost_between_chunks_stop_nobody(session: Session, expected: str) -> None:
    done = []

    def lose_the_connections(*at: Any, **measures: Any) -> None:
        done.append(at)
        if len(done) == 4:
            session.invalidate()
            with session_scope() as own:
                own.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )

    dataset = build_dataset("coder", RECIPE, progress=lose_the_connections)
    assert len(done) > 4
    assert (dataset.number, dataset.content_hash) == (1, expected)


def test_a_chunk_that_fails_names_its_error_and_burns_nothing(
    session: Session, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import curation.build

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug in publishing")

    with monkeypatch.context() as patched:
        patched.setattr(curation.build, "publish", fail)
        with pytest.raises(RuntimeError, match="a bug in publishing"):
            build_dataset("coder", RECIPE)
    assert session.exec(select(Dataset)).all() == []
    mark = session.execute(text("SELECT count(*) FROM curation_watermark")).scalar_one()
    assert mark == 0
    dataset = build_dataset("coder", RECIPE)
    assert (dataset.number, dataset.content_hash) == (1, expected)
