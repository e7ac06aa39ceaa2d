"""Whose call an imported record was, as far as the log says."""

from typing import Any

from foundation.settings import get_settings


def known_role(*names: Any) -> str | None:
    """Return the first of the names that is an agent role here (`FLYWHEEL_ROLES`), None for none.

    Logs use the word role for other things too (a user's rights, a graph's node): a name that is
    no role of ours must not cost the record.
    """
    roles = get_settings().roles
    return next((name for name in names if isinstance(name, str) and name in roles), None)
