"""The shapes of other APIs as chat completions: for records, of whole answers and of streams.

Used where calls are observed, in `collector.wrappers`, and where they pass through, in
`router.dialects`. No pydantic and no library of a provider: these run inside other people's agents.
"""

from typing import Any, NamedTuple

Json = dict[str, Any]


class Event(NamedTuple):
    """One server-sent event: its name, its JSON, and the offset in the body where it ended."""

    name: str | None
    data: Json
    end: int


class Told(NamedTuple):
    """What the events of a stream tell when put together.

    Attributes:
        answer: the provider's whole answer as far as it came; None if nothing came.
        ended: whether the provider said that it was finished.
        error: what the provider said went wrong, if it did so inside the stream.
    """

    answer: Any
    ended: bool
    error: Json | None = None
