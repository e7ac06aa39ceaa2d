"""What the tiny base reads: chats of all three roles, a stated share of them wrong, some source.

The base stands for agents whose work is of mixed quality. `sloppy_share` of the answers carry one
planted semantic bug, and some aggregates are rare, so that a fresh base gets well under half of
its attempts right: that is made, not found, and the demo says so.
"""

import inspect
import random
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from flywheel.demo.language import (
    PARTS,
    REVIEWER_VERB,
    ROLES,
    Meaning,
    draw_meaning,
    draw_style,
    function_code,
    is_held_out,
    make_task,
    near_miss,
    review_text,
    right_answer,
    sloppy_answer,
)

Message: TypeAlias = dict[str, str]


@dataclass(frozen=True, slots=True)
class PretrainingMix:
    """What the base data is made of.

    Attributes:
        role_shares: share of the chats per role; they sum to 1.
        sloppy_share: share of the answers with a planted bug, 0-1, per role.
        comparison_share: share of the reviews in which several parts may be wrong, 0-1.
        rare: aggregates that the base saw little of.
        rare_share: how often a rare aggregate is kept when drawn, 0-1.
        source_share: share of the documents that are standard-library source, 0-1.
        seed: the same mix and seed give the same documents (on the same Python release).
    """

    role_shares: dict[str, float] = field(
        default_factory=lambda: {"coder": 0.35, "tester": 0.23, "reviewer": 0.42}
    )
    sloppy_share: dict[str, float] = field(
        default_factory=lambda: {"coder": 0.5, "tester": 0.42, "reviewer": 0.45}
    )
    comparison_share: float = 0.7
    rare: tuple[str, ...] = ("reversed", "unique")
    rare_share: float = 0.3
    source_share: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses shares that are no shares."""
        if set(self.role_shares) - set(ROLES) or abs(sum(self.role_shares.values()) - 1) > 1e-9:
            raise ValueError(f"role_shares {self.role_shares} must name demo roles and sum to 1")


def documents(mix: PretrainingMix, n: int) -> Iterator[list[Message]]:
    """Yields `n` chats, each one user message and one answer.

    Held-out semantic keys never occur. A piece of source is an answer to an empty request.
    """
    rng = random.Random(f"pretraining/{mix.seed}")
    pieces = source_pieces()
    roles, weights = tuple(mix.role_shares), tuple(mix.role_shares.values())
    for _ in range(n):
        if rng.random() < mix.source_share:
            yield _chat("", rng.choice(pieces))
            continue
        role = rng.choices(roles, weights)[0]
        meaning = draw_meaning(rng, mix.rare, mix.rare_share)
        while is_held_out(meaning.key):
            meaning = draw_meaning(rng, mix.rare, mix.rare_share)
        if role == "reviewer" and rng.random() < mix.comparison_share:
            yield _comparison(meaning, rng, mix.sloppy_share[role])
            continue
        task = make_task(role, meaning, draw_style(rng, role), rng)
        careless = rng.random() < mix.sloppy_share[role]
        yield _chat(task.prompt, sloppy_answer(task, rng) if careless else right_answer(task, rng))


def _comparison(meaning: Meaning, rng: random.Random, sloppy_share: float) -> list[Message]:
    """A review of a function in which each part is wrong or not with even chances.

    With one planted bug, four of five parts are the same, and the base learns to say "same"
    without looking (measured); here it must compare.
    """
    style, shown = draw_style(rng, "reviewer"), meaning
    for part in PARTS:
        if rng.random() < 0.5:
            shown = near_miss(shown, part, rng)
    asked = meaning
    if rng.random() < sloppy_share:
        asked = near_miss(meaning, rng.choice(PARTS), rng)
    request = meaning.request(style.wording)
    prompt = REVIEWER_VERB.format(request=request, code=function_code(shown, style))
    return _chat(prompt, review_text(asked, shown))


def source_pieces() -> list[str]:
    """Short functions of the standard library, as general Python text (at most 300 characters)."""
    pieces = [
        textwrap.dedent(inspect.getsource(thing)).strip()
        for _, thing in sorted(vars(textwrap).items()) + sorted(vars(random.Random).items())
        if inspect.isfunction(thing)
    ]
    return [piece[:300] for piece in pieces]


def _chat(request: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]
