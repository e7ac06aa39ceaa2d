"""Running a file of tests inside the sandbox: what is collected, how tests end, what is hidden."""

import random

import pytest

from evaluator.sandbox import Limits, Sandbox, SandboxUnavailable, Status
from evaluator.sandbox.calls import Cases

CODE = """\
def double(x):
    if x < 0:
        raise ValueError("negative")
    total = 0
    for _ in range(2):
        total += x
    return total
"""


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(workers=1, limits=Limits(cpu_s=2.0, wall_s=20.0)) as made:
            yield made
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def outcomes(sandbox, tests, **more):
    outcome = sandbox.run(Cases(CODE, tests, **more))
    assert outcome.status is Status.PASS, outcome
    return outcome.tests


def test_functions_classes_and_test_cases_are_collected(sandbox):
    tests = """
import unittest
from solution import double

def test_function(): assert double(1) == 2
def test_wrong(): assert double(1) == 3
def test_error(): double("a") + 1
def helper_test(): assert False
class TestGroup:
    def setup_method(self): self.seen = [1]
    def test_method(self): assert self.seen == [1]
    @staticmethod
    def test_static(): assert double(2) == 4
class Helper:
    def test_not_collected(self): assert False
class Old(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.base = 3
    def setUp(self): self.number = self.base
    def test_equal(self): self.assertEqual(double(self.number), 6)
    def test_unequal(self): self.assertEqual(double(3), 7)
    def test_raises(self):
        with self.assertRaises(ValueError): double(-1)
    def test_sub(self):
        for n in (1, 2):
            with self.subTest(n=n): self.assertEqual(double(n), 2)
    def test_error(self): {}["a"]
    @unittest.skip("why")
    def test_skipped(self): assert False
"""
    assert outcomes(sandbox, tests) == {
        "test_function": "passed",
        "test_wrong": "failed",
        "test_error": "error:TypeError",
        "TestGroup::test_method": "passed",
        "TestGroup::test_static": "passed",
        "Old::test_equal": "passed",
        "Old::test_unequal": "failed",
        "Old::test_raises": "passed",
        "Old::test_sub": "failed",
        "Old::test_error": "error:KeyError",
        "Old::test_skipped": "skipped",
    }


def test_parameters_have_ids_and_marks(sandbox):
    tests = """
import pytest
@pytest.mark.parametrize("x, want", [(1, 2), (2, 5), pytest.param(-1, 0, id="below"),
                                     pytest.param(0, 1, marks=pytest.mark.skip)])
def test_rows(x, want): assert double(x) == want
@pytest.mark.parametrize("x", [1, 2], ids=["one", "two"])
@pytest.mark.parametrize("y", ["a"])
def test_product(x, y): assert double(x) == 2 * x and double(y) == "aa"
@pytest.mark.parametrize("x", [[1], [2]], ids=lambda value: f"list{value[0]}")
def test_called_ids(x): assert x
@pytest.mark.skipif("1 < 2")
def test_skipped(): assert False
@pytest.mark.xfail
def test_expected(): assert False
"""
    found = outcomes(sandbox, tests)
    assert found == {
        "test_rows[1-2]": "passed",
        "test_rows[2-5]": "failed",
        "test_rows[below]": "error:ValueError",
        "test_rows[0-1]": "skipped",
        "test_product[a-one]": "error:TypeError",
        "test_product[a-two]": "error:TypeError",
        "test_called_ids[list1]": "passed",
        "test_called_ids[list2]": "passed",
        "test_skipped": "skipped",
        "test_expected": "skipped",
    }


def test_fixtures_are_made_and_torn_down(sandbox):
    tests = """
import pytest
log = []
@pytest.fixture
def opened():
    log.append("open"); yield 5; log.append("close")
@pytest.fixture(params=["a", "b"])
def letter(request): return request.param
@pytest.fixture
def both(opened, letter): return (opened, letter)
@pytest.fixture(scope="module")
def costly():
    log.append("costly"); return 1
@pytest.fixture(autouse=True)
def always(): log.append("always")
def test_first(opened, costly): assert opened == 5
def test_second(costly): assert log == ["always", "open", "costly", "close", "always"]
def test_letters(both): assert both[1] in "ab" and both[0] == 5
class TestOwn:
    @pytest.fixture
    def own(self): return 7
    def test_own(self, own): assert own == 7
def test_missing(nowhere): pass
"""
    assert outcomes(sandbox, tests) == {
        "test_first": "passed",
        "test_second": "passed",
        "test_letters[0]": "passed",
        "test_letters[1]": "passed",
        "TestOwn::test_own": "passed",
        "test_missing": "error:LookupError",
    }


def test_real_pytest_objects_and_built_in_fixtures(sandbox):
    tests = """
import os
from unittest import mock
import pytest
import solution
def test_raises():
    with pytest.raises(ValueError, match="neg") as caught: double(-1)
    assert caught.type is ValueError
def test_does_not_raise():
    with pytest.raises(ValueError): double(1)
def test_approx(): assert double(0.1) == pytest.approx(0.2)
def test_files(tmp_path):
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.txt").write_text("x")
def test_files_again(tmp_path):
    assert list(tmp_path.iterdir()) == []
def test_patch(monkeypatch):
    monkeypatch.setattr(solution, "double", lambda x: 0)
    monkeypatch.setenv("A", "1")
    assert solution.double(4) == 0 and os.environ["A"] == "1"
def test_patch_is_undone(): assert solution.double(4) == 8 and "A" not in os.environ
def test_output(capsys):
    print("seen"); assert capsys.readouterr().out == "seen\\n"
def test_fail(): pytest.fail("no")
def test_skip(): pytest.skip("no")
@mock.patch("os.getcwd", return_value="there")
def test_mock(getcwd, tmp_path): assert os.getcwd() == "there" and getcwd.called
class TestMock:
    @mock.patch.object(os, "getcwd")
    def test_method(self, getcwd): assert os.getcwd() is getcwd.return_value
async def test_async(): assert double(1) == 2
"""
    found = outcomes(sandbox, tests)
    assert {name for name, result in found.items() if result != "passed"} == {
        "test_does_not_raise",
        "test_fail",
        "test_skip",
    }
    assert found["test_does_not_raise"] == "failed"
    assert found["test_skip"] == "skipped"


def test_bare_asserts_are_tests_of_their_own_in_place(sandbox):
    tests = "x = double(1)\nassert x == 2\nx = 3\nassert x == 2\nassert y\nassert double(-1)"
    assert outcomes(sandbox, tests) == {
        "assert 1": "passed",
        "assert 2": "failed",
        "assert 3": "error:NameError",
        "assert 4": "error:ValueError",
    }


def test_doctest_examples_are_tests_of_their_own(sandbox):
    tests = """
>>> x = double(2)
>>> x
4

    >>> x
    5
>>> double(-1)
Traceback (most recent call last):
ValueError: negative
>>> double(-1)
1
"""
    assert outcomes(sandbox, tests) == {
        "example 1": "passed",
        "example 2": "passed",
        "example 3": "failed",
        "example 4": "passed",
        "example 5": "error:ValueError",
    }


def test_the_order_follows_the_seed(sandbox):
    tests = "\n".join(f"def test_{number}(): pass" for number in range(6))
    plain = list(outcomes(sandbox, tests))
    shuffled = list(outcomes(sandbox, tests, order_seed=3))
    assert plain == sorted(plain)
    assert shuffled != plain
    assert sorted(shuffled) == plain
    assert list(outcomes(sandbox, tests, order_seed=3)) == shuffled
    two = "def test_a(): pass\ndef test_b(): pass"
    assert {tuple(outcomes(sandbox, two, order_seed=seed)) for seed in range(1, 6)} == {
        ("test_b", "test_a")
    }


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("from elsewhere import double", "ModuleNotFoundError"),
        ("def test_a(:", "SyntaxError"),
        (
            "import pytest\n@pytest.mark.parametrize('a, b', [(1,)])\ndef test_a(a, b): pass",
            "parametrize: 1 values for 2 names",
        ),
        ("import sys\nsys.exit(0)", "SystemExit"),
    ],
)
def test_a_file_that_does_not_load_says_why(sandbox, tests, why):
    outcome = sandbox.run(Cases(CODE, tests))
    assert outcome.status is Status.CRASH
    assert outcome.tests is None
    assert why in outcome.detail


def test_code_that_does_not_load_is_told_from_tests_that_do_not(sandbox):
    outcome = sandbox.run(Cases("1 / 0", "def test_a(): pass"))
    assert "the code does not load: ZeroDivisionError" in outcome.detail


def test_steps_of_the_code_are_covered(sandbox):
    outcome = sandbox.run(Cases(CODE, "def test_a(): double(1)", coverage=True))
    steps = {tuple(step) for step in outcome.covered}
    assert (0, 2) in steps
    assert (2, 4) in steps
    assert (7, -1) in steps
    assert all(end != 3 for _, end in steps)
    assert sandbox.run(Cases(CODE, "def test_a(): double(1)")).covered is None


READERS = {
    "bytecode": "double.__code__.co_code",
    "bytecode by name": "getattr(double, '__co' + 'de__')",
    "bytecode, swallowed": "swallow(lambda: double.__code__)",
    "attrgetter": "__import__('operator').attrgetter('__code__')(double)",
    "members": "dict(__import__('inspect').getmembers(double))",
    "source": "swallow(lambda: __import__('inspect').getsource(double))",
    "disassembler": "__import__('dis').Bytecode(double).dis()",
    "current frame": "__import__('inspect').currentframe().f_back",
    "own generator": "(_ for _ in ()).gi_frame",
    "tracing": "__import__('sys').settrace(print)",
    "heap": "__import__('gc').get_objects()",
    "referrers": "__import__('gc').get_referrers(double)",
    "frames": "__import__('sys')._getframe()",
    "traceback": "frame_of(double).f_code",
    "profiler": "__import__('cProfile').Profile().runcall(double, 1)",
    "debugger": "__import__('bdb').Bdb().runcall(double, 1)",
    "profile of threads": "in_thread(double)",
    "walk of a traceback": "list(traceback.walk_tb(error_of(double).__traceback__))",
    "walk, asked by the library": "next(heapq.merge(traceback.walk_stack(None)))",
    "frame of logging": "logging.currentframe()",
    "frame of pytest": "pytest.raises(ValueError, double, -1).traceback[-1].frame",
    "frame of a task": "asyncio.run(stack_of_task())",
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_the_code_cannot_be_read(sandbox, reader):
    tests = f"""
import asyncio, heapq, logging, threading, traceback, pytest
def error_of(function):
    try: function(-1)
    except ValueError as error: return error
def in_thread(function):
    threading.setprofile(lambda *_: None)
    threading.Thread(target=function, args=(1,)).start()
async def stack_of_task():
    return asyncio.current_task().get_stack()
def swallow(read):
    try: read()
    except BaseException: pass
def frame_of(function):
    try: function(-1)
    except ValueError as error: return error.__traceback__.tb_next.tb_frame
def test_a(): {reader}
"""
    outcome = sandbox.run(Cases(CODE, tests))
    assert outcome.status is Status.FORBIDDEN
    assert outcome.detail.startswith("the tests read")


MEMORY_READERS = {
    "string at an address": "import ctypes; ctypes.string_at(id(double), 64)",
    "cast": "import _ctypes; _ctypes.Structure",
    "api of Python": "from ctypes import pythonapi",
}


@pytest.mark.parametrize("reader", MEMORY_READERS.values(), ids=MEMORY_READERS.keys())
def test_memory_cannot_be_read(sandbox, reader):
    outcome = sandbox.run(Cases(CODE, f"def test_a():\n    {reader}"))
    assert (outcome.tests or {}).get("test_a") != "passed"


def test_what_honest_tests_ask_is_answered(sandbox):
    tests = """
import inspect, solution, pytest
def test_file(): assert not hasattr(solution, "__file__")
def test_signature_is_allowed(): assert list(inspect.signature(double).parameters) == ["x"]
def test_tracebacks_and_logging_are_allowed():
    import logging, traceback
    try: double(-1)
    except ValueError as error:
        assert "double" in "".join(traceback.format_exception(error))
        logging.getLogger("x").exception("seen")
def test_mocks_are_allowed():
    from unittest import mock
    assert mock.create_autospec(double, return_value=3)(1) == 3
def test_own_code_is_allowed(): assert test_file.__code__
"""
    assert set(outcomes(sandbox, tests).values()) == {"passed"}


def test_runs_do_not_see_each_other(sandbox):
    leave = "def test_a():\n    open('left', 'w').write('x')\n    import random; random.random()"
    look = "import os, random\ndef test_a(): assert not os.path.exists('left')"
    look += f"\ndef test_b(): assert random.random() == {random.Random(0).random()!r}"
    outcomes(sandbox, leave)
    assert set(outcomes(sandbox, look).values()) == {"passed"}


STOPPING = {
    "functions": "def test_a(): assert double(1) == 3\ndef test_b(): assert double(1) == 2\n",
    "asserts": "assert double(1) == 3\nassert double(1) == 2\n",
    "examples": ">>> double(1)\n3\n>>> double(1)\n2\n",
}


@pytest.mark.parametrize("tests", STOPPING.values(), ids=STOPPING)
def test_a_run_may_end_at_the_first_failure(sandbox, tests):
    assert len(outcomes(sandbox, tests)) == 2
    assert list(outcomes(sandbox, tests, first_failure=True).values()) == ["failed"]


def test_what_passes_skips_or_lacks_memory_ends_no_run(sandbox):
    tests = """
import pytest
def test_passes(): assert double(1) == 2
def test_skipped(): pytest.skip()
def test_memory(): raise MemoryError
def test_last(): assert double(1) == 3
"""
    assert list(outcomes(sandbox, tests, first_failure=True)) == list(outcomes(sandbox, tests))
