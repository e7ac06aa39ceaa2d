"""The keys as one process knows them, renewed when somebody asks and the last look is a moment ago.

For the service and what answers beside a worker; a gateway renews its picture with its roster.
"""

import time
from collections.abc import Mapping
from threading import Lock
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from foundation.database import session_scope
from foundation.errors import FlywheelError
from router.keys import Caller, Keyring, take, unread_keyring

FRESH_S: Final = 0.75
"""Seconds that a picture of the keys is used."""


class KeyPicture:
    """The keys as one process knows them; while the database is away the last picture stays."""

    def __init__(self) -> None:
        self.ring: Keyring = unread_keyring()
        self._looked = float("-inf")
        self._lock = Lock()

    async def identify(self, headers: Mapping[str, str], scope: str) -> Caller:
        """Return who calls; raises as `Keyring.identify`."""
        if self._is_old(headers):
            await run_in_threadpool(self._renew)
        return self._ring_for(headers).identify(headers, scope)

    def identify_here(self, headers: Mapping[str, str], scope: str) -> Caller:
        """Do the same where no event loop runs."""
        if self._is_old(headers):
            self._renew()
        return self._ring_for(headers).identify(headers, scope)

    def _is_old(self, headers: Mapping[str, str]) -> bool:
        """Say whether the picture must be renewed first: not for a key of the settings."""
        is_of_settings = self._ring_for(headers) is not self.ring
        return not is_of_settings and time.monotonic() - self._looked >= FRESH_S

    def _ring_for(self, headers: Mapping[str, str]) -> Keyring:
        configured = unread_keyring()
        return configured if configured.is_of_settings(headers) else self.ring

    async def write_uses(self) -> None:
        """Write down which keys were used, if that is due."""
        if self.ring.uses.is_due:
            await run_in_threadpool(self._write_uses)

    def _renew(self) -> None:
        with self._lock:
            if time.monotonic() - self._looked < FRESH_S:
                return
            try:
                with session_scope() as session:
                    self.ring = take(session, uses=self.ring.uses)
            except (SQLAlchemyError, FlywheelError):
                pass  # the last picture stays
            self._looked = time.monotonic()

    def _write_uses(self) -> None:
        try:
            with session_scope() as session:
                self.ring.uses.write(session)
        except (SQLAlchemyError, FlywheelError):
            pass  # to the minute is enough
