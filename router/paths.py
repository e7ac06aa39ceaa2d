"""What a path of the gateway says: who asks, in which episode, and for what."""

from dataclasses import dataclass

ROLE, EPISODE, VERSION = "/r/", "/e/", "/v1/"


@dataclass(frozen=True, slots=True)
class Place:
    """A path without its prefix: `/v1/…`, and the role and episode that stood before it."""

    path: str
    role: str | None = None
    episode: str | None = None


def place_of(path: str) -> Place:
    """Return what a path says; a path of another form is a place of its own.

    Known are `/v1/…`, `/r/{role}/v1/…` and `/r/{role}/e/{episode}/v1/…`; an episode's key may hold
    slashes.
    """
    if not path.startswith(ROLE):
        return Place(path)
    role, slash, rest = path[len(ROLE) :].partition("/")
    rest = slash + rest
    if rest.startswith(EPISODE):
        start = rest.rfind(VERSION)
        episode = rest[len(EPISODE) : start]
        return Place(rest[start:], role, episode) if role and episode else Place(path)
    return Place(rest, role) if role and rest.startswith(VERSION) else Place(path)
