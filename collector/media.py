"""Images, sounds and files of messages: kept once by content hash, never inline in a row.

`extracted` replaces each base64 content by a reference that says its type and size,
`flywheel-media:sha256/<hash>;type=image/png;size=1234`; `keep` writes the contents among the
artifacts. A crash between the two leaves an artifact that nothing refers to, and no more.

Known are data URLs anywhere (a text that is one; inside a longer text from `INLINE_BYTES` on),
audio, image and file parts of OpenAI's chat and Responses shapes, and base64 sources of
Anthropic's and Google's. Content that is text is scrubbed like any other text.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from collector.scrub import Scrubber, contents, server_rules
from collector.tables import Media
from foundation import artifacts
from foundation.artifact_sweep import look_at, remove_unless_put
from foundation.database import session_scope
from foundation.errors import NotFound
from foundation.tables import now

SCHEME = "flywheel-media:"
_FILE = "content"
_AT_ONCE = 1000

_MARKS = (b";base64,", b'"data"', b'"file_data"', b"b64", b'"image_generation_call"')
"""One of these is in every JSON text that holds what `extracted` would take."""


@dataclass(frozen=True)
class Blob:
    """One content: its bytes and what the writer says it is."""

    content: bytes
    media_type: str

    @property
    def content_hash(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return sha256(self.content).hexdigest()

    @property
    def reference(self) -> str:
        """What stands in the record for it."""
        size = len(self.content)
        return f"{SCHEME}sha256/{self.content_hash};type={self.media_type};size={size}"


def may_hold_media(text: bytes) -> bool:
    """Say whether a JSON text needs to be looked through at all."""
    return any(mark in text for mark in _MARKS)


def extracted(record: Any) -> tuple[Any, list[Blob]]:
    """Return a JSON value with references for contents, and the contents; pure.

    A second time it finds nothing. What only looks like base64 stays as it is.
    """
    blobs = list[Blob]()
    return _walk(record, blobs), blobs


def _walk(value: Any, blobs: list[Blob]) -> Any:
    if isinstance(value, str):
        return _from_text(value, blobs) if contents.DATA_URL_MARK in value else value
    if isinstance(value, Mapping):
        return {name: _member(value, name, item, blobs) for name, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, blobs) for item in value]
    return value


def _from_text(text: str, blobs: list[Blob]) -> str:
    whole = contents.DATA_URL.fullmatch(text)

    def replaced(match: re.Match[str]) -> str:
        if whole is None and len(match["data"]) < contents.INLINE_BYTES:
            return match[0]
        blob = _blob(match["data"], match["type"] or contents.UNKNOWN_TYPE)
        return match[0] if blob is None else _noted(blob, blobs)

    return contents.DATA_URL.sub(replaced, text)


def _member(owner: Mapping[str, Any], name: str, item: Any, blobs: list[Blob]) -> Any:
    """Return a member of an object, a reference if the object says that it is base64."""
    if not isinstance(item, str) or item.startswith(("data:", SCHEME)):
        return _walk(item, blobs)
    media_type = contents.stated_type(owner, name)
    blob = _blob(item, media_type) if media_type is not None else None
    return _walk(item, blobs) if blob is None else _noted(blob, blobs)


def _blob(data: str, media_type: str) -> Blob | None:
    """Return the content of base64; None if it is none."""
    content = contents.decoded(data)
    return None if content is None else Blob(Scrubber(server_rules()).content(content), media_type)


def _noted(blob: Blob, blobs: list[Blob]) -> str:
    blobs.append(blob)
    return blob.reference


def keep(session: Session, blobs: Iterable[Blob]) -> None:
    """Write contents among the artifacts and note where; what is there already stays as it is."""
    unique = {blob.content_hash: blob for blob in blobs}
    if not unique:
        return
    rows = [
        {
            "content_hash": content_hash,
            "uri": _stored(blob.content).uri,
            "media_type": blob.media_type,
            "size_bytes": len(blob.content),
            "created_at": now(),
        }
        for content_hash, blob in sorted(unique.items())  # the same order everywhere: no deadlock
    ]
    session.execute(insert(Media).on_conflict_do_nothing(), rows)


def _stored(content: bytes) -> artifacts.Artifact:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        path.write_bytes(content)
        return artifacts.put(path)


def find(session: Session, content_hash: str) -> tuple[Media, Path]:
    """Return what is known of a content, and a local file that holds it.

    Raises:
        NotFound: no record came with it, or its artifact is gone.
    """
    media = session.get(Media, content_hash)
    if media is None:
        raise NotFound(
            "media", content_hash, "the SHA-256 of a stored content", "Copy it from a reference."
        )
    return media, artifacts.fetch(media.uri) / _FILE


def unseen(since: datetime) -> Iterator[Media]:
    """Yield the contents that came with no record from `since` on."""
    last = ""
    while True:
        older = select(Media).where(Media.created_at < since, col(Media.content_hash) > last)
        with session_scope() as session:
            some = session.exec(older.order_by(Media.content_hash).limit(_AT_ONCE)).all()
            session.expunge_all()
        for one in some:
            if (found := look_at(one.uri)) is None or found.put_at < since:
                yield one
        if len(some) < _AT_ONCE:
            return
        last = some[-1].content_hash


def let_go(media: Media, since: datetime) -> bool:
    """Remove a content with its row; return False if it came again from `since` on."""
    with session_scope() as session:
        session.execute(delete(Media).where(col(Media.content_hash) == media.content_hash))
        # The row is gone for others once the file is: who stores the same waits for that.
        is_gone = remove_unless_put(media.uri, since)
        if not is_gone:
            session.rollback()
    return is_gone
