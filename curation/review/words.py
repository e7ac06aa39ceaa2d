"""What reviewers write, as it may be kept: scrubbed like everything else, an edit with its diff."""

from collections.abc import Sequence
from difflib import unified_diff
from typing import Any

from collector.scrub import kept_name, server_rules
from collector.scrub.rescan import numbered_after
from curation.review.said import MAX_NAME
from foundation.errors import BadInput

_LINES_OF_A_DIFF = 5000
"""Changed lines up to which a diff looks for what stayed between them: its cost is quadratic."""


def reviewer_name(given: str) -> str:
    """Return the name that a reviewer's labels are kept under; a personal one becomes a hash.

    Raises:
        BadInput: it is empty, too long, or has a zero character.
    """
    name = given.strip()
    if not name or len(name) > MAX_NAME or "\0" in name:
        raise BadInput(
            "reviewer", given, f"a name of 1 to {MAX_NAME} characters", "Say who reviews."
        )
    return kept_name("actor", name, server_rules())


def scrubbed(value: Any, beside: Sequence[Any] = ()) -> Any:
    """Return JSON that a reviewer wrote without secrets and personal data.

    Args:
        value: what was written.
        beside: texts that it stands beside; placeholders are numbered on from theirs.

    Raises:
        ScrubFailed: a rule's check raised; nothing may be kept.
    """
    clean, _ = numbered_after(server_rules(), [*beside, value]).json(value)
    return clean


def edited(original: str, answer: str, beside: Sequence[Any] = ()) -> dict[str, str]:
    """Return an edit as a label keeps it: `answer`, the `original`, and the `diff` between them.

    All three are scrubbed, the diff after the scrubbing.

    Raises:
        BadInput: nothing was changed.
        ScrubFailed: as `scrubbed`.
    """
    clean = scrubbed({"answer": answer, "original": original}, beside)
    if clean["answer"] == clean["original"]:
        raise BadInput("edited answer", answer, "a changed answer", "Accept it as it is instead.")
    return {**clean, "diff": diff(clean["original"], clean["answer"])}


def diff(before: str, after: str) -> str:
    """Return the unified diff of two texts, without the lines `---` and `+++` that name files."""
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > _LINES_OF_A_DIFF:
        return _replaced(old, new)
    return "\n".join(list(unified_diff(old, new, lineterm=""))[2:])


def _replaced(old: Sequence[str], new: Sequence[str]) -> str:
    """Return a diff of one hunk: all between the lines that both begin and end with."""
    shorter = min(len(old), len(new))
    head = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    tail = next((i for i in range(shorter - head) if old[-1 - i] != new[-1 - i]), shorter - head)
    gone, came = old[head : len(old) - tail], new[head : len(new) - tail]
    place = f"@@ -{head + 1},{len(gone)} +{head + 1},{len(came)} @@"
    return "\n".join([place, *(f"-{line}" for line in gone), *(f"+{line}" for line in came)])
