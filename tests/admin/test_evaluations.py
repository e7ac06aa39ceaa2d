"""Evaluations: what is shown of one, its answers, the watch over who serves, and a new order."""

import json
import re
from typing import Any

import pytest
from sqlalchemy import event, func, select, text
from sqlmodel import Session, col

from admin import evaluations
from evaluator.drift import DriftThresholds
from evaluator.expected import expected
from evaluator.tables import DriftWatch, Evaluation, Sample, Suite, SuiteTask
from evaluator.tasks import EVALUATE_JOB
from foundation import decisions as ledger
from foundation.ids import new_id
from foundation.tables import Run
from trainer.tables import ModelVersion

N = 6
STATUSES = ("PASS", "WRONG", "CRASH", "TIMEOUT", "MEMORY", "LOST")
SANDBOX = {
    "tier": "A",
    "probes": {"network": "blocked", "memory": "open", "ordinary programs": "work"},
    "refused": {},
    "limits": {"cpu_s": 5.0},
}


@pytest.fixture
def version(session: Session) -> ModelVersion:
    found = ModelVersion(
        role="coder", number=1, name="coder-v1", kind="adapter", base_model="tiny",
        stage="production",
    )  # fmt: skip
    session.add(found)
    session.commit()
    return found


@pytest.fixture
def suite(session: Session) -> Suite:
    found = Suite(name="coding", role="coder", content_hash="ab" * 32, n_tasks=N)
    session.add(found)
    session.flush()
    session.add_all(
        SuiteTask(
            suite_id=found.id,
            task_id=f"t{i}",
            prompt=[{"role": "user", "content": f"Ask {i}"}],
            grader="asserts",
            reference={},
            attributes={"difficulty": ("easy", "hard")[i % 2]},
        )
        for i in range(N)
    )
    session.commit()
    return found


def evaluate(session: Session, suite: Suite, name: str = "coder-v1", **columns: Any) -> Evaluation:
    """Store an evaluation with two answers a task, one of each of `STATUSES` and passes."""
    found = Evaluation(
        suite_id=suite.id, subject=name, samples_per_task=2, n_samples=2 * N,
        **{"success_rate": 0.6, "ci_low": 0.4, "ci_high": 0.8, **columns},
    )  # fmt: skip
    session.add(found)
    session.flush()
    for i, task in enumerate(
        session.scalars(
            select(SuiteTask)
            .where(col(SuiteTask.suite_id) == suite.id)
            .order_by(col(SuiteTask.task_id))
        ).all()
    ):
        for n, status in enumerate((STATUSES[i], "PASS")):
            session.add(
                Sample(
                    evaluation_id=found.id, suite_task_id=task.id, number=n,
                    answer=f"answer {i} {n}", status=status, latency_ms=100.0 * i,
                    passed=None if status == "LOST" else status == "PASS",
                    detail=None if status == "PASS" else f"said of {i}",
                )
            )  # fmt: skip
    session.commit()
    return found


@pytest.fixture
def made(session: Session, suite: Suite, version: ModelVersion) -> Evaluation:
    return evaluate(
        session, suite, model_version_id=version.id, sandbox=SANDBOX,
        metrics={
            "cost_usd": 1.5, "pass_k": {"pass@1": 0.6}, "graded": {"judge_flipped": 0.06},
            "answers": {"asked": 12, "cached": 0}, "latency_ms": {"p50": 900.0, "p95": 2100.0},
        },
    )  # fmt: skip


def test_an_evaluation_says_how_far_to_believe_it(session, get, made) -> None:
    page = evaluations.detail(session, made.id)
    assert dict(page.sandbox.unrunnable) == {"CRASH": 1, "TIMEOUT": 1, "MEMORY": 1, "FORBIDDEN": 0}
    assert {wall.name: wall.holds for wall in page.sandbox.walls} == {
        "network": True,
        "memory": False,
        "ordinary programs": True,
    }
    assert [name for name, _ in page.kinds] == ["Difficulty"]
    assert [row.name for row in page.kinds[0][1].rows] == ["easy", "hard"]
    assert page.figures[0] == ("pass@1", "60.0 %")
    assert ("judge flipped", "0.06") in page.judged
    shown = get(f"/admin/evaluations/{made.id}").text
    assert "The sandbox did not block: memory." in shown
    assert "$1.50" in shown


def test_what_an_older_row_did_not_keep_is_said_to_be_unknown(session, get, suite) -> None:
    old = evaluate(session, suite, "recorded", success_rate=None, ci_low=None, ci_high=None)
    page = get(f"/admin/evaluations/{old.id}")
    assert page.status_code == 200
    assert page.text.count("Not recorded") == 2
    old.sandbox = {"tier": "Z"}
    session.execute(text("DELETE FROM sample"))
    session.commit()
    page = get(f"/admin/evaluations/{old.id}").text
    assert "does not know the tier" in page
    assert "The self-test of its walls is not recorded." in page
    assert "No answers are stored." in page
    assert "No answers are stored." in get(f"/admin/evaluations/{old.id}/answers").text


def answers_in(page: str) -> list[str]:
    return re.findall(r'class="row" href="[^"]*">(t\d)</a>', page)


def test_answers_are_narrowed_sorted_and_exported_whole(session, get, made) -> None:
    path = f"/admin/evaluations/{made.id}/answers"
    assert len(answers_in(get(path).text)) == 2 * N
    for narrowed, found in (
        ("grade=failed", ["t4", "t3", "t2", "t1"]),
        ("grade=no+grade", ["t5"]),
        ("status=CRASH", ["t2"]),
        ("grade=failed&slice=difficulty:hard", ["t3", "t1"]),
        ("q=answer+3", ["t3", "t3"]),
        ("q=said+of+4", ["t4"]),
        ("q=Ask+1", ["t1", "t1"]),
        ("q=%25", []),
        ("grade=failed&sort=latency_ms", ["t1", "t2", "t3", "t4"]),
    ):
        assert answers_in(get(f"{path}?{narrowed}").text) == found, narrowed
    session.execute(
        text("UPDATE sample SET answer = repeat('x', 5000) WHERE status = 'CRASH'"),
    )
    session.commit()
    (line,) = get(f"{path}?status=CRASH&format=jsonl").text.splitlines()
    assert json.loads(line)["answer"] == "x" * 5_000
    assert "x" * 400 not in get(f"{path}?status=CRASH").text


def test_one_answer_has_its_task_its_siblings_and_the_next(session, get, made) -> None:
    failed = session.scalars(
        select(Sample).where(col(Sample.passed).is_(False)).order_by(col(Sample.id).desc())
    ).all()
    path = f"/admin/evaluations/{made.id}/answers"
    page = get(f"{path}/{failed[1].id}?grade=failed").text
    for said in ("Ask 3", "answer 3 0", "said of 3", "1: timeout", "2: pass"):
        assert said in page, said
    assert f'rel="prev" href="{path}/{failed[0].id}?grade=failed"' in page
    assert f'rel="next" href="{path}/{failed[2].id}?grade=failed"' in page
    other = evaluate(session, session.get_one(Suite, made.suite_id), "other")
    assert get(f"/admin/evaluations/{other.id}/answers/{failed[0].id}").status_code == 404


def watch(session: Session, version: ModelVersion, **columns: Any) -> DriftWatch:
    kept = {"limit": 0.16, "growth": [0.5, 0.4, 0.2, 0.1], "score": 0.0, "n_since": 0}
    row = DriftWatch(
        role=version.role, model_version_id=version.id,
        **{
            "reference_rate": 0.86, "n_reference": 300, "n": 1_000, "n_failed": 150,
            "watermark": kept, **columns,
        },
    )  # fmt: skip
    session.add(row)
    session.commit()
    return row


def test_drift_is_shown_by_role_and_alarms_are_told(session, get, version) -> None:
    assert evaluations.drift_alarms(session) == []
    row = watch(session, version)
    (seen,) = evaluations.watches(session)
    assert (seen.state, seen.threshold) == ("steady", DriftThresholds().alarm_e)
    assert seen.gauge is not None
    assert "Drift of who serves" in get("/admin/evaluations").text
    alarm = ledger.record(session, "evaluator.drift", "alarm", ["it fell"], role="coder")
    row.alarm_decision_id = alarm.id
    session.commit()
    (told,) = evaluations.drift_alarms(session)
    assert (told.role, told.alarm_decision_id) == ("coder", alarm.id)
    assert f'href="/admin/decisions/{alarm.id}"' in get("/admin/evaluations").text


def test_a_reference_that_is_gathered_and_a_suspicion_are_told_apart(session, get, version) -> None:
    row = watch(session, version, n_reference=40, watermark={}, n=0)
    assert [one.state for one in evaluations.watches(session)] == ["gathering"]
    assert "40 of 300 outcomes" in get("/admin/evaluations").text
    row.watermark = {"limit": 0.16, "growth": [60.0, 70.0, 50.0, 20.0], "n_since": 0}
    session.commit()
    assert [one.state for one in evaluations.watches(session)] == ["suspected"]
    assert get("/admin/evaluations").status_code == 200


ORDER = {"suite": "coding@1", "subject": "coder-v2", "samples_per_task": "3"}


def test_an_order_leads_to_its_run_and_a_second_click_to_the_same(
    session, visit, suite, version, audited
) -> None:
    operator = visit("operator")
    answer = operator.post("/evaluations/new", **ORDER, against="coder-v1")
    run = session.scalars(select(Run).where(col(Run.kind) == EVALUATE_JOB)).one()
    assert answer.headers["location"] == f"/admin/runs/{run.id}"
    assert run.params["subjects"] == ["coder-v1", "coder-v2"]
    assert (run.params["against"], run.params["samples_per_task"]) == ("coder-v1", 3)
    again = operator.post("/evaluations/new", **ORDER, against="coder-v1")
    assert again.headers["location"] == answer.headers["location"]
    alone = operator.post("/evaluations/new", **ORDER)
    assert alone.headers["location"] != answer.headers["location"]
    assert session.scalar(select(func.count()).select_from(Run)) == 2
    assert audited(session)[0].action == "evaluation.start"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"subject": ""}, 400),
        ({"suite": "nothing@9"}, 404),
        ({"samples_per_task": "0"}, 422),
        ({"temperature": "-1"}, 422),
        ({"temperature": "nan"}, 422),
    ],
)
def test_a_wrong_order_is_refused_and_starts_nothing(session, visit, suite, fields, status) -> None:
    assert visit("operator").post("/evaluations/new", **{**ORDER, **fields}).status_code == status
    assert session.scalar(select(func.count()).select_from(Run)) == 0


def test_what_it_will_take_is_said_before(session, visit, suite, made) -> None:
    made.run_id = None
    session.commit()
    found = expected(session, suite, ["coder-v1", "unknown"], 5)
    assert (found.n_answers, found.cost_usd, found.seconds) == (60, None, None)
    assert expected(session, suite, ["coder-v1"], 5).cost_usd == pytest.approx(1.5 / 12 * 30)
    query = "suite=coding@1&subject=coder-v1&samples_per_task=5"
    page = visit("operator").get(f"/evaluations/new?{query}").text
    assert "30 answers" in page
    assert "$3.75" in page


def test_only_operators_order(session, visit, suite, made) -> None:
    for role in ("viewer", "reviewer"):
        browser = visit(role)
        assert "Evaluate a model" not in browser.get("/evaluations").text
        assert browser.get("/evaluations/new").status_code == 403
        assert browser.post("/evaluations/new", **ORDER).status_code == 403
        assert browser.get(f"/evaluations/{made.id}/answers").status_code == 200
    assert session.scalar(select(func.count()).select_from(Run)) == 0


def test_empty_pages_say_what_to_do_next(session, get, visit) -> None:
    assert "No evaluation yet." in get("/admin/evaluations").text
    assert "There is no suite yet." in visit("operator").get("/evaluations/new").text


def test_pages_ask_as_often_for_one_as_for_many(session, get, suite, made) -> None:
    def asked(path: str) -> int:
        seen: list[str] = []

        def note(*given: Any) -> None:
            seen.append(given[2])

        engine = session.get_bind()
        event.listen(engine, "before_cursor_execute", note)
        try:
            assert get(path).status_code == 200
        finally:
            event.remove(engine, "before_cursor_execute", note)
        return len(seen)

    paths = ["/admin/evaluations", f"/admin/evaluations/{made.id}/answers"]
    few = [asked(path) for path in paths]
    for n in range(12):
        evaluate(session, suite, f"m{n}")
    assert [asked(path) for path in paths] == few
    assert asked(f"/admin/evaluations/{made.id}") <= 9


def test_the_list_is_narrowed_sorted_and_exported(session, get, suite, made) -> None:
    other = evaluate(session, suite, "another", success_rate=0.9)

    def ids(query: str) -> list[str]:
        return re.findall(r'row" href="/admin/evaluations/([0-9a-f-]{36})"', get(query).text)

    both = [str(other.id), str(made.id)]
    assert ids("/admin/evaluations") == both
    assert ids("/admin/evaluations?sort=success_rate") == both[::-1]
    assert ids("/admin/evaluations?sort=-cost_usd") == both[::-1], "what is unknown comes last"
    assert ids("/admin/evaluations?subject=coder-v1") == both[1:]
    assert ids("/admin/evaluations?suite=coding&role=coder") == both
    assert ids("/admin/evaluations?role=tester") == []
    lines = [json.loads(one) for one in get("/admin/evaluations?format=jsonl").text.splitlines()]
    assert [one["cost_usd"] for one in lines] == [None, 1.5]


def test_hostile_text_stays_text(session, get, made, hostile) -> None:
    session.execute(
        text("UPDATE sample SET answer = :h, detail = :h, status = :h").bindparams(h=hostile)
    )
    session.execute(text("UPDATE suite_task SET task_id = task_id || :h").bindparams(h=hostile))
    session.execute(
        text("UPDATE evaluation SET subject = :h, sandbox = CAST(:s AS jsonb)").bindparams(
            h=hostile, s=json.dumps({"tier": hostile, "probes": {hostile: hostile}})
        )
    )
    session.commit()
    one = session.scalars(select(col(Sample.id)).limit(1)).one()
    for path in ("", f"/{made.id}", f"/{made.id}/answers", f"/{made.id}/answers/{one}"):
        answer = get(f"/admin/evaluations{path}")
        assert answer.status_code == 200, path
        assert "<script>alert(1)" not in answer.text, path
        assert "<img src=x" not in answer.text, path
        assert "\u202e" not in answer.text, path


def test_unknown_ids_are_not_found(get, made) -> None:
    gone = new_id()
    for path in (f"/{gone}", f"/{gone}/answers", f"/{gone}/report", f"/{made.id}/answers/{gone}"):
        assert get(f"/admin/evaluations{path}").status_code == 404, path
