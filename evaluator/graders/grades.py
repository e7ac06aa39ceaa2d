"""What a grader is given and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from evaluator.sandbox import Sandbox, Status


@dataclass(frozen=True)
class GradedTask:
    """One item of a suite with what its grader needs.

    Attributes:
        task_id: stable id within the suite.
        prompt_messages: the chat messages that the model is asked.
        grader: name in `evaluator.graders.GRADERS`.
        reference: data of that grader; its keys stand in the grader's module.
    """

    task_id: str
    prompt_messages: list[dict[str, Any]]
    grader: str
    reference: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grade:
    """The verdict on one answer.

    Attributes:
        passed: the answer does what was asked.
        status: PASS exactly when passed; LOST for an empty answer.
        detail: the reason in words, empty on PASS.
        score: 0 to 1, the share of cases that were right (the grader says of which).
        metrics: what else was measured, by name; plain JSON, averaged over samples where numbers.
    """

    passed: bool
    status: Status
    detail: str = ""
    score: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        status: Status,
        detail: str = "",
        score: float = 0.0,
        metrics: Mapping[str, Any] | None = None,
    ) -> "Grade":
        """A grade whose `passed` follows from its status."""
        return cls(status is Status.PASS, status, detail[:500], score, metrics or {})


class Grader(Protocol):
    """Grades answers, one per task, in order."""

    def __call__(
        self, tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
    ) -> list[Grade]:
        """Returns one grade per task; raises BadInput for a task it cannot grade."""
        ...


LOST = Grade.of(Status.LOST, "the answer is empty")
