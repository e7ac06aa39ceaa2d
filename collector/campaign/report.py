"""What a campaign brought, in figures; pure."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from collector.campaign.plan import fingerprint

_REFUSAL = re.compile(
    r"^\W*(i'?m sorry|i am sorry|sorry,|i apologi[sz]e|as an ai"
    r"|i can(?:'|no)t (?:help|assist|do|comply|write)|i(?:'m| am) (?:unable|not able))",
    re.IGNORECASE,
)
_TRUNCATED = ("length", "max_tokens")
_REFUSED = ("content_filter",)


@dataclass(frozen=True)
class Place:
    """What became of one place of the plan; `answer` and `finish` where it was answered."""

    status: str
    topic: str | None
    difficulty: str | None
    model: str | None
    passed: bool | None = None
    answer: str = ""
    finish: str | None = None
    detail: str | None = None

    @property
    def is_refusal(self) -> bool:
        """The model declined, or answered nothing."""
        return (
            self.finish in _REFUSED or not self.answer.strip() or bool(_REFUSAL.match(self.answer))
        )

    @property
    def is_truncated(self) -> bool:
        """The answer reached the limit of tokens."""
        return self.finish in _TRUNCATED

    @property
    def is_accepted(self) -> bool:
        """A whole answer that was not proven wrong."""
        whole = self.status == "done" and not self.is_refusal and not self.is_truncated
        return whole and self.passed is not False


def quality(places: Sequence[Place], cost_usd: float) -> dict[str, Any]:
    """Return the quality report of a campaign, finished or not, as JSON values.

    Shares are from 0 to 1 and null where there is nothing to count; lengths are in characters.
    """
    done = [place for place in places if place.status == "done"]
    accepted = [place for place in done if place.is_accepted]
    distinct = {fingerprint(place.answer) for place in done}
    return {
        "target": len(places),
        "answered": len(done),
        "accepted": len(accepted),
        "duplicates": sum(place.status == "duplicate" for place in places),
        "failed": sum(place.status == "failed" for place in places),
        "refusals": sum(place.is_refusal for place in done),
        "truncations": sum(place.is_truncated for place in done),
        "checked": sum(place.passed is not None for place in done),
        "pass_rate": _pass_rate(done),
        "unique_ratio": _share(len(distinct), len(done)),
        "length": _lengths([len(place.answer) for place in done]),
        "cost_usd": cost_usd,
        "cost_per_accepted_usd": cost_usd / len(accepted) if accepted else None,
        "by_model": _by(places, lambda place: place.model),
        "by_topic": _by(places, lambda place: place.topic),
        "by_difficulty": _by(places, lambda place: place.difficulty),
        "failures": dict(Counter(_reason(place) for place in places if place.status == "failed")),
    }


def _by(places: Sequence[Place], key: Callable[[Place], str | None]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Place]] = {}
    for place in places:
        if (name := key(place)) is not None:
            groups.setdefault(name, []).append(place)
    return {
        name: {
            "answered": sum(place.status == "done" for place in group),
            "accepted": sum(place.is_accepted for place in group),
            "pass_rate": _pass_rate(group),
        }
        for name, group in sorted(groups.items())
    }


def _pass_rate(places: Sequence[Place]) -> float | None:
    checked = [place.passed for place in places if place.passed is not None]
    return _share(sum(checked), len(checked))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _lengths(lengths: list[int]) -> dict[str, int] | None:
    """Return the spread of lengths by nearest rank; None for none."""
    if not lengths:
        return None
    ordered = sorted(lengths)
    ranks = {"min": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "max": 1.0}
    return {name: ordered[round(rank * (len(ordered) - 1))] for name, rank in ranks.items()}


def _reason(place: Place) -> str:
    """Return what a failure is counted under: its first words, without what differs each time."""
    return re.sub(r"\s+", " ", str(place.detail or "unknown")).split(": ")[0][:80]
