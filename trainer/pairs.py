"""From preference rows to token ids: prompts with a better and a worse answer, or one with a label.

Rendered and tokenised as `trainer.data` does it, prompt and answer apart, so that a method that
learns from pairs sees the very tokens that one that imitates answers would see.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from foundation.errors import BadInput
from trainer.base import context_of
from trainer.data import TOO_LONG, Row, ids_of, shortened, split_text, unlearnable
from trainer.lesson import Lesson
from trainer.recipe import DROP, REWARD, TRUNCATE, Recipe
from trainer.recipe.preference import PLAN_LR

SAME: Final = "chosen and rejected are the same"
REPEATED: Final = "answer given before"
CONTRADICTED: Final = "answer that is both good and bad"


@dataclass
class Pairs:
    """Pairs as token ids; the prompt ends where the answer begins, both answers in their end token.

    Attributes:
        prompt_ids: per pair.
        chosen_ids: the better answer.
        rejected_ids: the worse one.
        dropped: rows left out, by reason.
        n_shortened: pairs whose prompt lost its beginning.
    """

    prompt_ids: list[list[int]] = field(default_factory=list)
    chosen_ids: list[list[int]] = field(default_factory=list)
    rejected_ids: list[list[int]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    n_shortened: int = 0

    def __len__(self) -> int:
        return len(self.prompt_ids)

    @property
    def columns(self) -> dict[str, list[list[int]]]:
        """As TRL names them."""
        return {
            "prompt_ids": self.prompt_ids,
            "chosen_ids": self.chosen_ids,
            "rejected_ids": self.rejected_ids,
        }


@dataclass
class Labelled:
    """Answers as token ids, each called good (True) or bad."""

    prompt_ids: list[list[int]] = field(default_factory=list)
    completion_ids: list[list[int]] = field(default_factory=list)
    label: list[bool] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    n_shortened: int = 0

    def __len__(self) -> int:
        return len(self.label)


def encode_pairs(
    rows: Sequence[Row], tokenizer: Any, max_length: int, too_long: str = DROP
) -> Pairs:
    """Tokenise `{"prompt", "chosen", "rejected"}` rows; count what teaches nothing.

    Args:
        rows: of a preference dataset; no rows give an empty result.
        tokenizer: the base's.
        max_length: tokens of prompt and the longer answer together.
        too_long: drop, or truncate: the prompt loses its beginning. An answer is never cut: one
            that leaves no token of the prompt drops the pair.

    Raises:
        BadInput: a row without the three, or a template that renders a prompt differently when an
            answer follows.
    """
    pairs = Pairs()
    for row in rows:
        _require_entries(row, ("prompt", "chosen", "rejected"))
        sides = [{"prompt": row["prompt"], "completion": row[s]} for s in ("chosen", "rejected")]
        reasons = [reason for side in sides if (reason := unlearnable(side, tokenizer))]
        if reasons:
            pairs.dropped[reasons[0]] += 1
            continue
        (prompt, chosen), (_, rejected) = (split_text(side, tokenizer) for side in sides)
        if chosen.strip() == rejected.strip():
            pairs.dropped[SAME] += 1
            continue
        prompt_ids, chosen_ids, rejected_ids = (
            ids_of(text, tokenizer) for text in (prompt, chosen, rejected)
        )
        room = max_length - max(len(chosen_ids), len(rejected_ids))
        if len(prompt_ids) > room:
            if too_long != TRUNCATE or room < 1:
                pairs.dropped[TOO_LONG] += 1
                continue
            prompt_ids = shortened(row["prompt"], prompt, room, tokenizer)
            pairs.n_shortened += 1
        pairs.prompt_ids.append(prompt_ids)
        pairs.chosen_ids.append(chosen_ids)
        pairs.rejected_ids.append(rejected_ids)
    return pairs


def labelled(pairs: Pairs) -> Labelled:
    """Return each answer of the pairs once, winners as good and losers as bad, in their order.

    An answer stands in several pairs of its task; learning it as often would weigh tasks by their
    pairs. One that won here and lost there says nothing.
    """
    found = Labelled(dropped=Counter(pairs.dropped), n_shortened=pairs.n_shortened)
    said: dict[tuple[tuple[int, ...], tuple[int, ...]], set[bool]] = {}
    for prompt, chosen, rejected in zip(
        pairs.prompt_ids, pairs.chosen_ids, pairs.rejected_ids, strict=True
    ):
        for answer, label in ((chosen, True), (rejected, False)):
            labels = said.setdefault((tuple(prompt), tuple(answer)), set())
            found.dropped[REPEATED] += label in labels
            labels.add(label)
    for (prompt_ids, answer_ids), labels in said.items():
        if len(labels) > 1:
            found.dropped[CONTRADICTED] += 1
            continue
        found.prompt_ids.append(list(prompt_ids))
        found.completion_ids.append(list(answer_ids))
        found.label.append(labels.pop())
    found.dropped += Counter()  # forget what was counted zero times
    return found


def pairs_of(lesson: Lesson) -> tuple[Pairs, Pairs]:
    """Return a lesson's pairs to learn from and those held out, and say what is unusual.

    Raises:
        BadInput: no pair is left.
    """
    recipe = lesson.recipe
    longest = min(recipe.max_length, context_of(lesson.base_model) or recipe.max_length)
    learned, held_out = (
        _encoded(lesson, rows, kind, longest)
        for rows, kind in ((lesson.rows, "training"), (lesson.validation, "validation"))
    )
    require_pairs(len(learned), learned.dropped)
    if recipe.lr == Recipe().lr and recipe.method != REWARD:
        lesson.say(
            "WARNING",
            f"recipe.lr is {recipe.lr:g}, the default of imitation; preference methods as a rule "
            f"take less: {PLAN_LR:g} for a base of 7 billion weights",
        )
    return learned, held_out


def _encoded(lesson: Lesson, rows: Sequence[Row], kind: str, longest: int) -> Pairs:
    """Tokenise rows, and say what became of those that could not stay as they were."""
    pairs = encode_pairs(rows, lesson.tokenizer, longest, lesson.recipe.too_long)
    for reason, n_rows in pairs.dropped.items():
        lesson.say("WARNING", f"left out {n_rows} of {len(rows)} {kind} pairs: {reason}")
    if pairs.n_shortened:
        told = f"shortened the prompts of {pairs.n_shortened} of {len(rows)} {kind} pairs"
        lesson.say("WARNING", f"{told} to fit {longest} tokens")
    return pairs


def require_pairs(n: int, dropped: Counter[str]) -> None:
    """Check that something is left to learn from; raises BadInput with what was left out."""
    if n == 0:
        raise BadInput(
            "preference pairs",
            f"0 left; dropped: {dict(dropped) or 'nothing'}",
            "at least one pair of two different answers",
            "Check the dataset's answers, the chat template and recipe.max_length.",
        )


def require_both(found: Labelled) -> None:
    """Check that there are good and bad answers: of one kind alone, all answers become likelier.

    Raises:
        BadInput: answers of one kind, or none.
    """
    good = sum(found.label)
    if good == 0 or good == len(found):
        raise BadInput(
            "labelled answers",
            f"{good} good and {len(found) - good} bad; dropped: {dict(found.dropped) or 'nothing'}",
            "good ones and bad ones",
            "Collect what is missing, or train with sft on good answers alone.",
        )


def counts(learned: Any, held_out: Any, n_rows: Callable[[Any], int] = len) -> dict[str, Any]:
    """Return what is stored of a training's data; both are `Pairs`, or both `Labelled`."""
    return {
        "rows": n_rows(learned),
        "validation_rows": n_rows(held_out),
        "dropped": dict(learned.dropped),
        "validation_dropped": dict(held_out.dropped),
        "shortened": learned.n_shortened,
        "validation_shortened": held_out.n_shortened,
    }


def _require_entries(row: Row, names: Sequence[str]) -> None:
    missing = [name for name in names if not row.get(name)]
    if missing:
        raise BadInput(
            "preference row",
            sorted(row),
            f"entries {', '.join(names)}; missing or empty: {', '.join(missing)}",
            "Train from a preference dataset: flywheel curate --kind preference",
        )
