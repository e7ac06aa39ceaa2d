"""Passes a stream on as it arrives, translated where need be, and notes all of it."""

from collections.abc import Callable

from starlette.types import Send

from router.asgi import send_piece
from router.call import Call, RawHeaders
from router.dialects import CHAT, Translator
from router.dialects.dialect import EndWatch
from router.lanes import Opened, UpstreamFailed


class Relay:
    """One streamed answer on its way.

    The event that ends the stream is held back until the call is recorded. When the upstream
    breaks, the caller is sent the error as the last event.

    Attributes:
        pieces: what the upstream has said so far.
        failure: why it said no more, if it broke.
        ended: whether its last event has come.
    """

    __slots__ = (
        "_call",
        "_opened",
        "_record",
        "_translator",
        "_watch",
        "ended",
        "failure",
        "pieces",
    )

    def __init__(self, call: Call, opened: Opened, record: Callable[[], None]) -> None:
        assert call.asked is not None
        dialect = call.asked.dialect
        self.pieces: list[bytes] = []
        self.ended = False
        self.failure: UpstreamFailed | None = None
        self._call, self._opened, self._record = call, opened, record
        self._translator: Translator | None = None
        self._watch: EndWatch | None = None
        if opened.is_native or dialect is CHAT:
            self._watch = dialect.watch_end()
        else:
            self._translator = dialect.translator(call.asked, call.id.hex)

    async def pass_on(self, send: Send, headers: RawHeaders) -> None:
        """Send the answer but for the end of its body; it is recorded by then."""
        await send(
            {"type": "http.response.start", "status": self._opened.status, "headers": headers}
        )
        try:
            async for piece in self._opened.body:
                if self._call.ttft_ms is None:
                    self._call.ttft_ms = self._call.elapsed_ms()
                self.pieces.append(piece)
                said, is_last = self._said(piece)
                if is_last:
                    self.ended = True
                    self._record()
                if said:
                    await send_piece(send, said)
            last = self._translator.end() if self._translator is not None else b""
        except UpstreamFailed as error:
            self.failure = error
            last = self._farewell(error)
        finally:
            await self._opened.aclose()
        self._record()
        if last:
            await send_piece(send, last)

    def _said(self, piece: bytes) -> tuple[bytes, bool]:
        """Return what the caller is told of a piece, and whether the stream ends with it."""
        if self._translator is not None:
            return self._translator.feed(piece), self._translator.ended
        assert self._watch is not None
        return piece, self._watch.feed(piece)

    def _farewell(self, error: UpstreamFailed) -> bytes:
        assert self._call.asked is not None
        if self._translator is not None:
            return self._translator.fail(str(error), error.kind)
        return self._call.asked.dialect.error_event(str(error), error.kind)
