"""The self-test before a tier is used: attacks must fail and ordinary programs must work.

Each attack is code whose `probe()` returns "open" when it got through. The test suite has more and
nastier ones; these are the ones that decide.
"""

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from evaluator.sandbox.calls import Call, Outcome, Status

ATTACKS: dict[str, str] = {
    "network": "import socket\ndef probe(): socket.socket(); return 'open'",
    "new process": (
        "import os\ndef probe():\n    pid = os.fork()\n    if pid == 0: os._exit(0)\n"
        "    os.waitpid(pid, 0)\n    return 'open'"
    ),
    "run a program": (
        "import os\ndef probe(): os.posix_spawn('/bin/true', ['true'], {}); return 'open'"
    ),
    "signal others": "import os\ndef probe(): os.kill(os.getppid(), 0); return 'open'",
    "memory": "def probe(): bytearray(2 << 30); return 'open'",
    "new namespace": (
        "import ctypes\ndef probe(): return 'open' if ctypes.CDLL(None).unshare(0x10000000) == 0 "
        "else 'closed'"
    ),
    "io_uring": (
        "import ctypes\ndef probe():\n    r = ctypes.CDLL(None, use_errno=True)\n"
        "    r.syscall(425, 1, None)\n    return 'open' if ctypes.get_errno() == 14 else 'closed'"
    ),
    "environment": "import os\ndef probe(): return 'open' if 'PATH' in os.environ else 'closed'",
    "write to temp": (
        "def probe():\n    open('/tmp/flywheel-probe-{token}', 'w').close()\n    return 'open'"
    ),
    "write to shared memory": (
        "def probe():\n    open('/dev/shm/flywheel-probe-{token}', 'w').close()\n    return 'open'"
    ),
    "read a host file": (
        "def probe(): return 'open' if '{token}' in open('{secret}').read() else 'closed'"
    ),
    "read another process": (
        "def probe(): return 'open' if open('/proc/{service}/environ', 'rb') else 'closed'"
    ),
}
ORDINARY = """
import threading, time, os
import configparser, tomllib, csv, zlib
def probe():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(41 + 1))
    thread.start()
    thread.join()
    with open('note.txt', 'w') as file:
        file.write('works')
    return [seen[0], open('note.txt').read()]
"""


def self_test(run: Callable[[Call], Outcome]) -> dict[str, str]:
    """Runs the probes.

    Args:
        run: executes a call in the tier under test.

    Returns:
        By probe name "blocked" or "open"; "ordinary programs" is "work" or the reason why not.
    """
    found: dict[str, str] = {}
    token = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="flywheel-probe-") as folder:
        os.chmod(folder, 0o755)
        secret = Path(folder) / "secret.txt"
        secret.write_text(token)
        for name, code in ATTACKS.items():
            code = code.replace("{token}", token).replace("{secret}", str(secret))
            outcome = run(Call(code.replace("{service}", str(os.getpid())), "probe", [[]]))
            found[name] = "open" if outcome.values == ("open",) else "blocked"
        for left in ("/tmp", "/dev/shm"):
            Path(f"{left}/flywheel-probe-{token}").unlink(missing_ok=True)
    ordinary = run(Call(ORDINARY, "probe", [[]]))
    works = ordinary.status is Status.PASS and ordinary.values == ([42, "works"],)
    reason = f"{ordinary.status} {ordinary.detail} {ordinary.errors}"
    found["ordinary programs"] = "work" if works else f"do not work: {reason}"
    return found


def shortcomings(found: dict[str, str]) -> list[str]:
    """The probes whose result forbids to call the tier isolation."""
    return [name for name, result in found.items() if result not in ("blocked", "work")]
