"""What a row of a dataset says: an example or a preference pair, as the trainers' column names go.

A row's hash covers all that stays as judged; the score, which a calibration moves, and the label
that its split was drawn by stand beside it and are hashed with the shard.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from foundation.chat import Message, message

Row = dict[str, Any]
"""Of an example: `example_id`, `interaction_id`, `episode_id`, `project`, `task_type`,
`difficulty`, `language`, `code_language`, `prompt` (messages), `completion` (the one assistant
message), `corrected`, and `score` (0-1 or None), `split_key`, `row_hash`; of a held-out one also
`task`, a line of the evaluator's exchange format.
Of a preference pair: `pair_id`, `winner_id`, `loser_id`, `project`, `task_type`, `basis`, `prompt`,
`chosen`, `rejected` (each one assistant message), and `score` (the margin, 0-1), `split_key`,
`row_hash`."""

BESIDE: Final = ("score", "split_key", "row_hash")
"""Entries that a row's hash does not cover."""

_OF_EXAMPLES: Final = ("project", "task_type", "difficulty", "language", "code_language")
_OF_PAIRS: Final = ("project", "task_type", "basis")


def make_row(columns: Mapping[str, Any]) -> Row:
    """Return the row of the columns of an `Example`, or of a `PreferencePair`."""
    if "chosen" in columns:
        said, score = _pair(columns), columns.get("margin")
    else:
        said, score = _example(columns), columns.get("score")
    return {
        **said,
        "score": None if score is None else round(score, 4),
        "split_key": columns.get("split_key") or "",
        "row_hash": columns.get("row_hash") or hash_of_row(said),
    }


def row_hash(columns: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a row made of these columns says, whatever order its keys have."""
    return hash_of_row(_pair(columns) if "chosen" in columns else _example(columns))


def hash_of_row(row: Row) -> str:
    """Return the SHA-256 of a row but for what stands beside it."""
    said = {name: value for name, value in row.items() if name not in BESIDE}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def row_id(row: Row) -> str:
    """Return the id of the example or pair that a row was made of."""
    return str(row["pair_id"] if "pair_id" in row else row["example_id"])


def _example(columns: Mapping[str, Any]) -> Row:
    answer: Message | None = columns.get("answer_message")
    episode = columns.get("episode_id")
    return {
        "example_id": str(columns["id"]),
        "interaction_id": str(columns["interaction_id"]),
        "episode_id": None if episode is None else str(episode),
        **{name: columns.get(name) for name in _OF_EXAMPLES},
        "prompt": columns["prompt"],
        "completion": [answer or message("assistant", columns["answer"])],
        "corrected": bool(columns.get("corrected")),
    }


def _pair(columns: Mapping[str, Any]) -> Row:
    return {
        "pair_id": str(columns["id"]),
        "winner_id": str(columns["winner_id"]),
        "loser_id": str(columns["loser_id"]),
        **{name: columns.get(name) for name in _OF_PAIRS},
        "prompt": columns["prompt"],
        "chosen": [message("assistant", columns["chosen"])],
        "rejected": [message("assistant", columns["rejected"])],
    }
