"""Verdicts: what is shown is what was stored, task by task, and what a click may set off."""

import json
import re
from typing import Any

import pytest
from sqlalchemy import event, func, select, text
from sqlmodel import Session, col

from admin import verdict_tasks, verdicts
from admin.listing import Asked
from curation.tables import ReviewItem
from evaluator.compare import compare
from evaluator.report.checks import checks_of
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask, Verdict
from evaluator.tasks import COMPARE_JOB, compare_evaluations, start_comparison
from evaluator.taskwise import ask_people, fates, paired_tasks
from foundation.ids import new_id
from foundation.runs import execute
from foundation.tables import Decision, Run

N = 12


def make_suite(session: Session, name: str = "coding", prompt: str = "Do it") -> Suite:
    found = Suite(name=name, role="coder", content_hash="ab" * 32, n_tasks=N)
    session.add(found)
    session.flush()
    session.add_all(
        SuiteTask(
            suite_id=found.id,
            task_id=f"t{i:02}",
            prompt=[{"role": "user", "content": f"{prompt} {i}"}],
            grader="asserts",
            reference={},
            attributes={"difficulty": ("easy", "hard")[i % 2], "family": f"f{i}"},
        )
        for i in range(N)
    )
    session.flush()
    return found


def evaluate(session: Session, suite: Suite, name: str, outcome: Any, k: int = 2) -> Evaluation:
    """Store an evaluation; `outcome(i, n)` is True, False, None (lost) or "ERROR"."""
    found = Evaluation(
        suite_id=suite.id,
        subject=name,
        samples_per_task=k,
        n_samples=N * k,
        success_rate=0.5,
        ci_low=0.4,
        ci_high=0.6,
        suite_hash=suite.content_hash,
    )
    session.add(found)
    session.flush()
    tasks = session.scalars(
        select(SuiteTask)
        .where(col(SuiteTask.suite_id) == suite.id)
        .order_by(col(SuiteTask.task_id))
    ).all()
    for i, task in enumerate(tasks):
        for n in range(k):
            said = outcome(i, n)
            session.add(
                Sample(
                    evaluation_id=found.id,
                    suite_task_id=task.id,
                    number=n,
                    answer=f"```python\ndef f{i}(): return {name!r}, {n}\n```",
                    passed=said if isinstance(said, bool) else None,
                    status={True: "PASS", False: "WRONG", None: "LOST"}.get(said, "ERROR"),
                    detail=None if said is True else f"{name} was wrong",
                )
            )
    session.flush()
    return found


@pytest.fixture
def pair(session: Session) -> tuple[Evaluation, Evaluation]:
    suite = make_suite(session)
    old = evaluate(session, suite, "coder-old", lambda i, n: i < 4)
    new = evaluate(session, suite, "coder-new", lambda i, n: 2 <= i < 10 or (i == 10 and n == 0))
    session.commit()
    return old, new


@pytest.fixture
def verdict(session: Session, pair) -> Verdict:
    found = compare(session, *pair)
    session.commit()
    return found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (lambda i, n: i % 3 == 0, lambda i, n: i % 4 != 0),
        (lambda i, n: None if i == 2 else i % 2 == n, lambda i, n: None if n == 1 else i > 3),
        (lambda i, n: "ERROR" if i < 3 else i % 2 == 0, lambda i, n: "ERROR" if i == n else i > 5),
        (lambda i, n: "ERROR" if n else True, lambda i, n: "ERROR" if i % 2 and n else i != 4),
    ],
    ids=["plain", "lost", "threw", "threw at both"],
)
def test_the_database_counts_tasks_as_the_verdict_does(session: Session, old, new) -> None:
    suite = make_suite(session)
    baseline, candidate = evaluate(session, suite, "a", old), evaluate(session, suite, "b", new)
    stored = compare(session, baseline, candidate).report["comparison"]
    counted = fates(session, paired_tasks(baseline.id, candidate.id))
    assert (counted.better, counted.same, counted.worse, counted.n) == (
        stored["tasks_better"],
        stored["tasks_tied"],
        stored["tasks_worse"],
        stored["n_tasks"],
    )


def test_a_verdict_shows_its_decision_threshold_by_threshold(session, get, verdict) -> None:
    page = get(f"/admin/verdicts/{verdict.id}").text
    decision = session.get_one(Decision, verdict.decision_id)
    for reason in decision.reasons:
        assert reason.replace("'", "&#39;").replace(">", "&gt;") in page
    checks = checks_of(decision.inputs, decision.rule)
    met = {one.name: one.is_met for one in checks}
    assert met["a gain that is enough by itself"] is (verdict.improvement_points >= 10)
    assert met["more than luck"] is (verdict.ci_low > 0)
    assert met["forgetting"] is None
    assert "To deploy, one of these" in page
    assert f"{verdict.improvement_points:+.1f}" in page


@pytest.mark.parametrize(
    ("inputs", "name", "is_met", "note"),
    [
        ({"improvement_points": 6.9}, "a gain that is enough by itself", False, "3.1 points short"),
        ({"improvement_points": 10.0}, "a gain that is enough by itself", True, ""),
        ({"improvement_points": 4.0}, "the least gain that matters", False, "1.0 points short"),
        ({"speed_ratio": 1.6, "speed_ratio_low": 1.4}, "5 points, and speed", False, ""),
        ({"speed_ratio": 1.5, "speed_ratio_low": 1.5}, "5 points, and speed", True, ""),
        ({"speed_ratio": None}, "5 points, and speed", None, ""),
        (
            {"bound_low": -1.0, "bound_high": 9.0, "more_tasks": 120},
            "enough tasks to tell",
            False,
            "about 120 more tasks of the same kind would tell",
        ),
        (
            {"noise_floor_points": 8.0, "improvement_points": 8.0},
            "the baseline's own noise",
            False,
            "",
        ),
        ({"forgetting": "quarantine"}, "forgetting", False, ""),
        ({"judge_may_gate": True, "judge_win_high": 0.4}, "judges of pairs", False, ""),
        ({"judge_may_gate": False, "judge_win_high": 0.4}, "judges of pairs", None, ""),
    ],
)
def test_each_threshold_says_what_was_measured(inputs, name, is_met, note) -> None:
    given = {"improvement_points": 12.0, "ci_low": 1.0, "ci_high": 20.0, **inputs}
    found = {one.name: one for one in checks_of(given, {})}[name]
    assert (found.is_met, found.note) == (is_met, note)


def test_checks_of_another_version_are_none() -> None:
    assert checks_of({"of_another_version": 1}, {}) == []


def tasks_in(page: str) -> list[str]:
    return re.findall(r'class="row" href="[^"]*">(t\d\d)</a>', page)


def test_tasks_are_listed_losses_first_and_narrowed(session, get, verdict) -> None:
    path = f"/admin/verdicts/{verdict.id}/tasks"
    shown = tasks_in(get(path).text)
    assert set(shown[:2]) == {"t00", "t01"}, "what was lost"
    assert set(shown[-6:]) == {f"t{i:02}" for i in range(4, 10)}, "what was won"
    assert set(tasks_in(get(f"{path}?fate=differ").text)) == {
        *("t00", "t01", "t10"),
        *(f"t{i:02}" for i in range(4, 10)),
    }
    assert tasks_in(get(f"{path}?fate=worse&sort=task_id").text) == ["t00", "t01"]
    assert tasks_in(get(f"{path}?fate=both+failed").text) == ["t11"]
    assert tasks_in(get(f"{path}?fate=both+passed&sort=task_id").text) == ["t02", "t03"]
    assert set(tasks_in(get(f"{path}?slice=difficulty:hard").text)) == {
        f"t{i:02}" for i in range(1, N, 2)
    }
    assert tasks_in(get(f"{path}?q=Do+it+7").text) == ["t07"]
    assert tasks_in(get(f"{path}?q=%25").text) == [], "a percent sign is a percent sign"
    assert "difficulty:easy" in get(path).text
    lines = get(f"{path}?fate=worse&format=jsonl").text.splitlines()
    assert {json.loads(line)["change"] for line in lines} == {-100.0}


def test_tasks_page_by_keyset_without_gap_or_repeat(session, verdict, monkeypatch) -> None:
    filters = verdict_tasks.Filters()
    seen: list[str] = []
    before = ""
    while True:
        listing, query = verdict_tasks._listing(verdict, filters)
        rows, older = listing.rows(session, query, Asked("change", before, ""), 5)
        seen += [row[1] for row in rows]
        if older is None:
            break
        before = older
    assert sorted(seen) == [f"t{i:02}" for i in range(N)]


def test_all_answers_of_a_task_stand_side_by_side(session, get, verdict) -> None:
    task = session.scalars(select(SuiteTask).where(col(SuiteTask.task_id) == "t10")).one()
    page = verdict_tasks.task_page(session, verdict.id, task.id, verdict_tasks.Filters())
    assert (page.passed_baseline, page.n_baseline) == (0, 2)
    assert (page.passed_candidate, page.n_candidate) == (1, 2)
    assert [one.number for one in page.pairs] == [0, 1]
    assert all(one.diff is not None and one.diff.n_came == 1 for one in page.pairs)
    shown = get(f"/admin/verdicts/{verdict.id}/tasks/{task.id}?fate=differ").text
    assert "coder-old was wrong" in shown
    assert shown.count("What differs, line by line") == 2
    assert 'rel="prev"' in shown
    assert 'rel="next"' in shown
    first = session.scalars(select(SuiteTask).where(col(SuiteTask.task_id) == "t02")).one()
    outside = verdict_tasks.task_page(
        session, verdict.id, first.id, verdict_tasks.Filters(fate="worse")
    )
    assert (outside.before, outside.after) == (None, None)


def test_further_answers_are_a_page_of_their_own(session, get) -> None:
    suite = make_suite(session)
    old = evaluate(session, suite, "a", lambda i, n: n < 3, k=7)
    new = evaluate(session, suite, "b", lambda i, n: n < 6, k=7)
    made = compare(session, old, new)
    session.commit()
    task = session.scalars(select(SuiteTask).limit(1)).one()
    path = f"/admin/verdicts/{made.id}/tasks/{task.id}"
    assert "first=5" in get(path).text
    assert get(path).text.count('class="panel beside-answers"') == 5
    assert get(f"{path}?first=5").text.count('class="panel beside-answers"') == 2
    assert "first=" not in get(f"{path}?first=5").text


def test_slices_stand_with_their_stored_intervals(session, verdict) -> None:
    page = verdicts.detail(session, verdict.id)
    slices = {name: plot for name, plot in page.gains if name}
    assert list(slices) == ["Difficulty"]
    assert [row.name for row in slices["Difficulty"].rows] == ["easy", "hard"]
    stored = {one["value"]: one for one in verdict.report["slices"]["rows"]}
    said = slices["Difficulty"].rows[0].dots[0]
    assert said.said == f"{stored['easy']['improvement_points']:+.1f}".replace("-", "−")


def test_an_older_verdict_says_what_it_does_not_know(session, get, verdict) -> None:
    decided = session.get_one(Decision, verdict.decision_id)
    decided.inputs = {"of_another_version": 1}
    verdict.report = {"judge": {"of": "another version"}, "slices": {"rows": [{"value": "x"}]}}
    session.commit()
    page = get(f"/admin/verdicts/{verdict.id}")
    assert page.status_code == 200
    for said in (
        "thresholds are of another version",
        "Its own noise is unknown",
        "What it forgot is unknown",
        "stored by another version of the product",
        "Nobody has said what training",
    ):
        assert said in page.text, said
    verdict.report, verdict.decision_id = {}, None
    session.commit()
    page = get(f"/admin/verdicts/{verdict.id}")
    assert page.status_code == 200
    assert "No decision was taken on it." in page.text
    assert "Slices were not computed." in page.text


def test_a_verdict_whose_answers_are_gone_is_still_shown(session, get, verdict) -> None:
    session.execute(text("DELETE FROM sample"))
    session.commit()
    assert get(f"/admin/verdicts/{verdict.id}").status_code == 200
    assert "No task was answered by both" in get(f"/admin/verdicts/{verdict.id}/tasks").text


def test_small_suites_are_compared_at_once_and_once(session, visit, pair, audited) -> None:
    operator = visit("operator")
    assert "coder-old" in operator.get("/verdicts/compare").text
    fields = {"baseline": str(pair[0].id), "candidate": str(pair[1].id)}
    answer = operator.post("/verdicts/compare", **fields)
    made = session.scalars(select(Verdict)).one()
    assert answer.headers["location"] == f"/admin/verdicts/{made.id}"
    assert session.get_one(Decision, made.decision_id).actor == "a operator"
    assert operator.post("/verdicts/compare", **fields).headers["location"].endswith(str(made.id))
    assert session.scalar(select(func.count()).select_from(Verdict)) == 1
    (entry,) = audited(session)
    assert (entry.action, entry.subject_id) == ("verdict.make", str(made.id))


def test_large_suites_are_compared_by_a_worker(session, visit, pair, monkeypatch) -> None:
    monkeypatch.setattr(verdicts, "AT_ONCE", 10)
    operator = visit("operator")
    fields = {"baseline": str(pair[0].id), "candidate": str(pair[1].id)}
    answer = operator.post("/verdicts/compare", **fields)
    run = session.scalars(select(Run).where(col(Run.kind) == COMPARE_JOB)).one()
    assert answer.headers["location"] == f"/admin/runs/{run.id}"
    assert operator.post("/verdicts/compare", **fields).headers["location"].endswith(str(run.id))
    done = execute(run.id, reraise=True)
    assert done is not None
    made = session.scalars(select(Verdict)).one()
    assert done.result == {"verdicts": [{"id": str(made.id), "outcome": made.outcome}]}


def test_a_comparison_that_is_started_again_makes_no_second_verdict(session, pair) -> None:
    run = start_comparison(session, pair[0].id, pair[1].id)
    session.commit()
    ids = {"baseline": str(pair[0].id), "candidate": str(pair[1].id)}
    first, second = (compare_evaluations(run, **ids) for _ in range(2))  # type: ignore[arg-type]
    assert first == second
    assert session.scalar(select(func.count()).select_from(Verdict)) == 1


@pytest.mark.parametrize("kind", ["itself", "another suite", "nothing"])
def test_what_cannot_be_compared_is_refused_in_words(session, visit, pair, kind) -> None:
    other = {
        "itself": pair[0].id,
        "another suite": evaluate(session, make_suite(session, "other"), "x", lambda i, n: True).id,
        "nothing": new_id(),
    }[kind]
    session.commit()
    answer = visit("operator").post(
        "/verdicts/compare", baseline=str(pair[0].id), candidate=str(other)
    )
    assert answer.status_code == (404 if kind == "nothing" else 409)
    assert session.scalar(select(func.count()).select_from(Verdict)) == 0


def test_disagreeing_answers_go_to_people_blind_and_once(session, visit, verdict, audited) -> None:
    reviewer = visit("reviewer")
    path = f"/verdicts/{verdict.id}/people"
    said = reviewer.ask(
        "POST",
        f"/admin{path}",
        data={"n": "4"},
        headers={"sec-fetch-site": "same-origin", "HX-Request-Type": "partial"},
    ).text
    assert "4 of 4 pairs are new" in said
    items = session.scalars(select(ReviewItem)).all()
    assert {(item.kind, item.role, item.status) for item in items} == {("sample", "coder", "open")}
    assert audited(session)[0].after == {"drawn": 4, "new": 4}
    assert reviewer.post(path, n=4).status_code == 303
    assert session.scalar(select(func.count()).select_from(ReviewItem)) == 4
    reviewer.post(path, n=200)
    assert session.scalar(select(func.count()).select_from(ReviewItem)) == 9, "one of each task"


def test_people_are_asked_about_the_sample_that_differs(session, pair) -> None:
    asked = ask_people(session, "coder", *pair, at_most=100)
    assert asked.n_drawn == asked.n_new == 9
    texts = [item.detail["sample"] for item in session.scalars(select(ReviewItem))]
    (tenth,) = [one for one in texts if "Do it 10" in one["prompt"][0]["content"]]
    assert "'coder-new', 0" in tenth["first"]


@pytest.mark.parametrize("n", ["0", "201", "many"])
def test_no_more_than_a_bounded_number_is_asked(session, visit, verdict, n) -> None:
    assert visit("reviewer").post(f"/verdicts/{verdict.id}/people", n=n).status_code == 422
    assert session.scalar(select(func.count()).select_from(ReviewItem)) == 0


def test_a_viewer_changes_nothing_and_is_offered_nothing(session, visit, verdict, pair) -> None:
    viewer = visit("viewer")
    page = viewer.get(f"/verdicts/{verdict.id}").text
    assert "Add to the review queue" not in page
    assert "Compare again" not in page
    assert viewer.get("/verdicts/compare").status_code == 403
    assert viewer.post(f"/verdicts/{verdict.id}/people", n=4).status_code == 403
    fields = {"baseline": str(pair[0].id), "candidate": str(pair[1].id)}
    assert viewer.post("/verdicts/compare", **fields).status_code == 403
    assert visit("reviewer").post("/verdicts/compare", **fields).status_code == 403


def test_pages_ask_as_often_for_one_as_for_many(session, get, verdict) -> None:
    paths = ("/admin/verdicts", f"/admin/verdicts/{verdict.id}/tasks", "/admin/verdicts/compare")
    few = [queries(session, get, path) for path in paths]
    suite = session.get_one(Suite, verdict.suite_id)
    for n in range(6):
        sides = [
            evaluate(session, suite, f"{name}{n}", lambda i, n, s=n: i % 5 == s % 5)
            for name in ("a", "b")
        ]
        compare(session, *sides)
    session.commit()
    assert [queries(session, get, path) for path in paths] == few
    assert max(few) <= 11
    assert queries(session, get, f"/admin/verdicts/{verdict.id}") <= 17


def queries(session: Session, get, path: str) -> int:
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


def test_the_list_is_narrowed_sorted_and_exported(session, get, verdict) -> None:
    suite = make_suite(session, "other")
    sides = [
        evaluate(session, suite, name, lambda i, n, s=s: i % 2 == s)
        for s, name in enumerate(("z-old", "a-new"))
    ]
    made = compare(session, *sides)
    session.commit()

    def ids(query: str) -> list[str]:
        return re.findall(r'row" href="/admin/verdicts/([0-9a-f-]{36})"', get(query).text)

    assert ids("/admin/verdicts") == [str(made.id), str(verdict.id)]
    assert ids("/admin/verdicts?sort=-improvement_points")[0] == str(verdict.id)
    assert ids("/admin/verdicts?sort=candidate") == [str(made.id), str(verdict.id)]
    assert ids("/admin/verdicts?suite=other") == [str(made.id)]
    assert ids(f"/admin/verdicts?outcome={verdict.outcome}&suite=coding") == [str(verdict.id)]
    lines = [json.loads(x) for x in get("/admin/verdicts?format=jsonl").text.splitlines()]
    assert {one["baseline"] for one in lines} == {"coder-old", "z-old"}


def test_hostile_text_stays_text(session, get, verdict, hostile) -> None:
    session.execute(
        text("UPDATE sample SET answer = :h, detail = :h").bindparams(h=hostile),
    )
    session.execute(
        text(
            "UPDATE suite_task SET task_id = task_id || :h, attributes = "
            "jsonb_build_object('difficulty', task_id || :h, CAST(:h AS text), CAST(:h AS text))"
        ).bindparams(h=hostile)
    )
    session.execute(text("UPDATE evaluation SET subject = subject || :h").bindparams(h=hostile))
    report = {**verdict.report, hostile: {hostile: hostile}, "identity": {hostile: [hostile]}}
    session.execute(
        text("UPDATE verdict SET report = CAST(:r AS jsonb)").bindparams(r=json.dumps(report))
    )
    session.commit()
    task = session.scalars(select(col(SuiteTask.id)).limit(1)).one()
    for path in ("", f"/{verdict.id}", f"/{verdict.id}/tasks", f"/{verdict.id}/tasks/{task}"):
        answer = get(f"/admin/verdicts{path}")
        assert answer.status_code == 200, path
        assert "<script>alert(1)" not in answer.text, path
        assert "<img src=x" not in answer.text, path
        assert "\u202e" not in answer.text, path


def test_unknown_ids_are_not_found(get, verdict) -> None:
    gone = new_id()
    for path in (
        *(f"/{gone}", f"/{gone}/tasks", f"/{gone}/tasks/{gone}", f"/{gone}/report"),
        f"/{verdict.id}/tasks/{gone}",
    ):
        assert get(f"/admin/verdicts{path}").status_code == 404, path
