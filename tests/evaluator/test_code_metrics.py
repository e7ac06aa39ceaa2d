"""Style, SOLID and security of code answers, and the one call of ruff behind them."""

import ast
import shutil
import sys

import pytest

from evaluator.metrics import lint as linting
from evaluator.metrics.code import assess_code
from evaluator.metrics.lint import lint
from evaluator.metrics.security import security_findings, severity_of
from evaluator.metrics.solid import solid_ratings
from foundation.errors import MissingExtra

GOOD = '''
def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)
'''
BAD = """
def DoIt(A, b):
    if A:
        if b:
            return 1
        return 2
    return 3
"""
SHELL = "import os\nos.system(input())\n"


def assessed(code):
    return assess_code([code])[0]


# --- ruff


def test_findings_go_to_the_code_they_are_of():
    first, broken, second = lint([SHELL, "def f(:\n", "x = 1\n"])
    assert [(one.line, one.rule) for one in first] == [(2, "S605")]
    assert broken is None
    assert second == []


@pytest.mark.parametrize(
    "hostile",
    ["(" * 90_000, "\0", "\ud800", "-" * 150_000 + "1", "x" * 300_000, "a.\n" * 50, "", "\r\r\n"],
)
def test_a_hostile_text_spoils_only_its_own_findings(hostile):
    assert lint([hostile, SHELL])[1]
    assert assess_code([hostile, SHELL])[1]["security_high"] == 1


def test_a_text_that_kills_ruff_is_found_by_halving(monkeypatch, tmp_path):
    fake = tmp_path / "ruff"
    real = linting._ruff()
    fake.write_text(
        '#!/bin/sh\nfor last; do :; done\nif /bin/grep -rq KILL "$last"; then kill -9 $$; fi\n'
        f'exec {real} "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setattr(linting, "_ruff", lambda: str(fake))
    found = lint([SHELL, "x = 'KILL'\n", GOOD, SHELL + "y = 1\n"])
    assert [one is None for one in found] == [False, True, False, False]
    assert found[3]


def test_no_comment_silences_a_finding():
    assert security_findings(lint(["# ruff: noqa\n" + SHELL.replace("\n", "  # noqa\n")])[0])


def test_no_setting_of_the_machine_is_read(monkeypatch, tmp_path):
    (tmp_path / "ruff.toml").write_text('[lint]\nignore = ["S605"]\n')
    monkeypatch.chdir(tmp_path)
    assert lint([SHELL])[0]


def test_code_is_never_executed(tmp_path):
    mark = tmp_path / "mark"
    assess_code([f"open({str(mark)!r}, 'w').close()\n"])
    assert not mark.exists()


def test_without_ruff_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(MissingExtra, match="evaluate"):
        assess_code([GOOD])


# --- style


def test_good_code_has_all_of_style():
    found = assessed(GOOD)
    assert found["style"] == 1.0
    assert (found["longest_function"], found["complexity"]) == (1.0, 1.0)


def test_each_part_falls_by_its_own_fault():
    found = assessed(BAD)
    assert found["style_names"] == pytest.approx(1 / 3)
    assert (found["style_type_hints"], found["style_docstrings"]) == (0.0, 0.0)
    assert (found["style_simplicity"], found["complexity"]) == (1.0, 3.0)


def test_long_and_branching_functions_fall_and_do_not_vanish():
    branches = "".join(f"    if x == {n}:\n        return {n}\n" for n in range(30))
    found = assessed(f"def f(x):\n{branches}")
    assert found["complexity"] == 31.0
    assert found["style_simplicity"] == pytest.approx(10 / 31)
    assert found["style_function_length"] == pytest.approx(0.5)


def test_a_docstring_does_not_make_a_function_long():
    text = '    """Say.\n' + "\n    more" * 50 + '\n    """\n'
    assert assessed(f"def f():\n{text}    return 1\n")["longest_function"] == 1.0


def test_private_and_inner_functions_need_no_docstring():
    code = "class A:\n    'Say.'\n    def _f(self): return 1\n    def __init__(self): pass\n"
    assert assessed(code)["style_docstrings"] == 1.0


def test_what_does_not_apply_is_none_and_what_cannot_be_read_has_nothing():
    assert assessed("print(1)\n")["style_type_hints"] is None
    assert assessed("def f(:") == {}
    assert assessed("") == {}


# --- security


def test_findings_are_counted_by_severity():
    found = assessed(SHELL + 'password = "hunter2-really"\nassert password\n')
    assert (found["security_high"], found["security_low"]) == (1, 1)
    assert found["security_rules"] == ["S105", "S605"]


def test_rules_may_be_named_by_their_beginning():
    findings = lint([SHELL + "assert 1\n"])[0]
    assert [one.rule for one in security_findings(findings, ["S1"])] == ["S101"]
    [shell] = security_findings(findings, ["S605"])
    assert (shell.cwe, shell.severity) == ("CWE-78", "high")
    assert security_findings(findings, ["C9"]) == []
    assert severity_of("S608") == "medium"


# --- SOLID


def rated(code, principle):
    return solid_ratings(ast.parse(code))[principle]


def test_a_lone_function_has_nothing_to_rate():
    assert set(solid_ratings(ast.parse(GOOD)).values()) == {None}


@pytest.mark.parametrize(
    ("code", "rating"),
    [
        ("class A:\n def f(self): return self.x\n def g(self): self.x = 1", 1.0),
        ("class A:\n def f(self): return self.x\n def g(self): return self.y", 0.5),
        ("class A:\n def f(self): return self.g()\n def g(self): return self.y", 1.0),
        ("def f(x):\n print(x)\n return x + 1", 0.0),
        ("def f(x):\n print(x)", 1.0),
    ],
)
def test_single_responsibility(code, rating):
    assert rated(code, "single_responsibility") == rating


@pytest.mark.parametrize(
    ("code", "rating"),
    [
        ("def f(x):\n if isinstance(x, int): return 1\n if isinstance(x, str): return 2", 0.0),
        ("def f(x):\n if type(x.kind) == int: return 1\n if type(x.kind) == str: return 2", 0.0),
        ("def f(x, y):\n return isinstance(x, int) and isinstance(y, int)", 1.0),
        ("def f(x):\n return x", None),
    ],
)
def test_open_closed(code, rating):
    assert rated(code, "open_closed") == rating


@pytest.mark.parametrize(
    ("override", "rating"),
    [
        ("def f(self, x): return 2", 1.0),
        ("def f(self, x, y=1): return 2", 1.0),
        ("def f(self, *args): return 2", 1.0),
        ("def f(self, x, y): return 2", 0.0),
        ("def f(self): return 2", 0.0),
        ("def f(self, x): raise NotImplementedError", 0.0),
        ("def f(self, x, *, key): return 2", 0.0),
        ("def g(self): return 2", None),
    ],
)
def test_liskov_substitution(override, rating):
    code = f"class A:\n def f(self, x): return 1\nclass B(A):\n {override}"
    assert rated(code, "liskov_substitution") == rating


def test_interface_segregation():
    head = "from abc import ABC, abstractmethod\nclass A(ABC):\n"
    methods = "".join(f" @abstractmethod\n def m{n}(self): ...\n" for n in range(10))
    assert rated(head + methods, "interface_segregation") == 0.5
    stubbed = head + methods[: methods.index(" @", 5)] + "class B(A):\n def m0(self): pass\n"
    assert rated(stubbed, "interface_segregation") == 0.5
    assert rated("class A: pass", "interface_segregation") is None


def test_dependency_inversion():
    made = "class A:\n def __init__(self):\n  self.store = SqlStore()\n"
    given = "class A:\n def __init__(self, store: Store):\n  self.store = store\n"
    library = "from pathlib import Path\nclass A:\n def __init__(self):\n  self.p = Path()\n"
    assert rated(made, "dependency_inversion") == 0.0
    assert rated(given, "dependency_inversion") == 1.0
    assert rated(library, "dependency_inversion") is None


def test_deeply_nested_code_is_rated_or_left_out():
    deep = "x = " + "a." * 20_000 + "b\n"
    assert assess_code([deep, f"isinstance({'(' * 80}x{')' * 80}, int)\n", GOOD])[2]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="it is valid there")
def test_newer_syntax_than_the_sandbox_runs_cannot_be_read():
    assert lint(["type X = int\n"]) == [None]
