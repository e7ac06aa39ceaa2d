"""Who may open a door: one bearer key for the whole service, compared in constant time.

Without a key the service answers on loopback only (`settings.require_safe_binding`). Scoped keys
are the gateway's business.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping

from foundation.errors import NotAuthorised
from foundation.settings import get_settings


def require_key(headers: Mapping[str, str], door: str = "this service") -> None:
    """Check a request's key: `Authorization: Bearer`, `x-api-key`, or a browser's Basic password.

    Raises:
        NotAuthorised: a key is configured and the request carries another one, or none.
    """
    expected = get_settings().api_key
    if expected is None:
        return
    given = given_key(headers)
    if not hmac.compare_digest(given.encode(), expected.get_secret_value().encode()):
        raise NotAuthorised(door)


def given_key(headers: Mapping[str, str]) -> str:
    """Return the key that a request carries, wherever its client puts it; empty without one."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return headers.get("x-api-key", "")
