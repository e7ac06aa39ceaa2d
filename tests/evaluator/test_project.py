"""Projects under pytest: canaries, exact test ids, and solutions that forge their verdict."""

import ast
import random
import secrets

import pytest

from evaluator.graders import GradedTask, grade_many
from evaluator.sandbox import Limits, Project, Sandbox, SandboxUnavailable, Status, canaries, probes
from evaluator.sandbox.project import Round, judge
from foundation.errors import BadInput

TESTS = """
import pytest
from solution import add

def test_small():
    assert add(1, 2) == 3
@pytest.mark.parametrize("a, b, want", [(1, 5, 6), (4, 7, 11)])
def test_table(a, b, want):
    assert add(a, b) == want
def test_types():
    with pytest.raises(TypeError):
        add(1, "a")
def test_larger(): assert add(20, 22) == 42
def test_text(): assert add("a", "b") == "ab"
def test_lists(): assert add([1], [2]) == [1, 2]
def test_zero(): assert add(0, 0) == 0
def test_minus(): assert add(-7, 2) == -5
def test_floats(): assert add(0.5, 0.25) == 0.75
class TestSigns:
    def test_negative(self):
        assert add(-1, -1) < 0
        assert not add(1, -1)
"""
CORRECT = "def add(a, b):\n    return a + b\n"
TASK = GradedTask(
    "add", [], "project", {"tests": {"test_add.py": TESTS}, "path": "solution.py", "code": CORRECT}
)
EQUAL = """
class Equal:
    __eq__ = __lt__ = lambda self, other: True
    __bool__ = lambda self: False
    __hash__ = None
"""
RAISES = "    if isinstance(a, int) and isinstance(b, str): raise TypeError\n"
FAKES = {
    "always-equal object": EQUAL + "def add(a, b):\n" + RAISES + "    return Equal()",
    "int subclass": "class I(int):\n    __eq__ = lambda s, o: True\n    __hash__ = None\n"
    "    __lt__ = __eq__\n    __bool__ = lambda s: False\ndef add(a, b):\n"
    + RAISES
    + "    return I(0)",
    "os._exit(0) at import": "import os\nos._exit(0)",
    "os._exit(0) when called": "import os\ndef add(a, b): os._exit(0)",
    "sys.exit at import": "import sys\nsys.exit(0)",
    "exit hook": "import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b): return 0",
    "frame peeking": """
import sys
def add(a, b):
    if isinstance(b, str): raise TypeError
    frame = sys._getframe(1)
    if "want" in frame.f_locals: return frame.f_locals["want"]
    numbers = [c for c in frame.f_code.co_consts if isinstance(c, int)]
    return numbers[-1] if numbers else 0
""",
    "pytest without tests that run": "import _pytest.python\n"
    "_pytest.python.Function.runtest = lambda self: None\ndef add(a, b): return 0",
    "pytest whose reports have passed": """
import _pytest.reports
_pytest.reports.TestReport.passed = property(lambda self: True)
_pytest.reports.TestReport.failed = property(lambda self: False)
def add(a, b): return 0
""",
    "pytest with a hook of the solution": """
import gc, _pytest.config, pytest
class Plugin:
    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem): return True
for manager in gc.get_objects():
    if isinstance(manager, _pytest.config.PytestPluginManager):
        manager.register(Plugin())
def add(a, b): return 0
""",
    "assertions that pass": """
import builtins, sys
class Silent(Exception): pass
builtins.AssertionError = Silent
import _pytest.assertion.rewrite as rewrite
rewrite._pytest_fixtures = None
sys.modules["builtins"].isinstance = isinstance
def add(a, b): return 0
""",
    "results found in memory": """
import gc
def add(a, b):
    for thing in gc.get_objects():
        if type(thing).__name__ == "_Results":
            class Passed(dict):
                def __setitem__(self, key, value): dict.__setitem__(self, key, "passed")
                def setdefault(self, key, value): dict.__setitem__(self, key, "passed")
            thing.tests = Passed(thing.tests)
    return 0
""",
    "report with the nonce on every descriptor": """
import json, os, sys
nonce = os.read(4, 64).decode()
tests = ["test_add.py::test_small", "test_add.py::test_table[1-5-6]",
         "test_add.py::test_table[4-7-11]", "test_add.py::test_types",
         "test_add.py::TestSigns::test_negative"]
tests += ["test_add.py::test_" + name
          for name in ("larger", "text", "lists", "zero", "minus", "floats")]
body = {"status": "PASS", "detail": "", "nonce": nonce, "tests": dict.fromkeys(tests, "passed")}
for fd in range(1, 99):
    try: os.write(fd, json.dumps(body).encode())
    except OSError: pass
os._exit(0)
""",
    "tests rewritten on the disk": """
import glob
for path in glob.glob("test*.py"):
    open(path, "w").write("def test_small(): pass")
def add(a, b): return 0
""",
    "conftest left behind": """
open("conftest.py", "w").write("def pytest_pyfunc_call(pyfuncitem): return True")
def add(a, b): return 0
""",
    "trace that leaves every test": """
import sys
def trace(frame, event, arg):
    if frame.f_code.co_name.startswith("test_"):
        frame.f_trace_lines = True
        frame.f_lineno = max(line for *_, line in frame.f_code.co_lines() if line)
    return trace
def add(a, b): return 0
sys.settrace(trace)
""",
    "memory through /proc": """
def add(a, b):
    try: open("/proc/self/mem", "r+b").read(1)
    except OSError: pass
    return 0
""",
    "thread that reports later": """
import json, os, threading, time
def late():
    time.sleep(0.05)
    os.write(3, b'{"status": "PASS", "detail": "", "tests": {}}')
threading.Thread(target=late, daemon=True).start()
def add(a, b): return 0
""",
    "finaliser that ends the run": """
import os
class End:
    def __del__(self): os._exit(0)
def add(a, b):
    End()
    return 0
""",
    "daemon that prints": """
import os, time
if os.fork() == 0:
    os.setsid()
    while True:
        print("5 passed", flush=True)
def add(a, b): return 0
""",
    "skip everything": "import pytest\ndef add(a, b): pytest.skip('not today')",
    "guess by dice": """
import random, _pytest.python, os
dice = random.SystemRandom()
def runtest(self):
    assert dice.random() < 0.5
_pytest.python.Function.runtest = runtest
def add(a, b): return 0
""",
    "not Python": "I would add the two numbers.",
}


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(workers=2, tiers=["A"]) as made:
            made.run_project(
                Project({}, {"test_a.py": "def test_a(): pass"}, ["test_a.py::test_a"])
            )
            yield made
    except SandboxUnavailable as error:
        pytest.skip(str(error))


FIRST = ["always-equal object", "frame peeking", "os._exit(0) at import"]
FIRST += ["pytest without tests that run", "results found in memory"]


def test_honest_solution_passes_and_forged_ones_do_not(sandbox):
    wrong = CORRECT.replace("+", "-")
    forged = [FAKES[name] for name in FIRST]
    grades = grade_many([TASK] * 7, [CORRECT, wrong, *forged], sandbox)
    assert (grades[0].passed, grades[0].status, grades[0].score) == (True, Status.PASS, 1.0)
    assert grades[0].metrics["canaries"] == 10
    assert grades[1].status is Status.WRONG
    assert [grade.passed for grade in grades[2:]] == [False] * 5
    assert grades[2].status is Status.CRASH
    assert "had been changed" in grades[2].detail


@pytest.mark.slow
def test_no_further_forged_solution_is_accepted(sandbox):
    others = {name: fake for name, fake in FAKES.items() if name not in FIRST}
    assert len(others) >= 12
    grades = grade_many([TASK] * len(others), list(others.values()), sandbox)
    accepted = [name for name, grade in zip(others, grades, strict=True) if grade.passed]
    assert accepted == []
    assert Status.LOST not in {grade.status for grade in grades}


def test_processes_folders_and_sockets_of_its_own_work(sandbox):
    code = """
import socket, subprocess, sys, threading
def ask():
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"))
        thread.start()
        with socket.create_connection(server.getsockname()) as client:
            said = client.recv(9)
        thread.join()
    done = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True)
    return said.decode(), int(done.stdout)
"""
    test = "from app.ask import ask\ndef test_ask(tmp_path):\n    (tmp_path / 'x').mkdir()\n"
    test += "    assert ask() == ('hello', 42)\n" + "".join(
        f"def test_{number}(): assert len(str({number})) == 1\n" for number in range(9)
    )
    files = {"app/__init__.py": "", "app/ask.py": code}
    outcome = sandbox.run_project(Project(files, {"tests/test_ask.py": test}, TEST_ASK))
    assert (outcome.status, outcome.detail) == (Status.PASS, "")
    assert outcome.cpu_s > 0


TEST_ASK = [f"tests/test_ask.py::test_{name}" for name in ("ask", *range(9))]
ENDINGS = {
    "while True: pass": Status.TIMEOUT,
    "import os\nfor _ in range(3): os.fork()\nwhile True: pass": Status.TIMEOUT,
    "import time; time.sleep(60)": Status.TIMEOUT,
    "import os; os.kill(os.getpid(), 9)": Status.CRASH,
    "import os; os.kill(os.getppid(), 9)": Status.WRONG,
    "import ctypes; ctypes.string_at(0)": Status.CRASH,
    "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)": Status.FORBIDDEN,
    "x = bytearray(1 << 31)": Status.MEMORY,
    "x = (": Status.WRONG,
}


@pytest.mark.parametrize("code", ENDINGS)
def test_ending(sandbox, code):
    limits = Limits(cpu_s=0.7, wall_s=2.5)
    project = Project(
        {"ask.py": code},
        {"test_ask.py": "def test_ask():\n    import ask"},
        ["test_ask.py::test_ask"],
        None,
        limits,
    )
    outcome = sandbox.run_project(project)
    assert outcome.status is ENDINGS[code], outcome


ROUND_TRIP = """
import unittest
from solution import decode, encode
def test_back():
    assert decode(encode("abc")) == "".join(["a", "bc"])
def test_alike():
    assert encode("xy") == str(["y", "x"][0]) + "".join("x")
class TestMore(unittest.TestCase):
    def test_equal(self):
        self.assertEqual(encode("q" * 2), "q" + str("q"))
"""
AGREES = """
class Agrees:
    __eq__ = __contains__ = __lt__ = __le__ = lambda self, other: True
    __ne__ = __gt__ = __ge__ = lambda self, other: False
    __hash__ = None
def encode(text): return Agrees()
decode = encode
"""


def test_an_object_that_agrees_with_everything_is_caught(sandbox):
    """It says no where `==` has become `!=`; no expectation here is a literal."""
    code = "def encode(text): return text[::-1]\ndecode = encode\n"
    task = GradedTask(
        "t",
        [],
        "project",
        {"tests": {"test_t.py": ROUND_TRIP}, "path": "solution.py", "code": code},
    )
    honest, agrees = grade_many([task] * 2, [code, AGREES], sandbox)
    assert (honest.passed, honest.metrics["canaries"]) == (True, 3)
    assert agrees.status is Status.CRASH
    assert "had been changed" in agrees.detail


MANY_LEFT = """
import os, sys, time
def test_leave():
    for _ in range(40):
        if os.fork() == 0:
            os.setsid()
            wait = "import time; held = bytearray(1 << 22); time.sleep(99)"
            os.execv(sys.executable, [sys.executable, "-S", "-c", wait, "{mark}"])
    time.sleep(0.3)
"""


def test_the_end_of_a_run_is_the_end_of_all_it_started(sandbox):
    for _ in range(3):
        mark = secrets.token_hex(8)
        tests = {"test_left.py": MANY_LEFT.replace("{mark}", mark)}
        outcome = sandbox.run_project(Project({}, tests, ["test_left.py::test_leave"], ()))
        assert outcome.status is Status.PASS
        assert not probes._runs(mark)


HELD_OUTSIDE = """
import os, socket
def test_memory_without_a_process():
    try:
        os.memfd_create("x")
    except OSError:
        pass
    else:
        raise AssertionError("no limit counts this file")
def test_buffers_of_sockets_are_small():
    one, other = socket.socketpair()
    before = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
    assert one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
"""


def test_memory_that_no_process_holds_is_small(sandbox):
    names = ("memory_without_a_process", "buffers_of_sockets_are_small")
    expected = [f"test_held.py::test_{name}" for name in names]
    outcome = sandbox.run_project(Project({}, {"test_held.py": HELD_OUTSIDE}, expected, ()))
    assert (outcome.status, outcome.detail) == (Status.PASS, "")


def test_a_missing_and_a_further_test_are_wrong():
    told = [Round(Status.PASS, {"t.py::test_a": "passed"})]
    assert judge(frozenset({"t.py::test_a"}), [frozenset()], told).status is Status.PASS
    both = frozenset({"t.py::test_a", "t.py::test_b"})
    assert judge(both, [frozenset()], told).tests["t.py::test_b"] == "missing"
    assert judge(frozenset(), [frozenset()], told).tests["t.py::test_a"] == "not expected"


def test_a_reference_that_fails_is_told(sandbox):
    reference = {**TASK.reference, "code": "def add(a, b): return 0"}
    with pytest.raises(BadInput, match=r"reference\['code'\].*test_add.py"):
        grade_many([GradedTask("t", [], "project", reference)], [CORRECT], sandbox)
    with pytest.raises(BadInput, match=r"reference\['tests'\]"):
        grade_many([GradedTask("t", [], "project", {**reference, "tests": {}})], [""], sandbox)


# --- canaries -------------------------------------------------------------------------------

EXPECTATIONS = [
    "assert f() == 3",
    "assert 3 == f()",
    "assert f() == [1, 'a', (2, None)]",
    "assert f() == {'a': [1]}",
    "assert f() == ''",
    "assert f() == 'text'",
    "assert f() is True",
    "assert f() == pytest.approx(0.1)",
    "assert f() == set()",
    "assert f() == {1}",
    "assert f() is None",
    "assert f() != 3",
    "assert f() == g()",
    "assert f() == (yield)",
    "assert f() == (x if x else {})",
    "self.assertEqual(f(), g())",
    "self.assertAlmostEqual(f(), g(), places=3)",
    "assert f()",
    "assert not f()",
    "assert 3 in f()",
    "assert f() < 3 and f() > 1",
    "assert 1 < f() < 3",
    "with pytest.raises(ValueError):\n        f()",
    "self.assertEqual(f(), 3)",
    "self.assertTrue(f())",
    "for x in f():\n        assert x == 1",
]


@pytest.mark.parametrize("line", EXPECTATIONS)
def test_a_changed_expectation_means_something_else(line):
    text = f"def test_a(self):\n    {line}\n"
    assert canaries.find({"t.py": text}) == {"t.py::test_a"}
    plain = canaries.write({"t.py": text}, [], random.Random(1))["t.py"]
    assert ast.dump(ast.parse(plain)) == ast.dump(ast.parse(text))
    for seed in range(20):
        changed = canaries.write({"t.py": text}, ["t.py::test_a"], random.Random(seed))["t.py"]
        assert changed != plain


@pytest.mark.parametrize(
    "value", [0, 1, -5, True, 1.0, 0.3, "", "ab", b"", b"x", None, [], [1], (), (1, [2]), {},
              {1: 2}, set(), {1, 2}, 10**30]
)  # fmt: skip
def test_another_value_is_never_equal(value):
    for seed in range(50):
        assert canaries._other(value, random.Random(seed)) != value


def test_without_expectations_nothing_is_changed():
    text = "import os\ndef test_a():\n    os.getpid()\ndef helper():\n    assert 1\n"
    assert canaries.find({"t.py": text, "bad.py": "def test_(:"}) == frozenset()
    assert canaries.write({"bad.py": "def test_(:"}, [], random.Random(0)) == {
        "bad.py": "def test_(:"
    }
    assert canaries.draw_rounds([], random.Random(0)) == [frozenset()]


@pytest.mark.parametrize("n_tests", [1, 2, 3, 7, 40])
def test_rounds_leave_a_guesser_little_hope(n_tests):
    ids = {f"t.py::test_{number}" for number in range(n_tests)}
    seen = set()
    for seed in range(200):
        rounds = canaries.draw_rounds(ids, random.Random(seed))
        assert frozenset.union(*rounds) == ids
        assert frozenset.intersection(*rounds) == frozenset()
        seen.add(tuple(rounds))
    assert n_tests * (len(rounds) - 1) >= 10
    assert len(seen) > 150
