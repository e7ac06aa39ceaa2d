"""Which calls of anthropic's client are recorded: messages, stable and beta alike."""

from collector.wrappers import messages_shape
from collector.wrappers.operation import Operation


def operations(embeddings: bool = False) -> list[Operation]:
    """Return what is recorded of anthropic's client; it has no embeddings."""
    return [
        Operation(
            "/v1/messages",
            "chat",
            messages_shape.tell,
            messages_shape.speaks,
            api="anthropic.messages",
            chat_request=messages_shape.chat_request,
            chat_response=messages_shape.chat_response,
        )
    ]
