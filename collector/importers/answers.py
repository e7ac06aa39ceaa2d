"""From a conversation to interactions: one for each answer, with what came before as its request.

That is what an agent's log of the same conversation would hold, so imported and captured work are
curated alike.
"""

from collections.abc import Sequence
from typing import Any

from collector.importers.lines import Imported, NoAnswer
from collector.importers.row import Row
from foundation.chat import Message, text_of


def one_per_answer(
    row: Row,
    request: dict[str, Any],
    messages: Sequence[tuple[Message, bool]],
    **columns: Any,
) -> list[Imported]:
    """Return an interaction for each message that is an answer.

    They share the row's episode; each has the one before as its parent. `request` holds what was
    asked with (model, tools), `messages` come from `openai_messages`.

    Raises:
        NoAnswer: none of the messages is an answer.
    """
    found: list[Imported] = []
    for index, (answer, is_answer) in enumerate(messages):
        if is_answer:
            prefix = [message for message, _ in messages[:index]]
            parent = found[-1].interaction["id"] if found else None
            found.append(
                row.interaction(
                    len(found),
                    {**request, "messages": prefix},
                    row.response(len(found), answer, request.get("model")),
                    parent_id=parent,
                    **columns,
                )
            )
    if not found:
        raise NoAnswer("none of the messages is an answer of the assistant")
    return found


def last_answer(
    row: Row,
    request: dict[str, Any],
    messages: Sequence[Message],
    answer: Message,
    number: int = 0,
    feedback: Sequence[dict[str, Any]] = (),
    **columns: Any,
) -> Imported:
    """Return the interaction of one answer to a conversation whose earlier answers are context.

    Raises:
        NoAnswer: it says nothing and calls nothing.
    """
    if not text_of(answer.get("content")).strip() and not answer.get("tool_calls"):
        raise NoAnswer("the answer is empty")
    return row.interaction(
        number,
        {**request, "messages": list(messages)},
        row.response(number, answer, request.get("model")),
        feedback,
        **columns,
    )


def preferred(
    row: Row,
    request: dict[str, Any],
    prompt: Sequence[Message],
    winner: Sequence[Message],
    loser: Sequence[Message],
    **columns: Any,
) -> list[Imported]:
    """Return the two interactions of a preference pair, the winner with the statement on both.

    An answer of several messages (calls, results, words) counts as its last one; the others are
    part of its request.

    Raises:
        NoAnswer: one of the answers is empty.
    """
    statement = row.feedback(
        0, "preference", "chosen", loser_interaction_id=row.interaction_id(1), source="human"
    )
    return [
        last_answer(row, request, [*prompt, *said[:-1]], said[-1], number, feedback, **columns)
        for number, (said, feedback) in enumerate(((winner, [statement]), (loser, [])))
    ]
