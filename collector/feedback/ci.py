"""Test results of continuous integration, read: JUnit XML reports and GitHub's check webhooks.

Pure: bytes in, what was found out. JUnit XML has no standard, only dialects (pytest, Surefire,
Jest, GoogleTest, go-junit-report, …), so test cases are counted and attributes believed only where
they tell of failures that no case shows. https://github.com/testmoapp/junitxml lists the dialects.
"""

import hmac
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID, uuid5
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser
from pydantic import AwareDatetime, BaseModel, ValidationError

from collector.record import feedback_record
from foundation.errors import BadInput, FlywheelError

MAX_FAILING = 50
"""Failing tests that are named; the others are only counted."""
MAX_NAME, MAX_MESSAGE = 300, 500
"""Characters kept of a test's name and of its failure's message."""
MAX_LEVELS = 1000
"""Nesting of a report."""

PASSED, FAILED, ERROR, SKIPPED = "passed", "failed", "error", "skipped"

_BY_CHILD = {"failure": FAILED, "error": ERROR, "skipped": SKIPPED}
"""What a child of a test case says of it. `flakyFailure` and `rerunFailure` (Surefire) say nothing:
a case that failed in the end has a `failure` as well."""
_BY_STATUS = {
    **dict.fromkeys(("fail", "failed", "failure"), FAILED),
    **dict.fromkeys(("notrun", "disabled", "skipped", "suppressed", "ignored"), SKIPPED),
    "error": ERROR,
}
"""What the attributes `status` and `result` of a test case say (GoogleTest, CTest)."""
_SEVERITY = (PASSED, SKIPPED, FAILED, ERROR)

SUCCEEDED = frozenset({"success"})
DID_NOT_SUCCEED = frozenset({"failure", "timed_out", "startup_failure"})
"""GitHub's conclusions; neutral, cancelled, skipped, stale and action_required are neither."""

_STATEMENTS = UUID("5b9a5a0e-6a3c-5e0b-8f57-61a1f6a2c9d4")
"""Namespace of the ids of statements: the same results make the same statements."""


class BadSignature(FlywheelError):
    """A webhook that GitHub did not sign with our secret."""

    http_status = 401

    def __init__(self, given: str | None) -> None:
        found = "no signature" if given is None else "another signature"
        super().__init__(
            f"GitHub webhook: got {found}, expected X-Hub-Signature-256 of the body. "
            "Set FLYWHEEL_GITHUB_SECRET and the webhook's secret to the same value."
        )


class UnreadableReport(BadInput):
    """Bytes that are no report at all."""


class EmptyReport(BadInput):
    """A report by which nothing was tested."""

    http_status = 422


@dataclass(frozen=True)
class Failing:
    """A test that did not pass."""

    name: str
    message: str


@dataclass(frozen=True)
class TestReport:
    """The counts of a report, or of several together."""

    __test__ = False  # pytest takes it for a test class

    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0
    failing: tuple[Failing, ...] = ()
    """The first `MAX_FAILING` that failed or broke."""

    @property
    def run(self) -> int:
        """Tests that were run."""
        return self.passed + self.failed + self.errors

    @property
    def succeeded(self) -> bool:
        """Whether all that were run passed."""
        return self.passed == self.run

    @property
    def passed_ratio(self) -> float:
        """Share of passed tests among those that were run, 0-1."""
        return self.passed / self.run

    def details(self) -> dict[str, Any]:
        """Return the counts and the failing tests as JSON values."""
        return {
            "passed": self.passed,
            "failed": self.failed,
            "errors": self.errors,
            "skipped": self.skipped,
            "failing": [vars(one) for one in self.failing],
        }


def read_junit(body: bytes) -> TestReport:
    """Return what a JUnit XML report says; it may say that nothing was run.

    Raises:
        UnreadableReport: no XML, cut off, wrongly encoded, with entities of its own, or no report.
    """
    reader = _JUnitReader()
    parser = DefusedXMLParser(target=reader, forbid_dtd=False)
    try:
        parser.feed(body)
        parser.close()
    except DefusedXmlException as error:
        raise _unreadable("a document type with entities", "no entities of its own") from error
    except (ParseError, LookupError, ValueError) as error:  # the latter two: a strange encoding
        raise _unreadable(str(error) if body else "an empty body", "well-formed XML") from error
    return reader.report()


def merged(reports: Iterable[TestReport]) -> TestReport:
    """Return several reports as one: most test runners write a file per suite."""
    listed = list(reports)
    return TestReport(
        passed=sum(one.passed for one in listed),
        failed=sum(one.failed for one in listed),
        errors=sum(one.errors for one in listed),
        skipped=sum(one.skipped for one in listed),
        failing=tuple(failing for one in listed for failing in one.failing)[:MAX_FAILING],
    )


def statements(
    report: TestReport, subject: Mapping[str, Any], actor: str, key: str
) -> list[dict[str, Any]]:
    """Return the feedback that a report amounts to: `success`, and the share of passed tests.

    Args:
        report: of at least one test that was run.
        subject: columns that say what was tested.
        actor: who tested; what the same actor says later replaces it.
        key: of this run; the same gives the same ids.

    Raises:
        EmptyReport: no test was run.
    """
    if not report.run:
        raise EmptyReport(
            "JUnit report",
            f"{report.skipped} skipped tests and no other",
            "at least one test that was run",
            "A run without tests says nothing; send no report of it.",
        )
    said = {**subject, "source": "test", "actor": actor}
    return [
        feedback_record(
            uuid5(_STATEMENTS, f"{key}\x1fsuccess"),
            "success",
            value=float(report.succeeded),
            details=report.details(),
            **said,
        ),
        feedback_record(
            uuid5(_STATEMENTS, f"{key}\x1fratio"),
            "metric",
            name="tests_passed_ratio",
            value=report.passed_ratio,
            **said,
        ),
    ]


def run_key(digest: str, subject: Mapping[str, str], actor: str) -> str:
    """Return the key of a run that has none: the same report about the same subject is the same."""
    named = (f"{name}={subject[name]}" for name in sorted(subject))
    return "\x1f".join((digest, actor, *named))


def _unreadable(found: str, expected: str) -> UnreadableReport:
    return UnreadableReport(
        "JUnit report", found, expected, "Send the file that the test runner wrote, whole."
    )


@dataclass
class _Suite:
    """A suite while it is read: what its attributes claim, and what was seen in it at any depth."""

    name: str
    tests: int = 0
    broken: int = 0
    skipped: int = 0
    seen: int = 0
    """Test cases, or tests that a suite in it claims."""
    seen_broken: int = 0
    """Failures and errors; a test case may have several."""


@dataclass
class _Case:
    """A test case while it is read."""

    name: str
    verdict: str
    message: str = ""


class _JUnitReader:
    """Counts test cases while the parser reads; keeps no tree, whatever the report's size."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._suites: list[_Suite] = []
        self._case: _Case | None = None
        self._text: list[str] | None = None
        self._counts: Counter[str] = Counter()
        self._failing: list[Failing] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        tag = name.rpartition("}")[2]
        parent = self._open[-1] if self._open else None
        if parent is None and tag not in ("testsuites", "testsuite"):
            raise _unreadable(f"the root element <{tag[:100]}>", "<testsuites> or <testsuite>")
        if len(self._open) >= MAX_LEVELS:
            raise _unreadable("deeply nested XML", f"at most {MAX_LEVELS} levels")
        self._open.append(tag)
        if tag in ("testsuites", "testsuite"):
            self._suites.append(_suite(attributes))
        elif tag == "testcase":
            self._case = _case(attributes)
        elif tag in _BY_CHILD and parent in ("testcase", "testsuite"):
            self._judge(_BY_CHILD[tag], attributes)

    def _judge(self, verdict: str, attributes: dict[str, str]) -> None:
        if verdict != SKIPPED:
            self._suites[-1].seen_broken += 1
        if self._case is None:  # of the suite itself: its setup broke
            self._case = _Case(self._suites[-1].name, ERROR)
        if _SEVERITY.index(verdict) >= _SEVERITY.index(self._case.verdict):
            self._case.verdict = verdict
            self._case.message = attributes.get("message") or attributes.get("type") or ""
            self._text = []

    def data(self, text: str) -> None:
        """Read text; only a failure's own is of interest."""
        if self._text is not None and sum(map(len, self._text)) < MAX_MESSAGE:
            self._text.append(text)

    def end(self, name: str) -> None:
        """End an element."""
        tag = self._open.pop()
        parent = self._open[-1] if self._open else None
        if self._case and self._text is not None and tag in _BY_CHILD:
            self._case.message = self._case.message or "".join(self._text).strip()
            self._text = None
        if self._case and (tag == "testcase" or (tag in _BY_CHILD and parent == "testsuite")):
            self._count(self._case)
            self._case = None
        elif tag in ("testsuites", "testsuite"):
            self._close(self._suites.pop())

    def close(self) -> None:
        """End the document."""

    def _count(self, case: _Case) -> None:
        self._suites[-1].seen += 1
        self._counts[case.verdict] += 1
        if case.verdict in (FAILED, ERROR) and len(self._failing) < MAX_FAILING:
            self._failing.append(Failing(case.name[:MAX_NAME], case.message[:MAX_MESSAGE]))

    def _close(self, suite: _Suite) -> None:
        """Add what only the suite's attributes tell, then pass all on to the suite around it."""
        unseen = suite.broken - suite.seen_broken
        if unseen > 0:
            self._counts[ERROR] += unseen
            suite.seen_broken += unseen
            if len(self._failing) < MAX_FAILING:
                self._failing.append(
                    Failing(suite.name[:MAX_NAME], f"{unseen} failed without a test case")
                )
        if not suite.seen:
            self._counts[SKIPPED] += suite.skipped
            self._counts[PASSED] += max(0, suite.tests - suite.broken - suite.skipped)
            suite.seen = suite.tests
        if self._suites:
            self._suites[-1].seen += suite.seen
            self._suites[-1].seen_broken += suite.seen_broken

    def report(self) -> TestReport:
        """Return the counts."""
        return TestReport(
            passed=self._counts[PASSED],
            failed=self._counts[FAILED],
            errors=self._counts[ERROR],
            skipped=self._counts[SKIPPED],
            failing=tuple(self._failing),
        )


def _suite(attributes: dict[str, str]) -> _Suite:
    def number(*names: str) -> int:
        return sum(int(attributes[name]) for name in names if attributes.get(name, "").isdecimal())

    return _Suite(
        attributes.get("name") or "test suite",
        tests=number("tests"),
        broken=number("failures", "errors"),
        skipped=number("skipped", "disabled"),
    )


def _case(attributes: dict[str, str]) -> _Case:
    name, owner = attributes.get("name") or "unnamed test", attributes.get("classname")
    said = (attributes.get(where, "").lower() for where in ("status", "result"))
    verdict = next((_BY_STATUS[word] for word in said if word in _BY_STATUS), PASSED)
    return _Case(f"{owner}.{name}" if owner and owner not in name else name, verdict)


# GitHub


class _App(BaseModel):
    slug: str | None = None


class _Check(BaseModel):
    """What `check_run`, `check_suite` and `workflow_run` have in common, and their own times."""

    id: int
    head_sha: str
    status: str | None = None
    conclusion: str | None = None
    name: str | None = None
    external_id: str | None = None
    run_attempt: int | None = None
    completed_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    html_url: str | None = None
    app: _App | None = None


@dataclass(frozen=True)
class CheckResult:
    """A check of GitHub's that has come to a conclusion."""

    name: str
    success: bool
    conclusion: str
    subject: str
    """The external id, or the commit."""
    key: str
    """Of this attempt, among all repositories."""
    url: str | None
    at: AwareDatetime | None

    def statement(self, subject: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
        """Return the feedback that it amounts to.

        Args:
            subject: columns that say what was checked.
            key: of which its id is made; by default `key`, which everybody knows.
        """
        record = feedback_record(
            uuid5(_STATEMENTS, key or self.key),
            "success",
            **subject,
            value=float(self.success),
            source="test",
            actor=self.name[:MAX_NAME],
            details={"conclusion": self.conclusion, "url": self.url},
        )
        return record if self.at is None else record | {"created_at": self.at.isoformat()}


def secret_key(secret: str, key: str) -> str:
    """Return a key that only who knows the webhook's secret can make of one that all know."""
    return hmac.new(secret.encode(), key.encode(), sha256).hexdigest()


def require_signature(secret: str, body: bytes, given: str | None) -> None:
    """Check that GitHub signed `body` with `secret`, in a time that tells nothing of it.

    Args:
        secret: the webhook's.
        body: as it came.
        given: the header X-Hub-Signature-256.

    Raises:
        BadSignature: it did not.
    """
    expected = "sha256=" + hmac.new(secret.encode(), body, sha256).hexdigest()
    if given is None or not hmac.compare_digest(expected.encode(), given.encode()):
        raise BadSignature(given)


def read_github(body: bytes) -> CheckResult | str:
    """Return what a webhook says, or why it says neither success nor failure.

    Raises:
        UnreadableReport: no JSON (plain or in a form's `payload`), or no fields that GitHub sends.
    """
    payload = _payload(body)
    event = next((name for name in _EVENTS if name in payload), None)
    if event is None:
        return f"not one of {', '.join(_EVENTS)}"
    try:
        check = _Check.model_validate(payload[event])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([event, *(str(part) for part in first["loc"])])
        raise _unreadable_webhook(place, first["msg"]) from None
    if payload.get("action") != "completed" or check.status != "completed":
        return f"{event} is not completed"
    if check.conclusion not in SUCCEEDED | DID_NOT_SUCCEED:
        return f"conclusion {check.conclusion!r} is neither success nor failure"
    return _result(event, check, payload)


_EVENTS = ("check_run", "check_suite", "workflow_run")


def _result(event: str, check: _Check, payload: Mapping[str, Any]) -> CheckResult:
    repository = payload.get("repository")
    place = str(repository.get("full_name")) if isinstance(repository, Mapping) else ""
    slug = check.app.slug if check.app else None
    at = check.completed_at or check.updated_at
    # GitHub Actions fills `external_id` with ids of its own.
    external_id = check.external_id if slug != "github-actions" else None
    return CheckResult(
        name=check.name or slug or event,
        success=check.conclusion in SUCCEEDED,
        conclusion=str(check.conclusion),
        subject=external_id or check.head_sha,
        key="\x1f".join(("github", place, event, str(check.id), str(check.run_attempt or at))),
        url=check.html_url,
        at=at,
    )


def _payload(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a body; webhooks made without a choice send it in a form."""
    try:
        text = body.decode()
        if text.startswith("payload="):
            text = parse_qs(text, keep_blank_values=True)["payload"][0]
        payload = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable_webhook("body", str(error)) from None
    if not isinstance(payload, dict):
        raise _unreadable_webhook("body", f"a {type(payload).__name__}")
    return payload


def _unreadable_webhook(place: str, found: str) -> UnreadableReport:
    return UnreadableReport(
        f"GitHub webhook, {place}",
        found,
        "the JSON that GitHub sends of a check_run, check_suite or workflow_run",
        "Choose these events for the webhook.",
    )
