"""The sandbox: attacks that must fail, statuses that must be told apart, nothing that survives."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from evaluator.sandbox import Call, Limits, Sandbox, SandboxUnavailable, Script, Status
from evaluator.sandbox.launch import Worker

QUICK = Limits(cpu_s=0.5, wall_s=20.0, memory_mb=128, scratch_mb=4)


@pytest.fixture(scope="module", params=["A", "D"])
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


# --- the attacks. Those of OUTWARD are also run without walls, to see that they would work. -----

CONNECT_TCP = """
def attack(port, name, secret, token):
    with socket.create_connection(("127.0.0.1", port), 2):
        return "open"
"""
SEND_UDP = """
def attack(port, name, secret, token):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(token.encode(), ("127.0.0.1", port))
    return "open"
"""
ABSTRACT_SOCKET = """
def attack(port, name, secret, token):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(chr(0) + name)
        return "open"
"""
DATAGRAM_PAIR = """
def attack(port, name, secret, token):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"x", chr(0) + name + "d")
    return "open"
"""
READ_HOST_FILE = """
def attack(port, name, secret, token):
    return "open" if open(secret).read() == token else "closed"
"""
READ_BY_CTYPES = """
def attack(port, name, secret, token):
    libc = ctypes.CDLL(None)
    fd = libc.syscall(257, -100, secret.encode(), 0)
    return "open" if fd >= 0 and os.read(fd, 99).decode() == token else "closed"
"""
OTHERS_ENVIRONMENT = """
def attack(port, name, secret, token):
    return "open" if open(f"/proc/{os.getppid()}/environ", "rb").read() else "closed"
"""
WRITE_TEMP = """
def attack(port, name, secret, token):
    with open(f"/tmp/{name}", "w") as f: f.write("x")
    return "open"
"""
WRITE_SHARED_MEMORY = """
def attack(port, name, secret, token):
    with open(f"/dev/shm/{name}", "w") as f: f.write("x")
    return "open"
"""
TRUNCATE = """
def attack(port, name, secret, token):
    for flags in (os.O_RDONLY, 3):
        try:
            os.close(os.open(secret + ".victim", flags | os.O_TRUNC))
        except OSError:
            pass
    return "open" if os.stat(secret + ".victim").st_size == 0 else "closed"
"""
SIGNAL = """
def attack(port, name, secret, token):
    os.kill(os.getppid(), 0)
    return "open"
"""
START_PROGRAM = """
def attack(port, name, secret, token):
    import subprocess
    return "open" if subprocess.run(["/usr/bin/true"]).returncode == 0 else "closed"
"""
OUTWARD = {
    "tcp": CONNECT_TCP,
    "udp": SEND_UDP,
    "abstract unix socket": ABSTRACT_SOCKET,
    "datagram over a socket pair": DATAGRAM_PAIR,
    "world-readable host file": READ_HOST_FILE,
    "environment of another process": OTHERS_ENVIRONMENT,
    "write to temp": WRITE_TEMP,
    "write to shared memory": WRITE_SHARED_MEMORY,
    "truncate by reading": TRUNCATE,
    "signal another process": SIGNAL,
    "start a program": START_PROGRAM,
}


@pytest.fixture
def host(tmp_path):
    """Things of the host that an attack could reach, in world-readable places."""
    name, token = f"flywheel-attack-{secrets.token_hex(6)}", secrets.token_hex(8)
    folder = Path("/tmp") / f"{name}-files"
    folder.mkdir(mode=0o755)
    secret = folder / "secret.txt"
    secret.write_text(token)
    victim = Path(f"{secret}.victim")
    victim.write_text("precious")
    victim.chmod(0o666)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", port))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{name}")
        abstract.listen()
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(f"\0{name}d")
        yield port, name, str(secret), token
        udp.setblocking(False)
    for left in (f"/tmp/{name}", f"/dev/shm/{name}", victim, secret):
        Path(left).unlink(missing_ok=True)
    folder.rmdir()


@pytest.mark.skipif(sys.platform != "linux", reason="the attacks are written for Linux")
@pytest.mark.parametrize("attack", OUTWARD)
def test_attack_gets_through_without_walls(attack, host):
    code = f"import os, sys, time, ctypes, socket\n{OUTWARD[attack]}\nprint(attack(*{host!r}))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert done.stdout.strip() == "open", done.stderr


@pytest.mark.parametrize("attack", [*OUTWARD, "by system call"])
def test_attack_is_blocked(sandbox, attack, host):
    outcome = run(sandbox, OUTWARD.get(attack, READ_BY_CTYPES), *host)
    assert stopped(outcome), f"tier {sandbox.tier}: {attack}"
    assert not Path(f"/tmp/{host[1]}").exists()
    assert not Path(f"/dev/shm/{host[1]}").exists()
    assert Path(f"{host[2]}.victim").read_text() == "precious"


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
    before = len(psutil.pids())
    outcome = run(
        sandbox,
        "def attack():\n    for _ in range(3000):\n        try:\n            os.fork()\n"
        "        except OSError: pass\n    return 'open'",
    )
    assert outcome.status is Status.FORBIDDEN
    assert len(psutil.pids()) < before + 50


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
    for worker in (process for process in psutil.Process().children(recursive=True)):
        worker.kill()
    call = Call("def f(): return 7", "f", [[]])
    assert [outcome.values for outcome in sandbox.run_many([call] * 4)] == [(7,)] * 4


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


def test_closing_leaves_nothing():
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    folders = set(Path("/tmp").glob("flywheel-sandbox-*"))
    try:
        with Sandbox(workers=2) as sandbox:
            sandbox.run_many([Call("def f(): return 1", "f", [[]])] * 4)
            assert {p.pid for p in psutil.Process().children(recursive=True)} > before
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before
    assert set(Path("/tmp").glob("flywheel-sandbox-*")) <= folders
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
        "print(*(p.pid for p in psutil.Process().children(recursive=True)), flush=True)\n"
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
    _, alive = psutil.wait_procs(
        [psutil.Process(int(pid)) for pid in line if psutil.pid_exists(int(pid))], timeout=10
    )
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    if os.geteuid() != 0:  # as root the worker's own uid cannot reach into pytest's folder
        assert list(tmp_path.iterdir()) == []


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


def test_an_open_probe_refuses_the_tier(monkeypatch):
    from evaluator.sandbox import pool, probes

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
