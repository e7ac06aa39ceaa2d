"""How code is written, measured on its tree."""

import pytest

from curation.score.blocks import read_blocks
from curation.score.style import style_parts, style_score

GOOD = '''def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)
'''
BAD = """def F(tmp, L=[]):
    global q
    try:
        for res1 in L:
            if res1:
                for foo in res1:
                    if foo:
                        while foo:
                            if q:
                                q = eval(foo)
    except:
        pass
"""


def parts(code, language="python"):
    return style_parts(read_blocks(f"```{language}\n{code}\n```"))


def test_good_code_has_all_and_bad_code_little():
    assert parts(GOOD) == dict.fromkeys(parts(GOOD), 1)
    assert style_score(parts(GOOD)) == 1
    assert style_score(parts(BAD)) < 0.5


def test_each_part_is_measured_apart():
    bad = parts(BAD)
    assert bad["type_hints"] == bad["docstrings"] == 0
    assert bad["small_functions"] == 1
    assert bad["names"] < 0.3
    assert bad["simple"] == pytest.approx(4 / 7)
    assert bad["tidy"] == pytest.approx(0.4), "bare except, mutable default, eval and global"


def test_half_the_hints_are_half():
    assert parts("def add(a: int, b):\n    return a + b")["type_hints"] == pytest.approx(1 / 3)
    assert parts("class A:\n    def f(self) -> int:\n        return 1")["type_hints"] == 1


def test_long_functions_and_lines_fall_softly():
    long = "def count():\n" + "    x = 1\n" * 60
    assert parts(long)["small_functions"] == 0.5
    documented = 'def count():\n    """' + "words\n" * 60 + '"""\n    return 1'
    assert parts(documented)["small_functions"] == 1, "a docstring is no code"
    assert parts(f"x = '{'a' * 120}'")["tidy"] == 0.8


def test_elif_is_no_nesting():
    chain = "def f(x):\n    if x == 0:\n        return 0\n" + "".join(
        f"    elif x == {i}:\n        return {i}\n" for i in range(1, 9)
    )
    assert parts(chain)["simple"] == 1


def test_a_body_has_no_head_to_annotate():
    body = style_parts(read_blocks("    total = a + b\n    return total"))
    assert body["type_hints"] is None
    assert body["docstrings"] is None
    assert body["names"] == 1


def test_other_languages_show_what_their_text_shows():
    good = "// Returns the mean.\nfunction mean(values) {\n  return sum(values) / values.length;\n}"
    bad = "function f(a1){for(var b1 in a1){if(tmp){" + "x" * 120 + "}}}"
    assert style_score(parts(good, "js")) > style_score(parts(bad, "js"))
    assert parts(good, "js")["type_hints"] is None


def test_without_code_there_is_no_style():
    assert style_parts(read_blocks("Only words.")) == {}
    assert style_score({}) is None
    assert style_parts(read_blocks("```python\n\n```")) == {}
