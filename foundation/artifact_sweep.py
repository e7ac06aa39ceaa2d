"""What the artifact store holds and since when, and how something leaves it that nobody needs.

Whether an artifact is needed is told by rows, which this floor does not know: `trainer.garbage`.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import fsspec

from foundation.artifacts import PUT_AGAIN, SCHEME, UNFINISHED
from foundation.settings import get_settings

_LEAVING: Final = ".leaving"


@dataclass(frozen=True)
class Stored:
    """Something in the store: its URI, size in bytes, and when somebody last put it there."""

    uri: str
    size_bytes: int
    put_at: datetime


def stored(root: str | None = None) -> Iterator[Stored]:
    """Yield every artifact."""
    yield from _listed(*_opened(root), SCHEME)


def unfinished(root: str | None = None) -> Iterator[Stored]:
    """Yield what has no hash: files of a put under way, or killed, and of a killed removal."""
    filesystem, base = _opened(root)
    yield from _listed(filesystem, base, UNFINISHED)
    yield from _listed(filesystem, base, _LEAVING)


def look_at(uri: str, root: str | None = None) -> Stored | None:
    """Return size and age of an artifact; None where there is none of that URI."""
    return _look_at(*_opened(root), uri)


def remove_unless_put(uri: str, since: datetime, root: str | None = None) -> bool:
    """Remove what nobody has put since then; return whether it is gone.

    An artifact is set aside first and looked at again. Whoever puts the same at this very moment
    either still found it and left a mark, which brings it back, or did not find it and stores it.
    """
    filesystem, base = _opened(root)
    found = _look_at(filesystem, base, uri)
    if found is None or found.put_at >= since:
        return found is None
    name = uri.rsplit("/", 1)[-1]
    marked = _marked_at(filesystem, base, name)
    aside = f"{base}/{_LEAVING}/{name}"
    if not uri.startswith(_LEAVING):
        filesystem.makedirs(f"{base}/{_LEAVING}", exist_ok=True)
        if filesystem.exists(aside):
            filesystem.rm(aside, recursive=True)
        filesystem.mv(f"{base}/{uri}", aside, recursive=True)
    if _marked_at(filesystem, base, name) != marked:
        if not filesystem.exists(f"{base}/{uri}"):
            filesystem.mv(aside, f"{base}/{uri}", recursive=True)
        return False
    filesystem.rm(aside, recursive=True)
    if marked is not None:
        filesystem.rm(f"{base}/{PUT_AGAIN}/{name}")
    shutil.rmtree(get_settings().home.absolute() / "cache" / uri, ignore_errors=True)
    return True


def _opened(root: str | None) -> tuple[Any, str]:
    filesystem, base = fsspec.core.url_to_fs(root or get_settings().artifacts_root)
    return filesystem, base


def _listed(filesystem: Any, base: str, place: str) -> Iterator[Stored]:
    if not filesystem.exists(f"{base}/{place}"):
        return
    for folder in filesystem.ls(f"{base}/{place}", detail=False):
        name = folder.rstrip("/").rsplit("/", 1)[-1]
        if (found := _look_at(filesystem, base, f"{place}/{name}")) is not None:
            yield found


def _look_at(filesystem: Any, base: str, uri: str) -> Stored | None:
    try:
        files = filesystem.find(f"{base}/{uri}", detail=True)
        put_at = [_moment(filesystem.modified(name)) for name in files]
    except FileNotFoundError:  # it left, or was moved to its hash, while it was looked at
        return None
    if not files:
        return None
    marked = _marked_at(filesystem, base, uri.rsplit("/", 1)[-1])
    size = sum(int(about["size"] or 0) for about in files.values())
    return Stored(uri, size, max([*put_at, *([marked] if marked else [])]))


def _marked_at(filesystem: Any, base: str, name: str) -> datetime | None:
    try:
        return _moment(filesystem.modified(f"{base}/{PUT_AGAIN}/{name}"))
    except FileNotFoundError:
        return None


def _moment(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
