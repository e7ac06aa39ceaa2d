"""Which calls of openai's client are recorded: chat, responses, legacy completions, embeddings.

`create`, `parse`, `stream` and the raw variants of each send the same requests, so paths name them.
"""

from collector.shapes import completions, responses
from collector.wrappers.operation import Operation


def operations(embeddings: bool = False) -> list[Operation]:
    """Return what is recorded of openai's client; `embeddings` only if they are asked for."""
    recorded = [
        Operation("/chat/completions", "chat", completions.tell, completions.speaks),
        Operation("/completions", "text_completion", completions.tell, completions.speaks),
        Operation(
            "/responses",
            "chat",
            responses.tell,
            responses.speaks,
            api="openai.responses",
            chat_request=responses.chat_request,
            chat_response=responses.chat_response,
        ),
    ]
    if embeddings:
        recorded.append(
            Operation("/embeddings", "embeddings", completions.tell, completions.speaks)
        )
    return recorded
