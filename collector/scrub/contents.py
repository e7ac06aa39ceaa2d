"""Images, sounds and files in a record: where base64 stands, and the bytes that it says.

Base64 is no text: searched like one it costs seconds and yields hits by chance. What it stands for
may be a text, and that is scrubbed like any other.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

INLINE_BYTES = 1024
"""Characters of base64 from which on it is taken out of a longer text, or believed of a member."""

UNKNOWN_TYPE = "application/octet-stream"

DATA_URL_MARK = ";base64,"
"""In every text that holds a data URL in base64."""

DATA_URL = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,\s\"']{0,200})*;base64,"
    r"(?P<data>[A-Za-z0-9+/_-]*+={0,2}+)(?![@%]|\.\w)"
)
"""What ends within a word, such as an address, is none."""

MEMBERS = frozenset(("data", "file_data", "b64_json", "partial_image_b64", "result"))
"""Names of members that hold base64 in objects that say so; see `stated_type`."""

_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+={0,2}\s*")


def stated_type(owner: Mapping[str, Any], name: str) -> str | None:
    """Return the media type of a member that holds base64, or None if it does not; pure.

    Known are audio, image and file parts of OpenAI's chat and Responses shapes, and base64 sources
    of Anthropic's and Google's.
    """
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


def decoded(data: str) -> bytes | None:
    """Return the bytes of base64, of the URL alphabet too; None if it is none."""
    if not _BASE64.fullmatch(data):
        return None
    compact = "".join(data.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except binascii.Error:
        return None


def encoded(content: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(content).decode()
