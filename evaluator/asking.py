"""Asking: every batch goes to all subjects in turn, and what comes is kept at once.

Batches hold whole tasks, and a request's seed follows from the task alone, so that an evaluation
that begins in the middle sends what it would have sent from the beginning.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from evaluator.answers import Answer, ModelServerUnavailable, Subject
from evaluator.cache import AnswerCache, prompt_hash, seed_of
from evaluator.graders import Grade
from evaluator.grading import Attempt
from evaluator.replies import cut
from evaluator.tables import SuiteTask

_KEPT_EVERY_S = 1.0


def attempt(task: SuiteTask, number: int, answer: Answer) -> Attempt:
    """Return an attempt whose text is what can be stored: what is graded is what is kept."""
    if answer.text is None:
        return Attempt(task, number, answer)
    text, n_chars = cut(storable(answer.text))
    return Attempt(task, number, replace(answer, text=text, n_chars=answer.n_chars or n_chars))


@dataclass
class Measured:
    """What one subject did: its attempts, their grades and its speed."""

    subject: Subject
    attempts: list[Attempt] = field(default_factory=list)
    grades: list[Grade | None] = field(default_factory=list)
    """One per attempt; None for lost answers, and for those whose grader threw."""
    errors: dict[int, str] = field(default_factory=dict)
    """Of attempts whose grader threw, by their index, what it said."""
    output_tokens: float = 0.0
    seconds: float = 0.0
    batch_rates: list[float | None] = field(default_factory=list)
    """Output tokens per second of each batch; None where not all of it was asked and counted."""

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second of wall time, over whole batches; None if not counted."""
        return self.output_tokens / self.seconds if self.output_tokens and self.seconds else None

    def outcomes(self) -> list[list[bool | None]]:
        """Return one list of outcomes per task; None for what is lost or could not be graded."""
        tasks: dict[UUID, list[bool | None]] = {}
        for made, grade in zip(self.attempts, self.grades, strict=True):
            tasks.setdefault(made.task.id, []).append(grade.passed if grade else None)
        return list(tasks.values())

    def families(self) -> list[str]:
        """Return what each task of `outcomes` is clustered by: its family, or else itself."""
        tasks = {made.task.id: made.task for made in self.attempts}
        return [family_of(task) for task in tasks.values()]


def family_of(task: SuiteTask) -> str:
    """Return a name that a task shares with those that rise and fall with it."""
    family = task.attributes.get("family")
    return f"task {task.id}" if family is None else f"family {family}"


@dataclass(frozen=True)
class Slot:
    """One answer to be: a task, the sample's number, and the seed that follows from both."""

    task: SuiteTask
    number: int
    prompt_hash: str
    seed: int


def slots_of(tasks: Sequence[SuiteTask], samples_per_task: int, seed: int) -> list[Slot]:
    """Return the answers to ask for: all samples of the first task, then of the second."""
    hashes = [prompt_hash(task.prompt) for task in tasks]
    return [
        Slot(task, number, hashed, seed_of(seed, hashed, number))
        for task, hashed in zip(tasks, hashes, strict=True)
        for number in range(samples_per_task)
    ]


class Asking:
    """Sends each batch to all subjects in turn; who comes first alternates, as speed is compared.

    What the cache knows is not asked. A batch of which it knows something is no measure of speed.
    """

    def __init__(
        self, subjects: Sequence[Subject], slots: list[Slot], cache: AnswerCache | None
    ) -> None:
        self.measured = [Measured(subject) for subject in subjects]
        self.slots = slots
        self._cache = cache
        self._known: dict[str, Answer] = {}
        if cache is not None:
            keys = [self._key(subject, slot) for subject in subjects for slot in slots]
            self._known = cache.look_up(keys)

    def batches(self, size: int, tell: Callable[[], None]) -> Iterator[list[Attempt]]:
        """Yield what all subjects answered to each batch; raises as `measure`."""
        for number, batch in enumerate(_whole_tasks(self.slots, size)):
            made: list[Attempt] = []
            for result in self.measured if number % 2 == 0 else reversed(self.measured):
                made += self._answer(result, batch)
                tell()
            yield made

    def _answer(self, result: Measured, batch: list[Slot]) -> list[Attempt]:
        keys = [self._key(result.subject, slot) for slot in batch]
        missing = [index for index, key in enumerate(keys) if key not in self._known]
        answers = {index: self._known[key] for index, key in enumerate(keys) if key in self._known}
        rate: float | None = None
        if missing:
            started = time.perf_counter()
            answers |= self._ask(result, [batch[i] for i in missing], missing, keys)
            if len(missing) == len(batch):
                rate = _count(result, list(answers.values()), time.perf_counter() - started)
        result.batch_rates.append(rate)
        made = [attempt(slot.task, slot.number, answers[i]) for i, slot in enumerate(batch)]
        result.attempts += made
        return made

    def _ask(
        self, result: Measured, slots: list[Slot], indexes: list[int], keys: list[str]
    ) -> dict[int, Answer]:
        """Ask for the missing answers of a batch, storing them as they come."""
        came: dict[int, Answer] = {}
        unkept: list[tuple[str, Answer]] = []
        kept_at = time.monotonic()
        prompts, seeds = [slot.task.prompt for slot in slots], [slot.seed for slot in slots]
        try:
            answers = result.subject.generate(prompts, seeds)
            for index, answer in zip(indexes, answers, strict=True):
                came[index] = answer
                unkept.append((keys[index], answer))
                if time.monotonic() - kept_at > _KEPT_EVERY_S:
                    self._keep(result.subject, unkept)
                    unkept, kept_at = [], time.monotonic()
        except ModelServerUnavailable as error:
            if self._cache is None:
                raise
            raise error.after(self._n_kept(), len(self.slots) * len(self.measured)) from error
        finally:
            self._keep(result.subject, unkept)
        return came

    def _keep(self, subject: Subject, answers: list[tuple[str, Answer]]) -> None:
        if self._cache is None or not answers:
            return
        self._cache.keep(subject, [(key, _as_stored(answer)) for key, answer in answers])

    def _n_kept(self) -> int:
        attempts = (made for result in self.measured for made in result.attempts)
        return sum(made.answer.text is not None for made in attempts)

    def _key(self, subject: Subject, slot: Slot) -> str:
        if self._cache is None:
            return f"{subject.name}\0{slot.prompt_hash}\0{slot.number}"
        return self._cache.key(subject, slot.prompt_hash, slot.seed, slot.number)


def _whole_tasks(slots: Sequence[Slot], size: int) -> Iterator[list[Slot]]:
    """Yield batches of at most `size` that tear no task's samples apart, unless one has more.

    So what is one request, a task's samples, does not depend on where in the suite it stands.
    """
    batch: list[Slot] = []
    start = 0
    while start < len(slots):
        end = start + 1
        while end < len(slots) and end - start < size and slots[end].task is slots[start].task:
            end += 1
        if batch and len(batch) + end - start > size:
            yield batch
            batch = []
        batch += slots[start:end]
        start = end
    if batch:
        yield batch


def _count(result: Measured, answers: Sequence[Answer], seconds: float) -> float | None:
    """Count the tokens of a whole batch; return its rate, None where they are not all known."""
    made = [answer.output_tokens for answer in answers if answer.text is not None]
    counted = [tokens for tokens in made if tokens is not None]
    if not counted or len(counted) < len(made):
        return None
    result.output_tokens += sum(counted)
    result.seconds += seconds
    return sum(counted) / seconds


def _as_stored(answer: Answer) -> Answer:
    return answer if answer.text is None else replace(answer, text=storable(answer.text))


def storable(text: str) -> str:
    """Replace what PostgreSQL cannot keep: NUL characters and lone surrogates."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
