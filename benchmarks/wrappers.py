"""What recording costs a call of a client that is used anyway: openai's, and litellm's callback.

The upstream answers on loopback from a process of its own. Recorded and bare calls take turns, one
by one, and the figure is the median over such pairs of their difference in CPU time: of the calling
thread, or of the calling path, which is the process without our own background threads.

The barred figures hold the background back until the calls are made. Beside them stand the same
calls with the background at work between them, which evicts the caller's caches at a rate that
agents do not reach, since their models take seconds to answer; and what the background spends.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.bars import Figure
from collector.client import Flywheel
from foundation.llm import _litellm, custom_logger_base

OPENAI_BAR_MS, LITELLM_BAR_MS = 0.1, 0.2
TEXT = "def total(values):\n    return sum(values)\n\n" * 48
"""About 2 KB."""
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}
OUR_THREADS = "flywheel-"
PAUSE_S = 0.001
WARM_UP = 50

Call = Callable[[], object]


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures of the wrapped OpenAI client and of the litellm callback."""
    pairs = 300 if quick else 1500
    figures: list[Figure] = []
    with upstream() as url:
        for held_back in (True, False):
            figures += _measured(url, pairs, held_back)
    return figures


def _measured(url: str, pairs: int, held_back: bool) -> list[Figure]:
    """Return the figures with the background held back until the calls are made, or at work."""
    with tempfile.TemporaryDirectory() as folder:
        flywheel = Flywheel(spool=folder, role="coder")
        if held_back:
            flywheel.sender.ensure_running = lambda: None  # type: ignore[method-assign]
        try:
            figures = [
                *_openai_figures(flywheel, url, pairs, held_back),
                *_litellm_figures(flywheel, url, pairs, held_back),
            ]
            lost = flywheel.counts()["dropped"]
        finally:
            flywheel.close(0)
    if lost:
        raise RuntimeError(f"records were dropped while measuring: {lost}")
    return figures


def _openai_figures(flywheel: Flywheel, url: str, pairs: int, held_back: bool) -> list[Figure]:
    import openai

    with (
        openai.OpenAI(base_url=url, api_key="none") as bare,
        flywheel.wrap(openai.OpenAI(base_url=url, api_key="none")) as wrapped,
    ):
        whole = compare(
            lambda: bare.chat.completions.create(**ASKED),
            lambda: wrapped.chat.completions.create(**ASKED),
            pairs,
        )
        streamed = compare(
            lambda: list(bare.chat.completions.create(**ASKED, stream=True)),
            lambda: list(wrapped.chat.completions.create(**ASKED, stream=True)),
            pairs // 2,
        )
    bar = OPENAI_BAR_MS if held_back else None
    return [
        *_figures("OpenAI client, wrapped", whole, "calling thread", held_back, bar),
        *_figures("OpenAI client, wrapped, streaming", streamed, "calling thread", held_back),
    ]


def _litellm_figures(flywheel: Flywheel, url: str, pairs: int, held_back: bool) -> list[Figure]:
    from collector.wrappers.litellm import litellm_callback

    litellm = _litellm()
    loggers = {"no-op": custom_logger_base()(), "ours": litellm_callback(flywheel)}

    def calling(name: str) -> Call:
        def call() -> object:
            return litellm.completion(
                **{**ASKED, "model": "openai/m"}, api_base=url, api_key="none", max_retries=0
            )

        def prepared() -> Call:
            litellm.logging_callback_manager._reset_all_callbacks()  # it copies them elsewhere
            litellm.callbacks = [loggers[name]]
            return call

        call.prepare = prepared  # type: ignore[attr-defined]
        return call

    compared = compare(calling("no-op"), calling("ours"), pairs, PAUSE_S)
    litellm.logging_callback_manager._reset_all_callbacks()
    bar = LITELLM_BAR_MS if held_back else None
    return _figures(
        "litellm, our callback and a no-op one", compared, "calling path", held_back, bar
    )


# Measuring


@dataclass
class Compared:
    """CPU milliseconds of calls, bare and recorded in turns.

    Attributes:
        caller, path: a pair (bare, recorded) for each turn.
        background: of our own threads, per recorded call.
    """

    caller: list[tuple[float, float]]
    path: list[tuple[float, float]]
    background: float


def compare(bare: Call, recorded: Call, pairs: int, pause_s: float = 0.0) -> Compared:
    """Measure two ways of calling in turns, each going first in every other one.

    `pause_s` after each call is for what it leaves to threads of its own.
    """
    for call in (bare, recorded):  # connections, lazy imports
        for _ in range(WARM_UP):
            _spent(call, pause_s)
    _wait_until_idle()
    ours = _ours()
    found = Compared([], [], 0.0)
    for number in range(pairs):
        if number % 2:
            first, second = _spent(bare, pause_s), _spent(recorded, pause_s)
        else:
            second, first = _spent(recorded, pause_s), _spent(bare, pause_s)
        found.caller.append((first[0], second[0]))
        found.path.append((first[1], second[1]))
    _wait_until_idle()
    found.background = (_ours() - ours) * 1000 / (pairs + WARM_UP)
    return found


def _spent(call: Call, pause_s: float) -> tuple[float, float]:
    """Return the milliseconds that a call spends, in the calling thread and on its whole path."""
    getattr(call, "prepare", lambda: None)()
    ours, process, caller = _ours(), time.process_time(), time.thread_time()
    call()
    caller = time.thread_time() - caller
    if pause_s:
        time.sleep(pause_s)
    process, ours = time.process_time() - process, _ours() - ours
    return caller * 1000, (process - ours) * 1000


def _wait_until_idle() -> None:
    """Return when no thread of this process has worked for a while."""
    before = -1.0
    while (now := time.process_time()) - before > 0.003:
        before = now
        time.sleep(1.5)  # longer than a raw record rests


def _ours() -> float:
    """Return the CPU seconds of our own background threads."""
    seconds = 0.0
    for thread in threading.enumerate():
        if thread.name.startswith(OUR_THREADS) and thread.ident is not None:
            with suppress(OSError):  # it has just ended
                seconds += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return seconds


def _figures(
    name: str, compared: Compared, way: str, held_back: bool, at_most: float | None = None
) -> list[Figure]:
    pairs = compared.caller if way == "calling thread" else compared.path
    figure = Figure(
        name=f"{name}: CPU of the {way}" + ("" if held_back else ", background at work"),
        measured=statistics.median(_extra(pairs)),
        unit="ms",
        at_most=at_most,
        detail=_detail(pairs),
    )
    if held_back:
        return [figure]
    return [figure, Figure(f"{name}: CPU of the background", compared.background, "ms")]


def _extra(pairs: list[tuple[float, float]]) -> list[float]:
    return [recorded - bare for bare, recorded in pairs]


def _detail(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    return {
        "quartiles_ms": statistics.quantiles(_extra(pairs), n=4),
        "bare_ms": statistics.median(bare for bare, _ in pairs),
        "recorded_ms": statistics.median(recorded for _, recorded in pairs),
        "pairs": len(pairs),
    }


@contextmanager
def upstream() -> Iterator[str]:
    """Serve the mock upstream from a process of its own; yield its base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.mock_upstream", str(port)])
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"mock upstream on port {port}: not there after {timeout_s:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    from benchmarks.bars import report

    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    sys.exit(report("capture-wrappers", measure("--quick" in sys.argv)))
