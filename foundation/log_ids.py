"""The ids that log lines carry: whose call, run or episode a thread or task is at work on.

In a file of its own, and without any import of ours, so that whoever binds an id pays nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

NAMES: Final = (
    "request_id",
    "interaction_id",
    "episode_id",
    "run_id",
    "role",
    "model_version",
    "trace_id",
    "span_id",
)
"""In the order in which lines show them."""

_NONE: Final[Mapping[str, object]] = {}
_ids: ContextVar[Mapping[str, object]] = ContextVar("log_ids", default=_NONE)


def bound() -> Mapping[str, object]:
    """Return the ids of the present thread or task."""
    return _ids.get()


def bind(**ids: object) -> None:
    """Add ids for the rest of this task, such as one request's; None is no id."""
    _ids.set({**_ids.get(), **{name: value for name, value in ids.items() if value is not None}})


@contextmanager
def binding(**ids: object) -> Iterator[None]:
    """Add ids for a block."""
    before = _ids.get()
    token = _ids.set({**before, **{name: v for name, v in ids.items() if v is not None}})
    try:
        yield
    finally:
        _ids.reset(token)
