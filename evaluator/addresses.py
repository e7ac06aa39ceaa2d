"""Which servers are asked, and with which key: the master key goes to our own engine alone.

Who may order an evaluation may say where its model is served. They must not learn the deployment's
key that way, nor have its worker ask whatever it can reach.
"""

from foundation.access import came_by
from foundation.errors import Forbidden
from foundation.settings import get_settings


def api_key_of(base_url: str) -> str | None:
    """Return the key of a server: an upstream's own, our engine's; of any other address none."""
    known = _known()
    return known.get(base_url.rstrip("/"))


def require_known(base_url: str | None) -> None:
    """Check an address that somebody names; who is no operator may name known ones only.

    Raises:
        Forbidden: a key of scopes asks for another.
    """
    known = _known()
    is_operator = came_by().key_id is None
    if base_url is not None and not is_operator and base_url.rstrip("/") not in known:
        raise Forbidden(
            "base_url",
            base_url,
            f"one of {', '.join(known)}",
            "Add the server to FLYWHEEL_UPSTREAMS, or order it from the command line.",
        )


def _known() -> dict[str, str | None]:
    settings = get_settings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    own = {settings.engine_base_url.rstrip("/"): key}
    upstreams = {
        str(entry.get("base_url", "")).rstrip("/"): entry.get("api_key")
        for entry in settings.upstreams.values()
    }
    return own | upstreams
