"""The sandbox: attacks that must fail, statuses that must be told apart, nothing that survives."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from by_hand import wait_until

from evaluator.sandbox import (
    Call,
    Limits,
    Sandbox,
    SandboxUnavailable,
    Script,
    Status,
    bubblewrap,
    launch,
    pool,
    probes,
)
from evaluator.sandbox.launch import Worker, WorkerFailed

QUICK = Limits(cpu_s=0.5, wall_s=20.0, memory_mb=128, scratch_mb=4)


@pytest.fixture(scope="module", params=["A", "C", "D"])
def sandbox(request):
    try:
        with Sandbox(workers=2, limits=QUICK, tiers=[request.param]) as made:
            yield made
    except SandboxUnavailable as error:
        pytest.skip(f"tier {request.param} does not work on this machine: {error}")


def run(sandbox, body, *args, limits=None):
    code = "import os, sys, time, ctypes, socket, threading, signal\n" + body
    return sandbox.run(Call(code, "attack", [args], limits))


def stopped(outcome):
    return outcome.values is None or outcome.values == (None,) or "open" not in outcome.values


# --- the walls; the attacks that try to get out are in test_attacks.py ----------------------


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/passwd", "/root/.bashrc", "/proc/1/mem"])
def test_files_outside_the_library_are_closed(sandbox, path):
    outcome = run(sandbox, "def attack(path): return len(open(path, 'rb').read(9))", path)
    assert outcome.values in (None, (None,))


def test_environment_holds_no_secret(sandbox, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_SECRET_FOR_TEST", "hush")
    with Sandbox(workers=1, tiers=[sandbox.tier]) as fresh:
        outcome = run(fresh, "def attack(): return sorted(os.environ)")
    assert set(outcome.values[0]) <= {
        "HOME", "LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "PWD", "PYTHONHASHSEED", "TMPDIR",
    }  # fmt: skip


KERNEL = {
    "fork": "def attack():\n    os.fork()\n    return 'open'",
    "fork by system call": "def attack(): return 'open' if ctypes.CDLL(None).fork() >= 0 else ''",
    "clone3": "def attack():\n    r = ctypes.CDLL(None).syscall(435, 0, 0)\n"
    "    return 'open' if r == 0 else 'closed'",
    "nested user namespace": "def attack():\n"
    "    return 'open' if ctypes.CDLL(None).unshare(0x10000000) == 0 else 'closed'",
    "ptrace": "def attack(): return 'open' if ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0 else ''",
    "io_uring": "def attack():\n    b = ctypes.create_string_buffer(200)\n"
    "    return 'open' if ctypes.CDLL(None).syscall(425, 4, b) >= 0 else 'closed'",
    "memory of another process": "def attack():\n    b = ctypes.create_string_buffer(64)\n"
    "    r = ctypes.CDLL(None).syscall(310, os.getppid(), b, 1, b, 1, 0)\n"
    "    return 'open' if r >= 0 else 'closed'",
    "memory file": "def attack():\n    os.memfd_create('x')\n    return 'open'",
    "raise own limits": "def attack():\n    import resource\n"
    "    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n    return 'open'",
    "become root": "def attack():\n    os.setuid(0)\n    return 'open'",
    "change modes": "def attack():\n    open('x', 'w').close()\n    os.chmod('x', 0o777)\n"
    "    return 'open'",
    "signal by file owner": "def attack():\n    import fcntl\n    r, w = os.pipe()\n"
    "    fcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())\n    return 'open'",
    "signal the group": "def attack():\n    os.kill(0, 9)\n    return 'open'",
}


@pytest.mark.parametrize("attack", KERNEL)
def test_kernel_surface_is_closed(sandbox, attack):
    assert stopped(run(sandbox, KERNEL[attack]))


def test_fork_bomb_makes_no_process(sandbox):
    before = len(psutil.pids())  # of this machine, where other tests run, too
    outcome = run(
        sandbox,
        "def attack():\n    for _ in range(3000):\n        try:\n            os.fork()\n"
        "        except OSError: pass\n    return 'open'",
    )
    assert outcome.status is Status.FORBIDDEN
    assert len(psutil.pids()) < before + 1000


def test_thread_bomb_is_bounded(sandbox):
    outcome = run(
        sandbox,
        "def attack():\n    threading.stack_size(65536)\n    started = 0\n"
        "    for _ in range(100000):\n        try:\n"
        "            threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "        except RuntimeError: break\n        started += 1\n    return started",
    )
    assert outcome.status is Status.TIMEOUT or outcome.values[0] < 6000


def test_memory_of_one_process_is_bounded(sandbox):
    outcome = run(sandbox, "def attack(): return len(bytearray(2 << 30))")
    assert outcome.status is Status.MEMORY
    assert outcome.errors == ("MemoryError",)


def test_memory_in_many_children_is_impossible(sandbox):
    body = "def attack():\n    if os.fork() == 0: b = bytearray(300 << 20); time.sleep(9)\n"
    assert run(sandbox, body).status is Status.FORBIDDEN


def test_filling_the_disk_is_stopped(sandbox):
    outcome = run(
        sandbox,
        "def attack():\n    for i in range(400):\n        with open(f'f{i}', 'wb') as f:\n"
        "            f.write(bytes(1 << 20))\n            time.sleep(0.001)\n    return 'open'",
        limits=Limits(cpu_s=2, wall_s=10, scratch_mb=4),
    )
    assert stopped(outcome)
    assert outcome.status is Status.MEMORY or outcome.errors == ("OSError",)
    after = run(sandbox, "def attack(): return os.listdir('.')")
    assert after.values == ([],)


def test_one_file_is_bounded(sandbox):
    body = "def attack():\n    with open('f', 'wb') as f:\n        f.write(bytes(60 << 20))"
    assert run(sandbox, body).status is Status.MEMORY


def test_files_of_one_run_are_not_seen_by_the_next(sandbox):
    body = "def attack():\n    seen = os.listdir('.')\n    open('left', 'w').write('x')\n"
    body += "    return seen"
    calls = [Call("import os\n" + body, "attack", [[]])] * 6
    assert [outcome.values for outcome in sandbox.run_many(calls)] == [([],)] * 6


def test_state_of_one_run_is_not_seen_by_the_next(sandbox):
    code = "import math\nold = math.pi\nmath.pi = 3\ndef f(): return old"
    assert all(o.values[0] > 3.1 for o in sandbox.run_many([Call(code, "f", [[]])] * 4))


def test_daemon_does_not_survive(sandbox):
    body = "def attack():\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(60)\n"
    run(sandbox, body)
    threads = "def attack():\n    threading.Thread(target=time.sleep, args=(60,)).start()\n"
    assert run(sandbox, threads + "    return 1").values == (1,)
    assert not _grandchildren()


def _grandchildren():
    """Children of workers that are still running."""
    time.sleep(0.05)
    workers = [p for p in psutil.Process().children(recursive=True) if "-c" in _words(p)]
    python = [p for p in workers if not _words(p)[0].endswith("bwrap")]
    return [p for p in python if p.ppid() in {other.pid for other in python}]


def _words(process):
    try:
        return process.cmdline() or [""]
    except psutil.Error:
        return [""]


# --- ordinary programs ----------------------------------------------------------------------


def test_ordinary_programs_work(sandbox):
    body = """
def attack(n):
    import asyncio, concurrent.futures, csv, dataclasses, heapq, tempfile, zoneinfo
    @dataclasses.dataclass
    class Point:
        x: int
    async def twice(x):
        await asyncio.sleep(0)
        return 2 * x
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        squares = list(pool.map(lambda x: x * x, range(n)))
    with tempfile.NamedTemporaryFile("w+") as f:
        f.write("text")
        f.seek(0)
        text = f.read()
    os.replace(*(open(name, "w").name for name in ("a", "b")))
    return squares, asyncio.run(twice(Point(4).x)), text, os.listdir(".")
"""
    outcome = run(sandbox, body, 4, limits=Limits(cpu_s=10, wall_s=60))
    assert outcome.detail == ""
    assert outcome.values == (([0, 1, 4, 9], 8, "text", ["b"]),)


def test_values_keep_their_exact_types(sandbox):
    values = [
        1, True, 1.0, None, "é\ud800", (1,), [1], {1}, frozenset({1}), {1: (2,), "a": [True]},
        b"\x00", 2**200, -(2**60), float("inf"), 1j, (), [[]], {}, set(),
    ]  # fmt: skip
    outcome = sandbox.run(Call("def same(x): return x", "same", [[value] for value in values]))
    assert list(outcome.values) == values
    assert [type(value) for value in outcome.values] == [type(value) for value in values]


def test_an_exception_is_its_inputs_own(sandbox):
    code = "def f(x):\n    if x == 2: raise SystemExit\n    return 6 / x"
    outcome = sandbox.run(Call(code, "f", [[1], [0], [2], [3]]))
    assert outcome.status is Status.PASS
    assert outcome.errors == (None, "ZeroDivisionError", "SystemExit", None)
    assert outcome.values == (6.0, None, None, 2.0)


def test_arguments_are_fresh_for_each_call(sandbox):
    shared = [1]
    outcome = sandbox.run(Call("def f(x):\n    x.append(2)\n    return x", "f", [[shared]] * 2))
    assert outcome.values == ([1, 2], [1, 2])
    assert shared == [1]


def test_same_code_gives_same_values_in_every_worker(sandbox):
    code = "import random\ndef f(): return list({'a', 'b', 'c', 'd'}), random.random()"
    assert len({str(o.values) for o in sandbox.run_many([Call(code, "f", [[]])] * 8)}) == 1


# --- statuses -------------------------------------------------------------------------------

ENDINGS = {
    "def f(): return 1": Status.PASS,
    "def f():\n    while True: pass": Status.TIMEOUT,
    "while True: pass": Status.TIMEOUT,
    "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass": (
        Status.TIMEOUT
    ),
    "def f(): return [0] * 10**10": Status.MEMORY,
    "import socket\ndef f(): socket.socket()": Status.FORBIDDEN,
    "import os\ndef f(): open('/tmp/x', 'w')": Status.FORBIDDEN,
    "def f(:": Status.CRASH,
    "def g(): pass": Status.CRASH,
    "raise ValueError(1)": Status.CRASH,
    "import os\ndef f(): os._exit(0)": Status.CRASH,
    "import os\ndef f(): os.kill(os.getpid(), 9)": Status.CRASH,
    "import ctypes\ndef f(): ctypes.string_at(0)": Status.CRASH,
    "": Status.LOST,
    " \n": Status.LOST,
}


@pytest.mark.parametrize("code", ENDINGS)
def test_ending(sandbox, code):
    outcome = sandbox.run(Call(code, "f", [[]]))
    if "/tmp/x" in code and sandbox.tier == "A":
        # No such folder, or a read-only one where the checkout itself lies below it.
        refused = outcome.errors in (("FileNotFoundError",), ("OSError",))
        assert outcome.status is Status.FORBIDDEN or refused
        return
    assert outcome.status is ENDINGS[code]
    assert (outcome.detail == "") == (outcome.status is Status.PASS)


def test_sleeping_code_meets_the_wall_clock(sandbox):
    code = "import time\ndef f(): time.sleep(60)"
    outcome = sandbox.run(Call(code, "f", [[]], Limits(wall_s=0.3)))
    assert outcome.status is Status.TIMEOUT
    assert "real time" in outcome.detail


def test_deep_recursion_is_an_error_of_the_call(sandbox):
    outcome = sandbox.run(Call("def f(): return f()", "f", [[]]))
    assert outcome.errors == ("RecursionError",)


def test_output_is_capped_while_reading(sandbox):
    code = "def f(n):\n    for _ in range(n): print('x' * 99)\n    return n"
    limits = Limits(output_bytes=1000)
    outcome = sandbox.run(Call(code, "f", [[20000]], limits))
    assert outcome.values == (20000,)
    assert len(outcome.output) == 1000


@pytest.mark.parametrize("value", ["'x' * (1 << 22)", "10 ** 2_000_000"])
def test_too_large_an_answer_is_not_taken(sandbox, value):
    # writing two million digits takes long on a busy machine
    outcome = sandbox.run(Call(f"def f(): return {value}", "f", [[]], Limits(cpu_s=9.0)))
    assert outcome.status is Status.CRASH
    assert "more than" in outcome.detail


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"[" * 5000, b'{"status":"PASS","detail":""}', b"\xff\xfe",
     b'{"status":"PASS","detail":"","values":[1,2],"errors":[null]}',
     b'{"status":"PASS","detail":"","values":[{"x":1}],"errors":[null]}',
     b'{"status":"LOST","detail":""}',
     b'{"status":"LOST","detail":"","values":[1],"errors":[null]}',
     b'{"status":"PASS","detail":"","values":[' + b"9" * 5000 + b'],"errors":[null]}'],
)  # fmt: skip
def test_nonsense_on_the_result_channel_is_a_crash(sandbox, body):
    outcome = sandbox.run(Call(f"import os\nos.write(3, {body!r})\nos._exit(0)", "f", [[]]))
    assert outcome.status is Status.CRASH


# --- the pool -------------------------------------------------------------------------------


def test_hundreds_of_runs_keep_their_order(sandbox):
    calls = [Call(f"def f(x): return x + {n}", "f", [[1], [2]]) for n in range(300)]
    outcomes = sandbox.run_many(calls)
    assert [outcome.values for outcome in outcomes] == [(n + 1, n + 2) for n in range(300)]


def test_threads_may_share_it(sandbox):
    def ask(n):
        return sandbox.run(Call(f"def f(): return {n}", "f", [[]])).values

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(64))) == [(n,) for n in range(64)]


def test_a_dead_worker_is_replaced(sandbox):
    for process in _processes(sandbox):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with the one before
            process.kill()
    call = Call("def f(): return 7", "f", [[]])
    assert [outcome.values for outcome in sandbox.run_many([call] * 4)] == [(7,)] * 4


def _processes(sandbox):
    """Its workers that wait for work, and what is below them."""
    waiting = [worker for idle in sandbox._idle.values() for worker in idle.queue if worker]
    outer = [psutil.Process(worker.process.pid) for worker in waiting]
    return [one for process in outer for one in (process, *process.children(recursive=True))]


def test_inputs_must_be_plain(sandbox):
    with pytest.raises(TypeError, match="not plain"):
        sandbox.run(Call("def f(x): return x", "f", [[object()]]))
    assert sandbox.run(Call("def f(): return 1", "f", [[]])).values == (1,)


def test_report_names_tier_and_evidence(sandbox):
    report = sandbox.describe()
    assert report["tier"] == sandbox.tier
    assert report["features"]["seccomp"] is True
    assert report["probes"]["network"] == "blocked"
    assert report["probes"]["ordinary programs"] == "work"


def test_closing_leaves_nothing(monkeypatch):
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    folders, make = [], tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **at: folders.append(make(**at)) or folders[-1])
    try:
        with Sandbox(workers=2) as sandbox:
            sandbox.run_many([Call("def f(): return 1", "f", [[]])] * 4)
            assert {p.pid for p in psutil.Process().children(recursive=True)} > before
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before
    assert not any(map(os.path.exists, folders))
    with pytest.raises(RuntimeError, match="closed"):
        sandbox.run(Call("def f(): return 1", "f", [[]]))


@pytest.mark.parametrize("tier", ["A", "D"])
def test_workers_end_with_a_killed_service(tier, tmp_path):
    code = (
        "import sys, time\nsys.path[:0] = sys.argv[1:]\n"
        "from evaluator.sandbox import Sandbox, Call, Limits\n"
        "import threading, psutil\n"
        f"s = Sandbox(workers=1, limits=Limits(cpu_s=60, wall_s=60), tiers=[{tier!r}])\n"
        "c = Call('while True: pass', 'f', [[]])\n"
        "threading.Thread(target=s.run, args=(c,), daemon=True).start()\n"
        "time.sleep(1)\n"
        "while len(found := psutil.Process().children(recursive=True)) < 2: time.sleep(0.1)\n"
        "print(*(p.pid for p in found), flush=True)\n"
        "time.sleep(60)\n"
    )
    paths = [path for path in sys.path if path]
    service = subprocess.Popen(
        [sys.executable, "-c", code, *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    line = service.stdout.readline().split()
    service.send_signal(signal.SIGKILL)
    service.wait()
    service.stdout.close()
    if not line:
        pytest.skip(f"tier {tier} does not work on this machine")
    assert len(line) >= 2
    wait_until(lambda: not any(_runs(int(pid)) for pid in line), "the end of the workers")
    if os.geteuid() != 0:  # as root the worker's own uid cannot reach into pytest's folder
        assert list(tmp_path.iterdir()) == []


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_belongs_to_its_process():
    try:
        sandbox = Sandbox(workers=1)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    with sandbox:
        sandbox._owner = -1
        with pytest.raises(RuntimeError, match="another process"):
            sandbox.run(Call("def f(): return 1", "f", [[]]))
        sandbox._owner = os.getpid()


# --- failing closed -------------------------------------------------------------------------


def test_weak_is_refused_unless_asked_for():
    with pytest.raises(SandboxUnavailable, match=r"expected Linux.*bubblewrap.*allow_weak"):
        Sandbox(workers=1, tiers=["weak"])
    with Sandbox(workers=1, tiers=["weak"], allow_weak=True) as sandbox:
        assert sandbox.tier == "weak"
        assert sandbox.run(Call("def f(): return 1", "f", [[]])).values == (1,)


def test_a_missing_bubblewrap_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SandboxUnavailable, match="bubblewrap is not installed"):
        Sandbox(workers=1, tiers=["A"])


def test_a_missing_gvisor_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SandboxUnavailable, match="gVisor .* is not installed"):
        Sandbox(workers=1, tiers=["C"])


@pytest.mark.parametrize("way", bubblewrap.WAYS)
def test_every_way_into_bubblewrap_holds(way, monkeypatch):
    """Also the second best ones, which other machines need; the report says which it is."""
    monkeypatch.setattr(launch, "_way_found", [way])
    monkeypatch.setattr(pool, "_proven", {})
    try:
        with Sandbox(workers=1, tiers=["A"]) as sandbox:
            assert sandbox.describe()["features"]["namespaces"] == way
            unshared = "import os, ctypes\ndef f(): return os.getuid()"
            assert sandbox.run(Call(unshared, "f", [[]])).values[0] != 0
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def test_a_way_that_fails_is_followed_by_the_next(monkeypatch):
    monkeypatch.setattr(launch, "_way_found", [])
    tried = []

    def start(way):
        tried.append(way)
        if way == bubblewrap.WAYS[0]:
            raise WorkerFailed("an older bubblewrap")
        return way

    assert launch.first_way(start) == bubblewrap.WAYS[1]
    assert launch.first_way(start) == bubblewrap.WAYS[1]
    assert tried == [*bubblewrap.WAYS[:2], bubblewrap.WAYS[1]]


def test_installed_packages_are_not_shown_unless_asked_for(sandbox):
    code = f"def f(): return open({psutil.__file__!r}).read(9)"
    assert sandbox.run(Call(code, "f", [[]])).values == (None,)


def test_what_is_installed_beside_the_standard_library_is_not_shown(sandbox):
    """There the service may be installed, with the answers to its built-in tasks."""
    homes = [Path(folder) for folder in bubblewrap.installed_paths()]
    files = [next(home.rglob("*.py"), None) for home in homes]
    paths = [str(path) for path in files if path is not None]
    if not paths:
        pytest.skip("no package is installed there")
    code = """
def f(path): return open(path).read(9)
def g(): import xml.dom.minidom, encodings.cp037; return 1
"""
    assert sandbox.run(Call(code, "f", [[path] for path in paths])).values == (None,) * len(paths)
    assert sandbox.run(Call(code, "g", [[]])).errors == (None,)


def test_limits_are_calibrated_to_the_reference():
    floor = Limits(cpu_s=2.0, wall_s=10.0)
    assert floor.calibrated(0.1) == floor
    wide = floor.calibrated(3.0)
    assert (wide.cpu_s, wide.wall_s) == (12.0, 24.0)


def test_an_open_probe_refuses_the_tier(monkeypatch):
    monkeypatch.setattr(pool, "_proven", {})
    monkeypatch.setitem(probes.ATTACKS, "made up", "def probe(): return 'open'")
    with pytest.raises(SandboxUnavailable, match="made up: open"):
        Sandbox(workers=1)


def test_wall_that_cannot_close_runs_nothing(sandbox):
    worker = Worker.start(sandbox.tier, 4)
    try:
        limits = {"cpu_s": 2, "wall_s": 5, "memory_mb": 10**15, "output_bytes": 99, "scratch_mb": 1}
        request = {"kind": "call", "code": "print(1)\ndef f(): pass", "entry_point": "f"}
        found = worker.ask(request | {"inputs": [[]], "limits": limits}, 20)
    finally:
        worker.close()
    assert found["status"] == "CRASH"
    assert found["output"] == ""


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="cpu_s is 0"):
        Limits(cpu_s=0)


def test_interrupted_caller_does_not_mix_up_answers(sandbox):
    """Two threads, one slow and one quick, each get their own answer."""
    slow = Call("import time\ndef f():\n    time.sleep(0.3)\n    return 'slow'", "f", [[]])
    quick = Call("def f(): return 'quick'", "f", [[]])
    seen = []
    thread = threading.Thread(target=lambda: seen.append(sandbox.run(slow).values))
    thread.start()
    assert sandbox.run(quick).values == ("quick",)
    thread.join()
    assert seen == [("slow",)]


def test_script_runs_to_its_last_line(sandbox):
    good = "def f(x): return x\nassert f(1) == 1\n"
    assert sandbox.run(Script(good)).status is Status.PASS
    assert sandbox.run(Script(good + "assert f(1) == 2")).status is Status.WRONG
    assert sandbox.run(Script(good + "import sys; sys.exit(0)")).status is Status.CRASH
