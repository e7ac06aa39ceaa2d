"""What is known of a task before anybody answers it: its type, language, difficulty and length."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.language import code_language, prose_language
from foundation.chat import prompt_messages, text_of


@dataclass(frozen=True)
class TaskFeatures:
    """What routing goes by.

    Attributes:
        task_type: as the caller says it (`x-flywheel-task-type`).
        language: of the code in the question, else of its prose; None if it cannot be told.
        difficulty: as the caller says it (`x-flywheel-difficulty`).
        n_chars: length of the whole prompt, in characters.
    """

    task_type: str | None
    language: str | None
    difficulty: str | None
    n_chars: int


def features_of(
    request: Mapping[str, Any], task_type: str | None = None, difficulty: str | None = None
) -> TaskFeatures:
    """Return the features of a chat request; pure.

    The language is read off the last message of the user, where the question is; what stands
    before it is often somebody else's code.
    """
    messages = prompt_messages(dict(request))
    asked = [text_of(m.get("content")) for m in messages if m.get("role") == "user"]
    question = asked[-1] if asked else ""
    return TaskFeatures(
        task_type=task_type,
        language=code_language(question) or prose_language(question),
        difficulty=difficulty,
        n_chars=sum(len(text_of(m.get("content"))) for m in messages),
    )
