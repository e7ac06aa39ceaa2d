"""Comments and layout aside, code is the same or is not; a revision is like what it came from."""

import pytest

from curation.dedupe.code import PROPOSED_FROM, code_likeness, same_code, without_comments

PYTHON = '''
def halve(n):
    """Return half of n."""
    # exact for even n
    text = "# no comment"
    return n // 2  # floor
'''
JAVA = """
public class A {
    /* adds */
    int add(int a, int b) { // two
        String s = "// no comment";
        return a + b;
    }
}
"""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PYTHON, PYTHON.replace("Return half of n.", "Divide.").replace("# exact for even n", "")),
        (PYTHON, PYTHON.replace("    ", "  ")),
        (JAVA, JAVA.replace("/* adds */", "").replace("// two", "// more\n")),
        (JAVA, JAVA.replace("    ", " ").replace(" { //", "\n{ //")),
    ],
)
def test_other_comments_and_layout_are_the_same_code(one, other):
    assert one != other
    assert same_code(one, other)
    assert code_likeness(one, other) == 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PYTHON, PYTHON.replace("// 2", "// 3")),
        (PYTHON, PYTHON.replace("# no comment", "# a comment")),
        (PYTHON, PYTHON.replace("halve", "double")),
        (PYTHON, PYTHON.replace("    return", "return")),
        (JAVA, JAVA.replace("// no comment", "// a comment")),
        (JAVA, JAVA.replace("a + b", "a - b")),
        ("# only this", "# only that"),
        ("", ""),
    ],
)
def test_other_code_is_not_the_same(one, other):
    assert not same_code(one, other)


def test_a_string_keeps_what_looks_like_a_comment():
    assert '"# no comment"' in without_comments(PYTHON)
    assert "floor" not in without_comments(PYTHON)
    assert '"// no comment"' in without_comments(JAVA)
    assert "two" not in without_comments(JAVA)


def test_a_revision_is_like_and_another_function_is_not():
    lines = [f"    total_{n} = step(values[{n}], total_{n - 1})" for n in range(1, 30)]
    old = "def run(values):\n    total_0 = 0\n" + "\n".join(lines)
    new = old.replace("def run(values):", "def run(values: list[int]) -> int:")
    new = new.replace("total_7 ", "subtotal ").replace("total_7)", "subtotal)")
    assert code_likeness(old, new) > PROPOSED_FROM
    assert code_likeness(old, PYTHON) < 0.1
    assert code_likeness("a b", "a b") == 0.0
