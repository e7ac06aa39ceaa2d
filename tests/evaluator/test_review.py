"""Grader review: findings are read leniently, matched one to one, and false alarms cost."""

import json

import pytest

from evaluator.graders import GradedTask, grade_many
from evaluator.graders.findings import NOWHERE, Finding, read_findings
from evaluator.graders.review import Planted, match
from evaluator.sandbox import Status
from foundation.errors import BadInput

KINDS = {"sql-injection": ["CWE-89", "sqli"], "weak-hash": ["md5"], "open-redirect": []}
SQL = {"line": 10, "last_line": 11, "kind": "sql-injection", "severity": "critical"}
HASH = {"line": 30, "kind": "weak-hash", "severity": "medium"}


def graded(answer, *planted, **changes):
    faults = [{"area": "security", **fault} for fault in planted]
    reference = {"planted": faults, "kinds": KINDS, **changes}
    if not isinstance(answer, str):
        answer = json.dumps(answer)
    return grade_many([GradedTask("t", [], "review", reference)], [answer], None)[0]


def said(line, kind, **more):
    return {"line": line, "kind": kind, **more}


# --- reading


@pytest.mark.parametrize(
    "answer",
    [
        '[{"line": 3, "kind": "md5", "severity": "high", "comment": "x"}]',
        'Here:\n```json\n[{"line": 3, "kind": "md5", "severity": "high", "comment": "x"}]\n```',
        '{"findings": [{"line_number": "3", "type": "md5", "level": "high", "message": "x"}]}',
        'See items[0] and [].\n[{"lines": [3], "rule": "md5", "priority": "high", "title": "x"}]',
        '{"line": "L3", "kind": "md5", "severity": "high", "comment": "x"}\n',
    ],
)
def test_json_is_read_in_many_shapes(answer):
    assert read_findings(answer) == [Finding(3, 3, "md5", "high", "x")]


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        ("Line 12: bad", [(12, 12)]),
        ("- **Lines 4-6** (high): bad\n- L9: worse", [(4, 6), (9, 9)]),
        ("On line 4 `x` is wrong, it was set in line 2.", [(4, 4)]),
        ("7: wrong\n9: also", [(7, 7), (9, 9)]),
        ('[{"line": "4-6"}, {"line": [7, 9]}]', [(4, 6), (7, 9)]),
        ('[{"line": 5, "end_line": 8}]', [(5, 8)]),
        ('[{"line": 9, "end_line": 2}, {"line": "9-2"}]', [(9, 9)]),
        ('[{"kind": "md5"}, {"line": true}, {"line": 1e999}]', [(NOWHERE, NOWHERE)] * 2),
        ("Use [] there.\nLine 3: bad", [(3, 3)]),
    ],
)  # fmt: skip
def test_lines_are_read_from_words_and_values(answer, places):
    found = read_findings(answer)
    assert [(one.line, one.last_line) for one in found] == places


@pytest.mark.parametrize(
    "answer",
    ["[]", "```json\n[]\n```", '{"issues": []}', "No issues found.", "LGTM", "None",
     "I found no real security problems here.", "The code is clean.", "Nothing to report."],
)  # fmt: skip
def test_saying_that_there_is_nothing_is_an_answer(answer):
    assert read_findings(answer) == []


@pytest.mark.parametrize("answer", ["hello", "[1, 2]", "[[[[[", "{" * 100_000, "```\nline 3\n```"])
def test_other_text_cannot_be_read(answer):
    assert read_findings(answer) is None
    assert graded(answer).status is Status.WRONG


def test_remarks_hold_their_heading_and_what_follows():
    first, second = read_findings(
        "### 1. SQL injection\nOn line 4 the query is built.\nSeverity: high\n\n"
        "### 2. Weak hash\nLine 9 uses it."
    )
    assert (first.severity, first.line) == ("high", 4)
    assert "SQL injection" in first.comment
    assert "Weak hash" not in first.comment
    assert "Weak hash" in second.comment


# --- matching


@pytest.mark.parametrize(
    ("line", "passes"), [(7, False), (8, True), (10, True), (13, True), (14, False)]
)
def test_lines_may_be_off_by_the_tolerance(line, passes):
    assert graded([said(line, "sql-injection")], SQL).passed is passes
    assert graded([said(line, "sql-injection")], SQL, tolerance=0).passed is (line == 10)


@pytest.mark.parametrize("kind", ["sql-injection", "SQL Injection", "CWE-89", "a (sqli) hole"])
def test_kinds_have_other_names(kind):
    assert graded([said(10, kind)], SQL).passed
    assert graded(f"Line 10: {kind} found", SQL).passed


@pytest.mark.parametrize("kind", ["weak-hash", "CWE-8", "injection", "", "sql"])
def test_another_kind_does_not_match(kind):
    assert not graded([said(10, kind)], SQL).passed
    assert graded([said(10, kind)], SQL, kinds=None).passed


def test_naming_every_kind_names_none():
    assert not graded([said(10, ", ".join(KINDS))], SQL).passed
    assert graded([said(10, "sql-injection, or weak-hash")], SQL).passed


def test_each_fault_and_each_finding_count_once():
    answer = [said(10, "sql-injection"), said(11, "sql-injection")]
    found = graded(answer, SQL)
    assert (found.metrics["precision"], found.metrics["false_alarms"]) == (0.5, 1)
    twin = {**SQL, "line": 11}
    assert graded(answer, SQL, twin).metrics["precision"] == 1.0
    assert not graded([answer[0]], SQL, twin).passed


def test_the_assignment_is_the_largest_not_the_first():
    planted = [Planted(10, 10, "a", "low", "security"), Planted(12, 12, "a", "low", "security")]
    found = match(planted, [Finding(11, 11), Finding(8, 8)], None, 2)
    assert len(found.pairs) == 2


def test_a_range_over_everything_points_at_its_start():
    assert not graded([{"line": 1, "end_line": 500, "kind": "sqli"}], SQL).passed


def test_every_line_reported_earns_nothing():
    everything = [said(line, "sql-injection") for line in range(1, 41)]
    found = graded(everything, SQL)
    assert (found.passed, found.metrics["recall"], found.metrics["precision"]) == (False, 1, 1 / 40)
    assert found.score < 0.06


# --- the verdict


def test_all_faults_must_be_found_with_half_the_findings_right():
    both = [said(10, "sqli"), said(30, "md5")]
    assert graded(both, SQL, HASH).passed
    assert graded([*both, said(1, "md5"), said(2, "md5")], SQL, HASH).passed
    assert not graded([*both, *(said(n, "md5") for n in (1, 2, 3))], SQL, HASH).passed
    half = graded(both[:1], SQL, HASH)
    assert (half.passed, half.metrics["recall"]) == (False, 0.5)
    assert "weak-hash in line 30" in half.detail
    assert not graded([*both, said(1, "md5")], SQL, HASH, min_precision=1.0).passed


def test_clean_code_passes_only_without_findings():
    assert graded("[]").metrics["clean_alarmed"] == 0.0
    assert graded("[]").score == 1.0
    alarmed = graded([said(1, "md5")])
    assert (alarmed.passed, alarmed.score, alarmed.metrics["clean_alarmed"]) == (False, 0.0, 1.0)
    assert alarmed.metrics["recall"] is None
    assert graded("").status is Status.LOST


def test_metrics_of_what_was_found():
    answer = [said(12, "sqli", severity="high"), said(30, "md5", severity="Moderate")]
    metrics = graded(answer, SQL, {**HASH, "area": "performance"}).metrics
    assert metrics["line_error"] == 0.5
    assert metrics["severity_agreement"] == pytest.approx((2 / 3 + 1) / 2)
    assert (metrics["thoroughness_security"], metrics["thoroughness_performance"]) == (1.0, 1.0)
    assert metrics["thoroughness_maintainability"] is None
    nothing = graded("[]", SQL).metrics
    assert (nothing["precision"], nothing["line_error"]) == (None, None)
    assert (nothing["recall"], nothing["thoroughness_security"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    "planted",
    [None, [1], [{"line": 1}], [{**HASH, "severity": "bad"}], [{**HASH, "area": "looks"}]],
)
def test_a_task_must_say_what_was_planted(planted):
    task = GradedTask("t", [], "review", {"planted": planted})
    with pytest.raises(BadInput, match="planted"):
        grade_many([task], ["[]"], None)


def test_a_long_answer_is_read_up_to_its_limit_and_quickly():
    flood = "\n".join(f"line {n}: sqli" for n in range(200_000))
    assert not graded(flood, SQL).passed
    assert not graded([said(10, f"sqli {n}") for n in range(20_000)], SQL).passed


def test_thoughts_before_the_answer_are_not_findings():
    assert read_findings("<think>line 3 could be bad</think>\nNo issues found.") == []
