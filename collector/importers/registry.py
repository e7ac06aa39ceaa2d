"""The formats that can be imported: their readers, what they map, and how a file betrays them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.importers import (
    alpaca,
    chat_jsonl,
    coder_outputs,
    dpo,
    inspect_log,
    kto,
    langfuse,
    litellm_logs,
    mapped,
    mini_swe_agent,
    nvidia_flywheel,
    pairs,
    sharegpt,
    swe_agent,
    tensorzero,
)
from collector.importers.lines import Reader
from collector.importers.source import Source
from foundation.errors import BadInput

AUTO = "auto"
JSON_SUFFIXES = (
    ".jsonl",
    ".jsonl.gz",
    ".ndjson",
    ".ndjson.gz",
    ".json",
    ".json.gz",
    ".parquet",
)
TABLE_SUFFIXES = (*JSON_SUFFIXES, ".csv", ".csv.gz", ".tsv", ".tsv.gz")


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
        "litellm",
        "spend logs, StandardLoggingPayload: messages, response, cost, times; session → episode",
        litellm_logs.read,
        litellm_logs.recognises,
    ),
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
        "swe_agent",
        "runs: an answer → interaction, the run → episode, resolved → success of the tests",
        swe_agent.read,
        swe_agent.recognises,
        swe_agent.SUFFIXES,
    ),
    Format(
        "inspect",
        "samples of logs: a model's call → interaction, a sample → episode, scores → feedback",
        inspect_log.read,
        inspect_log.recognises,
        inspect_log.SUFFIXES,
    ),
    Format(
        "coder_outputs",
        "solution → answer, exec_pass → success feedback of the tests",
        coder_outputs.read,
        lambda row: {"run", "task_id", "solution", "exec_pass"} <= row.keys(),
    ),
    Format(
        "tensorzero",
        "datapoints: output → answer, function → task type (or role); blocks → messages, calls",
        tensorzero.read,
        tensorzero.recognises,
    ),
    Format(
        "nvidia_flywheel",
        "request, response, timestamp; workload_id → role if known, else task type",
        nvidia_flywheel.read,
        nvidia_flywheel.recognises,
    ),
    Format(
        "dpo",
        "prompt, chosen, rejected → two interactions and a preference",
        dpo.read,
        dpo.recognises,
    ),
    Format(
        "kto",
        "messages (or prompt, completion), label → an interaction and a success feedback",
        kto.read,
        kto.recognises,
    ),
    Format(
        "sharegpt",
        "conversations of from, value; tools → one interaction per answer",
        sharegpt.read,
        sharegpt.recognises,
    ),
    Format(
        "alpaca",
        "instruction, input → prompt; output → answer; history → interactions before",
        alpaca.read,
        alpaca.recognises,
    ),
    Format(
        "chat_jsonl",
        "OpenAI fine-tuning: messages, tools → one interaction per answer; preference pairs",
        chat_jsonl.read,
        chat_jsonl.recognises,
    ),
    Format(
        "pairs",
        "request, response (OpenPipe and OpenAI batches too) → an interaction",
        pairs.read,
        pairs.recognises,
    ),
    Format(
        "mapped",
        "any JSONL, CSV or Parquet: columns named by a mapping file (--map)",
        mapped.read,
        suffixes=TABLE_SUFFIXES,
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
    for format in _FORMATS:
        if path.name.endswith(tuple(set(format.suffixes) - set(TABLE_SUFFIXES))):
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
