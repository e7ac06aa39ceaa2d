"""One place of a campaign: a task that is new, an answer within the limits, a record of both."""

import json
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from collector.campaign.check import Checker, lack_of
from collector.campaign.idle import Utilisation, Window
from collector.campaign.limits import Pace, Price, price_of, set_aside, settle
from collector.campaign.plan import Planned, Task, conversation, drawn_text, fingerprint, task_of
from collector.campaign.spec import CampaignSpec, Model
from collector.ingest import REJECTED, store_batch
from collector.record import derived_id, feedback_record, interaction_record
from collector.schemas import IngestBatch
from collector.scrub import Scrubber, server_rules
from collector.tables import Campaign, CampaignItem
from foundation import llm
from foundation.chat import Message, answer_text, joined, message
from foundation.database import session_scope
from foundation.errors import BadInput, FlywheelError
from foundation.settings import get_settings

PLANNED, DONE, DUPLICATE, FAILED = "planned", "done", "duplicate", "failed"
SOURCE = "campaign"
LOOK_AGAIN_S = 0.2

_RETRYABLE = (408, 409, 425, 429)
_PERHAPS_BILLED = ("Timeout", "APIConnectionError", "APITimeoutError")
"""Failures after which nobody knows whether the provider answered: what was set aside stays so."""


class Halted(FlywheelError):
    """The campaign cannot go on now; the text says why."""


class Stopped(Exception):
    """The campaign is to stop, and this place was left as it was."""


class _Unusable(FlywheelError):
    """A task or record that is of no use; the others go on."""


@dataclass(frozen=True)
class Answered:
    """One answer of a model: who gave it, to what, how long it took and what it cost."""

    model: Model
    request: dict[str, Any]
    response: dict[str, Any]
    latency_ms: float
    cost_usd: float


class Answering:
    """Works off places of a campaign, from several threads at once.

    Args:
        campaign: its row; only id, name, role and creation time are read.
        spec: its specification.
        check: proves answers right; None to take them as they are.
        known: fingerprints of tasks that were asked before; those asked now are added.
        measured: utilisation of this machine.

    Raises:
        BadInput: a model's key is missing, or its price where there is a budget.
    """

    def __init__(
        self,
        campaign: Campaign,
        spec: CampaignSpec,
        check: Checker | None,
        known: set[str],
        measured: Callable[[], Utilisation],
    ) -> None:
        self.stop = threading.Event()
        self.waiting: str | None = None
        self.fault: BaseException | None = None
        self._campaign, self._spec, self._check = campaign, spec, check
        self._connections = {model.label: model.connection() for model in spec.models}
        self._prices = {model.label: _price(model, spec) for model in spec.models}
        self._pace = Pace(spec.requests_per_minute)
        self._window = Window(spec.idle, measured)
        self._first_calls = {model.label: threading.Lock() for model in spec.models}
        self._met: set[str] = set()
        self._lock = threading.Lock()
        self._known = known
        self._n_calling = 0
        self._n_failed_in_a_row = 0

    def work(self, take: Callable[[], UUID | None]) -> None:
        """Do places until there are none, or until it is to stop; keep the error that ended it."""
        try:
            while not self.stop.is_set() and (item := take()) is not None:
                self._do(item)
        except Stopped:
            pass
        except BaseException as error:  # a thread has no caller: whoever watches raises it
            self.fault = self.fault or error
            self.stop.set()

    def _do(self, identifier: UUID) -> None:
        with session_scope() as session:
            item = session.get_one(CampaignItem, identifier)
        try:
            drawn = self._new_task(item)
            if drawn is None:
                _close(identifier, DUPLICATE, "no task was drawn that is new")
                return
            task, mark = drawn
            asked = conversation(self._spec, _planned(item), task)
            answered = self._answered(item, str(item.model), asked)
            verdict = self._verdict(task, answered)
            self._keep(item, task, mark, answered, verdict)
        except (llm.ProviderError, _Unusable) as error:
            self._failed(identifier, error)
        else:
            with self._lock:
                self._n_failed_in_a_row = 0

    # Tasks

    def _new_task(self, item: CampaignItem) -> tuple[Task, str] | None:
        """Return a task that was never asked, with its fingerprint; None if none was found."""
        for draw in range(self._spec.task.max_draws):
            task = self._drawn(item, draw)
            if task is None:
                break
            asked = conversation(self._spec, _planned(item), task)
            mark = fingerprint(scrubbed(joined(asked)))  # as it will stand in the log
            with self._lock:
                if mark not in self._known:
                    self._known.add(mark)
                    return task, mark
        return None

    def _drawn(self, item: CampaignItem, draw: int) -> Task | None:
        """Return a draw of the task of one place; None where there is nothing else to draw."""
        source, planned = self._spec.task, _planned(item)
        if source.items is not None:
            task = task_of(source.items[item.number]) if draw == 0 else None
        elif source.template is not None:
            task = task_of(drawn_text(source.template, self._spec, planned, draw))
        else:
            task = self._invented(
                item, drawn_text(source.generator or "", self._spec, planned, draw)
            )
        if task is not None and (lack := lack_of(self._spec.check, task)):
            raise _Unusable(f"task: {lack}")
        return task

    def _invented(self, item: CampaignItem, prompt: str) -> Task:
        """Let a model invent a task; if it brings a solution, that must pass the check."""
        label = self._spec.task.model or self._spec.models[0].label
        answered = self._answered(item, label, [message("user", prompt)])
        text = answer_text(answered.response)
        task = task_of(_object_in(text) or text)
        if task is None:
            raise _Unusable("task: the model invented nothing")
        solution = task.needs.get("solution")
        if self._check is not None and isinstance(solution, str):
            right, detail = self._checked(task, solution)
            if not right:
                raise _Unusable(f"task: its own solution fails its check: {detail}")
        return task

    # Calls

    def _answered(self, item: CampaignItem, label: str, asked: list[Message]) -> Answered:
        """Call a model when it may be called: a local one within the idle window."""
        model, idle = self._spec.model(label), self._spec.idle
        while model.local and idle is not None:
            with self._window.local_call() as closed:
                if closed is None:
                    self.waiting = None
                    return self._with_retries(item, model, asked)
            if idle.or_else is not None:
                model = self._spec.model(idle.or_else)
            else:
                self.waiting = closed
                self._sleep(min(idle.poll_s, 1.0))
        return self._with_retries(item, model, asked)

    def _with_retries(self, item: CampaignItem, model: Model, asked: list[Message]) -> Answered:
        for attempt in range(1, self._spec.max_attempts + 1):
            try:
                return self._within_limits(item, model, asked)
            except llm.ProviderError as error:
                passing = error.status in _RETRYABLE or error.status >= 500
                if not passing or attempt == self._spec.max_attempts:
                    raise
            self._sleep(2 ** (attempt - 1) * random.uniform(0.5, 1.0))
        raise AssertionError("max_attempts is 1 or more")

    def _within_limits(self, item: CampaignItem, model: Model, asked: list[Message]) -> Answered:
        price = self._prices[model.label]
        at_most_usd = price.at_most(asked, self._spec.max_tokens)
        self._set_aside(item, at_most_usd)
        spent_usd = 0.0
        try:
            if not self._pace.wait(self.stop):
                raise Stopped
            spent_usd = at_most_usd  # until the answer says better
            answered = self._called(model, asked)
            spent_usd = _cost_usd(answered.response, price, at_most_usd)
            return Answered(
                model, answered.request, answered.response, answered.latency_ms, spent_usd
            )
        except llm.ProviderError as error:
            spent_usd = at_most_usd if error.kind in _PERHAPS_BILLED else 0.0
            raise
        finally:
            with session_scope() as session:
                settle(session, self._campaign.id, item.id, at_most_usd, spent_usd)
            with self._lock:
                self._n_calling -= 1

    def _set_aside(self, item: CampaignItem, amount_usd: float) -> None:
        """Set the price of a call aside, waiting for calls in hand to give back what they spare.

        Raises:
            Halted: the budget has no room, whatever the calls in hand cost.
        """
        while True:
            with self._lock:
                with session_scope() as session:
                    budget = self._spec.budget_usd
                    if set_aside(session, self._campaign.id, item.id, amount_usd, budget):
                        self._n_calling += 1
                        return
                if self._n_calling == 0:
                    raise Halted(
                        f"the budget of ${self._spec.budget_usd:g} has no room for another call, "
                        f"which may cost ${amount_usd:.6f}"
                    )
            self._sleep(LOOK_AGAIN_S)

    def _called(self, model: Model, asked: list[Message]) -> Answered:
        """Call a model, the first time alone: one call finds a wrong key, and opens one client."""
        request = {"model": model.model, "messages": asked, "max_tokens": self._spec.max_tokens}
        if self._spec.temperature is not None:
            request["temperature"] = self._spec.temperature
        request |= model.parameters
        with self._first_calls[model.label]:
            if model.label not in self._met:
                answered = self._completed(model, request)
                self._met.add(model.label)
                return answered
        return self._completed(model, request)

    def _completed(self, model: Model, request: dict[str, Any]) -> Answered:
        started = time.monotonic()
        response = llm.complete(
            request,
            timeout=self._spec.timeout_s,
            max_retries=0,  # retries are ours: the client's own would pass the limits unseen
            **self._connections[model.label],
        )
        return Answered(model, request, response, (time.monotonic() - started) * 1000, 0.0)

    def _sleep(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped

    # Records

    def _verdict(self, task: Task, answered: Answered) -> tuple[bool, str] | None:
        if self._check is None:
            return None
        return self._checked(task, answer_text(answered.response))

    def _checked(self, task: Task, answer: str) -> tuple[bool, str]:
        assert self._check is not None
        try:
            return self._check(task, answer)
        except BadInput as error:
            raise _Unusable(f"task: {error}") from error

    def _keep(
        self,
        item: CampaignItem,
        task: Task,
        mark: str,
        answered: Answered,
        verdict: tuple[bool, str] | None,
    ) -> None:
        """Store the interaction, the verdict on it and the place's end in one transaction."""
        interaction = self._interaction(item, task, answered)
        feedback = [self._success(interaction, *verdict)] if verdict else []
        batch = IngestBatch(source=SOURCE, interactions=[interaction], feedback=feedback)
        with session_scope() as session:
            stored, *_ = store_batch(session, batch)
            if stored.status == REJECTED:
                raise _Unusable(f"record: {stored.reason}")
            row = session.get_one(CampaignItem, item.id, with_for_update=True)
            row.status, row.detail = DONE, scrubbed(verdict[1]) or None if verdict else None
            row.task, row.task_hash = scrubbed(task.text), mark
            row.model, row.interaction_id = answered.model.label, UUID(interaction["id"])
            row.passed = verdict[0] if verdict else None
            session.add(row)

    def _interaction(self, item: CampaignItem, task: Task, answered: Answered) -> dict[str, Any]:
        campaign, spec = self._campaign, self._spec
        place = (str(campaign.id), str(item.number))
        return interaction_record(
            derived_id(campaign.created_at, SOURCE, *place),
            campaign.role,
            answered.request,
            answered.response,
            episode_id=derived_id(campaign.created_at, SOURCE, "episode", *place),
            project=get_settings().project,
            task_type=spec.task_type,
            gen_ai_prompt_name=campaign.name,
            gen_ai_prompt_version=campaign.spec_hash[:12],
            config_hash=campaign.spec_hash,
            latency_ms=answered.latency_ms,
            cost_usd=answered.cost_usd,
            source=SOURCE,
            attributes={
                "campaign": campaign.name,
                "number": item.number,
                "topic": item.topic,
                "difficulty": item.difficulty,
                **({"needs": task.needs} if task.needs else {}),
            },
        )

    def _success(self, interaction: dict[str, Any], passed: bool, detail: str) -> dict[str, Any]:
        kind = self._spec.check.kind if self._spec.check else "check"
        return feedback_record(
            derived_id(self._campaign.created_at, SOURCE, "verdict", interaction["id"]),
            "success",
            interaction_id=interaction["id"],
            episode_id=interaction["episode_id"],
            name=kind,
            value=float(passed),
            source="test",
            actor=f"campaign {self._campaign.name}",
            details={"detail": detail} if detail else None,
        )

    def _failed(self, identifier: UUID, error: llm.ProviderError | _Unusable) -> None:
        """Close a place that brought nothing.

        Raises:
            Halted: providers failed too often in a row to go on.
        """
        if isinstance(error, _Unusable):
            _close(identifier, FAILED, str(error))
            return
        _close(identifier, FAILED, f"{error.kind}: {error}")
        with self._lock:
            self._n_failed_in_a_row += 1
            n_failed = self._n_failed_in_a_row
        if n_failed >= max(5, 2 * self._spec.concurrency):
            raise Halted(f"{n_failed} calls in a row failed, the last with: {error}")


def scrubbed(text: str) -> str:
    """Return a text as it may be kept; raises ScrubFailed."""
    return Scrubber(server_rules()).text(text)[0]


def _planned(item: CampaignItem) -> Planned:
    return Planned(item.number, item.topic, item.difficulty, str(item.model))


def _close(identifier: UUID, status: str, detail: str) -> None:
    with session_scope() as session:
        row = session.get_one(CampaignItem, identifier, with_for_update=True)
        row.status, row.detail = status, scrubbed(detail)[:500]
        session.add(row)


def _price(model: Model, spec: CampaignSpec) -> Price:
    """Return a model's price; raises BadInput where a budget needs one and nobody knows it."""
    price = price_of(model, None)
    if price is None and (known := llm.price_per_mtok(model.model)) is not None:
        price = Price(*known)
    if price is None and spec.budget_usd is not None:
        raise BadInput(
            f"models.{model.label}",
            model.model,
            "a price, since there is a budget",
            "Give input_usd_per_mtok and output_usd_per_mtok.",
        )
    return price or Price()


def _cost_usd(response: dict[str, Any], price: Price, at_most_usd: float) -> float:
    """Return what an answer cost; the most it can have cost if it does not tell its tokens."""
    usage = response.get("usage") or {}
    asked, said = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(asked, int) or not isinstance(said, int):
        return at_most_usd
    return price.of(asked, said)


def _object_in(text: str) -> dict[str, Any] | None:
    """Return the JSON object that an answer is, or that stands in its first code fence."""
    fenced = re.search(r"```(?:json)?\s*\n(.*?)```", text, re.DOTALL)
    for candidate in (text, fenced[1] if fenced else ""):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None
