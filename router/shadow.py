"""Shadow traffic: a share of a role's calls is sent to a second model too, for the log alone.

A copy leaves when the caller has its answer, counts for nobody, and is left out rather than waited
for when too many are under way.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from pydantic import ConfigDict, TypeAdapter, ValidationError

from foundation.errors import BadSetting

SHADOW = "shadow"
"""What stands for the arm in the record of a copy."""

MOST_AT_ONCE = 16


@dataclass(frozen=True)
class Mirror:
    """Where a role's calls are copied to.

    Args:
        model: a version's name, or a model that the gateway knows.
        share: of the calls, 0-1.
    """

    model: str
    share: float = 1.0

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError("share: expected a number above 0, at most 1")

    def takes(self, call_id: UUID) -> bool:
        """Return whether a call is copied: by its id's hash, so always the same way; pure."""
        return int.from_bytes(hashlib.sha256(call_id.bytes).digest()[:4]) < self.share * 2**32


_READER = TypeAdapter(Mirror)


def read_mirror(role: str, raw: Mapping[str, Any] | None) -> Mirror | None:
    """Return where a role's calls are copied to, None if nowhere.

    Raises:
        BadSetting: a field is unknown or of another kind; it names the place.
    """
    if raw is None:
        return None
    try:
        return _READER.validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("roles", role, "mirror", *first["loc"]))
        raise BadSetting(
            f"FLYWHEEL_GATEWAY_FILE, {place}",
            first["input"],
            first["msg"].removeprefix("Value error, "),
            "Correct it; docs/consensus.md shows the section.",
        ) from error


class Shadows:
    """The copies under way in one gateway process; used by its event loop alone.

    Attributes:
        sent: copies begun so far.
        left_out: copies not begun because too many were under way.
    """

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self.sent = self.left_out = 0
        self._most = most
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(self, copy: Callable[[], Awaitable[None]]) -> bool:
        """Begin a copy unless too many are under way; return whether it was begun.

        The copy handles what its model does wrong; anything else is the loop's to report.
        """
        if len(self._under_way) >= self._most:
            self.left_out += 1
            return False
        self.sent += 1
        task = asyncio.ensure_future(copy())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return True

    async def close(self) -> None:
        """End the copies under way; each records that it was cut."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
