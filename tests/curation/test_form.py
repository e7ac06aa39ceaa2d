"""What an answer's form gives away, and what is no fault."""

import gzip
import json

import pytest
from attempts import attempt, tool_attempt

from curation.score.blocks import has_valid_python, read_blocks
from curation.score.form import form_parts, form_score

FUNCTION = "def add(a, b):\n    return a + b"


def parts(answer, **rest):
    return form_parts(attempt(answer, **rest), read_blocks(answer))


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ("def f(x):\n    return x", True),
        ("def f(x): return x +", False),
        ("import math\n\ndef f(x):\n    return (x", False),
        ("Here:\n```python\ndef f(:\n```", False),
        ("Here:\n```python\n    return x\n```", True),
        ("Here:\n```bash\nls | wc (\n```", True),
        ("class Foo < Bar\n  def go\n  end\nend", True),
        ("import java.util.List;\nclass A { }", True),
        ("import React from 'react'", True),
        ("from here on, all is well", True),
        ("def is a keyword", True),
        ("    def g(x):\n        return x\n\n    return g(1)", True),
        ("    def g(x):\n        return x\n\n    return g(1", False),
        ("```\ndef f(\n```", True),
    ],
)
def test_only_what_is_clearly_python_has_to_parse(answer, valid):
    assert has_valid_python(answer) is valid


def test_a_body_is_code_and_indented_prose_is_none():
    body = read_blocks("    total = a + b\n    return total")
    assert [(block.language, block.is_body) for block in body] == [("python", True)]
    assert read_blocks("    yes") == ()
    assert read_blocks("") == ()


@pytest.mark.parametrize(
    ("answer", "syntax"),
    [
        ('```json\n{"a": [1, 2]}\n```', 1),
        ('```json\n{"a": [1, 2}\n```', 0),
        ("```toml\na = 1\n```", 1),
        ("```toml\na = \n```", 0),
        ('```js\nf({a: "}"}) // )\n```', 1),
        ("```rust\nfn main() { vec![1, 2) }\n```", 0),
        ("```python\nx = 1\n```\nand\n```python\nx = \n```", 0.5),
        ("```bash\nif [ -f a ]; then (\n```", None),
        ("plain words", None),
    ],
)
def test_syntax_is_checked_where_it_can_be(answer, syntax):
    assert parts(answer)["syntax"] == syntax


@pytest.mark.parametrize(
    ("code", "sound"),
    [
        (FUNCTION, 1),
        ("def f(a):\n    return math.sqrt(a)", 0.5),
        ("def f(a):\n    return sqrt(b) + c", 0.125),
        ("from math import *\ndef f(a):\n    return sqrt(a)", 1),
        ("def f(a) -> int:\n    print(a)", 0.5),
        ("def f(a) -> None:\n    print(a)", 1),
        ("def f(a) -> int:\n    raise ValueError(a)", 1),
        ("def f(a):\n    def f(b):\n        return b\n    return 1", 0.5),
        ("def f(a):\n    def g(b):\n        return b\n    return g(a)", 1),
        ("def f(xs):\n    return [y for y in xs if (z := y) and z]", 1),
        ("try:\n    x = 1\nexcept ValueError as error:\n    print(error)", 1),
        ("def f(p):\n    match p:\n        case {'a': a, **rest}:\n            return a, rest", 1),
        ("    return a + b", 1),
    ],
)
def test_what_cannot_be_meant_is_counted(code, sound):
    assert parts(f"```python\n{code}\n```")["sound"] == sound


@pytest.mark.parametrize(
    ("answer", "finished"),
    [
        (FUNCTION, 1),
        ("All is done.", 1),
        ("```python\nx = 1\n", 0.5),
        ("The reason is that the", 0.5),
        ("import os\n\nx = [1,", 0.5),
    ],
)
def test_an_end_that_looks_cut_is_seen(answer, finished):
    assert parts(answer)["finished"] == finished
    assert parts(answer, finish_reason="length")["finished"] == 0


def test_stubs_and_placeholders_are_not_complete():
    assert parts("def f(a):\n    pass")["complete"] == 0
    assert parts('def f(a):\n    """Add."""\n    ...')["complete"] == 0
    assert parts("def f(a):\n    # TODO: the rest\n    return a")["complete"] == 0.5
    assert parts(FUNCTION)["complete"] == 1
    abstract = (
        "from abc import abstractmethod\n\nclass A:\n    @abstractmethod\n    def f(self): ..."
    )
    assert parts(abstract)["complete"] == 1


def test_the_form_that_was_asked_for_counts():
    asked = {"prompt_text": "Who? Answer only in JSON."}
    assert parts('{"who": "me"}', **asked)["format"] == 1
    assert parts('```json\n{"who": "me"}\n```', **asked)["format"] == 1
    assert parts("It was me.", **asked)["format"] == 0
    head = {"prompt_text": "Complete:\ndef add(a, b):\n"}
    assert parts(FUNCTION, **head)["format"] == 1
    assert parts(FUNCTION.replace("add", "plus"), **head)["format"] == 0
    assert parts("    return a + b", **head)["format"] is None
    assert parts(FUNCTION)["format"] is None


def test_loops_of_the_model_and_outliers_of_length_lose():
    assert parts("\n".join(f"line {i} is new" for i in range(30)))["not_repeated"] == 1
    assert parts("I will now do this.\n" * 30)["not_repeated"] < 0.1
    assert parts("one two three")["length"] == 1
    assert parts("one")["length"] == 0.5
    assert parts("word " * 4000)["length"] == 1
    assert 0.2 < parts("word " * 32_000)["length"] < 0.5


def test_tool_calls_have_to_be_callable():
    assert form_parts(tool_attempt(), ())["tool_calls"] == 1
    assert form_parts(tool_attempt(""), ())["tool_calls"] == 1, "no arguments"
    assert form_parts(tool_attempt('{"path": '), ())["tool_calls"] == 0
    assert form_parts(attempt("hello you there"), ())["tool_calls"] is None
    assert form_score(form_parts(tool_attempt(), ())) == 1


def test_one_grave_fault_sinks_the_form():
    assert form_score(parts("I'm sorry, but I can't help with that.")) == 0
    assert form_score(parts(FUNCTION)) == 1
    assert 0.4 < form_score(parts("def f(a):\n    return math.sqrt(a)")) < 0.6


def test_hostile_answers_cost_little_and_throw_nothing():
    for answer in (
        *("(" * 100_000, "[" * 50_000 + "]" * 50_000, "```" * 30_000, "def f(x):\n" + " " * 9**5),
        *("-" * 100_000 + "1", "```python\n" + "-" * 50_000 + "1\n```", '{"a":' * 50_000),
        *(
            "```json\n" + "[" * 100_000 + "\n```",
            "\x00\ud800 x",
            "```js\n" + '"' * 50_000 + "\n```",
        ),
    ):
        assert 0 <= form_score(parts(answer)) <= 1


@pytest.mark.data
def test_little_that_passed_its_tests_is_called_unsound(public_data):
    path = public_data / "coder_outputs" / "coder_outputs_odd.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    passed = [parts(row["solution"]) for row in rows if row["exec_pass"]]
    assert sum(found["complete"] == 0 for found in passed) == 0
    assert sum((found["sound"] or 1) < 1 for found in passed) / len(passed) < 0.05
