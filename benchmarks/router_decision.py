"""What it takes to decide who answers a call, and to put its record into the journal: CPU time.

    python -m benchmarks.router --only decision [--quick]

In one process with the gateway's own parts, a real database and an experiment under way: the hash
that draws an arm, then the whole of a call's choice (who serves the role, the experiment, the arm)
and its `write` into the spool. No request flows, so nothing else is in the figure. The row of a new
unit is written before its first call; that is once an episode, and printed apart.
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from uuid import UUID

from benchmarks.bars import Figure
from benchmarks.gateway_load import Round, request_body
from benchmarks.mock_upstream import whole_answer
from benchmarks.router_hosts import PROMPT, database

MODELS = ("mock-a", "mock-b")
MODEL = "role:coder"
BATCH = 500
PER_EPISODE = 5
EXPERIMENT = UUID("00000000-0000-7000-8000-000000000001")

Times = dict[str, list[float]]
"""CPU milliseconds a call, one value a batch."""


def measure(quick: bool = False) -> list[Figure]:
    """Measure in a process of its own, whose environment names the database."""
    with database(MODELS, compare=True) as variables:
        command = [sys.executable, "-m", "benchmarks.router_decision", "5" if quick else "40"]
        environment = {**os.environ, **variables}
        said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return figures_of(json.loads(said.stdout))


def figures_of(times: Times) -> list[Figure]:
    """Return the figures, medians over batches."""

    def spread(name: str) -> dict[str, float]:
        return {"least": min(times[name]), "most": max(times[name]), "batches": len(times[name])}

    known, new = median(times["known"]), median(times["new"])
    return [
        Figure(
            "drawing the arm of a new unit, CPU",
            median(times["draw"]),
            "ms",
            at_most=0.1,
            detail=spread("draw"),
        ),
        Figure(
            "choosing who answers and putting the call into the journal, known unit, CPU",
            known,
            "ms",
            at_most=0.1,
            detail={**spread("known"), "journal alone": median(times["journal"])},
        ),
        Figure(
            "the same for a new unit, whose row is written first, CPU",
            new,
            "ms",
            detail={
                **spread("new"),
                f"a call, at {PER_EPISODE} an episode": (new + (PER_EPISODE - 1) * known)
                / PER_EPISODE,
            },
        ),
    ]


async def sample(n_batches: int, folder: Path) -> Times:
    """Take the times; `folder` gets the journal."""
    from collector.tables import SUCCESS
    from foundation.ids import new_id
    from router.assign import assign
    from router.call import Call, Ending
    from router.dialects import CHAT
    from router.keys import LOCAL
    from router.recording import Recorder
    from router.switchboard import Switchboard
    from router.upstreams.watched import WatchedConfig

    asked = CHAT.read(request_body(Round("", "", MODEL, prompt=PROMPT), 0))
    ending = Ending(SUCCESS, [json.dumps(whole_answer("mock-a")).encode()])
    recorder = Recorder(folder)  # not started: what prepares and ships is no part of the decision
    board = Switchboard(WatchedConfig(), recorder)
    await board.refresh()
    episode = new_id()

    async def choose(episode_id: UUID) -> Call:
        call = Call("coder", asked=asked, episode_id=episode_id)
        await board.choose(call, LOCAL, MODEL)
        return call

    async def draw() -> None:
        assign(EXPERIMENT, "salt", str(new_id()), 0.5)

    async def known() -> None:
        recorder.keep(await choose(episode), ending)

    async def journal() -> None:
        recorder.keep(call, ending)

    async def new() -> None:
        recorder.keep(await choose(new_id()), ending)

    call = await choose(episode)
    assert call.arm is not None
    asks = {"draw": draw, "known": known, "journal": journal, "new": new}
    times: Times = {name: [] for name in asks}
    for number in range(n_batches + 1):  # the first one warms up
        for name, ask in asks.items():
            taken = await _cpu_ms(ask, BATCH // 5 if ask is new else BATCH)
            if number:
                times[name].append(taken)
    await board.client.close()
    return times


async def _cpu_ms(ask: Callable[[], Awaitable[None]], n: int) -> float:
    """Return the CPU milliseconds of one of `n`, over all threads of the process."""
    gc.collect()
    started = time.process_time()
    for _ in range(n):
        await ask()
    return (time.process_time() - started) * 1000 / n


if __name__ == "__main__":
    home = Path(os.environ["FLYWHEEL_HOME"])
    json.dump(asyncio.run(sample(int(sys.argv[1]), home / "journal")), sys.stdout)
