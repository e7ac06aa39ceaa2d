"""Images, sounds and files of messages: kept once by content hash, never inline in a row.

`extracted` replaces each base64 content by a reference that says its type and size,
`flywheel-media:sha256/<hash>;type=image/png;size=1234`; `keep` writes the contents among the
artifacts. A crash between the two leaves an artifact that nothing refers to, and no more.

Known are data URLs anywhere (a text that is one; inside a longer text from `INLINE_BYTES` on),
audio, image and file parts of OpenAI's chat and Responses shapes, and base64 sources of
Anthropic's and Google's. Content that is text is scrubbed like any other text.
"""

import base64
import binascii
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session

from collector.scrub import Scrubber, server_rules
from collector.tables import Media
from foundation import artifacts
from foundation.errors import NotFound
from foundation.tables import now

SCHEME = "flywheel-media:"
INLINE_BYTES = 1024
"""Characters of base64 from which on a data URL inside a text is taken out of it."""

UNKNOWN_TYPE = "application/octet-stream"
_FILE = "content"

_MARKS = (b";base64,", b'"data"', b'"file_data"', b"b64", b'"image_generation_call"')
"""One of these is in every JSON text that holds what `extracted` would take."""

_DATA_URL = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,\s\"']{0,200})*;base64,"
    r"(?P<data>[A-Za-z0-9+/_-]*={0,2})"
)
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+={0,2}\s*")


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
        return _from_text(value, blobs) if ";base64," in value else value
    if isinstance(value, Mapping):
        return {name: _member(value, name, item, blobs) for name, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, blobs) for item in value]
    return value


def _from_text(text: str, blobs: list[Blob]) -> str:
    whole = _DATA_URL.fullmatch(text)

    def replaced(match: re.Match[str]) -> str:
        if whole is None and len(match["data"]) < INLINE_BYTES:
            return match[0]
        blob = _blob(match["data"], match["type"] or UNKNOWN_TYPE)
        return match[0] if blob is None else _noted(blob, blobs)

    return _DATA_URL.sub(replaced, text)


def _member(owner: Mapping[str, Any], name: str, item: Any, blobs: list[Blob]) -> Any:
    """Return a member of an object, a reference if the object says that it is base64."""
    if not isinstance(item, str) or item.startswith(("data:", SCHEME)):
        return _walk(item, blobs)
    media_type = _stated_type(owner, name)
    blob = _blob(item, media_type) if media_type is not None else None
    return _walk(item, blobs) if blob is None else _noted(blob, blobs)


def _stated_type(owner: Mapping[str, Any], name: str) -> str | None:
    """Return the media type of a member that holds base64, or None if it does not; pure."""
    match name:
        case "data" if owner.get("type") == "base64":
            return _typed(owner.get("media_type"))
        case "data" if "mime_type" in owner or "mimeType" in owner:
            return _typed(owner.get("mime_type", owner.get("mimeType")))
        case "data" if isinstance(owner.get("format"), str):
            return _typed(f"audio/{owner['format']}")
        case "data" if "transcript" in owner:
            return UNKNOWN_TYPE
        case "b64_json" | "partial_image_b64":
            return "image/png"
        case "result" if owner.get("type") == "image_generation_call":
            return _typed(f"image/{owner.get('output_format') or 'png'}")
        case "file_data":
            return UNKNOWN_TYPE
    return None


def _typed(stated: Any) -> str:
    return stated if isinstance(stated, str) and _MEDIA_TYPE.fullmatch(stated) else UNKNOWN_TYPE


def _blob(data: str, media_type: str) -> Blob | None:
    """Return decoded base64, of the URL alphabet too; None if it is none."""
    if not _BASE64.fullmatch(data):
        return None
    compact = "".join(data.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        content = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except binascii.Error:
        return None
    return Blob(_scrubbed(content), media_type)


def _scrubbed(content: bytes) -> bytes:
    try:
        return Scrubber(server_rules()).text(content.decode())[0].encode()
    except UnicodeDecodeError:
        return content


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
