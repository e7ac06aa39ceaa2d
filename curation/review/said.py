"""What a reviewer may say, and what it means for scoring. Pure.

Of an example: accept, reject with a reason, edit the answer, rate it 1-5, relabel its task type or
difficulty; the last two also beside another verdict. Of a pair or a sample: compare. Of a likeness:
accept (the two say the same) or reject. And skip anything.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from curation.review.draws import draw
from curation.score.outcome import Statement
from curation.tables import ReviewLabel
from foundation.errors import BadInput

EXAMPLE, PAIR, LIKENESS, SAMPLE = "example", "pair", "likeness", "sample"
ACCEPT, REJECT, EDIT, RATE, RELABEL = "accept", "reject", "edit", "rate", "relabel"
COMPARE, SKIP = "compare", "skip"
ACTIONS: Final = {
    EXAMPLE: (ACCEPT, REJECT, EDIT, RATE, RELABEL),
    PAIR: (COMPARE,),
    LIKENESS: (ACCEPT, REJECT),
    SAMPLE: (COMPARE,),
}
"""What may be said of each kind of item, beside `skip`."""

FIRST, SECOND, TIE = "first", "second", "tie"
DIFFICULTIES: Final = ("easy", "medium", "hard")
REVIEWED: Final = {ACCEPT: "accepted", REJECT: "rejected", EDIT: "edited"}
"""`Example.reviewed` by the verdict of a label."""

MAX_CHARS: Final = 200_000
"""Characters of an edited answer; a longer one would not become an example anyway."""
MAX_NAME: Final = 200

_BESIDE: Final = ("rating", "task_type", "difficulty")
_ACCEPTED_FIELDS: Final = {
    **dict.fromkeys((ACCEPT, REJECT, RATE, RELABEL), _BESIDE),
    EDIT: ("answer", *_BESIDE),
    COMPARE: ("choice",),
    SKIP: (),
}
_REMEDY: Final = "See docs/reviewing.md."


def check(kind: str, action: str, value: Mapping[str, Any], reason: str | None) -> None:
    """Check what a reviewer says of an item of `kind`.

    Raises:
        BadInput: the action does not fit the kind, or the value does not fit the action.
    """
    allowed = (*ACTIONS[kind], SKIP)
    _require(action in allowed, f"review action on {kind}", action, f"one of {', '.join(allowed)}")
    fields = _ACCEPTED_FIELDS[action] if kind == EXAMPLE or action in (COMPARE, SKIP) else ()
    for name, given in value.items():
        _require(name in fields, f"field of {action}", name, f"one of {fields}" if fields else "no")
        _CHECKS[name](given)
    if action == REJECT and kind == EXAMPLE:
        _require(bool((reason or "").strip()), "reason of a rejection", reason, "a few words")
    for name, needed_by in (("answer", EDIT), ("rating", RATE), ("choice", COMPARE)):
        if action == needed_by:
            _require(name in value, f"value of {action}", dict(value), f"the field {name!r}")
    if action == RELABEL:
        expected = "the field 'task_type' or 'difficulty'"
        _require(bool({"task_type", "difficulty"} & value.keys()), "relabel", dict(value), expected)


def is_swapped(item_id: object, reviewer: str) -> bool:
    """Return whether this reviewer sees the second answer of a pair first; half of them do."""
    return draw("review-swap", f"{item_id}:{reviewer}") < 0.5


def verdict_of(kind: str, label: ReviewLabel) -> str | None:
    """Return what a label decides, in one word that two reviewers may agree on; None: nothing."""
    if kind == EXAMPLE:
        return REVIEWED.get(label.action)
    if kind in (PAIR, SAMPLE):
        return str(label.value.get("winner") or TIE)
    return "duplicate" if label.action == ACCEPT else "distinct"


def is_good(label: ReviewLabel) -> bool | None:
    """Return whether a label calls the answer good as it was; None: it does not say."""
    if label.action in REVIEWED:
        return label.action == ACCEPT
    rating = label.value.get("rating")
    return None if rating in (None, 3) else float(rating) > 3


def statements(label: ReviewLabel) -> list[Statement]:
    """Return a label on an example's answer as the scorer reads it: none, one or two statements."""
    said = []
    if label.action in REVIEWED:
        text = label.value["answer"] if label.action == EDIT else None
        accepted = float(label.action == ACCEPT)
        said.append(_statement(label, "review", accepted, text, REVIEWED[label.action]))
    if "rating" in label.value:
        said.append(_statement(label, "rating", float(label.value["rating"]), None, None))
    return said


def overrides(labels: Iterable[ReviewLabel]) -> dict[str, Any]:
    """Return what people set, the latest word on each: task_type, difficulty, answer, original.

    `original` is the answer that `answer` corrects: what the example's own copy held before.
    """
    found: dict[str, Any] = {}
    for label in sorted(labels, key=lambda one: (one.created_at, one.id)):
        for name in ("task_type", "difficulty", "answer", "original"):
            if name in label.value:
                found[name] = label.value[name]
    return found


def _statement(
    label: ReviewLabel, kind: str, value: float, text: str | None, name: str | None
) -> Statement:
    return Statement(
        kind=kind,
        value=value,
        text=text,
        source="human",
        actor=label.reviewer,
        name=name,
        direct=True,
        said_at=label.created_at,
    )


def _check_rating(value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    _require(whole and 1 <= value <= 5, "rating", value, "a whole number from 1 to 5")


def _check_task_type(value: Any) -> None:
    named = isinstance(value, str) and 0 < len(value.strip()) <= MAX_NAME and "\0" not in value
    _require(named, "task_type", value, f"a name of at most {MAX_NAME} characters")


def _check_difficulty(value: Any) -> None:
    _require(value in DIFFICULTIES, "difficulty", value, f"one of {', '.join(DIFFICULTIES)}")


def _check_answer(value: Any) -> None:
    is_text = isinstance(value, str) and bool(value.strip()) and "\0" not in value
    _require(is_text, "edited answer", value, "a text")
    _require(len(value) <= MAX_CHARS, "edited answer", value, f"at most {MAX_CHARS} characters")


def _check_choice(value: Any) -> None:
    _require(value in (FIRST, SECOND, TIE), "choice", value, f"{FIRST}, {SECOND} or {TIE}")


_CHECKS: Final = {
    "rating": _check_rating,
    "task_type": _check_task_type,
    "difficulty": _check_difficulty,
    "answer": _check_answer,
    "choice": _check_choice,
}


def _require(accepted: bool, what: str, value: Any, expected: str) -> None:
    if not accepted:
        raise BadInput(what, value, expected, _REMEDY)
