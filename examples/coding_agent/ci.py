"""The continuous integration of the example: pytest in the sandbox, and a JUnit report of it.

Yours has a runner of its own and writes the report by `pytest --junitxml report.xml`.
"""

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from evaluator.sandbox import Project, Sandbox, Status

TESTS = ("test_dates.py::test_every_fourth_year", "test_dates.py::test_turn_of_a_century")


def run_ci(project: Path, pushed: Mapping[str, str]) -> tuple[bool, str]:
    """Run the project's tests over what was pushed; return whether all passed, and the report."""
    tests = {"test_dates.py": (project / "test_dates.py").read_text()}
    with Sandbox() as sandbox:
        outcome = sandbox.run_project(Project(pushed, tests, TESTS, canaries=()))
    return outcome.status is Status.PASS, junit(outcome.tests)


def junit(tests: Mapping[str, str]) -> str:
    """Return results by test id as JUnit XML."""
    failed = sum(result != "passed" for result in tests.values())
    suite = ElementTree.Element("testsuite", tests=str(len(tests)), failures=str(failed))
    for name, result in tests.items():
        path, _, test = name.partition("::")
        case = ElementTree.SubElement(suite, "testcase", classname=path, name=test)
        if result != "passed":
            ElementTree.SubElement(case, "failure", message=f"AssertionError: {result}")
    return ElementTree.tostring(suite, encoding="unicode")
