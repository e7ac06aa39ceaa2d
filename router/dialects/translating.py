"""What translating a stream is in every dialect: chunks taken, an end or an error, once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from router.dialects.deltas import Chunk, ChunkReader
from router.dialects.dialect import Asked

CUT_SHORT = "the upstream's stream ended before its answer was complete"


class StreamTranslator(ABC):
    """Turns a streamed chat into a stream of another dialect; see `dialect.Translator`.

    The chat is complete with `[DONE]`, or when it ends after each of its choices has said why it
    finished; the usage comes in between.
    """

    def __init__(self, asked: Asked, identifier: str) -> None:
        """Begin the answer to a request, under an id."""
        self.ended = False
        self.asked, self.identifier = asked, identifier
        self._reader = ChunkReader()
        self._finished: dict[int, bool] = {}
        """Of each choice that has said anything, whether it is complete."""

    def feed(self, piece: bytes) -> bytes:
        """Take bytes of the chat's stream; return those that can be said now."""
        return b"".join([self._take(chunk) for chunk in self._reader.feed(piece)])

    def end(self) -> bytes:
        """Take the end of the chat's stream; return the last events, if they are not said yet."""
        said = b"".join([self._take(chunk) for chunk in self._reader.end()])
        if self._finished and all(self._finished.values()):
            return said + self._last()
        return said + self.fail(CUT_SHORT, "upstream_cut")

    def fail(self, message: str, code: str) -> bytes:
        """Return the error that ends the stream."""
        if self.ended:
            return b""
        self.ended = True
        return self.failed(message, code)

    def _take(self, chunk: Chunk) -> bytes:
        if self.ended:
            return b""
        if chunk.error is not None:
            return self.fail(*_worded(chunk.error))
        if chunk.is_last:
            return self._last()
        for delta in chunk.deltas:
            before = self._finished.get(delta.choice, False)
            self._finished[delta.choice] = before or delta.finish_reason is not None
        return self.add(chunk)

    def _last(self) -> bytes:
        if self.ended:
            return b""
        self.ended = True
        return self.close()

    @abstractmethod
    def add(self, chunk: Chunk) -> bytes:
        """Return the events of a chunk."""

    @abstractmethod
    def close(self) -> bytes:
        """Return the events that end a complete answer."""

    @abstractmethod
    def failed(self, message: str, code: str) -> bytes:
        """Return the events that end an answer with an error."""


def _worded(error: Mapping[str, Any]) -> tuple[str, str]:
    """Return message and code of an error that an upstream said inside its stream."""
    code = str(error.get("code") or error.get("type") or "upstream_error")
    return str(error.get("message") or code), code
