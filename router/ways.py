"""The ways of answering that a role asks for in the gateway's file, beside the usual one."""

from collections.abc import Mapping
from dataclasses import dataclass

from router.consensus import Consensus, read_consensus
from router.shadow import Mirror, read_mirror
from router.specialist.rules import NONE, Specialists, read_specialists
from router.upstreams.config import GatewayConfig


@dataclass(frozen=True)
class Ways:
    """Of one role: specialists for its tasks, several models at once, copies for the log."""

    specialists: Specialists = NONE
    consensus: Consensus | None = None
    mirror: Mirror | None = None


USUAL = Ways()


def ways_of(config: GatewayConfig) -> Mapping[str, Ways]:
    """Return the ways of each role that the file names.

    Raises:
        BadSetting: a section makes no sense; it names the place.
    """
    return {
        role: Ways(
            read_specialists(role, entry.specialists),
            read_consensus(role, entry.consensus),
            read_mirror(role, entry.mirror),
        )
        for role, entry in config.roles.items()
    }
