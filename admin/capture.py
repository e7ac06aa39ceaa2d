"""Capture: the books of every source, closed or not, and the records that were refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from admin.charts import Bar, bars
from admin.rendering import Reading, render
from collector.dead_letters import letters, open_by_code
from collector.reconcile import Books, reconciliation, total
from collector.tables import DeadLetter

routes = APIRouter(prefix="/capture")

LETTERS_SHOWN = 50


@dataclass(frozen=True)
class CapturePage:
    """What became of every record, by source, and what waits to be settled."""

    sources: Sequence[Books]
    total: Books
    letters: Sequence[DeadLetter]
    letters_by_code: Sequence[Bar]

    @property
    def unaccounted(self) -> int:
        """Records that nobody accounts for, of each source by itself."""
        return sum(books.unaccounted for books in self.sources)

    @property
    def in_spools(self) -> int:
        """Records that writers still hold."""
        return self.total.waiting + self.total.held

    @property
    def dropped(self) -> Sequence[Bar]:
        """Records given up, by reason."""
        return bars(dict(self.total.dropped))

    @property
    def n_letters(self) -> int:
        """Letters that wait."""
        return sum(bar.n for bar in self.letters_by_code)


@routes.get("", name="capture")
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show the books and the letters that wait."""
    return render(request, "capture/index.html", capture_page(session))


def capture_page(session: Session) -> CapturePage:
    """Return the page; nothing captured yet: no sources and zeros."""
    sources = reconciliation(session)
    return CapturePage(
        sources,
        total(sources),
        letters(session, limit=LETTERS_SHOWN),
        bars(open_by_code(session)),
    )
