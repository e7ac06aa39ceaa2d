"""What is answered is kept: killed, failed and repeated evaluations, and answers nobody expects."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from by_hand import PROJECT
from chat_app import Chat, chat
from sqlmodel import func, select

import evaluator.graders
from evaluator.answers import Answer, ModelServerUnavailable, Subject
from evaluator.cache import AnswerCache, folder_hash, prompt_hash, seed_of
from evaluator.replies import ANSWER_CHARS, KEPT_CHARS, REPLY_BYTES
from evaluator.speed import BATCH_RATES, speed_ratio
from evaluator.suites import Task, add_suite
from evaluator.tables import CachedAnswer, Evaluation, Sample
from evaluator.tasks import EvaluationPlan
from flywheel.benchmark import compare_subjects, evaluations_of, finish, order_evaluation
from foundation.database import session_scope
from foundation.errors import BadInput, Conflict
from foundation.queue import declare_queues
from foundation.runs import get_run
from foundation.tables import CANCELLED
from trainer.registry import ensure_base_version


def asking(number, **changes):
    fields = {
        "task_id": f"t{number}",
        "prompt": [{"role": "user", "content": f"What is {number} + 1?"}],
        "grader": "exact",
        "reference": {"answer": str(number + 1)},
        "attributes": {"difficulty": "easy" if number % 2 else "hard"},
    }
    return Task(**{**fields, **changes})


@pytest.fixture
def suite(database):
    declare_queues()
    with session_scope() as session:
        return add_suite(session, "sums", "coder", [asking(n) for n in range(12)])


@pytest.fixture
def server():
    with chat() as running:
        yield running


def plan(server: Chat, **changes):
    return EvaluationPlan(
        **{"samples_per_task": 1, "batch_size": 4, "base_url": server.url, **changes}
    )


def evaluated(server, *subjects, **changes):
    return evaluations_of(finish(order_evaluation("sums", subjects, plan(server, **changes))))


def test_a_dead_server_is_said_and_what_it_answered_is_not_asked_again(suite, server):
    server.dies_after = 6
    with pytest.raises(ModelServerUnavailable, match=r"of 12 answers are kept.*again asks"):
        evaluated(server, "m")
    with session_scope() as session:
        assert session.exec(select(func.count()).select_from(CachedAnswer)).one() == 6
        assert session.exec(select(Evaluation)).all() == []
    server.dies_after = None
    [found] = evaluated(server, "m")
    assert (found["success_rate"], found["n_lost"]) == (1, 0)
    assert found["metrics"]["answers"]["cached"] == 6
    assert set(server.asked.values()) == {1}


def test_killed_it_goes_on_and_leaves_no_run_behind(suite, server, tmp_path):
    server.delay_s = 0.4
    command = ("evaluate", "sums", "m", "--samples", "1", "--batch-size", "2", "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel", *command, "--base-url", server.url],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while server.n_requests < 5 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with session_scope() as session:
        kept = session.exec(select(func.count()).select_from(CachedAnswer)).one()
        assert 0 < kept < 12
        killed = session.exec(select(CachedAnswer.run_id)).first()
    server.delay_s = 0.0
    before = sum(server.asked.values())
    defaults = {"temperature": 1.0, "max_tokens": 512, "seed": 0}
    [found] = evaluated(server, "m", batch_size=2, **defaults)
    assert found["success_rate"] == 1
    assert sum(server.asked.values()) - before == 12 - kept
    with session_scope() as session:
        assert get_run(session, killed).status == CANCELLED
        assert session.exec(select(CachedAnswer)).all() == [], "a name of a server is no content"


def test_a_known_model_is_asked_once_and_then_counts_for_no_speed(suite, server, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    with session_scope() as session:
        ensure_base_version(session, "coder", str(tmp_path / "base"), "base")
    server.special = {3: "no"}
    first, second = evaluated(server, "base", "m"), evaluated(server, "base", "m")
    known, unknown = second
    assert known["success_rate"] == first[0]["success_rate"] == 11 / 12
    assert known["metrics"]["answers"]["cached"] == 12
    assert known["settings"][BATCH_RATES] == [None] * 3
    assert known["metrics"]["latency_ms"] is None
    assert unknown["metrics"]["answers"]["cached"] == 0
    assert {n for (model, _), n in server.asked.items() if model != "m"} == {1}
    again = evaluated(server, "base", use_cache=False)
    assert again[0]["metrics"]["answers"]["cached"] == 0
    (tmp_path / "base" / "config.json").write_text("{ }")
    assert evaluated(server, "base")[0]["metrics"]["answers"]["cached"] == 0
    assert evaluated(server, "base", temperature=0.5)[0]["metrics"]["answers"]["cached"] == 0
    with session_scope() as session:
        pair = [session.get_one(Evaluation, one["id"]) for one in (first[0], second[0])]
    assert speed_ratio(*pair) is None, "they did not run side by side"


def test_another_server_is_asked_itself(suite, server, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with session_scope() as session:
        ensure_base_version(session, "coder", str(tmp_path), "base")
    evaluated(server, "base")
    with chat() as other:
        other.special = {3: "no"}
        [found] = evaluated(other, "base")
    assert found["metrics"]["answers"]["cached"] == 0
    assert found["success_rate"] == pytest.approx(11 / 12)


def test_a_seed_follows_from_the_task_and_not_from_its_place(suite, server):
    evaluated(server, "m", batch_size=3)
    seeds = dict(server.seeds)
    with session_scope() as session:
        add_suite(session, "sums", "coder", [asking(n) for n in (7, 3, 20)])
    evaluated(server, "m", batch_size=1)
    assert server.seeds["m", 7] == seeds["m", 7]
    assert len(set(server.seeds.values())) == 13
    hashed = prompt_hash(asking(7).prompt)
    assert seeds["m", 7] == seed_of(0, hashed, 0) == seed_of(0, hashed, 4) - 4 < 2**31


def test_an_answer_without_end_is_cut_and_wrong_but_not_lost(suite, server):
    long = json.dumps({"choices": [{"message": {"content": "4" + "x" * (REPLY_BYTES + 1)}}]})
    server.special = {3: "y" * (ANSWER_CHARS + 1), 5: long.encode(), 7: "z" * 1000}
    [found] = evaluated(server, "m")
    assert (found["n_lost"], found["success_rate"]) == (0, pytest.approx(9 / 12))
    assert found["metrics"]["answers"]["too_long"] == 2
    with session_scope() as session:
        samples = session.exec(select(Sample).where(Sample.status == "WRONG")).all()
    long_ones = [s for s in samples if "too long" in (s.detail or "") or "characters" in s.detail]
    assert sorted(len(s.answer) for s in long_ones) == [KEPT_CHARS] * 2
    assert {s.answer[0] for s in long_ones} == {"y", "4"}


def test_bytes_that_are_no_text_are_replaced_and_counted(suite, server):
    body = b'{"choices": [{"message": {"content": "\xff\xfe 4"}, "finish_reason": "length"}]}'
    server.special = {3: body}
    [found] = evaluated(server, "m")
    counts = found["metrics"]["answers"]
    assert (counts["repaired"], counts["at_token_limit"], found["n_lost"]) == (1, 1, 0)


def test_a_grader_that_throws_costs_one_answer(suite, server, monkeypatch):
    real = evaluator.graders.grader("exact")

    class Touchy:
        def __call__(self, tasks, answers, sandbox):
            if "no" in answers:
                raise ZeroDivisionError("by nothing")
            return real(tasks, answers, sandbox)

    monkeypatch.setattr(evaluator.graders, "grader", lambda *_: Touchy())
    server.special = {3: "no"}
    [found] = evaluated(server, "m")
    assert (found["n_samples"], found["n_lost"], found["success_rate"]) == (12, 0, 1)
    assert found["metrics"]["answers"]["grader_threw"] == 1
    [reason] = found["metrics"]["grader_errors"]
    assert "ZeroDivisionError: by nothing (test_resume.py line" in reason
    with session_scope() as session:
        [sample] = session.exec(select(Sample).where(Sample.status == "ERROR")).all()
    assert (sample.passed, sample.answer) == (None, "no")


@pytest.mark.parametrize("reference", [{}, {"answer": []}])
def test_a_task_that_cannot_be_graded_is_refused_before_anybody_is_asked(suite, server, reference):
    with session_scope() as session:
        bad = [asking(1), asking(2, reference=reference)]
        add_suite(session, "sums", "coder", bad)
    with pytest.raises(BadInput, match="task t2: reference"):
        evaluated(server, "m")
    assert server.n_requests == 0


def test_a_draft_that_grew_is_not_compared_with_what_it_was(database, server):
    declare_queues()
    with session_scope() as session:
        add_suite(session, "sums", "coder", [asking(1), asking(2)], is_draft=True)
    [before] = evaluated(server, "m")
    with session_scope() as session:
        grown = add_suite(session, "sums", "coder", [asking(3)], is_draft=True)
        assert (grown.version, grown.n_tasks) == (1, 3)
    [after] = evaluated(server, "m")
    with pytest.raises(Conflict, match="suite has changed"):
        compare_subjects(before["id"], after["id"], None, plan(server))
    with pytest.raises(Conflict, match="two evaluations"):
        compare_subjects(after["id"], after["id"], None, plan(server))


def test_rows_changed_by_hand_are_noticed(suite, server):
    from evaluator.suites import tasks_of

    with session_scope() as session:
        [first, *_] = tasks_of(session, suite)
        first.reference = {"answer": "anything"}
        session.add(first)
    with pytest.raises(Conflict, match="changed by hand"):
        evaluated(server, "m")
    assert server.n_requests == 0


def test_two_models_are_evaluated_when_compared_and_not_again(suite, server, tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
        with session_scope() as session:
            ensure_base_version(session, "coder", str(tmp_path / name), name)
    first = compare_subjects("old", "new", None, plan(server))
    assert first["notes"] == []
    assert [one["subject"] for one in first["evaluations"]] == ["old", "new"]
    assert {row["value"] for row in first["slices"]["rows"]} == {"easy", "hard"}
    with session_scope() as session:
        add_suite(session, "general", "coder", [asking(n) for n in range(50, 62)])
    second = compare_subjects("old", "new", None, plan(server), "general")
    assert second["forgetting"]["suite"] == "general@1"
    n_requests = server.n_requests
    assert compare_subjects("old", "new", "sums", plan(server))["notes"]
    assert server.n_requests == n_requests
    with pytest.raises(BadInput, match="two different models"):
        compare_subjects("old", "old", "sums", plan(server))


def test_the_hash_of_a_folder_sees_names_sizes_and_blocks(tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(3_000_000))
    empty = folder_hash(tmp_path)
    weights.write_bytes(bytes(2_999_999) + b"\1")
    assert folder_hash(tmp_path) != empty
    (tmp_path / "config.json").write_text("{}")
    assert len({empty, folder_hash(tmp_path)}) == 2


def test_more_answers_are_looked_up_than_a_query_takes_parameters(database):
    cache = AnswerCache(None, "salt", session_scope)
    subject = Subject("m", lambda *_: [], model_hash="hash")
    cache.keep(subject, [("key 0", Answer("first")), ("key 69999", Answer("last"))])
    found = cache.look_up([f"key {number}" for number in range(70_000)])
    assert {key: answer.text for key, answer in found.items()} == {
        "key 0": "first",
        "key 69999": "last",
    }
