"""How disagreements are explained, and which runs are a base and its fine-tune."""

from benchmarks.evaluation_real import Judged, explain, pairs, with_lists
from evaluator.graders import Grade
from evaluator.sandbox import Sandbox, Status
from evaluator.suites import Task


def test_every_tuple_that_is_written_out_becomes_a_list():
    assert with_lists("assert f((1, (2,)), {3: ()}) == (4, 5)") == (
        "assert f([1, [2]], {3: []}) == [4, 5]"
    )
    assert with_lists("") == ""


def test_a_fine_tune_meets_the_base_of_its_family_and_kind():
    runs = ("meta-llama-3-8b", "meta-llama-3-8b-instruct", "llama3_base_dpo", "llama3_instruct_dpo")
    others = ("mistral-7b-instruct", "mistral2_instruct_dpo", "gpt4_simple_run1")
    assert pairs([*runs, *others]) == [
        ("meta-llama-3-8b", "llama3_base_dpo"),
        ("meta-llama-3-8b-instruct", "llama3_instruct_dpo"),
        ("mistral-7b-instruct", "mistral2_instruct_dpo"),
    ]


def test_a_disagreement_is_explained_by_the_asserts_that_give_the_recorded_verdict(
    monkeypatch, tmp_path
):
    folder = tmp_path / "mbpp"
    folder.mkdir()
    (folder / "m.jsonl").write_text('{"task_id": "Mbpp/1", "test_list": ["assert f(1) == 1"]}\n')
    monkeypatch.setattr("benchmarks.evaluation_real.DATA", tmp_path)
    reference = {"entry_point": "f", "assertion": "assert f(1) == (2, 1)"}
    task = Task("Mbpp/1", [], "asserts", reference)

    def judged(code, passed):
        grade = Grade.of(Status.WRONG if passed else Status.PASS)
        return Judged({"solution": code, "exec_pass": passed}, task, grade)

    cases = [
        judged("def f(x): return x", True),
        judged("def f(x): return [2, x]", True),
        judged("def f(x): return 7", True),
    ]
    with Sandbox(workers=1) as sandbox:
        reasons = [reason for _, reason in explain(cases, sandbox)]
    assert reasons == [
        "by MBPP's original asserts, which EvalPlus corrected",
        "asked for lists where MBPP has tuples",
        "unexplained",
    ]
