"""Runs inside the sandbox: the tests of one file over one module of ours, test by test.

A light collector in place of pytest's own, which takes a second to start: functions, classes,
`unittest.TestCase`, `parametrize` with ids, skip and xfail marks, fixtures (yield, params, autouse,
scopes, `request`), of the built-in ones `tmp_path`, `monkeypatch` and `capsys`; bare asserts at the
top of the file, each a test of its own; and text of doctest examples. `pytest.raises`, `approx` and
the rest are pytest's own objects. Standard library and, where the worker could load it, pytest.

The tests are on trial and share the process with the code. They cannot tell which code it is: it
has no file, and reading its bytecode (or a frame's, or the heap's) is refused by an audit hook.
What slips past that hook finds code that was rewritten, see `evaluator.mutation.rewrite`.
"""

import ast
import contextlib
import doctest
import functools
import inspect
import io
import itertools
import os
import random
import re
import shutil
import sys
import types
import unittest
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

_CODE_FILE, _TESTS_FILE = "<code>", "<tests>"
_BARE_ASSERT = re.compile(r"^assert\b", re.M)
_LIBRARY = os.path.dirname(os.__file__)
_CODES = frozenset(("__code__", "f_code", "gi_code", "cr_code", "ag_code"))
_FRAMES = frozenset(("tb_frame", "gi_frame", "cr_frame", "ag_frame"))
_WATCHED = frozenset(
    "object.__getattr__ gc.get_objects gc.get_referrers gc.get_referents sys._getframe "
    "sys._current_frames sys._current_exceptions sys.settrace sys.setprofile ctypes.dlopen "
    "ctypes.dlsym ctypes.string_at ctypes.cdata".split()
)
_READ_MEMORY = (
    *("ctypes", "ctypes._aix", "ctypes._endian", "ctypes.util", "ctypes.wintypes"),
    *("ctypes.macholib", "ctypes.macholib.dyld", "ctypes.macholib.dylib"),
    "ctypes.macholib.framework",
)
_FOR_NOBODY = ("gc.", "sys.settrace", "sys.setprofile", "ctypes.")  # but for doctest
_HAND_OUT_FRAMES = frozenset(
    "walk_tb walk_stack currentframe <lambda> frame _task_get_stack".split()
)
_SIGNATURES = frozenset(
    ("_signature_from_function", "_signature_is_functionlike", "_has_code_flag")
)
_TELL_NAMES_ONLY = (
    "traceback.py",
    "logging/__init__.py",
    "unittest/mock.py",
    "asyncio/coroutines.py",
)
_NO_FAILURE = ("passed", "skipped", "error:MemoryError")
Outcomes = dict[str, str]


class _Refused(Exception):
    """The file cannot be run as a file of tests."""


class _Enough(BaseException):
    """A test has failed, and no more than that was asked."""


class _Record:
    """How the tests ended, by id.

    Args:
        first_failure: raise `_Enough` at the first failure; a lack of memory says little about the
            code, so it is none.
    """

    def __init__(self, first_failure: bool) -> None:
        self.outcomes: Outcomes = {}
        self._first_failure = first_failure

    def note(self, name: str, outcome: str) -> None:
        """Adds the outcome of a test."""
        self.outcomes[name] = outcome
        if self._first_failure and outcome not in _NO_FAILURE:
            raise _Enough


@dataclass(frozen=True)
class Case:
    """One test: its id, and what runs it or raises."""

    id: str
    body: Callable[[], None]


def run(request: dict[str, Any], guard: "_Guard | None" = None) -> dict[str, Any]:
    """Runs the tests.

    Args:
        request: the fields of `evaluator.sandbox.Cases`. `code` is taken out of it, so that no
            frame holds the text while the tests run.
        guard: another one than usual.

    Returns:
        `status`; `detail`; `tests`: passed, failed, skipped or error:ExceptionName by test id; and
        `covered` where `coverage` was asked for: the steps `[line, next line]` taken in the code,
        0 for entering a function or the module and -1 for leaving it.
    """
    steps = _Steps() if request["coverage"] else None
    guard, record = guard or _Guard(), _Record(request["first_failure"])
    try:
        with steps or contextlib.nullcontext():
            space = _load(request["module"], request.pop("code"))
            guard.watch(space)
            with contextlib.suppress(_Enough):
                _run_tests(request, space, record)
    except _Refused as error:
        return {"status": "CRASH", "detail": str(error)}
    if guard.seen:
        return {"status": "FORBIDDEN", "detail": f"the tests read the code by {guard.seen}"}
    covered = sorted(steps.taken) if steps else None
    return {"status": "PASS", "detail": "", "tests": record.outcomes, "covered": covered}


def _load(name: str, code: str) -> dict[str, Any]:
    module = types.ModuleType(name)
    sys.modules[name] = module
    try:
        exec(compile(code, _CODE_FILE, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:  # noqa: B036 - SystemExit too
        raise _Refused(f"the code does not load: {_shown(error)}") from None
    return module.__dict__


def _run_tests(request: Mapping[str, Any], space: dict[str, Any], record: _Record) -> None:
    """Loads the file of tests, which finds the names of the module even without an import."""
    text = request["tests"]
    module = types.ModuleType(f"test_{request['module']}")
    module.__dict__.update((name, item) for name, item in space.items() if name[:2] != "__")
    sys.modules[module.__name__] = module
    if ">>> " in text and not _is_python(text):
        _run_examples(text, module.__dict__, record)
        return
    inherited = dict(module.__dict__)
    try:
        _execute(text, module.__dict__, record)
        own = {
            name: item
            for name, item in module.__dict__.items()
            if name not in inherited or item is not inherited[name]
        }
        cases = _collect(own)
    except (_Refused, _Enough):
        raise
    except BaseException as error:  # noqa: B036
        raise _Refused(f"the tests do not load: {_shown(error)}") from None
    for case in _ordered(cases, request["order_seed"]):
        _empty_folder()
        record.note(case.id, _outcome(case.body))
    _outcome(_Setup.shared.close)


def _ordered(cases: list[Case], seed: int) -> list[Case]:
    """The cases in the order of that seed, which is never the file's but for seed 0."""
    order = list(cases)
    if seed:
        random.Random(seed).shuffle(order)
        if order == cases:
            order.reverse()
    return order


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _execute(text: str, space: dict[str, Any], record: _Record) -> None:
    """Executes the file; its bare asserts are tests `assert 1`, `assert 2`, ..., run in place."""
    if not _BARE_ASSERT.search(text):
        exec(compile(text, _TESTS_FILE, "exec", dont_inherit=True), space)
        return
    for statement in ast.parse(text).body:
        piece = compile(ast.Module([statement], []), _TESTS_FILE, "exec", dont_inherit=True)
        if isinstance(statement, ast.Assert):
            name = f"assert {len(record.outcomes) + 1}"
            record.note(name, _outcome(lambda piece=piece: exec(piece, space)))  # type: ignore[misc]
        else:
            exec(piece, space)


def _outcome(body: Callable[[], None]) -> str:
    """Runs a test and names how it ended."""
    try:
        body()
    except BaseException as error:  # noqa: B036 - SystemExit too
        name = type(error).__name__
        if isinstance(error, unittest.SkipTest) or name in ("Skipped", "XFailed"):
            return "skipped"
        failed = isinstance(error, AssertionError) or name == "Failed"  # pytest.fail, DID NOT RAISE
        return "failed" if failed else f"error:{name[:100]}"
    return "passed"


def _shown(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300].rstrip(": ")
    except BaseException:  # noqa: B036 - hostile __str__
        return type(error).__name__


def _empty_folder() -> None:
    """Leaves the working folder, which `tmp_path` is, as if no test had been there."""
    with os.scandir(".") as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


# --- collecting -----------------------------------------------------------------------------


def _collect(space: Mapping[str, Any]) -> list[Case]:
    """The tests that the file itself defines, in its order, with distinct ids."""
    module_marks = _marks_of(types.SimpleNamespace(pytestmark=space.get("pytestmark", [])))
    fixtures = _fixtures_in(space)
    cases: list[Case] = []
    for name, item in list(space.items()):
        if inspect.isclass(item):
            if issubclass(item, unittest.TestCase):
                cases += _unittest_cases(item)
            elif name.startswith("Test"):
                cases += _class_cases(item, fixtures, module_marks)
        elif name.startswith("test") and inspect.isroutine(item):
            cases += _function_cases(_Test(name, item, None, fixtures, module_marks))
    return _distinct(cases)


def _distinct(cases: Iterable[Case]) -> list[Case]:
    seen: dict[str, int] = {}
    named = []
    for case in cases:
        seen[case.id] = seen.get(case.id, 0) + 1
        again = seen[case.id]
        named.append(case if again == 1 else Case(f"{case.id} ({again})", case.body))
    return named


def _class_cases(kind: type, fixtures: "dict[str, _Fixture]", marks: list[Any]) -> Iterator[Case]:
    own = {name: getattr(kind, name) for name in _names_of(kind)}
    fixtures = fixtures | _fixtures_in(own, bound=True)
    for name, item in own.items():
        if name.startswith("test") and callable(item):
            test = _Test(name, item, kind, fixtures, [*marks, *_marks_of(kind)])
            yield from _function_cases(test)


def _names_of(kind: type) -> list[str]:
    names: dict[str, None] = {}
    for base in reversed(kind.__mro__[:-1]):
        names |= dict.fromkeys(base.__dict__)
    return [name for name in names if not name.startswith("__")]


class _Results(unittest.TestResult):
    """How a method of a TestCase ended."""

    outcome = "passed"

    def _note(self, error: Any) -> None:
        failed = issubclass(error[0], AssertionError)
        self.outcome = "failed" if failed else f"error:{error[0].__name__[:100]}"

    def addError(self, test: Any, err: Any) -> None:
        self._note(err)

    def addFailure(self, test: Any, err: Any) -> None:
        self._note(err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._note(err)

    def addSkip(self, test: Any, reason: str) -> None:
        self.outcome = "skipped"

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self.outcome = "skipped"

    def addUnexpectedSuccess(self, test: Any) -> None:
        self.outcome = "failed"


class _Ended(BaseException):
    """Carries the outcome of a TestCase's method."""


def _unittest_cases(kind: type[unittest.TestCase]) -> Iterator[Case]:
    for name in unittest.TestLoader().getTestCaseNames(kind):

        def body(name: str = name) -> None:
            results = _Results()
            unittest.TestSuite([kind(name)]).run(results)
            _raise_again(results.outcome)

        yield Case(f"{kind.__name__}::{name}", body)


def _raise_again(outcome: str) -> None:
    if outcome == "skipped":
        raise unittest.SkipTest("skipped")
    if outcome == "failed":
        raise AssertionError
    if outcome != "passed":
        raise type(outcome.removeprefix("error:"), (_Ended,), {})


# --- marks and parameters -------------------------------------------------------------------


def _marks_of(item: Any) -> list[Any]:
    marks = getattr(item, "pytestmark", [])
    marks = marks if isinstance(marks, list | tuple) else [marks]
    return [getattr(mark, "mark", mark) for mark in marks]


class _Params(NamedTuple):
    """One set of parameters of a test."""

    id: str
    values: dict[str, Any]
    marks: list[Any]


def _parameters(marks: Iterable[Any]) -> list[_Params]:
    """All combinations of the `parametrize` marks."""
    found = [_Params("", {}, [])]
    for mark in marks:
        if mark.name == "parametrize":
            found = [
                _Params("-".join(filter(None, (one.id, more.id))), one.values | more.values,
                        one.marks + more.marks)
                for more in _parameter_sets(*mark.args, **mark.kwargs)
                for one in found
            ]  # fmt: skip
    return found


def _parameter_sets(
    argnames: Any, argvalues: Iterable[Any], indirect: Any = False, ids: Any = None, **_: Any
) -> list[_Params]:
    names = argnames.split(",") if isinstance(argnames, str) else list(argnames)
    names = [name.strip() for name in names if name.strip()]
    told = list(ids) if ids is not None and not callable(ids) else None
    found = []
    for index, entry in enumerate(argvalues):
        marks = [getattr(mark, "mark", mark) for mark in getattr(entry, "marks", ())]
        is_set = type(entry).__name__ == "ParameterSet"
        values = entry.values if is_set else entry if len(names) > 1 else (entry,)
        if len(values) != len(names):
            raise _Refused(f"parametrize: {len(values)} values for {len(names)} names {names}")
        parts = [_id_of(*pair, index, ids) for pair in zip(names, values, strict=True)]
        name = (entry.id if is_set else None) or (told and told[index]) or "-".join(parts)
        found.append(_Params(str(name), dict(zip(names, values, strict=True)), marks))
    return found


def _id_of(name: str, value: Any, index: int, ids: Any) -> str:
    told = ids(value) if callable(ids) else None
    if told is not None:
        return str(told)
    plain = value is None or type(value) in (str, int, float, bool)
    return str(value)[:60] if plain else f"{name}{index}"


def _should_skip(marks: Iterable[Any], space: Mapping[str, Any]) -> bool:
    for mark in marks:
        if mark.name == "skip":
            return True
        if mark.name == "skipif":
            found = mark.args[0] if mark.args else mark.kwargs.get("condition", True)
            if eval(found, dict(space)) if isinstance(found, str) else found:
                return True
    return False


# --- functions and fixtures -----------------------------------------------------------------


@dataclass(frozen=True)
class _Fixture:
    """A fixture that the file defines."""

    function: Callable[..., Any]
    scope: str
    params: tuple[Any, ...]
    autouse: bool
    bound: bool

    @functools.cached_property
    def needs(self) -> list[str]:
        return _argument_names(self.function)[1 if self.bound else 0 :]


def _fixtures_in(space: Mapping[str, Any], bound: bool = False) -> "dict[str, _Fixture]":
    found = {}
    for name, item in space.items():
        marker = getattr(item, "_fixture_function_marker", None)
        if marker is not None:
            scope = marker.scope if isinstance(marker.scope, str) else "function"
            params = tuple(marker.params or ())
            found[marker.name or name] = _Fixture(
                item._fixture_function, scope, params, bool(marker.autouse), bound
            )
    return found


@dataclass(frozen=True)
class _Test:
    """A test function with what surrounds it."""

    name: str
    function: Callable[..., Any]
    owner: type | None
    fixtures: "dict[str, _Fixture]"
    outer_marks: list[Any]

    @functools.cached_property
    def needs(self) -> list[str]:
        names = _argument_names(self.function)
        static = self.owner is None or isinstance(
            inspect.getattr_static(self.owner, self.name), staticmethod
        )
        return names if static else names[1:]


def _argument_names(function: Callable[..., Any]) -> list[str]:
    """The names of what a function is to be given; mocks of `@patch` come by themselves."""
    if type(function) is types.FunctionType and not hasattr(function, "__wrapped__"):
        code = function.__code__  # a hundred times as quick as a signature
        return list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    names = list(inspect.signature(function).parameters)
    patchings = getattr(function, "patchings", [])
    own = [one for one in patchings if not one.attribute_name and "DEFAULT" in repr(one.new)]
    return names[len(own) :]


def _function_cases(test: _Test) -> Iterator[Case]:
    marks = [*_marks_of(test.function), *test.outer_marks]
    prefix = f"{test.owner.__name__}::" if test.owner else ""
    used = [name for name, fixture in test.fixtures.items() if fixture.autouse]
    used += [name for mark in marks if mark.name == "usefixtures" for name in mark.args]
    for params in _parameters(marks):
        for chosen in _fixture_params(test, [*used, *test.needs], params):
            parts = [params.id, *(str(index) for index, _ in chosen.values())]
            label = "-".join(filter(None, parts))
            values = {name: value for name, (_, value) in chosen.items()}

            def body(params: _Params = params, values: dict[str, Any] = values) -> None:
                _run_function(test, [*marks, *params.marks], used, params.values, values)

            yield Case(f"{prefix}{test.name}" + (f"[{label}]" if label else ""), body)


def _fixture_params(
    test: _Test, used: Iterable[str], params: _Params
) -> Iterator[dict[str, tuple[int, Any]]]:
    """All combinations of the params of the fixtures that a test uses, directly or not."""
    todo, several = list(used), dict[str, tuple[Any, ...]]()
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        fixture = test.fixtures.get(name)
        if name in seen or fixture is None:
            continue
        seen.add(name)
        todo += [need for need in fixture.needs if need != name]
        if fixture.params and name not in params.values:
            several[name] = fixture.params
    for chosen in itertools.product(*(enumerate(values) for values in several.values())):
        yield dict(zip(several, chosen, strict=True))


def _run_function(
    test: _Test,
    marks: list[Any],
    used: list[str],
    arguments: dict[str, Any],
    params: dict[str, Any],
) -> None:
    function: Any = test.function
    space = getattr(function, "__globals__", {})
    if _should_skip(marks, space):
        raise unittest.SkipTest("skipped")
    instance = test.owner() if test.owner else None
    setup = _Setup(test, instance, params | arguments)
    expected = [mark for mark in marks if mark.name == "xfail"]
    with contextlib.ExitStack() as stack:
        stack.callback(setup.close)
        _around(stack, space, instance, function)
        for name in used:
            setup.get(name)
        direct = {
            name: arguments[name] if name in arguments and name not in test.fixtures
            else setup.get(name)
            for name in test.needs
        }  # fmt: skip
        try:
            called = getattr(instance, test.name) if instance is not None else function
            result = called(**direct)
            if inspect.iscoroutine(result):
                import asyncio

                asyncio.run(result)
        except Exception:
            if expected:
                raise unittest.SkipTest("xfail") from None
            raise
        if any(mark.kwargs.get("strict") for mark in expected):
            raise AssertionError("passes, though it is marked xfail(strict=True)")


def _around(
    stack: contextlib.ExitStack, space: Mapping[str, Any], instance: Any, function: Any
) -> None:
    """Calls the setup functions of module or class now, and their teardowns at the end."""
    if instance is None:
        found = [(space.get("setup_function"), space.get("teardown_function"))]
    else:
        found = [
            (getattr(instance, f"setup_{what}", None), getattr(instance, f"teardown_{what}", None))
            for what in ("class", "method")
        ]
    for before, after in found:
        if callable(before):
            before(*_given(before, function))
        if callable(after):
            stack.callback(after, *_given(after, function))


def _given(step: Callable[..., Any], function: Any) -> tuple[Any, ...]:
    return (function,) if inspect.signature(step).parameters else ()


class Captured(NamedTuple):
    """What was printed, as `capsys.readouterr()` tells it."""

    out: str
    err: str


class _Capture:
    """The fixture `capsys`."""

    def __init__(self) -> None:
        self._streams = (io.StringIO(), io.StringIO())
        self._before = (sys.stdout, sys.stderr)
        sys.stdout, sys.stderr = self._streams

    def readouterr(self) -> Captured:
        texts = [stream.getvalue() for stream in self._streams]
        for stream in self._streams:
            stream.seek(0)
            stream.truncate()
        return Captured(*texts)

    def close(self) -> None:
        sys.stdout, sys.stderr = self._before


class _Request:
    """The fixture `request`, as far as plain tests use it."""

    def __init__(self, setup: "_Setup", param: Any) -> None:
        self.param, self._setup = param, setup
        self.function, self.cls, self.instance = setup.test.function, setup.test.owner, setup.owner

    def addfinalizer(self, finish: Callable[[], Any]) -> None:
        self._setup.stack.callback(finish)

    def getfixturevalue(self, name: str) -> Any:
        return self._setup.get(name)


@dataclass
class _Shared:
    """Values of fixtures that live longer than a test."""

    values: dict[Any, Any] = field(default_factory=dict)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def close(self) -> None:
        self.stack.close()


class _Setup:
    """The fixtures of one test."""

    shared = _Shared()

    def __init__(self, test: _Test, owner: Any, params: dict[str, Any]) -> None:
        self.test, self.owner, self.params = test, owner, params
        self.values: dict[str, Any] = {}
        self.stack = contextlib.ExitStack()

    def close(self) -> None:
        self.stack.close()

    def get(self, name: str, param_of: str = "") -> Any:
        """The value of a fixture, made when first asked for."""
        if name == "request":
            return _Request(self, self.params.get(param_of))
        if name not in self.values:
            fixture = self.test.fixtures.get(name)
            self.values[name] = self._own(name, fixture) if fixture else self._built_in(name)
        return self.values[name]

    def _own(self, name: str, fixture: _Fixture) -> Any:
        if fixture.scope == "function":
            return self._make(name, fixture, self.stack)
        owner = self.test.owner if fixture.scope == "class" else None
        key = (name, fixture.function, owner, repr(self.params.get(name)))
        if key not in self.shared.values:
            self.shared.values[key] = self._make(name, fixture, self.shared.stack)
        return self.shared.values[key]

    def _make(self, name: str, fixture: _Fixture, stack: contextlib.ExitStack) -> Any:
        given = {need: self.get(need, name) for need in fixture.needs}
        bound = (self.owner,) if fixture.bound else ()
        made = fixture.function(*bound, **given)
        if not inspect.isgenerator(made):
            return made
        value = next(made)
        stack.callback(_finish, made)
        return value

    def _built_in(self, name: str) -> Any:
        if name == "tmp_path":
            return Path.cwd()
        if name == "monkeypatch":
            patch = sys.modules["pytest"].MonkeyPatch()
            self.stack.callback(patch.undo)
            return patch
        if name == "capsys":
            capture = _Capture()
            self.stack.callback(capture.close)
            return capture
        raise LookupError(f"fixture {name!r} not found")


def _finish(generator: Iterator[Any]) -> None:
    for _ in generator:
        raise RuntimeError("a fixture yielded twice")


# --- doctest --------------------------------------------------------------------------------


class _Examples(doctest.DocTestRunner):
    """Notes how each example ended; what raised or printed wrongly is failed, as doctest says."""

    def __init__(self, record: _Record) -> None:
        super().__init__(verbose=False)
        self._record = record

    def _note(self, outcome: str) -> None:
        self._record.note(f"example {len(self._record.outcomes) + 1}", outcome)

    def report_start(self, out: Any, test: Any, example: Any) -> None:
        pass

    def report_success(self, out: Any, test: Any, example: Any, got: str) -> None:
        self._note("passed")

    def report_failure(self, out: Any, test: Any, example: Any, got: str) -> None:
        self._note("failed")

    def report_unexpected_exception(self, out: Any, test: Any, example: Any, exc_info: Any) -> None:
        self._note(f"error:{exc_info[0].__name__[:100]}")


def _run_examples(text: str, space: dict[str, Any], record: _Record) -> None:
    """Runs doctest examples in their order, which they depend on."""
    try:
        test = doctest.DocTestParser().get_doctest(text, space, "examples", _TESTS_FILE, 0)
    except ValueError as error:
        raise _Refused(f"the tests do not load: {_shown(error)}") from None
    _Examples(record).run(test, out=lambda _: None, clear_globs=False)


# --- coverage and guard ---------------------------------------------------------------------


class _Steps:
    """The steps from line to line that the code under test takes.

    By `sys.settrace` alone: the coverage package wants the source in a file, which the tests could
    read.
    """

    def __init__(self) -> None:
        self.taken: set[tuple[int, int]] = set()

    def __enter__(self) -> None:
        sys.settrace(self._enter)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != _CODE_FILE:
            return None
        last, taken = 0, self.taken

        def step(frame: types.FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "line":
                taken.add((last, frame.f_lineno))
                last = frame.f_lineno
            elif event == "return":
                taken.add((last, -1))
            return step

        return step


class _Guard:
    """Refuses to show the code to the tests, and remembers that it was asked.

    It looks at who asks. The library may where it does not pass the code on: `inspect.signature`,
    tracebacks, logging; not `dis`, and not `inspect.getmembers`.
    """

    def __init__(self) -> None:
        self.seen = ""
        self._space: dict[str, Any] = {}
        pytest = sys.modules.get("pytest")
        packages = os.path.dirname(os.path.dirname(pytest.__file__ or "")) if pytest else _LIBRARY
        self._library = (_LIBRARY, packages, "<frozen")
        self._ours = (_CODE_FILE, _load.__code__.co_filename)
        self._busy = False

    def watch(self, space: dict[str, Any]) -> None:
        """Watches over the code that has these globals, from now on and for good."""
        self._space = space
        for name in _READ_MEMORY:  # to look through all names costs a copied page for each
            sys.modules.pop(name, None)
        sys.modules["_ctypes"] = None  # type: ignore[assignment] # it reads memory unheard
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _WATCHED or self._busy:
            return
        if event == "object.__getattr__" and arguments[1] not in _CODES | _FRAMES:
            return
        self._busy = True
        try:
            asker = sys._getframe(1).f_code
            if asker.co_filename not in self._ours and not self._may(event, arguments, asker):
                what = str(arguments[1]) if event == "object.__getattr__" else event
                self.seen = self.seen or what
                raise PermissionError(f"{what} is not available to tests")
        finally:
            self._busy = False

    def _may(self, event: str, arguments: tuple[Any, ...], asker: types.CodeType) -> bool:
        """Whether that code may ask for this."""
        name = asker.co_filename
        is_library = name.startswith(self._library) and not self._hands_out_frames(asker)
        if event.startswith(_FOR_NOBODY):
            return event == "sys.settrace" and name.endswith("doctest.py")
        if event != "object.__getattr__":
            return is_library and not name.endswith("inspect.py")
        subject, what = arguments
        if what in _FRAMES:
            return is_library
        frame = getattr(subject, what.replace("_code", "_frame"), None)  # of a generator
        owner = subject if frame is None else frame
        if getattr(owner, "__globals__", getattr(owner, "f_globals", None)) is not self._space:
            return True
        of_signature = name.endswith("inspect.py") and asker.co_name in _SIGNATURES
        return is_library and (of_signature or name.endswith(_TELL_NAMES_ONLY))

    @staticmethod
    def _hands_out_frames(asker: types.CodeType) -> bool:
        """Whether that code of the library returns frames, and to another file than its own."""
        if asker.co_name not in _HAND_OUT_FRAMES:
            return False
        return sys._getframe(4).f_code.co_filename != asker.co_filename


class _Deaf(_Guard):
    """Watches nothing: an audit hook stays for good."""

    def watch(self, space: dict[str, Any]) -> None:
        pass


_WARM_CODE = "def double(x):\n    if x is None:\n        raise ValueError\n    return x + x\n"
_WARM_TESTS = """
import pytest
from solution import double

def test_double():
    assert double(1) == 2

@pytest.mark.parametrize("given, expected", [(1, 2), ("a", "aa")])
def test_several(given, expected):
    assert double(given) == expected

def test_raises():
    with pytest.raises(ValueError):
        double(None)

def test_fails():
    assert double(2) == 5
"""


def warm_up(rounds: int) -> None:
    """Runs tests of our own in this process, see `evaluator.sandbox.worker.warm_up`."""
    request = {"code": _WARM_CODE, "tests": _WARM_TESTS, "module": "solution"}
    for seed in range(rounds):
        run(request | {"order_seed": seed, "coverage": False, "first_failure": False}, _Deaf())
    for name in ("solution", "test_solution"):
        del sys.modules[name]
