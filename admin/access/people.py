"""The four roles of people, each of which may all that the one before it may. Pure."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from foundation.errors import BadInput

VIEWER, REVIEWER, OPERATOR, ADMIN = "viewer", "reviewer", "operator", "admin"

ROLES: Final = {
    VIEWER: "sees every page but users, keys and the audit log",
    REVIEWER: "also labels examples and gives feedback",
    OPERATOR: "also starts, stops, promotes, rolls back, cancels and retries",
    ADMIN: "also manages users, keys, budgets, settings of roles, and erases",
}
"""What each may do, in words, from the least to the most."""

_RANK: Final = {role: rank for rank, role in enumerate(ROLES)}


@dataclass(frozen=True)
class Person:
    """Who asks for a page."""

    name: str
    role: str
    via: str
    """How they came in: password, code, oidc or key."""
    user_id: UUID | None = None
    """None: they have the key of the service."""
    token_hash: str | None = None
    """Of their session; None with a key, which has none to end."""

    def may(self, role: str) -> bool:
        """Return whether they may do what needs `role`."""
        return _RANK[self.role] >= _RANK[role]


def require_role(role: str) -> str:
    """Return `role` if it is one of the four; raises BadInput."""
    if role not in ROLES:
        raise BadInput("role of a user", role, f"one of {', '.join(ROLES)}", "See docs/admin.md.")
    return role
