"""Empty spools' folders from another process: what dead writers left, and what living ones write.

A living client without a service (`FLYWHEEL_URL` unset) scrubs its records itself, and this ships
them; one that has a service ships its own.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from collector.sender import Sender
from collector.spool import Spool
from collector.spool.inspection import Totals, inspect, total
from collector.spool.writer import Prepare
from collector.transport import Transport

PATIENCE_S = 30.0
"""Time without an answer of the collector after which a drain gives up."""

POLL_S = 0.2
LONGEST_POLL_S = 2.0


def drain(
    folders: Sequence[Path],
    transport: Transport,
    *,
    follow: bool = False,
    retry_held: bool = False,
    patience_s: float = PATIENCE_S,
    prepare: Prepare | None = None,
    progress: Callable[[int, int], None] = lambda done, todo: None,
) -> Totals:
    """Ship what waits and return what is left.

    Args:
        folders: of spools.
        transport: where to.
        follow: go on for ever with what living writers add; until interrupted.
        retry_held: scrub and send again what is held back.
        prepare: builds and scrubs raw lines; by default as a client's spool does.
        patience_s: time without an answer after which it gives up, unless it follows.
        progress: called with the records shipped and those that waited at first.

    Raises:
        Unreachable: the collector does not take what is held back.
    """
    todo = _totals(folders).waiting
    with ExitStack() as stack:
        senders = [Sender(Spool(folder, prepare=prepare), transport) for folder in folders]
        for sender in senders:
            stack.callback(sender.spool.close)
            sender.spool.adopt(live=True)
            if retry_held:
                sender.retry_held()
        until = time.monotonic() + patience_s
        while follow or time.monotonic() < until:
            if any([_ship(sender) for sender in senders]):
                progress(sum(sender.settled for sender in senders), todo)
                until = time.monotonic() + patience_s
            elif not follow and not any(_is_unfinished(sender.spool) for sender in senders):
                break
            else:
                pause_s = max((sender.pause_s for sender in senders), default=0.0)
                time.sleep(min(max(pause_s, POLL_S), LONGEST_POLL_S))
    return _totals(folders)


def _ship(sender: Sender) -> bool:
    sender.spool.adopt(live=True)
    return sender.ship_once()


def _is_unfinished(spool: Spool) -> bool:
    return bool(spool.waiting_bytes() or spool.untold())


def _totals(folders: Sequence[Path]) -> Totals:
    return total(status for folder in folders for status in inspect(folder))
