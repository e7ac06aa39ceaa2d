"""Which calls of anthropic's client are recorded: messages, stable and beta alike."""

from collector.shapes import messages
from collector.wrappers.operation import Operation


def operations(embeddings: bool = False) -> list[Operation]:
    """Return what is recorded of anthropic's client; it has no embeddings."""
    return [
        Operation(
            "/v1/messages",
            "chat",
            messages.tell,
            messages.speaks,
            api="anthropic.messages",
            chat_request=messages.chat_request,
            chat_response=messages.chat_response,
        )
    ]
