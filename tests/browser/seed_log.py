"""A few days of agents at work: real tasks, answers right and wrong, tools, failures, feedback.

Everything is drawn from one seed; times count back from now, so that "today" always has data.
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel import Session

from collector.tables import Feedback, Interaction, InteractionPayload
from evaluator.suites.built_in import BUILT_IN, reference_answer
from evaluator.suites.task import Task
from foundation.ids import first_id_at

DAYS = 6
N_EPISODES = 80
EXPERT, BASE = "gpt-5-mini", "qwen3-4b-instruct"

SYSTEM = {
    "coordinator": "You lead a small team of agents. Plan the work; leave the doing to the others.",
    "coder": "You are a careful Python programmer. Answer with one code block and a few words.",
    "tester": "You write pytest tests that find what is wrong, not what is right.",
    "reviewer": "You review code for real faults. Say what is wrong, where, and how bad it is.",
    "researcher": "You sort facts from several sources. A missing fact is unknown.",
}

HOSTILE = (
    "<script>window.hacked=1;alert(1)</script>\"'><img src=x onerror=window.hacked=2>"
    "</textarea></pre><svg onload=window.hacked=3><a href=javascript:window.hacked=4>link</a>"
    "{{7*7}}${7*7}\u202eevil\u202c<iframe srcdoc='<script>parent.hacked=5</script>'></iframe>"
    "<style>*{display:none}</style><meta http-equiv=refresh content=0;url=//evil.example>"
    "<form action=//evil.example><button id=injected autofocus onfocus=window.hacked=6>"
    "--><!--x--!>]]><base href=//evil.example>"
)
"""Texts of the stored-XSS corpus, one after the other, closing whatever they may stand in."""


@dataclass
class Log:
    """Rows to come, with ids of one seed; the hostile episode is kept apart by name."""

    present: datetime
    draw: random.Random = field(default_factory=lambda: random.Random(7))
    rows: list[Any] = field(default_factory=list)
    hostile: UUID | None = None
    hostile_episode: UUID | None = None
    attempts: list[tuple[UUID, UUID]] = field(default_factory=list)
    """A revision and the first answer that it is better than."""

    def id_at(self, moment: datetime) -> UUID:
        """Return a UUIDv7 of that moment whose random part is the seed's."""
        low = self.draw.getrandbits(74)
        noise = (low >> 62) << 64 | (low & (1 << 62) - 1)
        return UUID(int=first_id_at(moment).int | noise)

    def call(
        self,
        role: str,
        moment: datetime,
        asked: Sequence[dict[str, Any]],
        answer: str | None,
        *,
        tool: tuple[str, dict[str, Any]] | None = None,
        **columns: Any,
    ) -> UUID:
        """Add one call with its payload; an `error_type` makes it one that failed."""
        identifier = self.id_at(moment)
        messages = [{"role": "system", "content": SYSTEM[role]}, *asked]
        n_in = sum(len(str(m.get("content") or "")) for m in messages) // 4
        said: dict[str, Any] = {"role": "assistant", "content": answer}
        if tool is not None:
            name, arguments = tool
            said["tool_calls"] = [
                {
                    "id": f"call_{self.draw.getrandbits(40):010x}",
                    "type": "function",
                    "function": {"name": name, "arguments": json.dumps(arguments)},
                }
            ]
        n_out = len(answer or json.dumps(tool)) // 4
        model = columns.pop("model", BASE)
        failed = "error_type" in columns
        slow = self.draw.lognormvariate(0, 0.45)
        price = 2e-6 if model == EXPERT else 1.5e-7
        self.rows.append(
            Interaction(
                **{
                    "id": identifier,
                    "role": role,
                    "project": "atlas",
                    "gen_ai_provider_name": "openai" if model == EXPERT else "vllm",
                    "gen_ai_request_model": model,
                    "gen_ai_response_model": None if failed else model,
                    "gen_ai_response_finish_reasons": ["tool_calls" if tool else "stop"],
                    "gen_ai_request_temperature": 0.2,
                    "gen_ai_usage_input_tokens": n_in,
                    "gen_ai_usage_output_tokens": 0 if failed else n_out,
                    "status": "error" if failed else "success",
                    "latency_ms": round((320 + 9.0 * n_out) * slow, 1),
                    "ttft_ms": round(180 * slow, 1),
                    "cost_usd": round((n_in + 4 * n_out) * price, 6),
                    "source": "gateway" if self.draw.random() < 0.7 else "client",
                    "client_version": "0.1.0",
                    "started_at": moment,
                    "ingested_at": moment + timedelta(seconds=4),
                    **columns,
                }
            )
        )
        finish = "tool_calls" if tool else "stop"
        self.rows.append(
            InteractionPayload(
                id=identifier,
                request={"model": model, "messages": messages, "temperature": 0.2},
                response=None
                if failed
                else {"model": model, "choices": [{"message": said, "finish_reason": finish}]},
                attributes={"branch": "main", "run": f"nightly-{self.draw.randrange(40, 60)}"},
            )
        )
        return identifier

    def say(self, about: UUID, kind: str, moment: datetime, **columns: Any) -> None:
        """Add feedback on a call."""
        self.rows.append(
            Feedback(
                id=self.id_at(moment),
                interaction_id=about,
                kind=kind,
                created_at=moment,
                ingested_at=moment,
                **columns,
            )
        )

    def take(self) -> list[Any]:
        """Return the rows since the last time, in the order of their tables."""
        rows, self.rows = self.rows, []
        return rows


@dataclass(frozen=True)
class Serving:
    """Who answered for the coder at a time: a version, and the arm where an experiment runs."""

    version: UUID
    name: str
    experiment: UUID | None = None
    arm: str | None = None


def write(session: Session, log: Log) -> None:
    """Write what was drawn and commit it, as the builds read what is committed."""
    session.add_all(log.take())
    session.commit()


def episodes(log: Log, serve: Any) -> Iterator[tuple[int, datetime]]:
    """Draw the episodes one by one; yields the number and the time of the one to come.

    `serve(number, moment)` says who answers for the coder.
    """
    tasks = BUILT_IN["coder-medium"][1]()
    leaked = BUILT_IN["coder-easy"][1]()
    plans = BUILT_IN["coordinator-plans"][1]()
    facts = BUILT_IN["researcher-comparisons"][1]()
    for number in range(N_EPISODES):
        share = number / (N_EPISODES - 1)
        moment = log.present - timedelta(days=DAYS) * (1 - share) - timedelta(minutes=7)
        yield number, moment
        repeat = number % 9 == 4  # the same task a second time: repeats of what was answered
        task = tasks[(number - 9 if repeat else number) % len(tasks)]
        suite = "coder-medium"
        if number % 20 == 11:  # a benchmark's own task: no dataset may teach it
            task, suite = leaked[number % 24], "coder-easy"
        plan, fact = plans[number % len(plans)], facts[number % len(facts)]
        episode(log, number, moment, suite, task, plan, fact, serve(number, moment))


def episode(
    log: Log,
    number: int,
    moment: datetime,
    suite: str,
    task: Task,
    plan: Task,
    fact: Task,
    serving: Serving,
) -> None:
    """Draw one episode: plan, research now and then, code, tests, review, a revision if needed."""
    draw, step = log.draw, timedelta(seconds=11)
    name = log.id_at(moment)
    about = {
        "episode_id": name,
        "gen_ai_conversation_id": f"atlas-{1000 + number}",
        "unit_id": str(name),
    }
    own = {
        "model": serving.name,
        "model_version_id": serving.version,
        "experiment_id": serving.experiment,
        "arm": serving.arm,
        "task_type": task.attributes["task_type"],
    }
    asked = [{"role": "user", "content": task.prompt[0]["content"]}]
    parent = None
    if number % 3 == 0:
        answer = reference_answer("coordinator-plans", plan)
        parent = log.call(
            *("coordinator", moment, plan.prompt, answer),
            **{**about, "task_type": "plan", "model": EXPERT},
        )
        log.say(parent, "success", moment + step, value=1.0, source="role", actor="coder")
    if number % 5 == 1:
        answer = reference_answer("researcher-comparisons", fact)
        log.call(
            *("researcher", moment + step, fact.prompt, None),
            **{**about, "task_type": "comparison", "model": EXPERT, "parent_id": parent},
            tool=("search_notes", {"query": fact.task_id, "limit": 3}),
        )
        log.call(
            *("researcher", moment + 2 * step, fact.prompt, answer),
            **{**about, "task_type": "comparison", "model": EXPERT, "parent_id": parent},
        )
    if number % 13 == 6:
        log.call(
            *("coder", moment + 3 * step, asked, None),
            **{**about, **own, "error_type": draw.choice(["RateLimitError", "Timeout"])},
        )
    good, wrong = framed(draw, reference_answer(suite, task)), None
    if draw.random() > 0.62:
        wrong = framed(draw, broken(reference_answer(suite, task)))
    log.call(
        *("coder", moment + 4 * step, asked, None),
        **{**about, **own, "parent_id": parent},
        tool=("run_tests", {"path": "tests/", "timeout_s": 30}),
    )
    first = log.call(
        *("coder", moment + 5 * step, asked, wrong or good),
        **{**about, **own, "parent_id": parent, "key": f"atlas/{1000 + number}/1"},
        **({"completed": False, "status": "cut"} if number % 29 == 17 else {}),
    )
    code = code_of(wrong or good)
    told = [{"role": "user", "content": f"Write pytest tests for this:\n\n```python\n{code}\n```"}]
    log.call(
        *("tester", moment + 6 * step, told, tests_for(code)),
        **{**about, "task_type": "unit-tests", "parent_id": first},
    )
    n_bad = draw.randint(1, 3) if wrong else 0
    seen = moment + 7 * step
    ci = {"source": "test", "actor": "pytest"}
    log.say(first, "success", seen, value=float(not wrong), **ci)
    log.say(first, "metric", seen, name="tests_passed", value=round(1 - n_bad / 8, 3), **ci)
    shown = [{"role": "user", "content": f"Review this change:\n\n```python\n{code}\n```"}]
    remark = review_of(draw, code, wrong is not None)
    reviewed = log.call(
        *("reviewer", moment + 8 * step, shown, remark),
        **{**about, "task_type": "code-review", "parent_id": first, "model": EXPERT},
    )
    log.say(first, "category", seen, name="area", text=task.attributes["domain"], source="role",
            actor="reviewer")  # fmt: skip
    if number % 4 == 1:
        log.say(reviewed, "rating", seen, value=float(draw.randint(2, 5)), source="human",
                actor="ines")  # fmt: skip
    if wrong:
        again = [
            *asked,
            {"role": "assistant", "content": wrong},
            {"role": "user", "content": f"{n_bad} of 8 tests fail. {remark.splitlines()[0]}"},
        ]
        second = log.call(
            *("coder", moment + 9 * step, again, good),
            **{**about, **own, "parent_id": reviewed, "key": f"atlas/{1000 + number}/2"},
        )
        log.say(second, "success", moment + 10 * step, value=1.0, **ci)
        log.say(second, "preference", moment + 10 * step, loser_interaction_id=first,
                source="human", actor="tom")  # fmt: skip
        log.attempts.append((second, first))
        if number % 7 == 2:
            log.say(first, "correction", seen, text=good, source="human", actor="ines")
            log.say(first, "comment", seen, source="human", actor="ines",
                    text="It forgets the empty case; look at the last line.")  # fmt: skip
    elif number % 3 == 2:
        log.say(first, "rating", seen, value=float(draw.randint(3, 5)), source="human", actor="tom")
        log.say(first, "comment", seen, text="Clear, and no more than was asked.", source="user",
                actor="dana")  # fmt: skip


def hostile_episode(log: Log, moment: datetime) -> None:
    """Draw the episode whose every text tries to become part of the page."""
    log.hostile_episode = log.id_at(moment)
    about = {
        "episode_id": log.hostile_episode,
        "task_type": HOSTILE[:180],
        "gen_ai_conversation_id": HOSTILE[:120],
        "unit_id": HOSTILE[:80],
        "scrub": {HOSTILE[:60]: 2, "email": 1},
    }
    asked = [
        {"role": "user", "content": HOSTILE, "name": HOSTILE},
        {"role": "user", "content": [{"type": "text", "text": HOSTILE}]},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "1", "type": "function",
                         "function": {"name": HOSTILE, "arguments": HOSTILE}}]},
        {"role": "tool", "tool_call_id": "1", "content": HOSTILE},
        {"role": HOSTILE, "content": HOSTILE},
    ]  # fmt: skip
    answer = f"{HOSTILE}\n\n```python\nprint('''{HOSTILE}''')\n```\n\n```{HOSTILE}\nx\n```"
    log.hostile = log.call(
        "coder", moment, asked, answer, model=HOSTILE[:200], **about, project="default"
    )
    log.call(
        *("reviewer", moment + timedelta(seconds=9), asked, HOSTILE),
        **{**about, "error_type": HOSTILE[:100], "parent_id": log.hostile},
    )
    said = {"source": "user", "actor": HOSTILE[:60]}
    log.say(log.hostile, "success", moment, value=1.0, **said)
    log.say(log.hostile, "comment", moment, text=HOSTILE, **said)
    log.say(log.hostile, "category", moment, name=HOSTILE[:60], text=HOSTILE, **said)
    log.say(log.hostile, "correction", moment, text=HOSTILE, **said)


def framed(draw: random.Random, code: str) -> str:
    """Return an answer as a model gives it: a line before, now and then a word after."""
    before = draw.choice(
        [
            "Here is the function:",
            "This does it, with the rules in the order in which you gave them:",
            "",
            "The edge cases first, then the rule itself.",
        ]
    )
    after = draw.choice(["", "", "It needs nothing but the standard library.", "Runs in O(n)."])
    return "\n\n".join(part for part in (before, code.strip(), after) if part)


_FAULTS = (
    ("<=", "<"),
    (" + 1", ""),
    ("min(", "max("),
    (" == ", " != "),
    ("not ", ""),
    ("[1:]", "[:]"),
    (" > ", " >= "),
    ("return found", "return []"),
    ("sorted(", "list("),
)


def broken(answer: str) -> str:
    """Return an answer with one small fault, such as a bound that is off by one."""
    head, _, body = answer.partition("\n    ")
    for old, new in _FAULTS:
        if old in body:
            return f"{head}\n    {body.replace(old, new, 1)}"
    return answer.replace("return ", "return None or ", 1)


def code_of(answer: str) -> str:
    """Return the code block of an answer."""
    return answer.partition("```python\n")[2].partition("\n```")[0]


def tests_for(code: str) -> str:
    """Return tests as a tester writes them."""
    found = re.search(r"def (\w+)", code)
    name = found[1] if found else "solve"
    return (
        f"```python\nimport pytest\nfrom solution import {name}\n\n\n"
        f"def test_{name}_on_nothing():\n    assert {name}.__doc__ is None\n\n\n"
        f'@pytest.mark.parametrize("bad", [None, 3, object()])\n'
        f"def test_{name}_refuses(bad):\n    with pytest.raises((TypeError, AttributeError)):\n"
        f"        {name}(bad)\n```"
    )


def review_of(draw: random.Random, code: str, is_bad: bool) -> str:
    """Return a review: a fault with its line, or that there is none."""
    lines = code.splitlines()
    if not is_bad:
        return "No fault found. The names say what they hold and every branch is reached."
    at = draw.randrange(2, max(3, len(lines)))
    return (
        f"Line {at}: the bound is off by one, so the last element is left out (high).\n\n"
        f"```python\n{lines[min(at, len(lines) - 1)].strip()}\n```\n\n"
        "Everything else does what its specification says."
    )
