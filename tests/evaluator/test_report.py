"""Reports: the words, what is unknown, and that no answer becomes part of the page."""

import json
import re
from html.parser import HTMLParser

import pytest
from sqlmodel import select

from evaluator.api import read_evaluation_page
from evaluator.compare import GeneralTasks, compare
from evaluator.decide import AB_TEST, DEPLOY, ITERATE, STAY, UNDECIDED
from evaluator.report import (
    as_html,
    as_markdown,
    evaluations_report,
    verdict_report,
    write_report,
)
from evaluator.report.answers import SHOWN_CHARS, order_of_difference
from evaluator.report.markdown import text
from evaluator.report.sides import Outcome, figures_of, kinds_of, quantiles
from evaluator.report.views import judge_rows, latency_plot, lines_of, reliability_plot
from evaluator.report.words import doubts_of_one, headline_of, points, rows_of, value
from evaluator.roi import RoiInputs, decide_roi
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask
from foundation.lone_page import CONTENT_POLICY
from foundation.tables import Decision
from trainer.tables import ModelVersion

N = 24
HOSTILE = (
    "<script>alert(1)</script>",
    "</pre></details><img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<style>*{background:url(//evil)}</style>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<a href='javascript:alert(1)'>x</a>",
    "{{ 7*7 }}{% for x in range(9) %}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "--><!--<base href=//evil>",
    '" autofocus onfocus="alert(1)',
    "``` \n</code><script>alert(1)</script>",
    "a\u202eb\x00c\x1b[31m".replace("\x00", ""),
    "<meta http-equiv=refresh content='0;url=//evil'>",
    "<mark><form action=//evil><input>",
)


def make_suite(session, name="coding"):
    found = Suite(name=name, role="coder", content_hash="ab" * 32, n_tasks=N)
    session.add(found)
    session.flush()
    session.add_all(
        SuiteTask(
            suite_id=found.id, task_id=f"t{i:02}", prompt=[{"role": "user", "content": f"Do {i}"}],
            grader="exact", reference={"answer": "a"},
            attributes={"difficulty": ("easy", "medium", "hard")[i % 3]},
        )
        for i in range(N)
    )  # fmt: skip
    session.flush()
    return found


def evaluate(session, suite, name, passed, k=1, version=None, said="a", **fields):
    """Store an evaluation; `passed(i, n)` says what became of answer n to task i."""
    found = Evaluation(
        suite_id=suite.id, subject=name, samples_per_task=k, n_samples=N * k, success_rate=0.5,
        ci_low=0.4, ci_high=0.6, suite_hash=suite.content_hash,
        model_version_id=version.id if version else None,
        **{"sandbox": {"tier": "A", "probes": {"network": "blocked"}}, **fields},
    )  # fmt: skip
    session.add(found)
    session.flush()
    tasks = session.exec(
        select(SuiteTask).where(SuiteTask.suite_id == suite.id).order_by(SuiteTask.task_id)
    ).all()
    for i, task in enumerate(tasks):
        for n in range(k):
            ok = passed(i, n)
            session.add(
                Sample(
                    evaluation_id=found.id, suite_task_id=task.id, number=n, answer=said, passed=ok,
                    status={True: "PASS", False: "WRONG", None: "LOST"}[ok],
                    detail=None if ok else said[:200], latency_ms=100.0 * (i + 1),
                )
            )  # fmt: skip
    session.flush()
    return found


def pair(session, **options):
    suite = make_suite(session)
    return (
        evaluate(session, suite, "old", lambda i, n: i % 2 == 0, **options),
        evaluate(session, suite, "new", lambda i, n: i % 8 != 1, **options),
    )


def report_of(session, baseline, candidate, **options):
    return verdict_report(session, compare(session, baseline, candidate, **options))


class Page(HTMLParser):
    """What a browser would make of a page: its elements and what they carry."""

    def __init__(self, source):
        super().__init__()
        self.found, self.attributes, self.open = [], [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "line", "rect", "circle", "path", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def require_harmless(source):
    page = Page(source)
    assert page.open == []
    forbidden = {"script", "img", "iframe", "base", "form", "input", "object", "link", "embed"}
    assert not forbidden & set(page.found)
    assert page.found.count("style") == 1
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert all(found.startswith("#") for name, found in page.attributes if name == "href")
    assert "\u202e" not in source
    assert "\x1b" not in source


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_answer_prompt_or_name_becomes_part_of_a_page(session, hostile):
    suite = make_suite(session, hostile)
    task = session.exec(select(SuiteTask).where(SuiteTask.suite_id == suite.id)).first()
    task.task_id, task.prompt = hostile, [{"role": "user", "content": hostile}]
    task.attributes = {"difficulty": hostile}
    settings = {
        "model": hostile,
        hostile: hostile,
        "identity": {"is_proven": False, "method": hostile},
    }
    own = {"said": hostile, "settings": settings, "metrics": {"graded": {hostile: 0.5}}}
    old = evaluate(session, suite, f"old {hostile}", lambda i, n: i % 2 == 0, **own)
    new = evaluate(session, suite, f"new {hostile}", lambda i, n: i % 3 == 0, **own)
    report = report_of(session, old, new, sections={"cost": {hostile: hostile}, hostile: [hostile]})
    require_harmless(as_html(report))
    require_harmless(as_html(evaluations_report(session, [old, new])))


def test_an_answer_cannot_leave_its_block_in_markdown(session):
    said = "````\n# not a title\n<b>"
    page = as_markdown(report_of(session, *pair(session, said=said)))
    assert f"`````text\n{said}\n`````" in page
    assert text("a|b\n<i>[x](y)`*") == r"a\|b \<i\>\[x\](y)\`\*"


def test_a_report_is_the_same_in_all_formats(session, tmp_path):
    report = report_of(session, *pair(session))
    for name in ("r.html", "r.md", "r.json"):
        write_report(report, tmp_path / name)
        found = (tmp_path / name).read_text()
        assert report["headline"]["decision"] in found
        assert "+37.5" in found or "37.5" in found
    assert json.loads((tmp_path / "r.json").read_text())["readings"] == report["readings"]


def test_a_decision_of_another_version_of_the_rule_is_still_shown(session):
    verdict = compare(session, *pair(session))
    decision = session.get_one(Decision, verdict.decision_id)
    decision.inputs, decision.rule = {**decision.inputs, "mood": 1}, {"reading": "interval"}
    session.flush()
    report = verdict_report(session, verdict)
    assert report["readings"] == {}
    assert verdict.outcome in as_html(report).casefold()
    assert verdict.outcome in as_markdown(report).casefold()


def test_kinds_count_families():
    answers = {f"t{n}": [n < 8] for n in range(16)}
    alone = {task: {"domain": "web" if n % 2 else "devops"} for n, task in enumerate(answers)}
    together = {
        task: {**values, "family": f"f{n // 4}"} for n, (task, values) in enumerate(alone.items())
    }
    widths = [
        [one["ci_high"] - one["ci_low"] for one in kinds_of(answers, attributes)]
        for attributes in (alone, together)
    ]
    assert all(wide > narrow for narrow, wide in zip(*widths, strict=True))


def test_what_nobody_looked_at_is_said_to_be_unknown_in_a_sentence(session):
    page = as_html(report_of(session, *pair(session, metrics={"answers": {"cached": 3}})))
    for said in (
        "With one answer a task nobody knows how often",
        "nothing says how much it differs from itself",
        "Unknown: no general suite was asked",
        "Latency was not timed",
        "Speed was not compared",
        "Memory and load time of serving are unknown",
        "No model judged these answers",
        "No registered version",
        "Nobody has said what training",
    ):
        assert said in page, said
    assert "None" not in page.replace("None is shown to differ", "")


def test_a_page_of_everything_has_its_plots_and_their_numbers(session):
    version = ModelVersion(
        role="coder",
        number=1,
        name="new",
        kind="adapter",
        base_model="tiny",
        content_hash="cd" * 32,
    )
    session.add(version)
    session.flush()
    proven = {"identity": {"is_proven": True, "method": "log-probabilities"}, "batch_size": 8}
    suite, general = make_suite(session), make_suite(session, "general")
    old = evaluate(session, suite, "old", lambda i, n: (i + n) % 3 == 0, k=3, settings=proven)
    new = evaluate(
        session, suite, "new", lambda i, n: (i + n) % 3 > 0, k=3, version=version, settings=proven
    )
    asked = GeneralTasks(*(evaluate(session, general, n, lambda i, n: i % 4 > 0) for n in "ab"))
    verdict = compare(session, old, new, general=asked, sections={"cost": {"load_s": 4.25}})
    verdict.report = {**verdict.report, "judge": JUDGE}
    decide_roi(session, RoiInputs(training_usd=400), 12, verdict.id)
    report = verdict_report(session, verdict)
    page = as_html(report)
    require_harmless(page)
    assert page.count("<svg") > 8
    images = re.findall(r"<svg[^>]*role=\"img\"[^>]*>", page)
    assert images
    assert all("aria-label=" in one for one in images)
    for said in (
        "pass^k", "Proven to answer otherwise than its base", "cdcdcd", "19 of 20 differences",
        "judge-a", "12.0 % (8.0 to 18.0 %, n 100)", "It may not gate", "4.25", "adjusted p",
        "flywheel experiment start new", "blocked", "lost", "won", "8 requests in flight",
    ):  # fmt: skip
        assert said in page, said
    assert "judge-a" in as_markdown(report)
    assert report["roi"]["outcome"]


def rate(share, n=100):
    return {"rate": share, "low": share - 0.04, "high": share + 0.06, "n": n}


NO_RATE = {"rate": None, "low": None, "high": None, "n": 0}
JUDGE = {
    "pairs": 100, "identical": 2, "left_out": 0, "people": {"drawn": 10, "rated": 4},
    "judges": [{
        "model": "judge-a", "win_rate": rate(0.6), "wins": 55, "ties": 10, "losses": 35,
        "length_controlled": {"not_computable": "too few"}, "flips": rate(0.12),
        "reversals": rate(0.1), "first_position": rate(0.5), "length_only": rate(0.5),
        "self_preference": NO_RATE, "pairs": 100, "cost_usd": None, "may_gate": False,
        "calibration": {"judge": rate(0.7), "better_than_ruler": rate(0.6)}, "people": rate(0.8),
    }],
    "panel": {"voters": ["judge-a"], "win_rate": rate(0.6), "unanimous": rate(0.9), "alpha": None},
    "may_gate": False, "why": ["judge-a: not proven"], "notes": [],
}  # fmt: skip


def test_each_judges_number_stands_beside_its_own_rates():
    rows = dict(judge_rows(JUDGE))
    assert rows["win rate of the candidate"] == ("60.0 % (56.0 to 66.0 %, n 100)",)
    assert rows["wins for its own family"] == ("none",)
    assert rows["at equal length"] == ("not computable: too few",)


def words(outcome, more=None, model=True, forgot=None, gain=12.0):
    side = {"model": {"kind": "base"} if model else None}
    return headline_of({
        "verdict": {"outcome": outcome, "improvement_points": gain, "ci_low": 3.0, "ci_high": 21.0,
                    "n_tasks": 100, "role": "coder"},
        "comparison": {"more_tasks": more, "baseline_rate": 0.4, "candidate_rate": 0.52},
        "baseline": {"subject": "old"}, "candidate": {"subject": "new"},
        "sides": {"baseline": side, "candidate": side},
        "forgetting": {"outcome": forgot} if forgot else None,
    })  # fmt: skip


def test_the_headline_says_what_to_do_next():
    said = words(DEPLOY)
    assert said["sentence"].startswith("new solved 52.0 % of the 100 tasks that both answered, old")
    assert "12.0 points more, 95 % interval +3.0 to +21.0" in said["sentence"]
    assert "flywheel experiment start new" in said["next"][0]
    assert "no registered version" in words(AB_TEST, model=False)["next"][0]
    assert "1,225 more tasks needed" in words(UNDECIDED, more=1225)["decision"]
    assert "other families" in words(UNDECIDED)["next"][0]
    assert "forgot" in words(STAY, forgot="quarantine")["decision"]
    assert "flywheel gaps --role coder" in words(ITERATE)["next"][1]
    assert "points less" in words(STAY, gain=-2.0)["sentence"]
    assert words("something new")["decision"] == "something new"


def test_doubts_name_what_makes_figures_incomparable(session):
    old, new = pair(session, settings={"temperature": 0.0, "together": "a"})
    new.settings = {"temperature": 1.0, "together": "b"}
    new.sandbox = {"tier": "weak", "probes": {"network": "open"}}
    new.metrics = {"answers": {"at_token_limit": 1, "grader_threw": 2}}
    for sample in session.exec(select(Sample).where(Sample.evaluation_id == new.id)).all()[:2]:
        sample.passed = None
    doubts = " ".join(report_of(session, old, new)["doubts"])
    for said in (
        "asked differently: temperature 0 and 1", "did not answer side by side",
        "2 of the candidate",
        "new: 1 answer stopped at the limit", "new: 2 answers could not be graded", "weak tier",
        "did not block: network", "different tiers of the sandbox: A and weak",
    ):  # fmt: skip
        assert said in doubts, said
    assert report_of(session, *pair_again(session))["doubts"] == []


def pair_again(session):
    suite = make_suite(session, "again")
    return [evaluate(session, suite, name, lambda i, n: i % 2 == 0) for name in ("a", "b")]


def test_an_adapter_that_was_not_proven_to_answer_is_doubted(session):
    version = ModelVersion(role="coder", number=1, name="new", kind="adapter", base_model="tiny")
    session.add(version)
    session.flush()
    suite = make_suite(session)
    old = evaluate(session, suite, "old", lambda i, n: True)
    new = evaluate(session, suite, "new", lambda i, n: True, version=version)
    assert "not proven" in " ".join(report_of(session, old, new)["doubts"])
    same = {"identity": {"is_same_content": True}}
    assert "same content" in " ".join(report_of(session, old, new, sections=same)["doubts"])


def test_doubts_of_a_clean_evaluation_are_none():
    assert doubts_of_one({"metrics": {}, "sandbox": {}}) == []


def test_losses_stand_before_gains_of_the_same_size():
    before = {"a": 0.0, "b": 1.0, "c": 0.5, "d": 1.0, "only": 1.0}
    after = {"a": 1.0, "b": 0.0, "c": 0.75, "d": 1.0}
    assert order_of_difference(before, after) == ["b", "a", "c"]


def test_long_answers_are_cut_with_their_length_and_the_telling_one_is_shown(session):
    suite = make_suite(session)
    old = evaluate(session, suite, "old", lambda i, n: n == 1, k=2, said="é" * 9000)
    new = evaluate(session, suite, "new", lambda i, n: True, k=2)
    report = report_of(session, old, new)
    assert len(report["differ"]) == len(report["differing"]) == N
    shown = report["differing"][0]["baseline_answer"]
    assert (len(shown["text"]), shown["n_chars"], shown["is_cut"]) == (SHOWN_CHARS, 9000, True)
    assert shown["passed"] is False  # of its two answers, the one that tells why it is worse
    assert f"The first {SHOWN_CHARS:,} of 9,000 characters" in as_html(report)


def test_an_evaluation_by_itself_shows_what_it_did_not_solve(session):
    suite = make_suite(session)
    one = evaluate(session, suite, "model", lambda i, n: i > n, k=4)
    report = evaluations_report(session, [one])
    [found] = report["evaluations"]
    assert found["n_failing"] == 4
    assert [task["task_id"] for task in found["failing"]] == ["t00", "t01", "t02", "t03"]
    assert {kind["value"] for kind in found["kinds"]} == {"easy", "medium", "hard"}
    page = as_html(report)
    require_harmless(page)
    assert page.index(">easy<") < page.index(">medium<") < page.index(">hard<")
    assert "# model on coding@1" in as_markdown(report)


def test_the_page_of_an_evaluation_is_served_with_its_policy(session):
    one = evaluate(session, make_suite(session), "<model>", lambda i, n: True)
    session.commit()
    served = read_evaluation_page(one.id)
    assert served.headers["content-security-policy"] == CONTENT_POLICY
    assert b"&lt;model&gt;" in served.body
    assert b"It solved every task that it answered" in served.body


def outcomes(*by_task):
    return [
        Outcome(f"t{i}", passed, "PASS", 1000.0 * (n + 1))
        for i, answers in enumerate(by_task)
        for n, passed in enumerate(answers)
    ]


def test_reliability_is_unbiased_and_stops_where_answers_are_missing():
    found = figures_of(outcomes([True, True, False], [True, None, False]), 3, is_fresh=True)
    assert [one["k"] for one in found["reliability"]] == [1, 2]
    assert found["reliability"][1]["all_of_them"] == pytest.approx((1 / 3 + 0) / 2)
    assert found["passes"] == {"tasks": [0, 0, 1, 0], "incomplete": 1}
    assert reliability_plot({"baseline": found}) is not None
    single = figures_of(outcomes([True]), 1, is_fresh=True)
    assert reliability_plot({"baseline": single}) is None


def test_times_of_answers_that_were_known_before_are_not_mixed_with_others():
    assert figures_of(outcomes([True]), 1, is_fresh=False)["latency_ms"] is None
    found = quantiles([100.0, 200.0, 300.0])
    assert (found["p50"], found["n"]) == (200.0, 3)
    assert quantiles([]) is None
    sides = {"baseline": {"latency_ms": None}, "candidate": {"latency_ms": found}}
    assert [one.name for one in latency_plot(sides).curves] == ["candidate"]
    assert latency_plot({"baseline": {"latency_ms": None}}) is None


def test_an_attribute_of_one_value_is_no_kind():
    answers = {"a": [True], "b": [None]}
    assert kinds_of(answers, {"a": {"domain": "web"}, "b": {"domain": "web"}}) == []
    found = kinds_of(answers, {"a": {"domain": "web"}, "b": {"domain": "devops"}})
    assert [(one["value"], one["rate"]) for one in found] == [("devops", None), ("web", 1.0)]


def test_lines_that_the_other_answer_lacks_are_marked():
    found = lines_of("def f():\n  return 1\n\n", "def f():\n    return 2")
    assert [line.is_own for line in found] == [False, True, False, False]
    assert not any(line.is_own for line in lines_of("a\nb", None))


def test_values_are_written_as_a_reader_would():
    assert [value(one) for one in (None, True, 0.123456, 12345.6, 1234, [], ["a", 1])] == [
        *("unknown", "yes", "0.1235", "12,346", "1,234", "none", "a, 1"),
    ]
    assert (points(-0.04), points(-1.5), points(None)) == ("0.0", "\u22121.5", "unknown")
    assert rows_of({"a_b": {"c": 1, "d": {}}, "e": [{"f": None}]}) == [
        *(("a b, c", "1"), ("a b, d", "none"), ("e 1, f", "unknown")),
    ]
