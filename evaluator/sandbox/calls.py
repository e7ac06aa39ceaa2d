"""What is asked of the sandbox and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from foundation.errors import FlywheelError


class SandboxUnavailable(FlywheelError):
    """Nothing on this machine can isolate untrusted code well enough."""

    http_status = 503

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(
            f"sandbox: {found}; expected Linux >= 5.13 with Landlock and seccomp, or a working "
            "bubblewrap. Install bubblewrap (apt-get install bubblewrap), use a newer kernel, or "
            "accept weak isolation for code you trust with allow_weak=True."
        )


class Status(StrEnum):
    """How an execution, or a graded answer, ended.

    An execution that ran to its end is PASS, whatever it returned; WRONG is the word of whoever
    compares the values. LOST means that there was no answer to run.
    """

    PASS = "PASS"
    WRONG = "WRONG"
    TIMEOUT = "TIMEOUT"
    MEMORY = "MEMORY"
    FORBIDDEN = "FORBIDDEN"
    CRASH = "CRASH"
    LOST = "LOST"


@dataclass(frozen=True)
class Limits:
    """What one execution may use.

    Attributes:
        cpu_s: seconds of CPU time; this is the limit that decides TIMEOUT.
        wall_s: seconds of real time, only a safety net against sleeping code.
        memory_mb: MiB of address space on top of the interpreter's own.
        output_bytes: bytes of printed text kept; returned values may take 16 times as much.
        scratch_mb: MiB of files in the private folder.
    """

    cpu_s: float = 2.0
    wall_s: float = 10.0
    memory_mb: int = 256
    output_bytes: int = 65536
    scratch_mb: int = 16

    def __post_init__(self) -> None:
        for name in ("cpu_s", "wall_s", "memory_mb", "output_bytes", "scratch_mb"):
            if getattr(self, name) <= 0:
                raise ValueError(f"Limits.{name} is {getattr(self, name)}, expected more than 0")


@dataclass(frozen=True)
class Call:
    """A function of untrusted code, called once per input in one fresh process.

    Attributes:
        code: the module text that defines the function.
        entry_point: its name.
        inputs: the positional arguments of each call, plain values only.
        limits: overrides the sandbox's own limits.
    """

    code: str
    entry_point: str
    inputs: Sequence[Sequence[Any]]
    limits: Limits | None = None


@dataclass(frozen=True)
class Script:
    """Trusted asserts over an untrusted function, or a whole script.

    With `test`, two processes are used: the untrusted `code` serves calls of `entry_point` and
    never sees the test, its expected values or the verdict; the trusted `test` runs in the other
    one, where `entry_point` is a proxy that passes plain values. Nothing that the code does to its
    own process can reach the verdict.

    Without `test`, `code` is one script holding solution and asserts together. Its end is reported
    by a nonce that lies in a kernel pipe until the last line ran, which stops sys.exit, os._exit,
    printed results and raised lookalikes. It can still be forged from inside: an object that equals
    everything satisfies `==`, and code that patches the interpreter can read the nonce. Use it only
    where the tests need more than plain values (classes, callbacks).

    Attributes:
        code: the untrusted text (or the whole script).
        test: trusted text with the asserts, run to its last line; None for a whole script.
        entry_point: the name that `test` calls.
        setup: trusted text run before `test` in its process (imports, given helper functions).
        limits: overrides the sandbox's own limits.
    """

    code: str
    test: str | None = None
    entry_point: str = ""
    setup: str = ""
    limits: Limits | None = None


@dataclass(frozen=True)
class Outcome:
    """What happened.

    Attributes:
        status: PASS when it ran to the end.
        values: one returned value per input (None where it raised); None unless it ran to the end.
        errors: one exception type name or None per input; empty unless it ran to the end.
        cpu_s: CPU seconds of the untrusted process.
        detail: the reason in words, empty on PASS.
        output: the first `output_bytes` of what was printed.
        not_plain: the trusted test of a Script wants to pass more than plain values; decided before
            the untrusted code has answered anything.
    """

    status: Status
    values: tuple[Any, ...] | None = None
    errors: tuple[str | None, ...] = ()
    cpu_s: float = 0.0
    detail: str = ""
    output: str = ""
    not_plain: bool = False
