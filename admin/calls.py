"""One call: its texts, what was said of it, its neighbours, and what was made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, select
from sqlmodel import Session, col

from admin.differences import Diff, side_by_side
from admin.texts import Answer, Shown, ShownMessage, answer, conversation, shown
from collector.tables import Feedback, Interaction, InteractionPayload
from curation.reasons import reason_of
from curation.review.leases import DONE, OPEN
from curation.tables import Dataset, DatasetExample, Example, ReviewItem
from evaluator.tables import Evaluation
from foundation import chat
from foundation.errors import NotFound
from foundation.ids import new_id
from router.tables import Experiment, Promotion
from trainer.tables import ModelVersion

NEIGHBOURS: Final = 30
"""Calls of the episode that are listed before a call, and after it."""
SAID: Final = 60
MADE: Final = 40
"""Newest datasets, models, evaluations and promotions that are named."""
_REASONING: Final = ("reasoning_content", "reasoning", "thinking")
"""Where providers put what a model thought before it answered."""


@dataclass(frozen=True)
class ExampleMade:
    """An example of the call, with why it is in or out, and where it stands in review."""

    example: Example
    item: ReviewItem | None

    @property
    def why(self) -> str:
        """Why it was dropped, in words; empty if it was kept."""
        return reason_of(self.example.drop_reason).title if self.example.drop_reason else ""

    @property
    def means(self) -> str:
        """What that reason means."""
        return reason_of(self.example.drop_reason).means if self.example.drop_reason else ""

    @property
    def review(self) -> str:
        """How it stands in review: waits, labelled, or empty."""
        if self.item is None:
            return ""
        return {OPEN: "waits in the review queue", DONE: "labelled"}.get(self.item.status, "")


@dataclass(frozen=True)
class Lineage:
    """Where a call went: its examples, the datasets they are in, the models made of these."""

    examples: Sequence[Example] = ()
    datasets: Sequence[Dataset] = ()
    models: Sequence[ModelVersion] = ()
    evaluations: Sequence[Evaluation] = ()
    promotions: Sequence[Promotion] = ()
    items: Mapping[UUID, ReviewItem] = field(default_factory=dict)
    """Review items by example."""

    @property
    def made(self) -> list[ExampleMade]:
        """Its examples with what is known of each."""
        return [ExampleMade(one, self.items.get(one.id)) for one in self.examples]

    @property
    def may_be_queued(self) -> bool:
        """Whether an example of it is not in the review queue and was not labelled yet."""
        return any(not one.review for one in self.made)

    @property
    def taught(self) -> str:
        """Which models it taught, newest first; empty if none."""
        names = [model.name for model in self.models]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return ", ".join(names[:3]) + more


@dataclass(frozen=True)
class Said:
    """A statement, and of a correction how it differs from the answer."""

    statement: Feedback
    diff: Diff | None = None


@dataclass(frozen=True)
class Result:
    """What a tool gave back for a call of the answer, as the next call was told."""

    name: str
    text: Shown


@dataclass(frozen=True)
class Neighbours:
    """Calls of the same episode around one."""

    calls: Sequence[Interaction]
    place: int
    """Of the call itself among them."""

    @property
    def previous(self) -> Interaction | None:
        """The call before it."""
        return self.calls[self.place - 1] if self.place else None

    @property
    def next(self) -> Interaction | None:
        """The call after it."""
        return self.calls[self.place + 1] if self.place + 1 < len(self.calls) else None


@dataclass(frozen=True)
class DetailPage:
    """One interaction with its payload, feedback, episode and lineage."""

    call: Interaction
    payload: InteractionPayload | None
    messages: Sequence[ShownMessage]
    answer: Answer
    others: Sequence[Shown]
    """Further answers, where several were asked for."""
    reasoning: Shown | None
    results: Sequence[Result]
    answer_text: str
    said: Sequence[Said]
    neighbours: Neighbours
    experiment: Experiment | None
    model: ModelVersion | None
    lineage: Lineage
    statement: UUID = field(default_factory=new_id)
    """Makes the ids of what is said on this page: said twice, it is stored once."""

    @property
    def feedback(self) -> list[Feedback]:
        """What was said of the call or its episode."""
        return [one.statement for one in self.said]

    @property
    def episode(self) -> Sequence[Interaction]:
        """Calls of the episode around this one."""
        return self.neighbours.calls

    @property
    def removed(self) -> list[tuple[str, Any]]:
        """What scrubbing removed from this call, counted by kind."""
        return sorted((self.call.scrub or {}).items())


def get_call(session: Session, identifier: UUID) -> Interaction:
    """Return a call.

    Raises:
        NotFound: no such interaction; its partition may have been dropped.
    """
    call = session.get(Interaction, identifier)
    if call is None:
        raise NotFound(
            "interaction",
            str(identifier),
            "the id of a call that is still kept",
            "Old calls leave with their partition; their examples keep a copy.",
        )
    return call


def detail(session: Session, identifier: UUID) -> DetailPage:
    """Return everything known about one call; raises NotFound."""
    call = get_call(session, identifier)
    payload = session.get(InteractionPayload, identifier)
    response = payload.response if payload else None
    given = chat.answer_message(response)
    neighbours = neighbours_of(session, call)
    said = chat.answer_text(response)
    return DetailPage(
        call=call,
        payload=payload,
        messages=conversation(named_results(chat.prompt_messages(payload.request)))
        if payload
        else (),
        answer=answer(said, given),
        others=[shown(one) for one in chat.answer_texts(response)[1:9]],
        reasoning=_reasoning(given),
        results=results_of(session, chat.tool_calls(response), neighbours.next),
        answer_text=said,
        said=[_with_diff(one, said, call) for one in feedback_on(session, call)],
        neighbours=neighbours,
        experiment=session.get(Experiment, call.experiment_id) if call.experiment_id else None,
        model=session.get(ModelVersion, call.model_version_id) if call.model_version_id else None,
        lineage=lineage_of(session, identifier),
    )


def named_results(messages: Sequence[chat.Message]) -> list[chat.Message]:
    """Return messages in which each tool result says which tool it is of; pure."""
    names: dict[str, str] = {}
    found: list[chat.Message] = []
    for one in messages:
        for made in _dicts(one.get("tool_calls")):
            names[str(made.get("id"))] = _tool_name(made)
        if one.get("role") == "tool" and not one.get("name"):
            name = names.get(str(one.get("tool_call_id")))
            one = {**one, "name": f"result of {name}"} if name else one
        found.append(one)
    return found


def results_of(
    session: Session, calls: Sequence[Any], following: Interaction | None
) -> list[Result]:
    """Return what the tools gave back, which only the prompt of the next call tells."""
    wanted = {str(one.get("id")): _tool_name(one) for one in _dicts(list(calls))}
    payload = session.get(InteractionPayload, following.id) if wanted and following else None
    if payload is None:
        return []
    return [
        Result(wanted[str(one.get("tool_call_id"))], shown(chat.text_of(one.get("content"))))
        for one in chat.prompt_messages(payload.request)
        if one.get("role") == "tool" and str(one.get("tool_call_id")) in wanted
    ]


def feedback_on(session: Session, call: Interaction) -> Sequence[Feedback]:
    """Return what was said about the call or its episode as a whole, oldest first."""
    about = col(Feedback.interaction_id) == call.id
    if call.episode_id is not None:
        of_episode = col(Feedback.episode_id) == call.episode_id
        about = about | (of_episode & col(Feedback.interaction_id).is_(None))
    query = select(Feedback).where(about).order_by(col(Feedback.id)).limit(SAID)
    return session.scalars(query).all()


def neighbours_of(session: Session, call: Interaction) -> Neighbours:
    """Return the calls of the same episode around a call; it alone when it has no episode."""
    if call.episode_id is None:
        return Neighbours([call], 0)
    key = col(Interaction.id)
    query = select(Interaction).where(col(Interaction.episode_id) == call.episode_id)
    before = session.scalars(
        query.where(key < call.id).order_by(key.desc()).limit(NEIGHBOURS)
    ).all()
    after = session.scalars(query.where(key > call.id).order_by(key).limit(NEIGHBOURS)).all()
    return Neighbours([*reversed(before), call, *after], len(before))


def lineage_of(session: Session, identifier: UUID) -> Lineage:
    """Follow a call into examples, datasets, models and what became of them; empty if unused."""
    examples = session.scalars(
        select(Example).where(col(Example.interaction_id) == identifier).order_by(col(Example.id))
    ).all()
    if not examples:
        return Lineage()
    ids = [example.id for example in examples]
    datasets = session.scalars(
        select(Dataset)
        .join(DatasetExample, col(DatasetExample.dataset_id) == col(Dataset.id))
        .where(col(DatasetExample.example_id).in_(ids))
        .order_by(col(Dataset.id).desc())
        .limit(MADE)
    ).all()
    models = session.scalars(
        select(ModelVersion)
        .where(col(ModelVersion.dataset_id).in_([dataset.id for dataset in datasets]))
        .order_by(col(ModelVersion.id).desc())
        .limit(MADE)
    ).all()
    of_models = [model.id for model in models]
    return Lineage(
        examples,
        datasets,
        models,
        session.scalars(
            select(Evaluation)
            .where(col(Evaluation.model_version_id).in_(of_models))
            .order_by(col(Evaluation.id).desc())
            .limit(MADE)
        ).all(),
        session.scalars(
            select(Promotion)
            .where(col(Promotion.to_model_version_id).in_(of_models))
            .order_by(col(Promotion.id).desc())
            .limit(MADE)
        ).all(),
        items_of(session, ids),
    )


def items_of(session: Session, examples: Sequence[UUID]) -> dict[UUID, ReviewItem]:
    """Return how examples stand in review: an open item before a settled one."""
    found = session.scalars(
        select(ReviewItem)
        .where(
            and_(
                col(ReviewItem.kind) == "example",
                col(ReviewItem.subject_id).in_(examples),
                col(ReviewItem.status).in_([OPEN, DONE]),
            )
        )
        .order_by(col(ReviewItem.status))
    ).all()
    return {item.subject_id: item for item in found}


def _with_diff(statement: Feedback, answered: str, call: Interaction) -> Said:
    is_of_call = statement.interaction_id == call.id
    if statement.kind != "correction" or not is_of_call or not answered:
        return Said(statement)
    return Said(statement, side_by_side(answered, statement.text or ""))


def _reasoning(given: chat.Message | None) -> Shown | None:
    for name in _REASONING:
        thought = chat.text_of((given or {}).get(name))
        if thought.strip():
            return shown(thought)
    return None


def _tool_name(made: Mapping[str, Any]) -> str:
    function = made.get("function")
    return str((function if isinstance(function, Mapping) else {}).get("name") or "?")[:80]


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []
