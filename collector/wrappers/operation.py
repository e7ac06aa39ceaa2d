"""What is recorded of a provider's API: which path, and how its answers become chat completions.

An API that is not chat completions is recorded in that shape, which everything downstream reads,
with the provider's own request and response beside it in the attribute `exact`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collector.shapes import Event, Json, Told


@dataclass(frozen=True)
class Operation:
    """One recorded call of a provider's API.

    Attributes:
        path: of the request, below the client's base URL.
        name: `gen_ai_operation_name`.
        api: name of the API in the attribute `exact`; None for what is kept as it is.
        tell: puts the events of a stream together.
        speaks: whether an event carries some of the answer: the first ends the time to first token.
        chat_request: turns the provider's request into a chat request.
        chat_response: turns the provider's answer into a chat completion.
    """

    path: str
    name: str
    tell: Callable[[Sequence[Event]], Told]
    speaks: Callable[[Json], bool]
    api: str | None = None
    chat_request: Callable[[Json], Json] = lambda body: body
    chat_response: Callable[[Json], Json] = lambda answer: answer
