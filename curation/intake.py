"""From log to examples: candidates are judged, their texts indexed, the examples stored."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from curation.candidates import Candidate, candidates
from curation.chunks import Counts
from curation.columns import EXAMPLES
from curation.dedupe.index import index_texts
from curation.language import code_language, prose_language
from curation.normalize import COMPARED_ROLES, Normalized, normalize_all
from curation.publish.rows import row_hash
from curation.recipe import CurationRecipe
from curation.score.assess import Assessment, Basis, assess, load_basis
from curation.score.judge import ask
from curation.score.outcome import (
    CONTAMINATED,
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    NO_PAYLOAD,
    OVER_QUOTA,
    TOO_LONG,
    Attempt,
    Statement,
    has_trusted_outcome,
)
from curation.split import split_of, task_split_key
from curation.tables import DROPPED, KEPT, TRAIN, Example
from curation.templates import Templates
from foundation.chat import (
    Message,
    answer_message,
    answer_text,
    finish_reason,
    joined,
    prompt_messages,
    text_of,
    tool_calls,
)
from foundation.tables import now

OPEN_REASONS: Final = (None, EXACT_DUPLICATE, NEAR_DUPLICATE, CONTAMINATED, OVER_QUOTA)
"""Why an example that judging let through may be left out all the same, by later steps."""
DIFFICULTIES: Final = ("easy", "medium", "hard")

_TOKEN = re.compile(r"\w+|[^\w\s]")
_VERDICT: Final = (
    *("status", "drop_reason", "duplicate_of", "similarity", "cluster_id", "protection"),
    "needs_settling",
)
"""What later steps decide: left as it is where judging found nothing that they went by changed."""
_LEFT_AS_STORED: Final = frozenset({"id", "interaction_id", "variant", "role", "created_at"})


@dataclass(slots=True)
class Judged:
    """A candidate as an example, before its repeats are known."""

    columns: dict[str, Any]
    text: Normalized | None
    """What it is compared by; None: too long to be worth it."""
    stored: Example | None

    @property
    def is_open(self) -> bool:
        """Whether form and outcome let it through."""
        return self.columns["drop_reason"] is None

    @property
    def was_open(self) -> bool:
        """Whether they did when it was judged before."""
        return (
            self.stored is not None
            and self.stored.text_id is not None
            and self.stored.drop_reason in OPEN_REASONS
        )


def take_in(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    templates: Templates,
    ids: Sequence[UUID],
    *,
    everything: bool,
) -> Counts:
    """Turn some interactions into examples, or renew theirs; return how many were what.

    The texts of those that are let through are in the index afterwards, and all whose repeats have
    to be settled again are marked; `everything` judges also those that have not changed.
    """
    counts = {"new": 0, "judged_again": 0, "let_through": 0}
    for some in candidates(session, recipe.variant, ids, everything=everything):
        basis = load_basis(session, role, recipe, [attempt_of(one) for one in some])
        judged = judge(some, basis, recipe, templates)
        _index(session, role, recipe, judged)
        for one in judged:
            settle_again(one, everything=everything)
        store(session, judged)
        n_known = sum(one.stored is not None for one in judged)
        counts["new"] += len(judged) - n_known
        counts["judged_again"] += n_known
        counts["let_through"] += sum(one.is_open for one in judged)
    return counts


def ask_judge(
    session: Session,
    recipe: CurationRecipe,
    ids: Sequence[UUID],
    *,
    everything: bool,
    since: datetime,
) -> int:
    """Ask the LLM judge of what nobody else has decided on; return how many questions it was asked.

    Args:
        session: its transaction holds the answers, so it should end soon.
        recipe: names the judge, and how many questions one build may ask.
        ids: interactions about to be judged.
        everything: whether also those that have not changed will be.
        since: start of the build, by which its questions are counted.
    """
    n_asked = 0
    for some in candidates(session, recipe.variant, ids, everything=everything):
        unknown = [one for one in some if not has_trusted_outcome(statements_on(one), recipe)]
        n_asked += ask(session, [attempt_of(one) for one in unknown], recipe, since)
    return n_asked


def judge(
    some: Sequence[Candidate], basis: Basis, recipe: CurationRecipe, templates: Templates
) -> list[Judged]:
    """Return the examples of candidates: scored, and dropped where form or outcome say so; pure."""
    found = [assess(attempt_of(one), statements_on(one), recipe, basis) for one in some]
    prompts = [prompt_messages(one.request) for one in some]
    worth = [i for i, one in enumerate(found) if one.drop_reason not in (TOO_LONG, NO_PAYLOAD)]
    texts = normalize_all([(prompts[i], found[i].answer) for i in worth], templates)
    compared = dict(zip(worth, texts, strict=True))
    return [
        Judged(
            _columns(one, found[i], prompts[i], compared.get(i), recipe),
            compared.get(i),
            one.stored,
        )
        for i, one in enumerate(some)
    ]


def _columns(
    candidate: Candidate,
    found: Assessment,
    prompt: list[Message],
    compared: Normalized | None,
    recipe: CurationRecipe,
) -> dict[str, Any]:
    interaction, stored = candidate.interaction, candidate.stored
    asked = "\n".join(text_of(m.get("content")) for m in prompt)
    split_key = _split_key(candidate)
    columns: dict[str, Any] = {
        "id": example_id(interaction.id, recipe.variant),
        "role": interaction.role,
        "interaction_id": interaction.id,
        "variant": recipe.variant,
        "episode_id": interaction.episode_id,
        "project": interaction.project,
        "task_type": candidate.overrides.get("task_type", interaction.task_type),
        "difficulty": _difficulty(candidate),
        "language": prose_language(asked) if compared else None,
        "code_language": code_language(found.answer) if compared else None,
        "prompt": prompt,
        "answer": found.answer,
        "answer_message": found.answer_message,
        "corrected": found.corrected,
        "polarity": found.polarity,
        "status": KEPT if found.drop_reason is None else DROPPED,
        "drop_reason": found.drop_reason,
        "duplicate_of": None,
        "similarity": None,
        "score": found.value,
        "scores": {
            **found.parts,
            "feedback": candidate.feedback_hash,
            "rank": list(found.rank),
            "task_key": candidate.task_key or (stored and stored.scores.get("task_key")),
        },
        "disagreement": found.disagreement,
        "reviewed": found.reviewed,
        "text_id": stored.text_id if stored else None,
        "prompt_text_id": stored.prompt_text_id if stored else None,
        "norm_hash": compared.norm_hash if compared else _hash_of(asked, found.answer),
        "cluster_id": None,
        "split": split_of(split_key, recipe) if split_key else TRAIN,
        "split_key": split_key,
        "n_tokens": count_tokens(asked, found.answer),
        "protection": "",
        "source_xid": interaction.written_xid,
        "needs_judging": False,
        "needs_settling": False,
        "started_at": interaction.started_at,
        "created_at": stored.created_at if stored else now(),
    }
    return {**columns, "row_hash": row_hash(columns)}


def statements_on(candidate: Candidate) -> list[Statement]:
    """Return everything said about a candidate, reviewers' labels included."""
    return [*candidate.statements, *candidate.labels]


def attempt_of(candidate: Candidate) -> Attempt:
    """Return what the model did, as the scorer reads it."""
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
        message=answer_message(response),
        interaction_id=interaction.id,
        role=interaction.role,
        task_type=interaction.task_type,
    )


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
    return sum(len(_TOKEN.findall(one)) for one in texts)


def _split_key(candidate: Candidate) -> str:
    """Return the key that its group was given before, else that of the task that the caller named.

    A group may have taken another name since; what it was tested with must not leave it.
    """
    if candidate.stored is not None and candidate.stored.split_key:
        return candidate.stored.split_key
    return "" if candidate.task_key is None else task_split_key(candidate.task_key)


def _difficulty(candidate: Candidate) -> str | None:
    said = candidate.overrides.get("difficulty", candidate.attributes.get("difficulty"))
    return said if said in DIFFICULTIES else None


def _hash_of(asked: str, answer: str) -> str:
    return hashlib.sha256(f"{asked}\0{answer}".encode()).hexdigest()


def _index(session: Session, role: str, recipe: CurationRecipe, judged: Sequence[Judged]) -> None:
    """Put the compared texts of what was let through into the index."""
    let_through = [one for one in judged if one.is_open and one.text is not None]
    texts = [one.text for one in let_through if one.text is not None]
    ids = index_texts(session, role, recipe, texts) if texts else []
    for one, (text_id, prompt_text_id) in zip(let_through, ids, strict=True):
        one.columns.update(text_id=text_id, prompt_text_id=prompt_text_id)


def settle_again(one: Judged, *, everything: bool) -> None:
    """Mark an example whose repeats are open again, or leave the verdict on them as it stands."""
    stored, columns = one.stored, one.columns
    is_same = (
        stored is not None
        and one.is_open
        and one.was_open
        and not everything
        and stored.text_id == columns["text_id"]
        and stored.scores.get("rank") == columns["scores"]["rank"]
        and stored.scores.get("task_key") == columns["scores"]["task_key"]
        and stored.row_hash == columns["row_hash"]
    )
    if is_same:
        columns.update({name: getattr(stored, name) for name in _VERDICT})
    else:
        columns["needs_settling"] = one.is_open or one.was_open


def store(session: Session, judged: Sequence[Judged]) -> None:
    """Insert new examples and renew known ones, all in one statement."""
    if judged:
        rows = json.dumps([one.columns for one in judged], default=str, ensure_ascii=False)
        session.execute(_STORE, {"rows": rows})


_STORED_NAMES: Final = tuple(column.name for column in EXAMPLES.c)
_STORE = text(
    f"""
    INSERT INTO example ({", ".join(_STORED_NAMES)})
    SELECT {", ".join(_STORED_NAMES)} FROM json_populate_recordset(NULL::example, :rows)
    ON CONFLICT (interaction_id, variant) DO UPDATE SET
    {", ".join(f"{n} = excluded.{n}" for n in _STORED_NAMES if n not in _LEFT_AS_STORED)}
    """
)
