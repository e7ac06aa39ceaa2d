"""Record the calls of clients that agents use already: openai's, anthropic's, and litellm.

`Flywheel.wrap` comes here. A wrapped client stays the object it was, of the class it was; what it
returns, raises and sends is unchanged. A module per library says which of its calls are recorded;
`exchange` is the one place where any of them is observed.
"""

from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from foundation.errors import BadInput

if TYPE_CHECKING:
    from collector.client import Flywheel

Client = TypeVar("Client")

WRAPPED = "a client of openai or anthropic, sync or async, or the module litellm"


def wrap(
    flywheel: "Flywheel", client: Client, role: str | None = None, *, embeddings: bool = False
) -> Client:
    """Have `client` record its calls into `flywheel`, and return it; see `Flywheel.wrap`.

    Raises:
        BadInput: it is no client that can be observed.
    """
    from collector.wrappers.exchange import observe

    if isinstance(client, ModuleType) and client.__name__ == "litellm":
        _call_back(flywheel, client, role)
        return client
    operations = _operations_of(client)
    if operations is None:
        raise BadInput(
            "client to wrap",
            f"{type(client).__module__}.{type(client).__qualname__}",
            WRAPPED,
            "Wrap the client itself, not a part of it.",
        )
    return observe(client, flywheel, operations(embeddings), role)


def _call_back(flywheel: "Flywheel", litellm: Any, role: str | None) -> None:
    """Have litellm tell `flywheel` of its calls, once."""
    from collector.wrappers.litellm import litellm_callback

    present = [one for one in litellm.callbacks if getattr(one, "client", None) is flywheel]
    for one in present:
        one.role = role
    if not present:
        litellm.callbacks.append(litellm_callback(flywheel, role))


def _operations_of(client: object) -> Any:
    """Return the function that names the recorded operations of a client's library, or None."""
    libraries = {base.__module__.partition(".")[0] for base in type(client).__mro__}
    if not callable(getattr(client, "_process_response", None)):
        return None
    if "openai" in libraries:
        from collector.wrappers.openai import operations

        return operations
    if "anthropic" in libraries:
        from collector.wrappers.anthropic import operations

        return operations
    return None
