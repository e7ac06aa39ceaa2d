"""JUnit reports of many dialects, and GitHub's checks, read for what they say."""

import hmac
import json
from hashlib import sha256
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.feedback import ci
from collector.feedback.ci import EmptyReport, TestReport, UnreadableReport, merged, read_junit

PYTEST = """<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests">
<testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="0.1">
<testcase classname="tests.test_a.TestA" name="test_ok" time="0.001" />
<testcase classname="tests.test_a" name="test_bad"><failure message="assert 1 == 2">def …
E assert 1 == 2</failure></testcase>
<testcase classname="tests.test_a" name="test_setup"><error message="failed on setup">boom</error>
</testcase>
<testcase classname="tests.test_a" name="test_later"><skipped type="pytest.skip" message="later">
tests/test_a.py:9: later</skipped></testcase></testsuite></testsuites>"""

TEARDOWN = """<testsuite name="pytest" errors="1" failures="1" tests="1">
<testcase classname="t" name="both"><failure message="call" /><error message="teardown" />
</testcase></testsuite>"""

JEST = """<testsuites name="jest tests" tests="3" failures="1" errors="0" time="2.1">
<testsuite name="sum" errors="0" failures="1" skipped="1" tests="3">
<testcase classname="sum adds" name="sum adds" time="0.002"></testcase>
<testcase classname="sum fails" name="sum fails"><failure>Error: expected 3
at Object.toBe</failure></testcase>
<testcase classname="sum later" name="sum later"><skipped/></testcase></testsuite></testsuites>"""

SUREFIRE = """<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" name="org.FooTest"
 tests="3" errors="0" skipped="0" failures="1"><properties><property name="a" value="b"/>
</properties><testcase name="flaky" classname="org.FooTest"><flakyFailure message="once" type="E">
<stackTrace>x</stackTrace></flakyFailure></testcase>
<testcase name="bad" classname="org.FooTest"><failure message="no" type="E">x</failure>
<rerunFailure message="no again" type="E">x</rerunFailure></testcase>
<testcase name="good" classname="org.FooTest"><system-out>failure</system-out></testcase>
</testsuite>"""

GTEST = """<testsuites tests="4" failures="1" disabled="1" errors="0" name="AllTests">
<testsuite name="S" tests="4" failures="1" disabled="1" skipped="1" errors="0">
<testcase name="Ok" status="run" result="completed" classname="S" />
<testcase name="Bad" status="run" result="completed" classname="S">
<failure message="a.cc:1&#x0A;Expected" type=""><![CDATA[a.cc:1
Expected]]></failure><failure message="a.cc:2" type="">second</failure></testcase>
<testcase name="DISABLED_X" status="notrun" result="suppressed" classname="S" />
<testcase name="Skip" status="run" result="skipped" classname="S"><skipped message="s"/></testcase>
</testsuite></testsuites>"""

GO = """<testsuites tests="2" failures="1"><testsuite name="example.com/p" tests="2" failures="1">
<testcase name="TestA" classname="example.com/p" time="0.000"></testcase>
<testcase name="TestB/sub" classname="example.com/p"><failure message="Failed" type="">x_test.go:5
</failure></testcase></testsuite></testsuites>"""

NESTED = """<testsuites><testsuite name="outer" tests="3" failures="1"><testsuite name="inner"
 tests="2" failures="1"><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>
<testcase name="c"/></testsuite></testsuites>"""

NAMESPACED = """<testsuite xmlns="urn:x" name="s" tests="1"><testcase name="a"/></testsuite>"""
ONLY_COUNTS = """<testsuites><testsuite name="s" tests="5" failures="1" errors="1" skipped="1"/>
</testsuites>"""
UNSHOWN = """<testsuite name="s" tests="1" errors="1"><testcase name="a"/></testsuite>"""
SETUP = """<testsuite name="s" tests="1" errors="1"><error message="no database"/>
<testcase name="a"/></testsuite>"""
CTEST = """<testsuite name="c" tests="2"><testcase name="a" status="run"/>
<testcase name="b" status="fail"/></testsuite>"""

DIALECTS = {
    "pytest": (PYTEST, (1, 1, 1, 1)),
    "pytest teardown": (TEARDOWN, (0, 0, 1, 0)),
    "jest": (JEST, (1, 1, 0, 1)),
    "surefire": (SUREFIRE, (2, 1, 0, 0)),
    "gtest": (GTEST, (1, 1, 0, 2)),
    "go": (GO, (1, 1, 0, 0)),
    "nested": (NESTED, (2, 1, 0, 0)),
    "namespace": (NAMESPACED, (1, 0, 0, 0)),
    "counts without cases": (ONLY_COUNTS, (2, 0, 2, 1)),
    "an error that no case shows": (UNSHOWN, (1, 0, 1, 0)),
    "a broken setup": (SETUP, (1, 0, 1, 0)),
    "ctest": (CTEST, (1, 1, 0, 0)),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects(dialect):
    text, counts = DIALECTS[dialect]
    report = read_junit(text.encode())
    assert (report.passed, report.failed, report.errors, report.skipped) == counts
    assert report.succeeded == (not counts[1] and not counts[2])


def test_failing_tests_are_named_with_their_message():
    named = {one.name: one.message for one in read_junit(PYTEST.encode()).failing}
    assert named == {
        "tests.test_a.test_bad": "assert 1 == 2",
        "tests.test_a.test_setup": "failed on setup",
    }
    (jest,) = read_junit(JEST.encode()).failing
    assert jest.name == "sum fails"
    assert jest.message.startswith("Error: expected 3")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1"])
def test_encodings(encoding):
    stated = "utf-8" if encoding == "utf-8-sig" else encoding
    text = f'<?xml version="1.0" encoding="{stated}"?><testsuite><testcase name="naïve"><failure/>'
    report = read_junit((text + "</testcase></testsuite>").encode(encoding))
    assert report.failing[0].name == "naïve"


BOMB = (
    '<!DOCTYPE t [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    '<testsuite name="&b;"><testcase name="x"/></testsuite>'
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"PASS",
        PYTEST.encode()[:-20],
        PYTEST.encode() + b"<testsuites/>",
        b"<html><body/></html>",
        b'<?xml version="1.0" encoding="utf-8"?><testsuite name="\xff"/>',
        b'<?xml version="1.0" encoding="no-such"?><testsuite/>',
        b'<?xml version="1.0" encoding="utf-7"?><testsuite/>',
        BOMB.encode(),
        b'<!DOCTYPE t SYSTEM "file:///etc/passwd"><testsuite>&t;</testsuite>',
        b"<testsuite>" * 2000,
        b"\x00\x01",
    ],
)
def test_what_is_no_report_is_said_to_be_none(body):
    with pytest.raises(UnreadableReport, match="JUnit report"):
        read_junit(body)


@given(
    st.binary(max_size=200) | st.text(alphabet="<>/ tesuicar=\"'&;", max_size=80).map(str.encode)
)
def test_no_bytes_break_the_reader(body):
    try:
        read_junit(b"<testsuite>" + body + b"</testsuite>")
    except UnreadableReport:
        pass


@pytest.mark.parametrize("text", ["<testsuites/>", '<testsuite tests="0"/>', "<testsuite/>"])
def test_a_run_without_tests_says_nothing(text):
    with pytest.raises(EmptyReport, match="nothing") as found:
        ci.statements(read_junit(text.encode()), {"episode_key": "k"}, "junit", "k")
    assert found.value.http_status == 422


def test_many_long_failures_are_cut():
    case = f'<testcase name="{"n" * 999}"><failure message="{"m" * 9999}"/></testcase>'
    report = read_junit(f"<testsuite>{case * 200}</testsuite>".encode())
    assert report.failed == 200
    assert len(report.failing) == ci.MAX_FAILING
    assert len(json.dumps(report.details())) < 60_000
    assert len(merged([report, report]).failing) == ci.MAX_FAILING


def test_several_files_are_one_run():
    report = merged([read_junit(PYTEST.encode()), read_junit(NESTED.encode()), TestReport()])
    assert (report.passed, report.failed, report.errors, report.skipped) == (3, 2, 1, 1)
    success, ratio = ci.statements(report, {"episode_key": "PR-1"}, "unit", "key")
    assert (success["kind"], success["value"], success["source"]) == ("success", 0.0, "test")
    assert (ratio["name"], ratio["value"]) == ("tests_passed_ratio", 0.5)
    assert success["id"] != ratio["id"]
    assert ci.statements(report, {"episode_key": "PR-1"}, "unit", "key")[0]["id"] == success["id"]


# GitHub


def webhook(event="check_run", action="completed", **changes):
    check = {
        "id": 7,
        "name": "unit",
        "head_sha": "c0ffee",
        "status": "completed",
        "conclusion": "success",
        "external_id": "",
        "completed_at": "2026-03-02T10:00:00Z",
        "html_url": "https://github.com/o/r/runs/7",
        "app": {"slug": "buildkite"},
    } | changes
    payload = {"action": action, event: check, "repository": {"full_name": "o/r"}}
    return json.dumps(payload).encode()


@pytest.mark.parametrize(
    ("conclusion", "success"),
    [("success", True), ("failure", False), ("timed_out", False), ("startup_failure", False)],
)
@pytest.mark.parametrize("event", ["check_run", "check_suite", "workflow_run"])
def test_conclusions(event, conclusion, success):
    found = ci.read_github(webhook(event, conclusion=conclusion))
    assert found.success is success
    assert found.subject == "c0ffee"
    statement = found.statement({"episode_key": found.subject})
    assert (statement["value"], statement["source"]) == (float(success), "test")
    assert statement["created_at"] == "2026-03-02T10:00:00+00:00"


@pytest.mark.parametrize(
    "body",
    [
        *(webhook(conclusion=c) for c in ("neutral", "cancelled", "skipped", "stale", None)),
        webhook(action="created", status="queued", conclusion=None),
        webhook(status="in_progress"),
        json.dumps({"zen": "Speak like a human.", "hook_id": 1}).encode(),
        json.dumps({"action": "opened", "pull_request": {}}).encode(),
    ],
)
def test_what_is_neither_success_nor_failure_gives_a_reason(body):
    assert isinstance(ci.read_github(body), str)


def test_the_external_id_is_the_subject_unless_github_made_it():
    assert ci.read_github(webhook(external_id="PR-12")).subject == "PR-12"
    ours = webhook(
        external_id="ca395085-040a-526b-2ce8-bdc85f692774", app={"slug": "github-actions"}
    )
    assert ci.read_github(ours).subject == "c0ffee"


def test_each_attempt_is_a_statement_and_each_delivery_is_not():
    def identifier(body):
        return ci.read_github(body).statement({})["id"]

    assert identifier(webhook()) == identifier(webhook())
    again = webhook(completed_at="2026-03-02T11:00:00Z")
    assert identifier(webhook()) != identifier(again)
    first, second = (webhook("workflow_run", run_attempt=n) for n in (1, 2))
    assert identifier(first) != identifier(second)


def test_a_form_is_read_like_json():
    body = b"payload=" + quote(webhook().decode()).encode()
    assert ci.read_github(body) == ci.read_github(webhook())


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b"payload=", b"payload=%7B", b"[" * 100_000),
        webhook(id="x"),
        webhook(head_sha=None),
        webhook(completed_at="yesterday"),
        b'{"action": "completed", "check_run": []}',
    ],
)
def test_what_github_would_not_send_is_named(body):
    with pytest.raises(UnreadableReport, match="GitHub webhook"):
        ci.read_github(body)


def test_signatures():
    body = webhook()
    right = "sha256=" + hmac.new(b"secret", body, sha256).hexdigest()
    ci.require_signature("secret", body, right)
    for wrong in (None, "", "sha256=", right[:-1], right.upper(), "sha1=abc", "ü"):
        with pytest.raises(ci.BadSignature, match="X-Hub-Signature-256"):
            ci.require_signature("secret", body, wrong)
    with pytest.raises(ci.BadSignature):
        ci.require_signature("other", body, right)
    with pytest.raises(ci.BadSignature):
        ci.require_signature("secret", body + b" ", right)
