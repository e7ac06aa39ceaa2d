"""Which failures of a call say how well its version serves, and which are somebody else's."""

from collector.tables import ERROR

REFUSED = "refused:"
"""Begins the error type of a request that its upstream would not take: the caller's fault."""
UNREACHABLE = "upstream_unreachable"
"""Error type of a server that cannot be reached: an outage of all that it serves."""


def counts_for_version(status: str, error_type: str | None) -> bool:
    """Return whether a call says how well its version serves; pure.

    Malformed requests and a server that is away say nothing about it: three of them would be proof
    enough to quarantine a healthy version. The guard asks the same in SQL.
    """
    kind = error_type or ""
    return status != ERROR or not (kind.startswith(REFUSED) or kind == UNREACHABLE)
