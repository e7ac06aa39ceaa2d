"""Finding the code in an answer: drafts, lists, indentation, fences inside docstrings."""

import pytest

from evaluator.graders.answers import bound_names, defines, extract_code, final_text

F = "def f(x):\n    return x\n"


def indented(code, by="    "):
    return "".join(by + line for line in code.splitlines(keepends=True))


def test_drafts_among_thoughts_do_not_count():
    draft = "```python\ndef f(x):\n    return 0\n```"
    assert extract_code(f"<think>{draft}</think>\n```python\n{F}```", "f") == F
    assert final_text("no thoughts") == "no thoughts"
    assert extract_code(f"<think>{draft}</think>\n", "f") == ""


@pytest.mark.parametrize(
    "answer",
    [
        f"1. ```python\n{indented(F, '   ')}   ```",
        f"- ```python\n{indented(F, '  ')}  ```",
        f"  ```python\n{indented(F, '  ')}  ```",
        f"  ```python\n{F}  ```",
        f"```python\n{indented(F)}```",
    ],
)
def test_the_indentation_of_a_list_is_not_part_of_the_code(answer):
    assert extract_code(answer, "f") == F


@pytest.mark.parametrize(
    "body",
    [
        "    y = 2 * x\n    return y\n",
        "    f = 2 * x\n    return f\n",
        "    def f(y):\n        return y\n    return f(x)\n",
    ],
)
def test_a_body_keeps_its_indentation(body):
    assert extract_code(body, "f") == body.strip("\n")
    assert extract_code(f"```python\n{body}```", "f") == body


def test_a_fence_inside_a_docstring_does_not_end_the_code():
    code = 'def f(x):\n    """Say.\n\n    ```\n    f(1)\n    ```\n    """\n    return x\n'
    assert extract_code(f"```python\n{code}```\nDone.", "f") == code


def test_a_block_that_only_uses_the_name_is_not_chosen():
    caller = "def apply(f, x):\n    f = f or str\n    return f(x)\n"
    assert extract_code(f"```\n{caller}```\n```\n{F}```", "f") == F


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (F, True),
        ("f = lambda x: x", True),
        ("try:\n    from a import f\nexcept ImportError:\n    f = None", True),
        ("class A:\n    def f(self): pass", False),
        ("def g():\n    f = 1", False),
        ("g = lambda f: f", False),
        ("def f(x:", True),
        ("    def f(x:", False),
    ],
)
def test_a_name_is_defined_at_the_top(code, found):
    assert defines(code, "f") is found


def test_names_are_bound_in_any_scope_by_many_statements():
    import ast

    code = "import a.b as c, d.e\ndef f(g, *h):\n  try: i = 1\n  except E as j: pass\nclass K: pass"
    assert bound_names(ast.parse(code)) == set("cdfghijK")


def test_an_endless_fence_is_read_once():
    assert extract_code("```" + "a" * 1_000_000) == "```" + "a" * 1_000_000
