"""A round of critique and revision over a role's training prompts, one transaction a prompt.

Each prompt goes through it once for a constitution: what came of it is kept, a pair or not, so that
a round that was stopped goes on and the next one takes other prompts.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlmodel import Session, col

from collector.scrub import Scrubber, server_rules
from curation.constitution.principles import Constitution, Principle
from curation.constitution.questions import (
    ask_critique,
    ask_revision,
    read_critique,
    read_revision,
)
from curation.normalize import comparable_lines
from curation.preferences.answers import ANSWER, IS_MINE, TASK, name_tasks, parameters
from curation.preferences.benchmarks import check_pairs
from curation.preferences.pairs import CONSTITUTION, Answer, is_learnable, pair_of
from curation.preferences.places import assign_splits
from curation.preferences.rank import TIMEOUT_S, Asked, answer_id
from curation.preferences.store import Task, columns_of, settle, store
from curation.recipe import CurationRecipe
from curation.tables import ConstitutionRevision
from curation.templates import load_templates
from foundation import llm
from foundation.chat import Message, answer_text, finish_reason, joined
from foundation.database import session_scope
from foundation.errors import BadInput

REVISED, NOTHING_WRONG, UNCHANGED = "revised", "nothing_wrong", "unchanged"
UNREADABLE, CUT = "unreadable", "cut"
LOGGED, FRESH = "logged", "fresh"
MARGIN: Final = 0.5
"""How sure a pair is: one model's word, asked once."""
MAX_TOKENS: Final = 2000
CALLS_OF_A_PROMPT: Final = 3
"""At most: an answer, its critique, its revision."""

Progress = Callable[..., Any]


@dataclass(frozen=True)
class Round:
    """What to do.

    Attributes:
        role: whose training prompts.
        model: a litellm name, or a model of the settings' upstreams.
        constitution: principles that are drawn from.
        n_prompts: prompts at most.
        calls: questions to the model at most; a prompt is begun only if all of its fit.
        answers: `fresh`: the model answers first; `logged`: the answer that the role learns. One
            that a test passed is left alone: no model's word stands against that.
        recipe: variant and seed.
        run_id: of the job; a job that is started again counts what it did.
    """

    role: str
    model: str
    constitution: Constitution
    n_prompts: int
    calls: int
    answers: str = FRESH
    recipe: CurationRecipe = field(default_factory=CurationRecipe)
    run_id: UUID | None = None

    def __post_init__(self) -> None:
        """Check what a stranger may have given; raises BadInput."""
        if self.answers not in (LOGGED, FRESH):
            raise BadInput("answers", self.answers, f"{FRESH} or {LOGGED}", "Name one of them.")
        for name in ("n_prompts", "calls"):
            if getattr(self, name) < 1:
                raise BadInput(name, getattr(self, name), "at least 1", "Allow some.")


@dataclass(frozen=True, slots=True)
class _Prompt:
    asked: Asked
    logged: str


@dataclass
class _Asking:
    """The model, and what it was asked for one prompt."""

    connection: dict[str, Any]
    model: str
    n_calls: int = 0
    cost_usd: float = 0.0

    def ask(self, messages: list[Message], temperature: float = 0.0) -> str | None:
        """Return the scrubbed reply, or None if it was cut by its length; raises ProviderError."""
        where = {name: value for name, value in self.connection.items() if name != "model"}
        request = {
            "model": self.connection["model"],
            "messages": messages,
            "temperature": temperature,
            "max_tokens": MAX_TOKENS,
        }
        response = llm.complete(request, timeout=TIMEOUT_S, drop_params=True, **where)
        self.n_calls += 1
        self.cost_usd += llm.cost_usd(self.model, response) or 0.0
        if finish_reason(response) == "length":
            return None
        return Scrubber(server_rules()).text(answer_text(response))[0]


@dataclass(frozen=True)
class _Found:
    """What came of one prompt."""

    outcome: str
    original: str = ""
    critique: str = ""
    revision: str | None = None


def run_round(
    order: Round, progress: Progress | None = None, check: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Return how many prompts came to what, the calls, and the counts of the role's pairs after it.

    Args:
        order: what to do.
        progress: called as `progress(done, total, "prompts")`.
        check: called before each prompt; raises to stop.

    Raises:
        ProviderError: the model cannot be asked; what was done before is kept.
    """
    connection = llm.connection_of(order.model)
    with session_scope() as session:
        n_done, calls = _done_by(session, order.run_id)
        prompts = _open(session, order, order.n_prompts - n_done)
    counts = Counter[str]()
    needed = CALLS_OF_A_PROMPT - (order.answers == LOGGED)
    for done, prompt in enumerate(prompts, start=n_done + 1):
        if check is not None:
            check()
        if calls + needed > order.calls:
            counts["not_begun"] = len(prompts) - sum(counts.values())
            break
        asking = _Asking(connection, order.model)
        principle = order.constitution.drawn(prompt.asked.interaction_id, order.recipe.seed)
        found = _revised(prompt, principle, order.answers, asking)
        with session_scope() as session:
            _store(session, order, prompt, principle, found, asking)
        calls += asking.n_calls
        counts[found.outcome] += 1
        if progress is not None:
            progress(done, n_done + len(prompts), "prompts")
    with session_scope() as session:
        templates = load_templates(session, order.role)
        assign_splits(session, order.role, order.recipe, templates)
        check_pairs(session, order.role, order.recipe, templates)
        pairs = settle(session, order.role, order.recipe)
    return {"prompts": dict(sorted(counts.items())), "calls": calls, "pairs": pairs}


def _revised(prompt: _Prompt, principle: Principle, answers: str, asking: _Asking) -> _Found:
    """Ask for the answer (a fresh one), its critique and its revision, as far as it goes."""
    original: str | None = prompt.logged
    if answers == FRESH:
        original = asking.ask(prompt.asked.prompt, temperature=1.0)
        if original is None:
            return _Found(CUT)
    if not (original or "").strip():
        return _Found(UNREADABLE)
    assert original is not None
    task = joined(prompt.asked.prompt, ("system", "user", "tool"))
    mark, question = ask_critique(principle, task, original)
    reply = asking.ask(question)
    critique = None if reply is None else read_critique(reply, mark, principle)
    if critique is None:
        return _Found(CUT if reply is None else UNREADABLE, original)
    if not critique.fault:
        return _Found(NOTHING_WRONG, original, critique.text)
    mark, question = ask_revision(principle, task, original, critique.text)
    reply = asking.ask(question)
    revision = None if reply is None else read_revision(reply, mark)
    if revision is None:
        return _Found(CUT if reply is None else UNREADABLE, original, critique.text)
    if comparable_lines(revision) == comparable_lines(original):
        return _Found(UNCHANGED, original, critique.text)
    return _Found(REVISED, original, critique.text, revision)


def _store(
    session: Session,
    order: Round,
    prompt: _Prompt,
    principle: Principle,
    found: _Found,
    asking: _Asking,
) -> None:
    """Keep what came of a prompt, and its pair."""
    asked = prompt.asked
    session.add(
        ConstitutionRevision(
            role=order.role,
            variant=order.recipe.variant,
            constitution=order.constitution.digest,
            task_key=asked.task.key,
            project=asked.task.project,
            interaction_id=asked.interaction_id,
            run_id=order.run_id,
            model=order.model,
            principle=principle.name,
            outcome=found.outcome,
            original=found.original,
            critique=found.critique,
            revision=found.revision,
            n_calls=asking.n_calls,
            cost_usd=asking.cost_usd,
        )
    )
    if found.revision is None:
        return
    loser_id = asked.interaction_id if order.answers == LOGGED else None
    pair = pair_of(
        CONSTITUTION,
        _answer(asked, found.revision),
        _answer(asked, found.original, loser_id),
        MARGIN,
        asked=str(asked.interaction_id),
        source=order.model,
        principle=principle.name,
        constitution=order.constitution.digest,
        critique=found.critique,
    )
    if is_learnable(pair):
        store(session, [columns_of(pair, asked.task, order.role, order.recipe.variant)])


def _answer(asked: Asked, said: str, interaction_id: UUID | None = None) -> Answer:
    return Answer(
        interaction_id or answer_id(asked, said),
        asked.prompt,
        said,
        comparable_lines(said),
        task_type=asked.task_type,
    )


def _done_by(session: Session, run_id: UUID | None) -> tuple[int, int]:
    """Return the prompts that a job is through with, and the calls that took."""
    if run_id is None:
        return 0, 0
    query = select(func.count(), func.coalesce(func.sum(col(ConstitutionRevision.n_calls)), 0))
    n_prompts, calls = session.execute(
        query.where(col(ConstitutionRevision.run_id) == run_id)
    ).one()
    return int(n_prompts), int(calls)


def _open(session: Session, order: Round, count: int) -> list[_Prompt]:
    """Return prompts that the role trains on and that did not go through this constitution."""
    name_tasks(session, order.role, order.recipe, load_templates(session, order.role))
    rows = session.execute(
        _OPEN,
        {
            **parameters(order.role, order.recipe),
            "constitution": order.constitution.digest,
            "logged": order.answers == LOGGED,
            "seed": str(order.recipe.seed),
            "count": max(count, 0),
        },
    )
    return [
        _Prompt(
            Asked(Task(row.task, row.project), row.prompt, row.task_type, row.interaction_id),
            row.answer,
        )
        for row in rows
    ]


_OPEN = text(
    f"""
    SELECT * FROM (
        SELECT DISTINCT ON ({TASK}, e.project) {TASK} AS task, {ANSWER}, e.id
        FROM example e
        WHERE {IS_MINE} AND e.status = 'kept' AND e.split = 'train' AND {TASK} IS NOT NULL
          AND (NOT :logged OR (e.answer_message IS NULL AND NOT (
              coalesce((e.scores->>'outcome')::boolean, false)
              AND e.scores->>'outcome_source' = 'test')))
          AND NOT EXISTS (
            SELECT FROM constitution_revision r
            WHERE r.role = :role AND r.variant = :variant AND r.constitution = :constitution
              AND r.task_key = {TASK} AND r.project = e.project)
        ORDER BY {TASK}, e.project, e.id
    ) AS asked
    ORDER BY md5(:seed || ':' || id) LIMIT :count
    """
)
