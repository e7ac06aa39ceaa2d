"""What is read from the text of tests: how they assert, and which edge cases they try."""

import pytest

from evaluator.metrics.assertions import EDGE_CASES, assertion_quality, edge_cases


def test_assertions_are_counted_in_all_their_forms():
    found = assertion_quality("""
import pytest
def check(x): assert f(x) == 1
def test_plain():
    assert f(1) == 2
    assert f(2) == 3
def test_helper(): check(1)
def test_raises():
    with pytest.raises(ValueError): f(-1)
def test_nothing(): f(1)
class TestOld:
    def test_method(self): self.assertEqual(f(1), 2)
""")
    assert (found.n_tests, found.n_assertions) == (5, 5)
    assert found.per_test == 1.0
    assert found.without_assertion == ("test_nothing",)
    assert found.as_metrics()["tests_without_assertion"] == 1


def test_bare_asserts_count_as_tests():
    found = assertion_quality("assert f(1) == 2\nassert f(2) == 3")
    assert (found.n_tests, found.n_assertions, found.without_assertion) == (2, 2, ())


@pytest.mark.parametrize(
    "assertion",
    [
        "assert True",
        "assert 1",
        "assert x == x",
        "assert (f(1) == 2, 'message')",
        "assert f(1) == 2 or True",
        "self.assertTrue(True)",
        "self.assertEqual(x, x)",
    ],
)
def test_tautologies(assertion):
    assert assertion_quality(f"def test_a(self):\n    {assertion}").tautologies == (2,)


@pytest.mark.parametrize(
    "assertion",
    ["assert f(1) == f(1)", "assert x == y", "assert f(1)", "assert False", "assert x != x"],
)
def test_what_can_fail_is_no_tautology(assertion):
    assert assertion_quality(f"def test_a():\n    {assertion}").tautologies == ()


def test_handlers_that_swallow_everything():
    text = """
def test_a():
    try: f(1)
    except: pass
def test_b():
    try: f(1)
    except Exception: print("ignored")
def test_c():
    try: f(1)
    except ValueError: pass
def test_d():
    try: f(1)
    except Exception as error: assert "x" in str(error)
def test_e():
    try: f(1)
    except Exception: raise
"""
    assert assertion_quality(text).bare_excepts == (4, 7)


def test_tests_that_look_at_types_only():
    text = """
def test_a(): assert isinstance(f(1), int)
def test_b(): assert f(1) is not None and type(f(1)) is int
def test_c():
    assert isinstance(f(1), int)
    assert f(1) == 2
def test_d(): assert f(1) is None
def test_e(self): self.assertIsInstance(f(1), int)
"""
    assert assertion_quality(text).types_only == ("test_a", "test_b", "test_e")


def test_text_that_is_not_python_has_no_assertions():
    assert assertion_quality(">>> f(1)\n2") is None
    assert edge_cases(">>> f(0)\n2") == []
    assert assertion_quality("x = 1").per_test is None


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ("''", "empty"),
        ("[]", "empty"),
        ("{}", "empty"),
        ("set()", "empty"),
        ("0", "zero"),
        ("[1, 0.0]", "zero"),
        ("-3", "negative"),
        ("[-1.5]", "negative"),
        ("None", "none_or_invalid_type"),
        ("10**9", "large"),
        ("5000000", "large"),
        ("'a' * 1000", "large"),
        ("list(range(1000))", "large"),
        ("'é'", "unicode"),
        ("float('inf')", "boundary"),
        ("sys.maxsize", "boundary"),
        ("x=''", "empty"),
    ],
)
def test_edge_cases_among_the_arguments(arguments, kind):
    assert kind in EDGE_CASES
    assert edge_cases(f"def test_a(): assert f({arguments}) == 7", "f") == [kind]


def test_a_type_error_expected_is_an_invalid_type_tried():
    text = "def test_a():\n    with pytest.raises((TypeError, KeyError)): f('q')"
    assert edge_cases(text, "f") == ["none_or_invalid_type", "raises"]


def test_text_nested_too_deep_is_not_looked_through():
    text = "assert " + "not " * 3000 + "f(1)"
    assert assertion_quality(text) is None
    assert edge_cases(text, "f") == []


def test_neighbours_are_a_boundary():
    assert edge_cases("assert f(17) == 1\nassert f(18) == 2", "f") == ["boundary"]
    assert edge_cases("assert f(17) == 1\nassert f(19) == 2", "f") == []


def test_with_the_code_only_its_own_numbers_are_boundaries():
    code = "def f(age):\n    return age >= 18 or age == -5"
    assert edge_cases("assert f(17) == 1\nassert f(18) == 2", "f", code) == ["boundary"]
    assert edge_cases("assert f(-4) == 1\nassert f(-5) == 2", "f", code) == ["boundary", "negative"]
    assert edge_cases("assert f(30) == 1\nassert f(31) == 2", "f", code) == []
    assert edge_cases("assert f(18) == 1\nassert f(31) == 2", "f", code) == []


def test_what_is_expected_back_is_no_edge_case():
    assert edge_cases("assert f(3) == []\nassert f(6, 9) is None\nassert g(0) == ''", "f") == []


def test_parameters_and_variables_are_followed():
    text = """
@pytest.mark.parametrize("text, want", [("", 5), pytest.param("é", 0), ("abc", None)])
def test_a(text, want): assert f(text) == want
def test_b():
    numbers = [-1]
    unused = 0
    assert f(numbers) == 3
def test_c():
    with pytest.raises(ValueError): f("q")
"""
    assert edge_cases(text, "f") == ["empty", "negative", "raises", "unicode"]


def test_tables_loops_and_spread_arguments_are_followed():
    text = """
TABLE = [((17, ""), []), ((18, "x"), None)]
@pytest.mark.parametrize("arguments, want", TABLE)
def test_a(arguments, want): assert f(*arguments) == want
def test_b():
    for given, want in [(-1, 0), ("é", None)]:
        assert f(given) == want
"""
    assert edge_cases(text, "f") == ["boundary", "empty", "negative", "unicode"]
