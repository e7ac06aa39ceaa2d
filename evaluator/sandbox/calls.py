"""What is asked of the sandbox and what it answers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
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
        wall_s: seconds of real time, only a safety net against sleeping code: a busy machine may
            leave a worker a tenth of a core.
        memory_mb: MiB of address space on top of the interpreter's own.
        output_bytes: bytes of printed text kept; returned values may take 16 times as much.
        scratch_mb: MiB of files in the private folder.
    """

    cpu_s: float = 2.0
    wall_s: float = 20.0
    memory_mb: int = 256
    output_bytes: int = 65536
    scratch_mb: int = 16

    def calibrated(self, reference_cpu_s: float, factor: float = 4.0) -> "Limits":
        """These limits, widened to a multiple of what the reference took on this machine."""
        cpu_s = max(self.cpu_s, factor * reference_cpu_s)
        return replace(self, cpu_s=cpu_s, wall_s=max(self.wall_s, 2 * cpu_s))

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
class Cases:
    """A file of tests over a module, run test by test in one fresh process.

    Tests and code share that process, so each can forge what the other is said to do. It is for
    tests on trial, run over code of ours (a reference, its mutants); code on trial belongs in
    `Script` with `test`, in `Call`, or in a `Project`.

    Attributes:
        code: text of the module under test.
        tests: text of the test file; it may use pytest's own objects.
        module: the name under which `tests` imports `code`.
        order_seed: order of the tests; 0 for the order of the file.
        coverage: also tell which lines and branches of `code` were reached.
        first_failure: end at the first test that fails; those after it are not told.
        limits: overrides the sandbox's own limits.
    """

    code: str
    tests: str
    module: str = "solution"
    order_seed: int = 0
    coverage: bool = False
    first_failure: bool = False
    limits: Limits | None = None


PROJECT_LIMITS = Limits(cpu_s=20.0, wall_s=60.0, memory_mb=512, scratch_mb=64)


@dataclass(frozen=True)
class Project:
    """Files of code on trial and trusted pytest files, run with processes and sockets of their own.

    Code and tests share a process, so the tests are run in several rounds, with some of their
    expectations changed in each; see `evaluator.sandbox.canaries`.

    Attributes:
        files: text by path, relative to the folder of the project.
        tests: text by path of the test files; written over `files`.
        expected: the ids that there must be, no more and no fewer, as pytest says them.
        canaries: ids (without parameters) of the tests whose expectations may be changed; None
            takes all that look it. `Sandbox.prove_project` finds both with a reference solution.
        limits: of each round, everything in it together; None for `PROJECT_LIMITS`.
    """

    files: Mapping[str, str]
    tests: Mapping[str, str]
    expected: Collection[str]
    canaries: Collection[str] | None = None
    limits: Limits | None = None


@dataclass(frozen=True)
class ProjectOutcome:
    """What became of a project.

    Attributes:
        status: PASS when exactly the expected tests passed and every changed test failed.
        tests: by test id: passed, failed, skipped, error, missing or forged (it passed although
            its expectation had been changed); empty where no round came to its end.
        detail: the reason in words, empty on PASS.
        output: the first `output_bytes` of what the first round printed.
        cpu_s: CPU seconds of the dearest round.
        rounds: how many there were.
        canaries: how many tests were also run with changed expectations.
    """

    status: Status
    tests: Mapping[str, str]
    detail: str = ""
    output: str = ""
    cpu_s: float = 0.0
    rounds: int = 0
    canaries: int = 0


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
        tests: of `Cases`, by test id: passed, failed, skipped or error:ExceptionName; None unless
            it ran to the end.
        covered: of `Cases` with `coverage`, what `evaluator.sandbox.cases` found.
    """

    status: Status
    values: tuple[Any, ...] | None = None
    errors: tuple[str | None, ...] = ()
    cpu_s: float = 0.0
    detail: str = ""
    output: str = ""
    not_plain: bool = False
    tests: Mapping[str, str] | None = None
    covered: tuple[Any, ...] | None = None
