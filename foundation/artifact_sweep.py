"""What the artifact store holds and since when, and how something leaves it that nobody needs.

Whether an artifact is needed is told by rows, which this floor does not know: `trainer.garbage`.
"""

import shutil
from collections.abc import Iterator
from datetime import datetime

from foundation.artifact_store import Stored, answering, opened
from foundation.settings import get_settings

__all__ = ["Stored", "look_at", "remove_unless_put", "stored", "unfinished"]


def stored(root: str | None = None) -> Iterator[Stored]:
    """Yield every artifact."""
    store = opened(root)
    with answering(store):
        yield from store.stored()


def unfinished(root: str | None = None) -> Iterator[Stored]:
    """Yield what has no hash: files of a put under way, or killed, and of a killed removal."""
    store = opened(root)
    with answering(store):
        yield from store.unfinished()


def look_at(uri: str, root: str | None = None) -> Stored | None:
    """Return size and age of an artifact; None where there is none of that URI."""
    store = opened(root)
    with answering(store):
        return store.look_at(uri)


def remove_unless_put(uri: str, since: datetime, root: str | None = None) -> bool:
    """Remove what nobody has put since then; return whether it is gone.

    An artifact is set aside first and looked at again. Whoever puts the same at this very moment
    either still found it and left a mark, which brings it back, or did not find it and stores it.
    """
    store = opened(root)
    with answering(store):
        found = store.look_at(uri)
        if found is None or found.put_at >= since:
            return found is None
        content_hash = uri.rsplit("/", 1)[-1]
        marked = store.mark_of(content_hash)
        aside = store.set_aside(uri)
        if store.mark_of(content_hash) != marked:
            store.bring_back(aside)
            return False
        store.discard(aside)
        if marked is not None:
            store.unmark(content_hash)
    shutil.rmtree(get_settings().home.absolute() / "cache" / uri, ignore_errors=True)
    return True
