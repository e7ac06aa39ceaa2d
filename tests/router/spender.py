"""A gateway process as far as budgets go: calls in parallel until its budget is spent.

    python spender.py CALLERS RESERVED SEED [for ever]

Prints one JSON line: what its calls took, how many were answered and how many refused. A caller
leaves when the budget is used up, or after waiting two seconds for what others were promised. For
ever, nobody leaves, and a line is printed with each call that has ended.
"""

import asyncio
import json
import random
import sys
from uuid import UUID

from router.budget import Budgets, OverBudget
from router.keys import AGENT, Caller

KEY = UUID("00000000-0000-7000-8000-000000000001")
CALLER = Caller(KEY, "spender", AGENT)


async def spend(n_callers: int, reserved: int, seed: int, for_ever: bool) -> None:
    draw = random.Random(seed)
    budgets = Budgets()
    await budgets.start()
    done = {"tokens": 0, "calls": 0, "refused": 0}

    async def call() -> None:
        waited = 0
        while waited < 40 or for_ever:
            try:
                reservation = await budgets.reserve(CALLER, "coder", None, reserved, 0.01)
            except OverBudget as error:
                done["refused"] += 1
                if error.is_final and not for_ever:
                    return
                waited += 1
                await asyncio.sleep(0.05)
                continue
            waited = 0
            await asyncio.sleep(draw.random() * 0.01)
            took = draw.randint(reserved // 2, reserved)
            reservation.settle(took // 2, took - took // 2, 0.01)
            done["tokens"] += took
            done["calls"] += 1
            if for_ever:
                say(done)

    await asyncio.gather(*(call() for _ in range(n_callers)))
    await budgets.close()
    say(done)


def say(done: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(done) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(spend(*(int(n) for n in sys.argv[1:4]), for_ever=len(sys.argv) > 4))
