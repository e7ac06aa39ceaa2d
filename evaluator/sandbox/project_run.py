"""Runs inside a sandbox of its own: writes the files of a project and runs pytest over them.

Standard library and pytest. The process runs hostile code, so what it reports is only data; that
the code cannot just claim success is the work of `canaries`.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the files and runs the tests.

    Args:
        request: `files` (text by path), `paths` (of the test files).

    Returns:
        `status`, `detail` and `tests` (outcome by test id: passed, failed, skipped, or error where
        it could not be set up or collected), and `flag`, the limit that made one fail, or None.
    """
    import pytest

    root = os.path.join(os.getcwd(), "project")
    for path, text in request["files"].items():
        target = os.path.join(root, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
    os.chdir(root)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path.insert(0, root)
    results = _Results()
    flags = ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", root, "-q", "--tb=short"]
    pytest.main([*flags, *request["paths"]], plugins=[results])
    return {"status": "PASS", "detail": "", "tests": results.tests, "flag": results.flag}


class _Results:
    """A pytest plugin that keeps the worst outcome of each test."""

    def __init__(self) -> None:
        self.tests: dict[str, str] = {}
        self.flag: str | None = None
        self._seen: set[tuple[str, str]] = set()

    def pytest_exception_interact(self, call: Any) -> None:
        """Keeps that a test failed at a limit of the sandbox."""
        if isinstance(call.excinfo.value, MemoryError):
            self.flag = "MEMORY"

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keeps what setup, call and teardown of a test came to."""
        step = (report.nodeid, report.when)
        if step in self._seen:
            self.tests[report.nodeid] = "error"
        self._seen.add(step)
        before = self.tests.get(report.nodeid)
        if report.passed:
            if report.when == "call" and before is None:
                self.tests[report.nodeid] = "passed"
        elif report.skipped:
            self.tests.setdefault(report.nodeid, "skipped")
        elif report.when == "call" and before is None:
            self.tests[report.nodeid] = "failed"
        elif before != "failed":
            self.tests[report.nodeid] = "error"

    def pytest_collectreport(self, report: Any) -> None:
        """A file that could not be collected is an error under its own name."""
        if report.failed:
            self.tests[report.nodeid or "collection"] = "error"
