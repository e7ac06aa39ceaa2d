"""On public data: rewrites are recognised, and code that is no benchmark's is left alone."""

from uuid import UUID

import pytest

from benchmarks.leak import measure
from curation.decontaminate import Guard, ProtectedItem, Suspect, strings_in
from evaluator.suites import read_humaneval, read_mbpp
from evaluator.suites.jsonl import read_rows
from evaluator.suites.protect import protected_of

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def guard(public_data):
    suites = {
        "humaneval": read_humaneval(public_data / "humaneval" / "humaneval_odd.jsonl"),
        "mbpp": read_mbpp(public_data / "mbpp" / "mbpp_sanitized_plus_odd.jsonl.gz"),
    }
    given = [(name, protected_of(task)) for name, suite in suites.items() for task in suite]
    return Guard(
        [
            ProtectedItem(UUID(int=n), name, one.item_id, one.prompt, one.solution, one.keys)
            for n, (name, one) in enumerate(given, start=1)
        ]
    )


def rows_of(path):
    return [row for _, row in read_rows(path)]


def test_rewrites_are_caught_in_every_kind(public_data):
    figures = measure(data=public_data)
    assert [figure.name for figure in figures if not figure.passed] == []


def test_rewrites_are_caught_by_what_a_suite_protects(guard, public_data):
    found = rows_of(public_data / "benchmark_leak" / "rewrites_odd.jsonl.gz")
    known = {item.item_id.rpartition("/")[2] for item in guard.items}
    asked = [row for row in found if row["task_id"].rpartition("/")[2] in known]
    hits = guard.check([Suspect(row["text_b"]) for row in asked])
    assert sum(map(bool, hits)) >= 0.95 * len(asked)


def test_answers_to_the_tasks_are_caught_without_their_prompts(guard, public_data):
    found = rows_of(public_data / "coder_outputs" / "coder_outputs_odd.jsonl.gz")
    asked = [row["solution"] for row in found if row["dataset"] == "humaneval"][:400]
    hits = guard.check([Suspect("", answer) for answer in asked if '"""' in answer])
    assert sum(map(bool, hits)) >= 0.95 * len(hits)


@pytest.mark.parametrize(
    ("folder", "share"),
    [("py_doctests", 0.02), ("near_dup_code_irplag", 0.01), ("feedback_sharegpt", 0.01)],
)
def test_other_code_and_chat_is_left_alone(guard, public_data, folder, share):
    texts = [
        "\n".join(strings_in(row))
        for path in sorted((public_data / folder).rglob("*.jsonl*"))
        for _, row in read_rows(path)
    ][:600]
    assert texts
    assert sum(map(bool, guard.check([Suspect(text) for text in texts]))) <= share * len(texts)
