"""Pairs made on purpose: several answers to one prompt, ranked, the best against the worst.

The prompts are those that the role is trained on. Answers come from a model, through
`foundation.llm`, or are recorded ones; the ranking is anybody's: the LLM judge, a reward model, a
test run. Calling out (`ranked`) and storing (`store_ranked`) are apart, so that no transaction
waits for a provider. Nothing generated is kept unscrubbed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from collector.record import derived_id
from collector.scrub import Scrubber, server_rules
from curation.normalize import comparable_lines
from curation.preferences.answers import ANSWER, IS_MINE, TASK, name_tasks, parameters
from curation.preferences.benchmarks import check_pairs
from curation.preferences.pairs import GENERATED, Answer, Pair, is_learnable, pair_of, spread
from curation.preferences.places import assign_splits
from curation.preferences.store import Task, columns_of, settle, store
from curation.recipe import CurationRecipe
from curation.score import judge
from curation.score.outcome import Attempt
from curation.templates import load_templates
from foundation import llm
from foundation.chat import Message, answer_text, finish_reason, joined
from foundation.ids import time_of

JUDGE, EXECUTION, REWARD = "judge", "execution", "reward"
LEAST_GAP: Final = 0.2
"""Between two scores in 0-1, from which one answer is called better."""
TIMEOUT_S: Final = 120.0
_PROMPTS_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt to answer several times."""

    task: Task
    prompt: list[Message]
    task_type: str | None
    interaction_id: UUID
    """Whose prompt it is."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A prompt, and its answers with their scores in 0-1; None: no verdict on this one."""

    asked: Asked
    answers: list[tuple[str, float | None]]
    source: str
    """Who answered."""
    by: str = JUDGE
    """What ranked: judge, execution, reward, or a name of your own."""


Generate: TypeAlias = Callable[[Asked], Sequence[str]]
"""Returns answers to a prompt."""
Rank: TypeAlias = Callable[[Asked, Sequence[str]], Sequence[float | None]]
"""Returns the score of each answer in 0-1, or None for those it cannot tell."""


def open_prompts(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    count: int,
    only: Callable[[Asked], bool] | None = None,
) -> list[Asked]:
    """Return up to `count` prompts that the role trains on and that have no generated pair yet.

    One prompt of a task, tasks drawn by the recipe's seed. With `only`, those that it is true of.
    """
    name_tasks(session, role, recipe, load_templates(session, role))
    most = count if only is None else None
    given = {**parameters(role, recipe), "seed": str(recipe.seed), "count": most}
    streamed = {"yield_per": _PROMPTS_AT_ONCE}
    with closing(session.execute(_OPEN_PROMPTS, given, execution_options=streamed)) as rows:
        found = (
            Asked(Task(row.task, row.project), row.prompt, row.task_type, row.interaction_id)
            for row in rows
        )
        return list(islice(filter(only, found) if only else found, count))


def ranked(
    asked: Iterable[Asked], generate: Generate, rank: Rank, source: str, by: str = JUDGE
) -> Iterator[Ranked]:
    """Yield each prompt with its answers, scrubbed and ranked; those that say the same are one."""
    for one in asked:
        distinct = {comparable_lines(said): said for said in map(_scrubbed, generate(one))}
        answers = [said for key, said in distinct.items() if key.strip()]
        yield Ranked(one, list(zip(answers, rank(one, answers), strict=True)), source, by)


def generated_by(
    model: str, count: int, *, temperature: float = 1.0, max_tokens: int = 2000, **connection: Any
) -> Generate:
    """Return what asks `model` for `count` answers to a prompt, one call each.

    Args:
        model: a litellm name.
        count: answers to a prompt.
        temperature: above 0, or all answers are one.
        max_tokens: of an answer; one that is cut there is left out.
        connection: `api_base`, `api_key`, litellm's own names.

    Raises:
        ProviderError: when called, if the provider fails.
    """
    where = {"timeout": TIMEOUT_S, **connection}

    def generate(asked: Asked) -> list[str]:
        request = {
            "model": model,
            "messages": asked.prompt,
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        responses = [llm.complete(request, **where) for _ in range(count)]
        return [answer_text(response) for response in responses if _is_whole(response)]

    return generate


def ranked_by_judge(session: Session, recipe: CurationRecipe, since: datetime) -> Rank:
    """Return what ranks answers by the recipe's LLM judge; what it said once is not asked again.

    Args:
        session: keeps the verdicts; commit it often.
        recipe: names the judge, and how many questions it may be asked.
        since: from when on questions count against that.
    """

    def rank(asked: Asked, answers: Sequence[str]) -> list[float | None]:
        question = joined(asked.prompt, ("user", "tool"))
        attempts = [
            Attempt(
                question,
                answer,
                "success",
                completed=True,
                finish_reason="stop",
                interaction_id=answer_id(asked, answer),
            )
            for answer in answers
        ]
        judge.ask(session, attempts, recipe, since)
        found = judge.verdicts(session, attempts, recipe)
        scores = [found.get(answer_id(asked, answer)) for answer in answers]
        return [None if said is None or said.flipped else said.score for said in scores]

    return rank


def pairs_of_ranked(found: Ranked, recipe: CurationRecipe, least_gap: float) -> list[Pair]:
    """Return the pairs of ranked answers, the upper half against the lower; pure.

    At most the recipe's `pairs_per_task`, and none closer than `least_gap`.
    """
    scores = {answer_id(found.asked, said): score for said, score in found.answers}
    answers = [_answer(found.asked, said) for said, score in found.answers if score is not None]
    answers.sort(key=lambda one: (-(scores[one.interaction_id] or 0.0), one.interaction_id))
    half = (len(answers) + 1) // 2
    pairs = (
        pair_of(
            GENERATED,
            winner,
            loser,
            gap,
            asked=str(found.asked.interaction_id),
            source=found.source,
            ranked_by=found.by,
            scores=[scores[winner.interaction_id], scores[loser.interaction_id]],
        )
        for winner, loser in spread(answers[:half], answers[half:][::-1])
        if (gap := (scores[winner.interaction_id] or 0) - (scores[loser.interaction_id] or 0))
        >= least_gap
    )
    return list(islice(filter(is_learnable, pairs), recipe.pairs_per_task))


def store_ranked(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    found: Iterable[Ranked],
    least_gap: float = LEAST_GAP,
) -> dict[str, int]:
    """Store the pairs of ranked answers; return the counts of all pairs, as mining does."""
    templates = load_templates(session, role)
    for one in found:
        pairs = pairs_of_ranked(one, recipe, least_gap)
        store(session, [columns_of(pair, one.asked.task, role, recipe.variant) for pair in pairs])
    assign_splits(session, role, recipe, templates)
    check_pairs(session, role, recipe, templates)
    return settle(session, role, recipe)


def answer_id(asked: Asked, answer: str) -> UUID:
    """Return the id of a generated answer, which is no interaction: it follows from its text."""
    moment = time_of(asked.interaction_id)
    return derived_id(moment, "generated", asked.task.project, asked.task.key, answer)


def _answer(asked: Asked, said: str) -> Answer:
    return Answer(
        answer_id(asked, said),
        asked.prompt,
        said,
        comparable_lines(said),
        task_type=asked.task_type,
    )


def _scrubbed(said: str) -> str:
    return Scrubber(server_rules()).text(said)[0]


def _is_whole(response: dict[str, Any]) -> bool:
    return finish_reason(response) != "length"


_OPEN_PROMPTS = text(
    f"""
    SELECT * FROM (
        SELECT DISTINCT ON ({TASK}, e.project) {TASK} AS task, {ANSWER}, e.id
        FROM example e
        WHERE {IS_MINE} AND e.status = 'kept' AND e.split = 'train' AND {TASK} IS NOT NULL
          AND NOT EXISTS (
            SELECT FROM preference_pair p
            WHERE p.role = :role AND p.variant = :variant AND p.basis = 'generated'
              AND p.task_key = {TASK} AND p.project = e.project)
        ORDER BY {TASK}, e.project, e.id
    ) AS asked
    ORDER BY md5(:seed || ':' || id) LIMIT :count
    """
)
