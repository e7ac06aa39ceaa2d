"""Passes a stream on as it arrives, and records it however it ends."""

from starlette.types import Send

from collector.tables import CUT, ERROR, SUCCESS
from router.asgi import send_piece
from router.call import Call, Ending
from router.lanes import Opened, UpstreamFailed
from router.recording import Recorder
from router.wire import DONE_EVENT, LONGEST_DONE, as_event, error_body


class Relay:
    """One streamed answer on its way.

    The part that says `[DONE]` is held back until the record is in the spool. When the caller
    leaves, the upstream is cancelled and what had arrived is recorded as cut; when the upstream
    breaks, the caller is sent the error as the last event.
    """

    __slots__ = ("_call", "_opened", "_pieces", "_recorded", "_recorder")

    def __init__(self, recorder: Recorder, call: Call, opened: Opened) -> None:
        self._recorder, self._call, self._opened = recorder, call, opened
        self._pieces: list[bytes] = []
        self._recorded = False

    async def pass_on(self, send: Send) -> None:
        """Send all but the end of the answer's body."""
        headers = [*self._opened.raw_headers(), *self._call.headers()]
        await send(
            {"type": "http.response.start", "status": self._opened.status, "headers": headers}
        )
        tail = b"\n"
        try:
            async for piece in self._opened.body:
                if self._call.ttft_ms is None:
                    self._call.ttft_ms = self._call.elapsed_ms()
                self._pieces.append(piece)
                seen = tail + piece
                tail = seen[-LONGEST_DONE:]
                if b"[DONE]" in seen and DONE_EVENT.search(seen):
                    self.record(SUCCESS)
                await send_piece(send, piece)
        except UpstreamFailed as error:
            self.record(ERROR, error.kind, str(error))
            said = error_body(str(error), "upstream_error", error.kind)
            await send_piece(send, b"\n\n" + as_event(said))
        finally:
            await self._opened.aclose()
        self.record(SUCCESS)

    def leave(self) -> None:
        """Record what had arrived when the caller left."""
        self.record(CUT, "client_gone")

    def record(self, status: str, error_type: str | None = None, error: str | None = None) -> None:
        """Put the call into the spool, unless it is there."""
        if not self._recorded:
            self._recorded = True
            self._recorder.keep(self._call, Ending(status, self._pieces, True, error_type, error))
