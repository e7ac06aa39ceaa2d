"""Asking a judge: each question once, ever; what it said is kept at once.

While a question is in flight its asker holds a lock of the database on it, in a transaction of its
own: others who have the same question wait and read the answer. A kill lets go of the lock, and
loses no more than the questions in flight.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Engine, select, text
from sqlmodel import Session, col

from evaluator.judge.judges import Judge
from evaluator.judge.questions import Question, Said
from evaluator.tables import Judgement
from foundation import llm
from foundation.chat import Message, answer_text, message
from foundation.errors import FlywheelError

Progress = Callable[[float, float, str], None]
"""`progress(done, total, unit)`."""

GIVEN_UP_AFTER: Final = 5
"""Failures in a row after which a judge is not asked any further."""
MAX_TOKENS: Final = 2000
_KEYS_AT_ONCE: Final = 5000
_AGAIN: Final = (
    "That could not be read. Reply with the one JSON object asked for, and nothing else."
)

log = logging.getLogger(__name__)


class JudgeUnavailable(FlywheelError):
    """No judge answers."""

    http_status = 503

    def __init__(self, models: Sequence[str]) -> None:
        self.models = models
        super().__init__(
            f"judges {', '.join(models)}: no answer to any question, expected models that answer. "
            "Check FLYWHEEL_JUDGE_MODELS and FLYWHEEL_UPSTREAMS; what was answered is kept."
        )


@dataclass
class Answers:
    """What a judge said, and what that took.

    Attributes:
        rows: by the key of the question; questions without an answer have none.
        n_asked: questions that were put to it now.
        n_kept: questions that it had answered before.
        n_retried: of those asked, how many were asked twice.
        n_unanswered: questions that its server did not answer; they are asked the next time.
        seconds: of all questions asked now, one after the other.
    """

    rows: dict[str, Judgement] = field(default_factory=dict)
    n_asked: int = 0
    n_kept: int = 0
    n_retried: int = 0
    n_unanswered: int = 0
    seconds: float = 0.0

    @property
    def n_unreadable(self) -> int:
        """Questions whose answer says nothing, twice."""
        return sum(row.said is None for row in self.rows.values())

    @property
    def cost_usd(self) -> float | None:
        """Cost of all answers, the kept ones too; None if no price is known."""
        known = [row.cost_usd for row in self.rows.values() if row.cost_usd is not None]
        return sum(known) if known else None

    def said(self, question: Question) -> str | None:
        """Return what was said to a question; None: nothing that can be read."""
        row = self.rows.get(question.key)
        return None if row is None else row.said


@dataclass(frozen=True)
class _Reply:
    """What came of one question: its row (None: no answer), and the effort."""

    key: str
    row: Judgement | None
    n_sent: int = 0
    seconds: float = 0.0


class _Patience:
    """Counts failures in a row, over all threads."""

    def __init__(self) -> None:
        self._lock, self._failures = threading.Lock(), 0

    def note(self, answered: bool) -> None:
        """Tell how a question went."""
        with self._lock:
            self._failures = 0 if answered else self._failures + 1

    @property
    def is_over(self) -> bool:
        """Whether the judge is not worth asking any further."""
        return self._failures >= GIVEN_UP_AFTER


def ask(
    engine: Engine,
    judge: Judge,
    questions: Iterable[Question],
    progress: Progress | None = None,
) -> Answers:
    """Put to a judge what it was not asked before, and return all its answers.

    A server that fails ends the asking, not the caller: what it did not answer is counted.

    Args:
        engine: of the database; each answer is committed as it comes.
        judge: who is asked.
        questions: any number; equal ones are one.
        progress: told after every answer, as `progress(done, total, "verdicts")`.
    """
    waiting = {question.key: question for question in questions}
    total = len(waiting)
    found = Answers(rows=kept(engine, list(waiting)))
    found.n_kept = len(found.rows)
    for key in found.rows:
        del waiting[key]
    connection, patience = llm.connection_of(judge.model), _Patience()
    pool = ThreadPoolExecutor(judge.at_once, thread_name_prefix="judge")
    try:
        replies = [
            pool.submit(_settle, engine, judge, connection, question, patience)
            for question in waiting.values()
        ]
        for reply in as_completed(replies):
            _add(found, reply.result())
            if progress is not None:
                progress(len(found.rows), total, "verdicts")
    finally:
        pool.shutdown(cancel_futures=True)
    if found.n_unanswered:
        log.warning("judge %s left %d questions unanswered", judge.model, found.n_unanswered)
    return found


def kept(engine: Engine, keys: Sequence[str]) -> dict[str, Judgement]:
    """Return the answers that are kept, by the key of their question."""
    found: dict[str, Judgement] = {}
    with Session(engine, expire_on_commit=False) as session:
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            query = select(Judgement).where(col(Judgement.key).in_(some))
            found |= {row.key: row for row in session.execute(query).scalars()}
    return found


def _add(found: Answers, reply: _Reply) -> None:
    found.seconds += reply.seconds
    found.n_asked += reply.n_sent > 0
    found.n_retried += reply.n_sent > 1
    if reply.row is None:
        found.n_unanswered += 1
        return
    found.n_kept += reply.n_sent == 0
    found.rows[reply.key] = reply.row


def _settle(
    engine: Engine,
    judge: Judge,
    connection: Mapping[str, Any],
    question: Question,
    patience: _Patience,
) -> _Reply:
    """Ask one question under its lock, unless somebody has asked it in the meantime."""
    if patience.is_over:
        return _Reply(question.key, None)
    with Session(engine, expire_on_commit=False) as session:
        session.execute(_LOCK, {"key": f"judgement:{question.key}"})
        known = session.get(Judgement, question.key)
        if known is not None:
            return _Reply(question.key, known)
        started = time.perf_counter()
        responses = _responses(judge, connection, question)
        seconds = time.perf_counter() - started
        answered = [one for one in responses if one is not None]
        patience.note(bool(answered))
        if not answered:
            return _Reply(question.key, None, len(responses), seconds)
        row = _row(judge, question, answered)
        session.add(row)
        session.commit()
    return _Reply(question.key, row, len(responses), seconds)


def _responses(
    judge: Judge, connection: Mapping[str, Any], question: Question
) -> list[dict[str, Any] | None]:
    """Return the response, or two of them if the first was none or could not be read."""
    first = _put(judge, connection, question.messages())
    if first is not None and question.read(answer_text(first)) is not None:
        return [first]
    reminder = [] if first is None else [message("user", _AGAIN)]
    return [first, _put(judge, connection, [*question.messages(), *reminder])]


def _put(
    judge: Judge, connection: Mapping[str, Any], messages: list[Message]
) -> dict[str, Any] | None:
    """Return the provider's response, or None if it failed."""
    request = {
        "model": connection["model"],
        "messages": messages,
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
    }
    where = {name: value for name, value in connection.items() if name != "model"}
    try:
        return llm.complete(
            request, timeout=judge.timeout_s, max_retries=0, drop_params=True, **where
        )
    except llm.ProviderError as error:
        log.info("the judge failed: %s", error)
        return None


def _row(judge: Judge, question: Question, responses: Sequence[dict[str, Any]]) -> Judgement:
    said = _first_readable(question, responses)
    costs = [llm.cost_usd(judge.model, response) for response in responses]
    known = [cost for cost in costs if cost is not None]
    task, first, second = question.hashes
    return Judgement(
        key=question.key,
        judge=judge.model,
        kind=question.kind,
        rubric=question.rubric,
        task_hash=task,
        first_hash=first,
        second_hash=second,
        said=said.said if said else None,
        score=said.score if said else None,
        reason=said.reason if said else None,
        cost_usd=sum(known) if known else None,
    )


def _first_readable(question: Question, responses: Sequence[dict[str, Any]]) -> Said | None:
    read = (question.read(answer_text(response)) for response in responses)
    return next((said for said in read if said is not None), None)


_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")
