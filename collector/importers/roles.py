"""Whose call an imported record was, as far as the log says."""

from collections.abc import Iterable
from typing import Any

from foundation.settings import get_settings


def known_role(names: Iterable[Any], default: str) -> str:
    """Return the first of the names that is an agent role here (`FLYWHEEL_ROLES`), else `default`.

    Logs use the word role for other things too (a user's rights, a graph's node): a name that is
    no role of ours must not cost the record.
    """
    roles = get_settings().roles
    return next((str(name) for name in names if name in roles), default)
