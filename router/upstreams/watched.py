"""The gateway's file as it is now: read anew when it changes, the last good one kept if it breaks.

A change is seen by the file's time, size and number, and believed by its content.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from foundation.errors import BadSetting
from foundation.settings import Settings, get_settings
from router.upstreams import config as configs
from router.upstreams.config import GatewayConfig
from router.ways import Ways, ways_of

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int]


@dataclass
class WatchedConfig:
    """The present configuration, and what is wrong with the file if it could not be taken over.

    Made with a file that is wrong it raises BadSetting: a gateway does not start on a mistake.
    """

    settings: Settings = field(default_factory=get_settings)
    config: GatewayConfig = field(init=False)
    ways: Mapping[str, Ways] = field(init=False)
    problem: str | None = None
    _stamp: Stamp | None = None
    _seen: str | None = None

    def __post_init__(self) -> None:
        self._stamp = self._stamped()
        self.config = configs.load(self.settings)
        self.ways = ways_of(self.config)
        self._seen = self.config.digest

    def refresh(self) -> bool:
        """Read the file if it has changed; return whether there is another configuration now.

        Never raises: a file that makes no sense is logged, once, and shown on the health page.
        """
        path = self.settings.gateway_file
        stamp = self._stamped()
        if path is None or (stamp is not None and stamp == self._stamp):
            return False
        try:
            text = configs.read(path)
            digest = hashlib.sha256(text).hexdigest()
            if digest == self._seen:
                self._stamp = stamp
                return False
            fresh = configs.load(self.settings, text)
            ways = ways_of(fresh)
        except BadSetting as error:
            self._keep_last(str(error))
            self._stamp, self._seen = stamp, None
            return False
        self._stamp, self._seen, self.problem = stamp, digest, None
        changed = fresh.digest != self.config.digest
        self.config, self.ways = fresh, ways
        log.info("%s: taken over (%s)", path, digest[:12])
        return changed

    def told(self) -> dict[str, str | None] | None:
        """Return the file as the health page shows it; None without a file."""
        path = self.settings.gateway_file
        if path is None:
            return None
        return {"name": path.name, "digest": self.config.digest, "problem": self.problem}

    def _keep_last(self, problem: str) -> None:
        if problem != self.problem:
            log.error("the last good configuration stays: %s", problem)
        self.problem = problem

    def _stamped(self) -> Stamp | None:
        """Return what a change of the file would change; None if it cannot be seen."""
        path: Path | None = self.settings.gateway_file
        try:
            found = path.stat() if path else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None
