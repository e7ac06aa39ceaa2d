"""The arms of units as one gateway process knows them; a new unit's is written down first.

The calls of an agent often begin together: those of one unit wait for one assignment. Two threads
make them, each with a connection that it finds again: a thread and a connection for every call that
waits would cost more than the call.
"""

import asyncio
import logging
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from foundation.database import get_engine
from foundation.errors import FlywheelError
from router.experiments.units import arm_of_unit
from router.tables import Experiment

log = logging.getLogger(__name__)

MOST_KNOWN = 100_000
WRITERS = 2
LONGEST_S = 5.0
"""Seconds that a call waits for its arm; a database that takes longer is as good as away."""

Key = tuple[UUID, str]


class Arms:
    """The arms that units were given, remembered; used by the process's event loop alone.

    Attributes:
        known: by experiment and unit, the latest ones.
    """

    def __init__(self) -> None:
        self.known: OrderedDict[Key, str] = OrderedDict()
        self._asked: dict[Key, asyncio.Future[str]] = {}
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="gateway-arms")

    async def of(self, experiment: Experiment, unit: str, stratum: str) -> str | None:
        """Return the arm of a unit, written down before this returns.

        None if the database is away and the unit is new: such a call stays outside the experiment.
        """
        key = (experiment.id, unit)
        if key in self.known:
            return self.known[key]
        asked = self._asked.get(key) or self._ask(key, experiment, stratum)
        try:
            # Shielded: who leaves does not take the arm of the others along.
            return await asyncio.wait_for(asyncio.shield(asked), LONGEST_S)
        except (SQLAlchemyError, FlywheelError, TimeoutError) as error:
            log.warning("unit %s is served outside its experiment: %r", unit, error)
            return None

    def _ask(self, key: Key, experiment: Experiment, stratum: str) -> asyncio.Future[str]:
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._writers, _write_down, experiment, key[1], stratum)
        self._asked[key] = asked
        asked.add_done_callback(lambda done: self._note(key, done))
        return asked

    def _note(self, key: Key, done: asyncio.Future[str]) -> None:
        del self._asked[key]
        if done.cancelled() or done.exception() is not None:
            return
        self.known[key] = done.result()
        if len(self.known) > MOST_KNOWN:
            self.known.popitem(last=False)

    def close(self) -> None:
        """Let go of the threads; what they have begun they end."""
        self._writers.shutdown(wait=False, cancel_futures=True)


def _write_down(experiment: Experiment, unit: str, stratum: str) -> str:
    committing = get_engine().execution_options(isolation_level="AUTOCOMMIT")
    with committing.connect() as connection:
        return arm_of_unit(connection, experiment, unit, stratum)
