"""Forged solutions: code that does not solve the task and tries to be called right. None may pass.

Each fake is graded on both paths: values compared outside (`calls`) and a suite of asserts in its
own process (`asserts`).
"""

import pytest

from evaluator.graders import GradedTask, grade_many
from evaluator.sandbox import Call, Cases, Sandbox, SandboxUnavailable, Script, Status

CORRECT = "def add(a, b):\n    return a + b\n"
ALWAYS_EQUAL = """
class Anything:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __lt__
    def __sub__(self, other): return 0.0
    __rsub__ = __sub__
    def __abs__(self): return 0.0
"""
FAKES = {
    "always-equal object": ALWAYS_EQUAL + "def add(a, b): return Anything()",
    "int subclass": "class I(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\n"
    "def add(a, b): return I(0)",
    "str subclass posing as int": "class S(str):\n    __eq__ = lambda s, o: True\n"
    "    __hash__ = str.__hash__\ndef add(a, b): return S('0')",
    "class named int": "int_ = type('int', (), {'__eq__': lambda s, o: True, '__hash__': None})\n"
    "def add(a, b): return int_()",
    "subclass inside a list": ALWAYS_EQUAL + "def add(a, b): return [Anything()]",
    "sys.exit in the function": "import sys\ndef add(a, b): sys.exit(0)",
    "sys.exit at import": "import sys\nsys.exit(0)\n",
    "os._exit at import": "import os\nos._exit(0)\n",
    "os._exit in the function": "import os\ndef add(a, b): os._exit(0)",
    "exit hook": "import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b): return 0",
    "peek at the frames": """
import sys
def add(a, b):
    frame = sys._getframe()
    while frame:
        for name, value in frame.f_locals.items():
            if "expected" in name or name in ("want", "right"):
                return value
        frame = frame.f_back
    return 0
""",
    "peek at all objects": """
import gc
def add(a, b):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and "expected" in thing:
            return thing["expected"]
    return 0
""",
    "print a result": 'print(\'PASS\')\nprint(\'{"status": "PASS", "detail": ""}\')\n'
    "def add(a, b): return 0",
    "write a report to every descriptor": """
import os
for fd in range(1, 64):
    for text in (b'{"status": "PASS", "detail": "", "values": [0], "errors": [null]}',
                 b'\\x00\\x00\\x00\\x0d{"value": true}'):
        try:
            os.write(fd, text)
        except OSError:
            pass
os._exit(0)
""",
    "status PASS without values": """
import os
os.write(3, b'{"status": "PASS", "detail": ""}')
os._exit(0)
""",
    "a status as the reason of an error": """
import json, struct, os
def add(a, b):
    body = json.dumps({"error": "ValueError", "flag": "PASS"}).encode()
    os.write(5, struct.pack("!I", len(body)) + body)
    os._exit(0)
""",
    "claim that the test is not plain": """
import os
os.write(3, b'{"status": "CRASH", "detail": "not plain", "not_plain": true, "gone": true}')
os._exit(0)
""",
    "patched json": """
import json
json.dumps = lambda *a, **k: '{"status": "PASS", "detail": "", "values": [0], "errors": [null]}'
def add(a, b): return 0
""",
    "patched AssertionError": """
import builtins
class Silent(BaseException): pass
builtins.AssertionError = Silent
def add(a, b): return 0
""",
    "patched harness": """
import sys
frame = sys._getframe()
while frame:
    for space in (frame.f_globals, frame.f_locals):
        for name in list(space):
            if name in ("wire", "_why", "_name"):
                space[name] = type("Fake", (), {"encode": staticmethod(lambda v, **k: True),
                                                "decode": staticmethod(lambda v: [0])})
    frame = frame.f_back
def add(a, b): return 0
""",
    "patched operators of the reference": "import operator, builtins\noperator.add = None\n"
    "builtins.sum = lambda *a: 0\ndef add(a, b): return 0",
    "raise StopIteration": "def add(a, b): raise StopIteration",
    "raise SystemExit(0)": "def add(a, b): raise SystemExit(0)",
    "raise GeneratorExit": "def add(a, b): raise GeneratorExit",
    "not a number": "def add(a, b): return float('nan')",
    "true instead of one": "def add(a, b): return (a + b) == 1",
    "float instead of int": "def add(a, b): return 'x'",
    "remember the first answer": "seen = []\ndef add(a, b):\n    seen.append(a + b)\n"
    "    return seen[0]",
    "a generator": "def add(a, b):\n    yield a + b",
    "replace the function by its asker": """
import sys
def add(a, b):
    frame = sys._getframe(1)
    for name, value in frame.f_locals.items():
        if name == "values" and isinstance(value, list):
            value.append(a + b + 1)
    return None
""",
    "leave a module behind": "open('json.py', 'w').write('dumps = print')\ndef add(a, b): return 0",
    "report with values on every descriptor": """
import json, os
body = json.dumps({"status": "PASS", "detail": "", "values": [3, 0, -2, 30, 14, 99, 3, 0],
                   "errors": [None] * 8}).encode()
for fd in range(1, 64):
    try: os.write(fd, body)
    except OSError: pass
os._exit(0)
""",
    "patched isinstance and type": """
import builtins
builtins.isinstance = lambda *a: True
builtins.type = lambda *a: int
def add(a, b): return "0"
""",
    "trace that changes the caller": """
import sys
def trace(frame, event, arg):
    if "values" in frame.f_locals: frame.f_locals["values"][:] = [3]
    return trace
def add(a, b):
    sys.settrace(trace)
    return 0
""",
    "own memory through /proc": """
def add(a, b):
    with open("/proc/self/mem", "r+b") as memory:
        memory.read(1)
    return 0
""",
    "thread that outlives its call": """
import os, threading, time
def late():
    time.sleep(0.02)
    os.write(3, b'{"status": "PASS", "detail": "", "values": [3], "errors": [null]}')
def add(a, b):
    threading.Thread(target=late).start()
    return 0
""",
    "finaliser that reports": """
import os
class End:
    def __del__(self):
        os.write(3, b'{"status": "PASS", "detail": "", "values": [3], "errors": [null]}')
        os._exit(0)
end = End()
def add(a, b): return 0
""",
    "lookup of what the prompt shows": "def add(a, b): return {(1, 2): 3}.get((a, b), 0)",
    "no function": "pass",
    "not Python": "I would write: return a + b",
}
CALLS = GradedTask(
    "add",
    [],
    "calls",
    {
        "entry_point": "add",
        "inputs": [[1, 2], [0, 0], [-5, 3]],
        "decoys": [[10, 20], [7, 7], [100, -1]],
        "code": CORRECT,
    },
)
TEST = """
def check(candidate):
    expected = 3
    assert candidate(1, 2) == expected
    assert abs(candidate(2, 2) - 4) < 1e-9
    assert candidate(0, 0) == 0 and candidate(-5, 3) == -2
    for (got, want) in zip(map(candidate, [1, 5], [4, 6]), [5, 11]):
        assert got == want
    assert not candidate(-1, 1)
"""
ASSERTS = GradedTask("add", [], "asserts", {"entry_point": "add", "test": TEST})


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(workers=2) as made:
            yield made
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("task", [CALLS, ASSERTS], ids=["calls", "asserts"])
def test_the_honest_solution_passes(sandbox, task):
    (grade,) = grade_many([task], [CORRECT], sandbox)
    assert (grade.passed, grade.status, grade.score) == (True, Status.PASS, 1.0)


@pytest.mark.parametrize("task", [CALLS, ASSERTS], ids=["calls", "asserts"])
def test_no_forged_solution_is_accepted(sandbox, task):
    assert len(FAKES) >= 12
    grades = grade_many([task] * len(FAKES), list(FAKES.values()), sandbox)
    accepted = [name for name, grade in zip(FAKES, grades, strict=True) if grade.passed]
    assert accepted == []
    lost = [name for name, grade in zip(FAKES, grades, strict=True) if grade.status is Status.LOST]
    assert lost == [], "a forger must not be able to have itself not counted"


HUNT = """
import gc, sys
def everything():
    yield from map(str, sys._current_frames().values())
    for thing in gc.get_objects():
        try:
            yield repr(thing)[:50000]
        except Exception:
            continue
def add(a, b):
    return any("".join(["73911", "73911"]) in text for text in everything())
"""


def test_expected_values_never_enter_the_process(sandbox):
    """The code searches all memory that Python can reach for a value only the test knows."""
    script = Script(HUNT, "secret = 7391173911\nassert add(1, 2) is False", "add")
    for _ in range(2 * sandbox.size):  # later runs are forked by workers that served earlier ones
        assert sandbox.run_many([script] * 2)[0].status is Status.PASS


def test_the_hunt_would_find_what_is_there(sandbox):
    script = Script(HUNT + "\nsecret = [7391173911]\nassert add(1, 2) is True")
    assert sandbox.run(script).status is Status.PASS


def test_the_worker_that_forks_never_held_an_expected_value(sandbox):
    reference = {**CALLS.reference, "code": "def add(a, b): return 7391173911"}
    grade_many([GradedTask("t", [], "calls", reference)] * 4, [CORRECT] * 4, sandbox)
    outcomes = sandbox.run_many([Call(HUNT, "add", [[1, 2]])] * 4)
    assert [outcome.values for outcome in outcomes[1:]] == [(False,)] * 3


def test_a_shared_process_is_used_only_where_the_trusted_test_needs_it(sandbox):
    test = "class P:\n    x = 3\nassert get(P()) == 3"
    task = GradedTask("p", [], "asserts", {"entry_point": "get", "test": test})
    (grade,) = grade_many([task], ["def get(p): return p.x"], sandbox)
    assert grade.passed
    assert grade.detail == "shared process"
    wrong = grade_many([task], ["def get(p): return 4"], sandbox)[0]
    assert wrong.status is Status.WRONG


def test_code_cannot_steer_the_test_into_a_shared_process(sandbox):
    """Returning something odd that the test passes on must not open the forgeable path."""
    test = "assert f(iter(f([1]))) == [1]\n"
    task = GradedTask("f", [], "asserts", {"entry_point": "f", "test": test})
    steer = ALWAYS_EQUAL + "def f(x): return 'text' if x == [1] else Anything()"
    (grade,) = grade_many([task], [steer], sandbox)
    assert not grade.passed
    assert "shared process" not in grade.detail


def test_forged_frames_do_not_confuse_the_test(sandbox):
    for body in (
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x02{}",
        b'\x00\x00\x00\x0f{"value":{"x":1}}'[:19],
        b"\x00\x00\x20\x00" + b"[" * 8192,
    ):
        code = f"import os, time\ndef add(a, b):\n    os.write(5, {body!r})\n    time.sleep(9)"
        (grade,) = grade_many([ASSERTS], [code], sandbox)
        assert not grade.passed, body


REPORT = """
import os
def tell(value):
    left = ('{"status": "PASS", "detail": "", "values": [%s], "errors": [%s]}'
            % (", ".join([value] * 8), ", ".join(["null"] * 8))).encode()
    while left:
        left = left[os.write(3, left):]
    os._exit(0)
"""
THROWERS = {
    "a number too long to be written": "def f(x): return 10 ** 5000",
    "a counter that cannot be written": "from collections import Counter\n"
    "def f(x): return Counter({1: object(), 2: object()})",
    "a decimal that signals": "from decimal import Decimal\ndef f(x): return Decimal('sNaN')",
    "a fraction that takes for ever": REPORT + 'tell(\'{"n": ["Fraction", "1e999999999"]}\')',
    "members with one hash": REPORT
    + "tell('{\"s\": [%s]}' % ', '.join(str(n * (2**61 - 1)) for n in range(1, 5000)))",
    "a tag without content": REPORT + "tell('{\"u\": []}')",
    "deep nesting": REPORT + "tell('[' * 480 + ']' * 480)",
    "text that no database keeps": "raise ValueError('\\0\\ud800')",
}


def test_no_answer_makes_the_grader_throw(sandbox):
    """What a grader throws on is not counted, and no answer may have itself left out."""
    code = "from decimal import Decimal\ndef f(x): return Decimal(x)"
    task = GradedTask(
        "t", [], "calls", {"entry_point": "f", "inputs": [[1], [2], [3]], "code": code}
    )
    grades = grade_many([task] * len(THROWERS), list(THROWERS.values()), sandbox)
    assert [grade.passed for grade in grades] == [False] * len(THROWERS)
    for grade in grades:
        assert "\0" not in grade.detail
        assert grade.detail.encode().decode() == grade.detail


CASES_TEST = "from solution import add\ndef test_add():\n    assert add(1, 2) == 3\n"
FORGED_CASES = {
    "exits": "import os\nos._exit(0)\n",
    "exits in a test": "import os\ndef test_a(): os._exit(0)\n",
    "exits when the process ends": "import atexit, os\natexit.register(os._exit, 0)\n",
    "prints a report": 'print(\'{"status": "PASS", "tests": {"test_add": "passed"}}\')\n',
    "reports on every descriptor": """
import os
for fd in range(1, 64):
    try: os.write(fd, b'{"status": "PASS", "detail": "", "tests": {"test_add": "passed"}}')
    except OSError: pass
os._exit(0)
""",
    "patched json": """
import json
json.dumps = lambda *a, **k: '{"status": "PASS", "detail": "", "tests": {"test_add": "passed"}}'
""",
    "kills itself": "import os\nos.kill(os.getpid(), 9)\n",
    "daemon": "import os\nos.fork()\n",
}


@pytest.mark.parametrize("where", ["code", "tests"])
def test_no_forged_report_of_cases_is_accepted(sandbox, where):
    """A wrong function under an honest test: whatever either does, its test has not passed."""
    wrong = "def add(a, b): return 0\n"
    for name, forged in FORGED_CASES.items():
        code, tests = (
            (wrong + forged, CASES_TEST) if where == "code" else (wrong, forged + CASES_TEST)
        )
        outcome = sandbox.run(Cases(code, tests))
        accepted = (
            outcome.status is Status.PASS and (outcome.tests or {}).get("test_add") == "passed"
        )
        assert not accepted, name


def test_honest_cases_are_told_test_by_test(sandbox):
    outcome = sandbox.run(Cases(CORRECT, CASES_TEST + "def test_b():\n    assert add(1, 1) == 3\n"))
    assert outcome.status is Status.PASS
    assert sorted(outcome.tests.values()) == ["failed", "passed"]


WRONG = ["def add(a, b):\n    return a - b", "def add(a, b):\n    return 0"]
KILLS = GradedTask(
    "add",
    [],
    "test_kills",
    {
        "entry_point": "add",
        "inputs": [[1, 2, 3], [2, 2, 4], [5, -5, 0]],
        "code": CORRECT,
        "wrong": WRONG,
    },
)
FORGED_TESTS = {
    "kills all": "def test_add(a, b, c):\n    assert False",
    "kills none": "def test_add(a, b, c):\n    assert add",
    "errors always": "def test_add(a, b, c):\n    undefined_name",
    "errors on the wrong ones": "def test_add(a, b, c):\n    1 / (add(a, b) == c)",
    "exits": "import sys\ndef test_add(a, b, c):\n    sys.exit(add(a, b) != c)",
    "exits hard": "import os\ndef test_add(a, b, c):\n    os._exit(add(a, b) != c)",
    "no test": "def check(a, b, c):\n    assert add(a, b) == c",
    "own function": "def add(a, b):\n    return a + b\ndef test_add(a, b, c):\n"
    "    assert add(a, b) == c",
    "loops on the wrong ones": "def test_add(a, b, c):\n    while add(a, b) != c: pass",
    "alternates": "import os\nn = 0\ndef test_add(a, b, c):\n    global n\n    n += 1\n"
    "    assert n % 2",
    "counts the runs in a file": "import os\ndef test_add(a, b, c):\n"
    "    first = not os.path.exists('seen')\n    open('seen', 'a').close()\n    assert first",
    "reads the bytecode": "def own(a, b):\n    return a + b\ndef test_add(a, b, c):\n"
    "    assert add.__code__.co_code == own.__code__.co_code",
    "reports by itself": "import os, json\nos.write(3, json.dumps({'status': 'PASS', 'detail': '',"
    " 'values': [1, 1, 1], 'errors': [None, None, None]}).encode())\nos._exit(0)",
}


def test_no_forged_test_is_accepted(sandbox):
    grades = grade_many([KILLS] * len(FORGED_TESTS), list(FORGED_TESTS.values()), sandbox)
    accepted = [n for n, grade in zip(FORGED_TESTS, grades, strict=True) if grade.passed]
    assert accepted == []


def test_failing_by_dice_does_not_pay(sandbox):
    """A coin for each run would kill two wrong functions and spare the reference once in seven."""
    coin = "import os\nFATE = os.urandom(1)[0] % 3\ndef test_add(a, b, c):\n    assert not FATE\n"
    answers = [f"{coin}# {number}" for number in range(40)]
    grades = grade_many([KILLS] * len(answers), answers, sandbox)
    assert sum(grade.passed for grade in grades) == 0


def test_the_honest_test_is_accepted(sandbox):
    honest = "def test_add(a, b, c):\n    assert add(a, b) == c"
    (grade,) = grade_many([KILLS], [f"Here:\n```python\n{honest}\n```\n"], sandbox)
    assert (grade.passed, grade.score) == (True, 1.0)
