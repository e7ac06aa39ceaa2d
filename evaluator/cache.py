"""Answers that are kept as they come, so that nothing is asked twice and a killed run goes on.

An answer is known again by the hash of everything it depends on: the content of the model, the
prompt, the way of decoding, the seed and the sample's number. Of a model whose content has no hash
(one that only a server knows by its name) nothing says that it is still the same tomorrow: its
answers serve the run that asked for them, and that run's continuation, and nobody else.

Lost answers and answers that were too long are not kept; they are asked for again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, SQLModel, col, delete, select

from evaluator.answers import Answer, Subject
from evaluator.tables import CachedAnswer
from foundation.chat import Message
from foundation.tables import now

_ANSWERS: Final = SQLModel.metadata.tables[str(CachedAnswer.__tablename__)]
_SEEDS: Final = 2**31 - 2**16
"""Base seeds lie below this, so that a sample's own number can be added in 31 bits."""
_KEYS_AT_ONCE: Final = 10_000
"""A query takes 65,535 parameters at most."""
_BLOCKS: Final = 256
_BLOCK_BYTES: Final = 4096
_READ_WHOLE: Final = _BLOCKS * _BLOCK_BYTES

SessionScope = Callable[[], AbstractContextManager[Session]]


def prompt_hash(prompt: Sequence[Message]) -> str:
    """Return the SHA-256 of a prompt as canonical JSON."""
    return _sha256(json.dumps(list(prompt), sort_keys=True))


def seed_of(seed: int, hash_of_prompt: str, number: int) -> int:
    """Return the seed of one sample: by the evaluation's seed and the task, not by its place."""
    drawn = hashlib.sha256(f"{seed}:{hash_of_prompt}".encode()).digest()
    return int.from_bytes(drawn[:8]) % _SEEDS + number


def folder_hash(folder: Path) -> str:
    """Return a hash of a model's folder: names, sizes, and all or 256 spread blocks of each file.

    A whole reading of weights costs seconds for each gigabyte; two trainings of one shape differ
    in nearly every block.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _READ_WHOLE:
                digest.update(file.read())
                continue
            for block in range(_BLOCKS):
                file.seek(block * (size - _BLOCK_BYTES) // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


class AnswerCache:
    """The kept answers, as one evaluation may use them.

    Args:
        run_id: of the evaluation that asks, written beside what it keeps.
        salt: names the run, and its continuations, whose answers of unhashed models are used.
        scope: opens a session that commits when it ends.
        is_shared: whether answers that other runs were given are used too.
    """

    def __init__(
        self, run_id: UUID | None, salt: str, scope: SessionScope, is_shared: bool = True
    ) -> None:
        self._run_id, self._salt, self._scope = run_id, salt, scope
        self._is_shared = is_shared

    def key(self, subject: Subject, hash_of_prompt: str, seed: int, number: int) -> str:
        """Return what an answer is known by."""
        decoding = json.dumps(subject.decoding, sort_keys=True)
        parts = (self._model(subject), hash_of_prompt, decoding, str(seed), str(number))
        return _sha256("\0".join(parts))

    def look_up(self, keys: Sequence[str]) -> dict[str, Answer]:
        """Return the answers that are known, by a query for each ten thousand keys."""
        columns = (CachedAnswer.key, CachedAnswer.text, CachedAnswer.output_tokens)
        query = select(*columns, CachedAnswer.latency_ms, CachedAnswer.ttft_ms)  # type: ignore[call-overload]
        with self._scope() as session:
            rows = [
                row
                for start in range(0, len(keys), _KEYS_AT_ONCE)
                for row in session.exec(
                    query.where(col(CachedAnswer.key).in_(keys[start : start + _KEYS_AT_ONCE]))
                )
            ]
        return {
            key: Answer(
                text, tokens, _seconds(latency_ms), ttft_s=_seconds(ttft_ms), is_cached=True
            )
            for key, text, tokens, latency_ms, ttft_ms in rows
        }

    def keep(self, subject: Subject, answers: Iterable[tuple[str, Answer]]) -> None:
        """Store what came back, at once and for good."""
        model, moment = self._model(subject), now()
        rows = [
            {
                "key": key,
                "model_hash": model,
                "text": answer.text,
                "output_tokens": answer.output_tokens,
                "latency_ms": _milliseconds(answer.seconds),
                "ttft_ms": _milliseconds(answer.ttft_s),
                "run_id": self._run_id,
                "created_at": moment,
            }
            for key, answer in answers
            if answer.text is not None and answer.n_chars is None
        ]
        if rows:
            with self._scope() as session:
                session.connection().execute(insert(_ANSWERS).on_conflict_do_nothing(), rows)

    def forget(self, session: Session, subjects: Iterable[Subject]) -> None:
        """Drop what nobody may use again, now that its evaluation is stored; the caller commits."""
        salted = [self._model(one) for one in subjects if not self._is_hashed(one)]
        session.execute(delete(CachedAnswer).where(col(CachedAnswer.model_hash).in_(salted)))

    def _is_hashed(self, subject: Subject) -> bool:
        return self._is_shared and bool(subject.model_hash)

    def _model(self, subject: Subject) -> str:
        if self._is_hashed(subject):
            return subject.model_hash
        return f"run:{self._salt}:{_sha256(subject.name)[:16]}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
