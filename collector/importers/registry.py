"""The formats that can be imported, by name."""

from collector.importers import chat_jsonl, coder_outputs
from collector.importers.lines import Reader
from foundation.errors import BadInput

_READERS: dict[str, Reader] = {
    "chat_jsonl": chat_jsonl.read,
    "coder_outputs": coder_outputs.read,
}


def formats() -> list[str]:
    """Return the names of the formats, sorted."""
    return sorted(_READERS)


def get(format: str) -> Reader:
    """Return the reader of a format.

    Raises:
        BadInput: there is no such format.
    """
    try:
        return _READERS[format]
    except KeyError:
        raise BadInput(
            "import format", format, f"one of {', '.join(formats())}", "Choose one of them."
        ) from None
