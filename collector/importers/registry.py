"""The formats that can be imported: their readers, what they map, and how a file betrays them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.importers import chat_jsonl, coder_outputs, langfuse, mini_swe_agent
from collector.importers.lines import Reader
from collector.importers.source import Source
from foundation.errors import BadInput

AUTO = "auto"
JSON_SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".json.gz")


def _unrecognised(row: dict[str, Any]) -> bool:
    return False


@dataclass(frozen=True)
class Format:
    """One format: its reader, a line that says what maps to what, and how to tell it.

    `recognises` looks at the first object of a file; of a folder, the files with one of the
    `suffixes` are read.
    """

    name: str
    maps: str
    read: Reader
    recognises: Callable[[dict[str, Any]], bool] = _unrecognised
    suffixes: tuple[str, ...] = JSON_SUFFIXES


_FORMATS = [  # `auto` asks in this order: the more particular shape first
    Format(
        "langfuse",
        "traces: a generation → interaction, its trace → episode, scores → feedback",
        langfuse.read,
        langfuse.recognises,
    ),
    Format(
        "mini_swe_agent",
        "runs: an answer → interaction, an instance → episode, resolved → success of the tests",
        mini_swe_agent.read,
        mini_swe_agent.recognises,
    ),
    Format(
        "coder_outputs",
        "solution → answer, exec_pass → success feedback of the tests",
        coder_outputs.read,
        lambda row: {"run", "task_id", "solution", "exec_pass"} <= row.keys(),
    ),
    Format(
        "chat_jsonl",
        "OpenAI fine-tuning: messages, tools → one interaction per assistant turn",
        chat_jsonl.read,
        chat_jsonl.recognises,
    ),
]
_BY_NAME = {format.name: format for format in _FORMATS}


def all_formats() -> list[Format]:
    """Return the formats, sorted by name."""
    return sorted(_FORMATS, key=lambda format: format.name)


def formats() -> list[str]:
    """Return the names of the formats, sorted."""
    return sorted(_BY_NAME)


def find(name: str) -> Format:
    """Return a format by its name.

    Raises:
        BadInput: there is no such format.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise BadInput(
            "import format",
            name,
            f"one of {', '.join(formats())}, or {AUTO}",
            "See: flywheel import --list",
        ) from None


def get(name: str) -> Reader:
    """Return the reader of a format; raises as `find`."""
    return find(name).read


def guess(path: Path) -> Format:
    """Return the format of a file by its name's end and its first object.

    Raises:
        BadInput: no format recognises it.
    """
    own_suffix = [f for f in _FORMATS if f.suffixes is not JSON_SUFFIXES]
    for format in own_suffix:
        if path.name.endswith(tuple(set(format.suffixes) - set(JSON_SUFFIXES))):
            return format
    first = next((row for _, _, row in Source(path).rows() if isinstance(row, dict)), None)
    for format in _FORMATS:
        if first is not None and format.recognises(first):
            return format
    raise BadInput(
        f"import format of {path}",
        AUTO,
        "a file whose first object is of a known format",
        f"Its first object has the fields {', '.join(sorted(first or {})) or 'none'}. Name the "
        "format (flywheel import --list), or describe the file: flywheel import mapped --map FILE",
    )
