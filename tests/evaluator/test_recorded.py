import gzip
import json

import pytest

from evaluator.compare import compare, outcomes_of
from evaluator.recorded import evaluate_recorded, read_answers
from evaluator.sandbox import Sandbox
from evaluator.suites import READERS, add_suite, load_suite, read_humaneval, read_mbpp
from foundation.errors import BadInput, NotFound

HUMANEVAL = {
    "task_id": "HumanEval/1",
    "prompt": 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """Sum."""\n',
    "entry_point": "total",
    "canonical_solution": "    return sum(xs)\n",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n",
}
MBPP = {
    "task_id": "Mbpp/3",
    "prompt": "'''\nWrite a function that doubles.\n'''",
    "entry_point": "double",
    "test_imports": ["import math"],
    "test_list": ["assert double(2) == 4"],
    "assertion": "\nassert double(2) == 4\nassert math.isclose(double(0.5), 1.0)\n",
    "canonical_passes_assertion": True,
}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2) as shared:
        yield shared


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.fixture
def suite(session, tmp_path):
    rows = [HUMANEVAL, {**HUMANEVAL, "task_id": "HumanEval/3"}]
    tasks = read_humaneval(write(tmp_path / "he.jsonl", rows))
    return add_suite(session, "humaneval", "coder", tasks)


def answer(run, task, solution, **more):
    return {"run": run, "task_id": task, "solution": solution, **more}


FULL = "from typing import List\ndef total(xs: List[int]) -> int:\n    return sum(xs)\n"
BODY = "    return sum(xs)\n"


def test_full_functions_and_bodies_are_graded_by_execution(session, suite, sandbox, tmp_path):
    rows = [
        answer("full", "HumanEval/1", FULL, exec_pass=True),
        answer("full", "HumanEval/3", "def total(xs):\n    return 0", exec_pass=True),
        answer("body", "HumanEval/1", BODY, exec_pass=True),
        answer("body", "HumanEval/3", "    return max(xs)\n"),
        answer("body", "HumanEval/999", BODY),
    ]
    path = write(tmp_path / "answers.jsonl.gz", rows)
    full, body = evaluate_recorded(session, suite, path, ["full", "body"], sandbox)
    assert outcomes_of(session, full.evaluation) == {"HumanEval/1": [True], "HumanEval/3": [False]}
    assert outcomes_of(session, body.evaluation) == {"HumanEval/1": [True], "HumanEval/3": [False]}
    assert (full.n_checked, full.agreement) == (2, 0.5)
    [differing] = full.disagreements
    assert (differing.task_id, differing.recorded, differing.measured) == (
        "HumanEval/3",
        True,
        False,
    )
    assert (body.n_checked, body.agreement, body.n_outside) == (1, 1.0, 1)
    assert full.evaluation.settings["answers"] == "answers.jsonl.gz"


def test_empty_solutions_are_lost_and_leave_the_comparison(session, suite, sandbox, tmp_path):
    rows = [
        answer("a", "HumanEval/1", " \n", exec_pass=False),
        answer("a", "HumanEval/3", FULL),
        answer("b", "HumanEval/1", FULL),
        answer("b", "HumanEval/3", BODY),
    ]
    path = write(tmp_path / "answers.jsonl", rows)
    first, second = evaluate_recorded(session, suite, path, ["a", "b"], sandbox)
    assert (first.evaluation.n_lost, first.evaluation.success_rate) == (1, 1.0)
    assert (first.n_checked, first.agreement) == (0, None)
    verdict = compare(session, first.evaluation, second.evaluation)
    assert (verdict.n_tasks, verdict.improvement_points) == (1, 0)


def test_several_lines_of_a_task_are_several_samples(session, suite, sandbox, tmp_path):
    rows = [answer("a", "HumanEval/1", text) for text in (FULL, "def total(x):\n    return 7", "")]
    path = write(tmp_path / "answers.jsonl", rows)
    [found] = evaluate_recorded(session, suite, path, ["a"], sandbox)
    assert outcomes_of(session, found.evaluation) == {"HumanEval/1": [True, False, None]}
    assert found.evaluation.samples_per_task == 3


def test_bad_files_and_runs_are_clear(session, suite, sandbox, tmp_path):
    path = write(tmp_path / "answers.jsonl", [answer("a", "Mbpp/1", FULL)])
    with pytest.raises(NotFound, match="one of a"):
        read_answers(path, "b")
    with pytest.raises(BadInput, match="humaneval@1"):
        evaluate_recorded(session, suite, path, ["a"], sandbox)
    write(path, [answer("a", "HumanEval/1", FULL), {"run": "a", "solution": FULL}])
    with pytest.raises(BadInput, match="line 2, field 'task_id'"):
        evaluate_recorded(session, suite, path, ["a"], sandbox)
    write(path, [answer("a", "HumanEval/1", 7)])
    with pytest.raises(BadInput, match="line 1, field 'solution'"):
        read_answers(path, "a")


def test_mbpp_reads_corrected_asserts_and_drops_flawed_tasks(session, sandbox, tmp_path):
    flawed = {**MBPP, "task_id": "Mbpp/5", "canonical_passes_assertion": False}
    source = write(tmp_path / "mbpp.jsonl.gz", [MBPP, flawed])
    assert len(read_mbpp(source, keep_flawed=True)) == 2
    [task] = read_mbpp(source)
    assert "Write a function that doubles." in task.prompt[0]["content"]
    assert "assert double(2) == 4" in task.prompt[0]["content"]
    assert "isclose" not in task.prompt[0]["content"]
    suite = add_suite(session, "mbpp", "coder", [task])
    rows = [
        answer("a", "Mbpp/3", "def double(x):\n    return 2 * x"),
        answer("b", "Mbpp/3", "def double(x):\n    return 4"),
    ]
    path = write(tmp_path / "answers.jsonl", rows)
    good, bad = evaluate_recorded(session, suite, path, ["a", "b"], sandbox)
    assert good.evaluation.success_rate == 1
    assert bad.evaluation.success_rate == 0


AT_THE_LIMIT = "Mbpp/123"
"""One of its answers takes 1.9 s on a fast machine, of the 2 s of CPU time that there are."""


def judged_otherwise(found):
    return [one.task_id for one in found.disagreements if one.task_id != AT_THE_LIMIT]


@pytest.mark.data
class TestPublicData:
    @pytest.fixture
    def answers(self, public_data):
        return public_data / "coder_outputs" / "coder_outputs_odd.jsonl.gz"

    def test_humaneval_verdicts_agree_with_the_recorded_ones(
        self, session, sandbox, public_data, answers
    ):
        tasks = READERS["humaneval"](public_data / "humaneval" / "humaneval_odd.jsonl")
        suite = add_suite(session, "humaneval", "coder", tasks)
        runs = ["meta-llama-3-8b", "llama3_base_dpo", "gpt35_simple"]
        base, dpo, simple = evaluate_recorded(session, suite, answers, runs, sandbox)
        assert (base.disagreements, dpo.disagreements, simple.disagreements) == ((), (), ())
        assert simple.evaluation.n_lost == 61  # its failures were stored as empty texts
        verdict = compare(session, base.evaluation, dpo.evaluation)
        assert verdict.n_tasks == 77  # 82 less those that one of the two lost
        assert verdict.ci_low > 0

    def test_mbpp_verdicts_agree_up_to_the_tasks_with_other_tests(
        self, session, sandbox, public_data, answers
    ):
        tasks = READERS["mbpp"](public_data / "mbpp" / "mbpp_sanitized_plus_odd.jsonl.gz")
        suite = add_suite(session, "mbpp", "coder", tasks)
        assert load_suite(session, "mbpp").n_tasks == 207
        runs = ["meta-llama-3-8b", "llama3_base_dpo"]
        base, dpo = evaluate_recorded(session, suite, answers, runs, sandbox)
        assert judged_otherwise(base) == []
        # Passes the corrected asserts; the original test of this task reads past the list.
        assert judged_otherwise(dpo) == ["Mbpp/223"]
        assert compare(session, base.evaluation, dpo.evaluation).outcome == "undecided"
