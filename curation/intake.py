"""From log to examples, a batch at a time: judge, find repeats, tie to groups, store."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session

from curation.candidates import Candidate, CandidateSource
from curation.columns import EXAMPLES
from curation.dedupe.compare import BandIndex, Entry, find_repeats
from curation.groups import assign_groups, store_anchors
from curation.normalize import COMPARED_ROLES, normalize
from curation.recipe import CurationRecipe
from curation.score.outcome import Attempt, quality, reject, score
from curation.tables import DROPPED, KEPT, TRAIN
from foundation.chat import (
    answer_text,
    finish_reason,
    joined,
    prompt_messages,
    text_of,
    tool_calls,
)
from foundation.tables import now

Progress = Callable[..., Any]
"""Called as `progress(done, total, unit, **measures)`; `RunHandle.progress` is one."""

_TOKEN = re.compile(r"\w+|[^\w\s]")
_LEFT_AS_STORED: Final = frozenset({"id", "interaction_id", "variant", "role", "created_at"})


@dataclass(slots=True)
class Intake:
    """What one build took in."""

    n_new: int = 0
    """Interactions seen for the first time."""
    n_judged_again: int = 0
    """Known ones with new feedback, or under a changed recipe."""
    n_reopened: int = 0
    """Stored examples whose verdict hung on one of those."""
    n_compared: int = 0
    """Pairs verified against stored examples."""
    n_hot: int = 0
    """Pairs left out because a bucket was over its cap."""

    @property
    def is_empty(self) -> bool:
        """Whether the log held nothing to look at."""
        return self.n_new + self.n_judged_again == 0


def take_in(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    *,
    everything: bool,
    progress: Progress | None = None,
) -> Intake:
    """Turn what is new in a role's log into examples, each kept or dropped with its reason.

    `everything` judges the whole log anew, for a changed recipe.
    """
    source = CandidateSource(session, role, recipe, everything)
    index = BandIndex(session, role, recipe)
    done, intake, total, seen_until = 0, Intake(), source.count(), None
    for batch in source.batches():
        touched = take_in_batch(index, batch, everything=everything)
        n_stored = sum(candidate.stored is not None for candidate in batch)
        intake.n_new += len(batch) - n_stored
        intake.n_judged_again += n_stored
        intake.n_reopened += len(touched) - len(batch)
        newest = max(candidate.seen_at for candidate in batch)
        seen_until = newest if seen_until is None else max(seen_until, newest)
        done += len(batch)
        if progress is not None:
            progress(done, max(total, done), "interactions")
    intake.n_compared, intake.n_hot = index.n_compared, index.n_hot
    if seen_until is not None:
        source.move_watermark(seen_until)
    return intake


def take_in_batch(
    index: BandIndex, batch: Sequence[Candidate], *, everything: bool = False
) -> list[Entry]:
    """Take in one batch and return every entry it touched, as stored."""
    judged = [judge(candidate, index.recipe) for candidate in batch]
    touched = find_repeats(index, judged)
    kept = [entry for entry in touched if entry.is_kept]
    assign_groups(index, kept, again=everything)
    _store(index.session, touched)
    index.add(kept)
    store_anchors(index, kept)
    return touched


def judge(candidate: Candidate, recipe: CurationRecipe) -> Entry:
    """Return the example of a candidate: scored, and rejected where form or outcome say so."""
    attempt = _attempt(candidate)
    known = score(candidate.statements, recipe)
    reason = reject(attempt, known, recipe)
    prompt = prompt_messages(candidate.request)
    answer = attempt.answer if known.correction is None else known.correction
    compared = normalize(prompt, answer)
    interaction, stored = candidate.interaction, candidate.stored
    columns: dict[str, Any] = {
        "id": example_id(interaction.id, recipe.variant),
        "role": interaction.role,
        "interaction_id": interaction.id,
        "variant": recipe.variant,
        "episode_id": interaction.episode_id,
        "task_type": interaction.task_type,
        "prompt": prompt,
        "answer": answer,
        "corrected": known.correction is not None,
        "status": KEPT if reason is None else DROPPED,
        "drop_reason": reason,
        "duplicate_of": None,
        "similarity": None,
        "score": known.value,
        "scores": {**known.as_json(), "feedback": candidate.feedback_hash},
        "norm_hash": compared.norm_hash,
        "cluster_id": None,
        "split": TRAIN,
        "split_key": stored.split_key if stored else "",
        "n_tokens": count_tokens("\n".join(text_of(m.get("content")) for m in prompt), answer),
        "created_at": now(),
    }
    rank = quality(known.value, columns["scores"], columns["corrected"], recipe)
    return Entry(columns, compared, rank, stored is not None, candidate.task_key)


def example_id(interaction_id: UUID, variant: str) -> UUID:
    """Return the id of an interaction's example: its own moment (UUIDv7), the rest by hash.

    The same log gives the same ids, hence the same files, in any database.
    """
    digest = hashlib.sha256(interaction_id.bytes + variant.encode()).digest()
    random_74 = int.from_bytes(digest[:10]) >> 6
    moment = interaction_id.int >> 80 << 80
    low_62 = random_74 & ((1 << 62) - 1)
    return UUID(int=moment | 0x7 << 76 | (random_74 >> 62) << 64 | 0b10 << 62 | low_62)


def count_tokens(*texts: str) -> int:
    """Return the words and punctuation marks of some texts: a cheap estimate of tokens."""
    return sum(len(_TOKEN.findall(text)) for text in texts)


def _attempt(candidate: Candidate) -> Attempt:
    interaction, response = candidate.interaction, candidate.response
    reasons = interaction.gen_ai_response_finish_reasons
    return Attempt(
        prompt_text=joined(prompt_messages(candidate.request), COMPARED_ROLES),
        answer=answer_text(response),
        status=interaction.status,
        completed=interaction.completed,
        finish_reason=finish_reason(response) or (reasons[0] if reasons else None),
        n_tool_calls=len(tool_calls(response)),
        has_payload=candidate.has_payload,
    )


def _store(session: Session, entries: Sequence[Entry]) -> None:
    """Insert new examples and overwrite the verdicts of known ones."""
    if not entries:
        return
    statement = insert(EXAMPLES)
    changed = {
        c.name: statement.excluded[c.name] for c in EXAMPLES.c if c.name not in _LEFT_AS_STORED
    }
    statement = statement.on_conflict_do_update(
        index_elements=["interaction_id", "variant"], set_=changed
    )
    session.execute(statement, [entry.columns for entry in entries])
