"""The ways of asking that the gateway understands.

Chat completions, text completions, embeddings, OpenAI's responses and Anthropic's messages.
`dialect` says what a dialect is; one module each says how it differs from a chat. Nothing here
opens a connection or keeps anything between two calls.
"""

from collections.abc import Mapping

from router.dialects.chat import CHAT
from router.dialects.completions import COMPLETIONS
from router.dialects.dialect import Asked, Dialect, Translator
from router.dialects.embeddings import EMBEDDINGS
from router.dialects.errors import UpstreamError, read_error
from router.dialects.messages import COUNT_PATH, MESSAGES, count_tokens
from router.dialects.record import Recorded, recorded_answer, recorded_stream
from router.dialects.responses import RESPONSES

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect for dialect in (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES)
}
"""By name."""

OF_PATH: Mapping[str, Dialect] = {dialect.path: dialect for dialect in DIALECTS.values()}
"""By the path of the gateway's endpoint, without the role and episode that may stand before it."""


def read(body: bytes, dialect: Dialect = CHAT) -> Asked:
    """Read a request in a dialect; raises BadInput as `Dialect.read` does."""
    return dialect.read(body)


__all__ = [
    "CHAT",
    "COMPLETIONS",
    "COUNT_PATH",
    "DIALECTS",
    "EMBEDDINGS",
    "MESSAGES",
    "OF_PATH",
    "RESPONSES",
    "Asked",
    "Dialect",
    "Recorded",
    "Translator",
    "UpstreamError",
    "count_tokens",
    "read",
    "read_error",
    "recorded_answer",
    "recorded_stream",
]
