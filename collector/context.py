"""What the present task of an agent is: its episode and role, carried by context variables.

Asyncio tasks inherit it by themselves; a function that another thread runs does so through
`bound`: `executor.submit(bound(work), …)`.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from foundation.ids import new_id

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Episode:
    """One agent task; its interactions, across roles, share the `id`.

    Attributes:
        id: the `episode_id` of its records.
        role: the role that acts now.
        task: what is to be done, kept in the records' attributes.
        task_type: kind of task, which curation balances by.
        unit: what sticky A/B assignment goes by; the episode itself if it is None.
        parent_id: the interaction that caused what happens now.
    """

    id: UUID = field(default_factory=new_id)
    role: str | None = None
    task: str | None = None
    task_type: str | None = None
    unit: str | None = None
    parent_id: UUID | None = None


_current: ContextVar[Episode | None] = ContextVar("flywheel_episode", default=None)
_last: ContextVar[UUID | None] = ContextVar("flywheel_last_interaction", default=None)


def current_episode() -> Episode | None:
    """Return the episode that this code runs in, or None."""
    return _current.get()


@contextmanager
def entered(episode: Episode) -> Iterator[Episode]:
    """Make `episode` the present one for the block."""
    before = _current.get()
    _current.set(episode)
    try:
        yield episode
    finally:
        _current.set(before)  # no token: a generator may be closed in another context


def acting_as(role: str, parent_id: UUID | None = None) -> Episode:
    """Return the present episode with another role acting (a new episode if there is none)."""
    present = current_episode() or Episode()
    return replace(present, role=role, parent_id=parent_id or present.parent_id)


def note_interaction(identifier: UUID) -> None:
    """Remember the interaction that this code has just begun."""
    _last.set(identifier)


def last_interaction() -> UUID | None:
    """Return the interaction that this thread or task began last, or None."""
    return _last.get()


def bound(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` for another thread: it runs in the episode and role of this moment."""
    context = copy_context()

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(function, *args, **kwargs)

    return call


def observed(function: F, entering: Callable[[], AbstractContextManager[Episode]]) -> F:
    """Return `function` so that its body runs in the block that `entering()` opens.

    Coroutine functions, generators and async generators stay what they are; what runs between two
    values of a generator, in the code that asks for them, is outside the block.
    """
    kinds = (
        (inspect.isasyncgenfunction, _observed_async_generator),
        (inspect.isgeneratorfunction, _observed_generator),
        (asyncio.iscoroutinefunction, _observed_coroutine),
    )
    wrapping = next((wrap for is_kind, wrap in kinds if is_kind(function)), _observed_call)
    return functools.wraps(function)(wrapping(function, entering))  # type: ignore[return-value]


Entering = Callable[[], AbstractContextManager[Episode]]


def _observed_call(function: Callable[..., Any], entering: Entering) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with entering():
            return function(*args, **kwargs)

    return call


def _observed_coroutine(function: Callable[..., Any], entering: Entering) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with entering():
            return await function(*args, **kwargs)

    return call


def _observed_generator(function: Callable[..., Any], entering: Entering) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with entering() as episode:
            values = function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(next, values)
        while True:
            try:
                with entered(episode):
                    value = step()
                    episode = current_episode() or episode
            except StopIteration as end:
                return end.value
            try:
                step = functools.partial(values.send, (yield value))
            except GeneratorExit:
                with entered(episode):
                    values.close()
                raise
            except BaseException as error:  # thrown in by the caller: it is for the generator
                step = functools.partial(values.throw, error)

    return call


def _observed_async_generator(
    function: Callable[..., Any], entering: Entering
) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with entering() as episode:
            values = function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(anext, values)
        while True:
            try:
                with entered(episode):
                    value = await step()
                    episode = current_episode() or episode
            except StopAsyncIteration:
                return
            try:
                step = functools.partial(values.asend, (yield value))
            except GeneratorExit:
                with entered(episode):
                    await values.aclose()
                raise
            except BaseException as error:  # thrown in by the caller: it is for the generator
                step = functools.partial(values.athrow, error)

    return call
