"""What judges said of a candidate, with how far each of them is to be trusted beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluator.judge.ask import Answers
from evaluator.judge.health import Calibration, Health
from evaluator.judge.judges import Judge
from evaluator.judge.length import LengthControlled
from evaluator.judge.people import Agreed
from evaluator.judge.questions import BETTER
from evaluator.judge.settle import Rate, Score


@dataclass(frozen=True)
class JudgeResult:
    """One judge: its verdict on the candidate, and its own rates.

    Attributes:
        judge: the model.
        answers: what it was asked and what that took.
        n_pairs: pairs that it was asked about, in both orders.
        score: wins, ties and losses of the candidate; identical answers are ties.
        length: the win rate at equal length.
        health: rates of its verdicts.
        calibration: against executable truth.
        people: how far it agrees with them.
        objections: why its number may not gate, in words; none if it may.
    """

    judge: Judge
    answers: Answers
    n_pairs: int
    score: Score
    length: LengthControlled
    health: Health
    calibration: Calibration
    people: Agreed
    objections: tuple[str, ...]

    @property
    def may_gate(self) -> bool:
        """Whether its number may decide anything."""
        return not self.objections

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "model": self.judge.model,
            "base": self.judge.base,
            "families": sorted(self.judge.families),
            "pairs": self.n_pairs,
            **_score(self.score),
            "length_controlled": self.length.as_json(),
            **self.health.as_json(),
            "calibration": self.calibration.as_json(),
            "people": self.people.as_json(),
            "questions": {
                "asked": self.answers.n_asked,
                "kept": self.answers.n_kept,
                "retried": self.answers.n_retried,
                "unreadable": self.answers.n_unreadable,
                "unanswered": self.answers.n_unanswered,
            },
            "cost_usd": self.answers.cost_usd,
            "seconds": self.answers.seconds,
            "may_gate": self.may_gate,
            "why": list(self.objections),
        }


@dataclass(frozen=True)
class Panel:
    """Several judges together: on each pair, the side that more than half of them are for.

    Attributes:
        voters: models that voted: those that may gate; if none may, all of them.
        score: of their majority.
        length: its win rate at equal length.
        unanimous: pairs on which all judges agree.
        alpha: Krippendorff's, of all judges' winners (nominal); None where it is not defined.
        people: how far the majority agrees with them.
    """

    voters: tuple[str, ...]
    score: Score
    length: LengthControlled
    unanimous: Rate
    alpha: float | None
    people: Agreed

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "voters": list(self.voters),
            **_score(self.score),
            "length_controlled": self.length.as_json(),
            "unanimous": self.unanimous.as_json(),
            "alpha": self.alpha,
            "people": self.people.as_json(),
        }


@dataclass(frozen=True)
class JudgeReport:
    """The judges' word on a candidate against a baseline.

    Attributes:
        n_pairs: pairs that were compared.
        n_identical: of them, those with the same answer twice: ties that nobody was asked about.
        n_left_out: pairs beyond the number asked for.
        n_drawn: pairs of the sample that people are shown.
        n_rated: of them, those that people have settled.
        results: one of each judge.
        panel: all of them together.
        notes: what a reader should know besides.
    """

    n_pairs: int
    n_identical: int
    n_left_out: int
    n_drawn: int
    n_rated: int
    results: tuple[JudgeResult, ...]
    panel: Panel
    notes: tuple[str, ...]

    @property
    def may_gate(self) -> bool:
        """Whether the panel's number may decide anything: at least one judge is fit to vote."""
        return any(result.may_gate for result in self.results)

    @property
    def why(self) -> tuple[str, ...]:
        """Why not every judge has a vote, in words; each begins with the judge's name."""
        return tuple(
            f"{result.judge.model}: {objection}"
            for result in self.results
            for objection in result.objections
        )

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "rubric": BETTER,
            "pairs": self.n_pairs,
            "identical": self.n_identical,
            "left_out": self.n_left_out,
            "people": {"drawn": self.n_drawn, "rated": self.n_rated},
            "judges": [result.as_json() for result in self.results],
            "panel": self.panel.as_json(),
            "may_gate": self.may_gate,
            "why": list(self.why),
            "notes": list(self.notes),
        }

    def as_lines(self) -> list[str]:
        """Return the report as Markdown: a table of the judges, and what follows from it."""
        rows = [_row(result) for result in self.results]
        head = [*_HEAD, _RULE, *rows]
        voters = ", ".join(self.panel.voters)
        verdict = (
            f"Panel of {voters}: win rate {in_words(self.panel.score.win_rate)} "
            f"({self.panel.score.wins} won, {self.panel.score.ties} tied, "
            f"{self.panel.score.losses} lost)."
        )
        gate = "It may gate." if self.may_gate else "It may not gate."
        return [*head, "", verdict, gate, *(f"- {one}" for one in (*self.why, *self.notes))]


_HEAD = (
    "| judge | win rate | at equal length | flips | first position | longer wins | own family "
    "| right by execution | like people |",
)
_RULE = "|---" * 9 + "|"


def in_words(rate: Rate) -> str:
    """Return a rate as `57.0 % (47.2-66.3, n 100)`."""
    interval = rate.interval
    if rate.value is None or interval is None:
        return "none"
    low, high = interval
    return f"{100 * rate.value:.1f} % ({100 * low:.1f}-{100 * high:.1f}, n {rate.n})"


def _row(result: JudgeResult) -> str:
    health, length = result.health, result.length
    cells = [
        result.judge.model,
        in_words(result.score.win_rate),
        length.why_not if length.rate is None else f"{100 * length.rate:.1f} %",
        in_words(health.flips),
        in_words(health.first_position),
        in_words(health.length_only),
        in_words(health.self_preference),
        in_words(result.calibration.judge),
        in_words(result.people.same),
    ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _score(score: Score) -> Mapping[str, Any]:
    return {
        "wins": score.wins,
        "ties": score.ties,
        "losses": score.losses,
        "win_rate": score.win_rate.as_json(),
    }
