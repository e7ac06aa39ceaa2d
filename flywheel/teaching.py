"""A teacher's answers to the prompts that a role is trained on: distillation by sequences.

Each answer is an interaction like any other, of source `teacher`, in a project of the teacher's own
(`taught-by-NAME`, which `flywheel erase --project` takes out again, with what was made of it). It
comes into a dataset as other calls do, when something speaks for it: a check of your own that
executes it, the recipe's judge, a reviewer, or `trust` in the teacher, which is a rating. One
prompt at a time, each in a transaction of its own: a round that is stopped keeps what it has.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session, select

from collector.ingest import store_batch
from collector.record import feedback_record, interaction_record
from collector.schemas import IngestBatch
from curation.tables import TRAIN
from foundation import llm
from foundation.chat import Message, answer_text, finish_reason
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.runs import RunHandle, enqueue, job
from foundation.settings import get_settings
from foundation.tables import Run
from trainer.registry import EXTERNAL, require_role, served_name
from trainer.tables import ModelVersion

TEACH_JOB: Final = "flywheel.teach"
SOURCE: Final = "teacher"
TRUSTED_RATING: Final = 5.0
TIMEOUT_S: Final = 120.0
MAX_TOKENS: Final = 2000

Check: TypeAlias = Callable[[list[Message], str], bool | None]
"""Whether an answer to a prompt is right; None: it cannot tell."""


@dataclass(frozen=True)
class Asked:
    """A prompt of the role's training data.

    Attributes:
        interaction_id: whose prompt it is.
        prompt: messages.
        task_type: of it.
        task_key: its task, by meaning, where the caller named one.
    """

    interaction_id: UUID
    prompt: list[Message]
    task_type: str | None
    task_key: str | None


def start_teaching(
    session: Session,
    role: str,
    teacher: str,
    n_prompts: int,
    *,
    check: str | None = None,
    trust: bool = False,
) -> Run:
    """Order a round of answers; the message leaves with the commit.

    Args:
        session: of the surrounding transaction.
        role: whose training prompts are answered.
        teacher: a model version that our server runs, a model of the upstreams, or a litellm name.
        n_prompts: prompts at most, those that the role failed at first.
        check: `module:function` of a `Check`.
        trust: rate every whole answer that no check speaks against.

    Raises:
        BadInput: unknown role, no prompt wanted, or a check that does not load.
    """
    require_role(role)
    if n_prompts < 1:
        raise BadInput("prompts", n_prompts, "at least 1", "Say how many answers are wanted.")
    if check is not None:
        load_check(check)
    params = {
        "role": role,
        "teacher": teacher,
        "n_prompts": n_prompts,
        "check": check,
        "trust": trust,
    }
    return enqueue(session, TEACH_JOB, params, role=role)


@job(TEACH_JOB, queue="cpu")
def teach(
    run: RunHandle,
    role: str,
    teacher: str,
    n_prompts: int,
    check: str | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """Have a teacher answer a role's training prompts; each prompt once in its life."""
    judge: Check | None = load_check(check) if check else None
    with session_scope() as session:
        connection = connection_to(session, teacher)
        asked = open_prompts(session, role, teacher, n_prompts)
    counts = {"prompts": len(asked), "stored": 0, "right": 0, "wrong": 0, "cut": 0}
    for done, one in enumerate(asked, start=1):
        run.check()
        request = {
            "model": connection["model"],
            "messages": one.prompt,
            "max_tokens": MAX_TOKENS,
        }
        where = {name: value for name, value in connection.items() if name != "model"}
        response = llm.complete(request, timeout=TIMEOUT_S, **where)
        is_whole = finish_reason(response) == "stop"
        is_right = judge(one.prompt, answer_text(response)) if judge and is_whole else None
        with session_scope() as session:
            _store(session, role, teacher, one, request, response, is_right, trust and is_whole)
        counts["stored"] += 1
        counts["cut"] += not is_whole
        counts["right"] += is_right is True
        counts["wrong"] += is_right is False
        run.progress(done, len(asked), "prompts")
    return {"project": project_of(teacher), **counts}


def load_check(name: str) -> Check:
    """Return a check by its `module:function` name; raises BadInput where there is none."""
    module_name, _, function_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        expected = "module:function of a function that takes a prompt's messages and an answer"
        remedy = f"Put the module where the workers can import it. Python said: {error}"
        raise BadInput("check", name, expected, remedy) from error
    checked: Check = found
    return checked


def project_of(teacher: str) -> str:
    """Return the project that a teacher's answers stand in."""
    return f"taught-by-{teacher}"


def connection_to(session: Session, teacher: str) -> dict[str, Any]:
    """Return how litellm asks a teacher: our own model server for a version of ours."""
    version = session.exec(select(ModelVersion).where(ModelVersion.name == teacher)).first()
    if version is None:
        return llm.connection_of(teacher)
    if version.kind == EXTERNAL:
        return llm.connection_of(version.base_model)
    settings = get_settings()
    return {
        "model": f"openai/{served_name(version)}",
        "api_base": settings.engine_base_url,
        "api_key": settings.api_key.get_secret_value() if settings.api_key else "none",
    }


def open_prompts(session: Session, role: str, teacher: str, count: int) -> list[Asked]:
    """Return prompts that a role is trained on and this teacher has not answered.

    Failed ones come first: there the teacher has most to add. Prompts of other teachers' answers,
    of other splits, and of calls that repeat a benchmark's task, are none of them.
    """
    known = {"role": role, "project": project_of(teacher), "train": TRAIN, "count": count}
    rows = session.execute(_OPEN, known)
    return [Asked(row.interaction_id, row.prompt, row.task_type, row.task_key) for row in rows]


_OPEN = text(
    """
    SELECT interaction_id, prompt, task_type, task_key FROM (
        SELECT DISTINCT ON (e.prompt_text_id)
            e.interaction_id, e.prompt, e.task_type, e.scores->>'task_key' AS task_key,
            e.polarity = 'negative' AS failed
        FROM example e
        WHERE e.role = :role AND e.variant = 'default' AND e.split = :train
          AND e.polarity <> 'lost' AND e.drop_reason IS DISTINCT FROM 'contaminated'
          AND NOT e.project LIKE 'taught-by-%' AND jsonb_array_length(to_jsonb(e.prompt)) > 0
        ORDER BY e.prompt_text_id, e.polarity = 'negative' DESC, e.id
    ) one
    WHERE NOT EXISTS (
        SELECT FROM interaction i WHERE i.project = :project AND i.role = :role
          AND i.key = one.interaction_id::text)
    ORDER BY failed DESC, interaction_id
    LIMIT :count
    """
)


def _store(
    session: Session,
    role: str,
    teacher: str,
    asked: Asked,
    request: dict[str, Any],
    response: dict[str, Any],
    is_right: bool | None,
    is_trusted: bool,
) -> None:
    """Store an answer, scrubbed as all that is ingested, and what speaks for or against it."""
    identifier = new_id()
    attributes = {"teacher": teacher, "prompt_of": str(asked.interaction_id)}
    if asked.task_key is not None:
        attributes["task_key"] = asked.task_key
    columns: dict[str, Any] = {
        "key": str(asked.interaction_id),
        "project": project_of(teacher),
        "source": SOURCE,
        "task_type": asked.task_type,
        "parent_id": asked.interaction_id,
        "attributes": attributes,
    }
    interactions = [interaction_record(identifier, role, request, response, **columns)]
    feedback = []
    about = {"interaction_id": identifier, "actor": f"check of {teacher}"}
    if is_right is not None:
        value = float(is_right)
        feedback.append(feedback_record(new_id(), "success", value=value, source="test", **about))
    elif is_trusted:
        trusting = {"value": TRUSTED_RATING, "source": "human", **about}
        trusting["actor"] = f"trust in {teacher}"
        feedback.append(feedback_record(new_id(), "rating", **trusting))
    batch = IngestBatch(source=SOURCE, interactions=interactions, feedback=feedback)
    refused = [one for one in store_batch(session, batch) if one.status == "rejected"]
    if refused:
        raise BadInput("teacher's answer", refused[0].reason, "a record to store", "See the log.")
