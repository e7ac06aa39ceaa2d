"""Active collection: tasks are drawn, models answer them, and what they did is logged.

`create` plans a campaign into rows and `run` works them off. A place of the plan ends in one
transaction with its interaction and its verdict, so a campaign that was killed goes on where it was
and keeps nothing twice. One process runs a campaign at a time; `pause` and `cancel` are noticed by
it, whoever says them.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlmodel import Session, col, func, select

from collector.campaign import check as checks
from collector.campaign import idle
from collector.campaign.answering import (
    DONE,
    DUPLICATE,
    FAILED,
    PLANNED,
    Answering,
    Halted,
    scrubbed,
)
from collector.campaign.check import Checker
from collector.campaign.plan import fingerprint, plan
from collector.campaign.report import Place, quality
from collector.campaign.spec import CampaignSpec, kept_spec, spec_of
from collector.scrub import Scrubber, server_rules
from collector.tables import Campaign, CampaignItem, Interaction, InteractionPayload
from foundation.chat import answer_text, finish_reason, joined, prompt_messages
from foundation.database import get_engine, session_scope
from foundation.errors import BadInput, Conflict, NotFound
from foundation.settings import get_settings
from foundation.tables import now

RUNNING, PAUSED, CANCELLED = "running", "paused", "cancelled"
NOT_STARTED = "not started"
INTERRUPTED = "interrupted"
"""What is shown of a running campaign whose process is gone."""

TICK_S = 0.2
"""How often the state of a running campaign is looked at."""

_LOCK_CLASS = 0x43414D50
"""First half of the advisory locks that keep a second process off a campaign."""


@dataclass(frozen=True)
class Progress:
    """How far a campaign is.

    `n_done` of `n_target` are answered, by this process and earlier ones; `eta_s` goes by the speed
    of this one. `waiting` says why nothing happens.
    """

    n_done: int
    n_duplicate: int
    n_failed: int
    n_target: int
    cost_usd: float
    eta_s: float | None = None
    waiting: str | None = None

    @property
    def n_left(self) -> int:
        """Places that are still open."""
        return self.n_target - self.n_done - self.n_duplicate - self.n_failed


@dataclass(frozen=True)
class _Outcome:
    """How a run ended: the status, why it is so, and what to raise."""

    status: str
    reason: str | None = None
    error: BaseException | None = None


def create(session: Session, spec: CampaignSpec) -> Campaign:
    """Plan a campaign, or return the one of this name if its specification is the same.

    One that never started, for want of a price or a key, is planned anew by another specification.

    Raises:
        BadInput: the role is unknown, or there is a secret in the name or in a model.
        Conflict: the name is taken by another specification.
    """
    roles = get_settings().roles
    if spec.role not in roles:
        raise BadInput("role", spec.role, f"one of {', '.join(roles)}", "See FLYWHEEL_ROLES.")
    known = session.exec(select(Campaign).where(Campaign.name == spec.name)).first()
    if known is None:
        return _planned(session, spec)
    if known.spec_hash == spec.hash():
        return known
    if known.reason != NOT_STARTED or not _try_lock(session.connection(), known):
        raise Conflict(
            "campaign",
            spec.name,
            "a free name: there is a campaign of this name with other values",
            "Give it another name, or put its values back.",
        )
    session.delete(known)
    session.flush()
    return _planned(session, spec)


def _planned(session: Session, given: CampaignSpec) -> Campaign:
    scrubber = Scrubber(server_rules())
    spec = kept_spec(given, scrubber)
    campaign = Campaign(
        name=spec.name,
        role=spec.role,
        spec=spec.as_json(),
        spec_hash=given.hash(),
        scrub_version=scrubber.version,
        status=PAUSED,
        reason=NOT_STARTED,
        n_target=spec.n,
    )
    session.add(campaign)
    session.flush()
    session.add_all(
        CampaignItem(
            campaign_id=campaign.id,
            number=place.number,
            topic=place.topic,
            difficulty=place.difficulty,
            model=place.model,
            status=PLANNED,
        )
        for place in plan(spec)
    )
    session.flush()
    return campaign


def find(session: Session, name: str) -> Campaign:
    """Return a campaign by its name.

    Raises:
        NotFound: there is none.
    """
    campaign = session.exec(select(Campaign).where(Campaign.name == name)).first()
    if campaign is None:
        raise NotFound("campaign", name, "a campaign's name", "See: flywheel campaign list")
    return campaign


def everyone(session: Session) -> list[Campaign]:
    """Return all campaigns, the newest first."""
    return list(session.exec(select(Campaign).order_by(col(Campaign.created_at).desc())))


def status_of(session: Session, campaign: Campaign) -> str:
    """Return the status, `interrupted` for one that runs by its row but in no process."""
    if campaign.status == RUNNING and _try_lock(session.connection(), campaign):
        return INTERRUPTED
    return campaign.status


def pause(session: Session, name: str) -> Campaign:
    """Ask for a pause: the process that runs it finishes the calls in hand and stops.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it is done or cancelled.
    """
    return _told(session, name, PAUSED)


def cancel(session: Session, name: str) -> Campaign:
    """End a campaign for good; what it collected stays. Raises as `pause`."""
    return _told(session, name, CANCELLED)


def _told(session: Session, name: str, status: str) -> Campaign:
    campaign = find(session, name)
    if campaign.status in (DONE, CANCELLED):
        raise Conflict("campaign", name, "one that has not ended", f"It is {campaign.status}.")
    campaign.status, campaign.reason, campaign.updated_at = status, "by hand", now()
    session.add(campaign)
    session.flush()
    return campaign


def progress_of(session: Session, campaign: Campaign) -> Progress:
    """Return how far a campaign is, counted from its rows."""
    counted = session.exec(
        select(CampaignItem.status, func.count())
        .where(CampaignItem.campaign_id == campaign.id)
        .group_by(CampaignItem.status)
    )
    counts = dict(counted.all())
    spent = session.exec(select(Campaign.cost_usd).where(Campaign.id == campaign.id)).one()
    n_failed = counts.get(FAILED, 0)
    done = (counts.get(DONE, 0), counts.get(DUPLICATE, 0), n_failed)
    return Progress(*done, campaign.n_target, spent)


def report_of(session: Session, campaign: Campaign) -> dict[str, object]:
    """Return the quality report of what a campaign has so far."""
    rows = session.exec(
        select(CampaignItem, InteractionPayload.response)
        .join(
            InteractionPayload,
            col(InteractionPayload.id) == col(CampaignItem.interaction_id),
            isouter=True,
        )
        .where(CampaignItem.campaign_id == campaign.id)
        .order_by(col(CampaignItem.number))
    )
    places = [
        Place(
            item.status,
            item.topic,
            item.difficulty,
            item.model,
            item.passed,
            answer_text(_object(response)),
            finish_reason(_object(response)),
            item.detail,
        )
        for item, response in rows
    ]
    return quality(places, progress_of(session, campaign).cost_usd)


def run(
    name: str,
    *,
    check: Checker | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    measured: Callable[[], idle.Utilisation] = idle.measure,
) -> Campaign:
    """Work a campaign off until it is done, paused, cancelled or out of budget.

    An interrupt (Ctrl-C) pauses it: the calls in hand are finished. A second one leaves at once.

    Args:
        name: of a planned campaign.
        check: proves answers right by running them; the other checks are known here.
        on_progress: called several times a second, from the calling thread.
        measured: utilisation of this machine.

    Returns:
        The campaign as it is then, with its report.

    Raises:
        NotFound: there is no such campaign.
        BadInput: a check is wanted that nobody gave, or a model's key or price is missing.
        Conflict: it is cancelled, or another process runs it.
    """
    with session_scope() as session:
        campaign = find(session, name)
    if campaign.status == CANCELLED:
        raise Conflict("campaign", name, "one that can go on", "It is cancelled; start another.")
    spec = spec_of(campaign.spec)
    checker = check or checks.checker_of(spec.check)
    with _only_runner(campaign):
        known = _known_tasks(campaign, spec)
        answering = Answering(campaign, spec, checker, known, measured)
        outcome = _worked_off(campaign, answering, _taken_up(campaign), on_progress)
        ended = _ended(campaign, outcome)
    if outcome.error is not None:
        raise outcome.error
    return ended


@contextmanager
def _only_runner(campaign: Campaign) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    It belongs to a transaction, so that it holds behind a pooler such as PgBouncer too. The setting
    after it also ends the snapshot that the lock was asked for with: vacuum goes on.
    """
    with get_engine().connect() as connection, connection.begin():
        if not _try_lock(connection, campaign):
            raise Conflict(
                "campaign",
                campaign.name,
                "one that no other process runs",
                f"Wait for it, or stop it: flywheel campaign pause {campaign.name}",
            )
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield


def _try_lock(connection: Connection, campaign: Campaign) -> bool:
    """Take the campaign's lock until the transaction ends; False if somebody else has it."""
    asked = text("SELECT pg_try_advisory_xact_lock(:class, :key)")
    key = campaign.id.int & 0x7FFFFFFF
    return bool(connection.execute(asked, {"class": _LOCK_CLASS, "key": key}).scalar())


def _known_tasks(campaign: Campaign, spec: CampaignSpec) -> set[str]:
    """Return the fingerprints of what the role's newest calls and the campaign itself asked."""
    with session_scope() as session:
        own = select(CampaignItem.task_hash).where(
            CampaignItem.campaign_id == campaign.id, CampaignItem.status == DONE
        )
        known = {mark for mark in session.exec(own) if mark}
        newest = (
            select(InteractionPayload.request)
            .join(Interaction, col(Interaction.id) == col(InteractionPayload.id))
            .where(Interaction.role == campaign.role)
            .order_by(col(Interaction.id).desc())
            .limit(spec.known_tasks)
            .execution_options(yield_per=500)
        )
        logged = (joined(prompt_messages(_object(row))) for row in session.exec(newest))
        return known | {fingerprint(asked) for asked in logged if asked}


def _taken_up(campaign: Campaign) -> list[UUID]:
    """Set a campaign running and return its open places; one that failed is open again."""
    with session_scope() as session:
        row = session.get_one(Campaign, campaign.id)
        row.status, row.reason, row.updated_at = RUNNING, None, now()
        session.add(row)
        open_items = session.exec(
            select(CampaignItem)
            .where(
                CampaignItem.campaign_id == campaign.id,
                col(CampaignItem.status).in_((PLANNED, FAILED)),
            )
            .order_by(col(CampaignItem.number))
        ).all()
        for item in open_items:
            item.status, item.detail = PLANNED, None
            session.add(item)
        return [item.id for item in open_items]


def _worked_off(
    campaign: Campaign,
    answering: Answering,
    items: Sequence[UUID],
    on_progress: Callable[[Progress], None],
) -> _Outcome:
    """Let threads answer the open places until there are none or they are to stop."""
    open_items, taking = iter(items), threading.Lock()

    def take() -> UUID | None:
        with taking:
            return next(open_items, None)

    n_threads = min(spec_of(campaign.spec).concurrency, len(items))
    threads = [
        threading.Thread(target=answering.work, args=(take,), name=f"campaign-{n}", daemon=True)
        for n in range(n_threads)
    ]
    for thread in threads:
        thread.start()
    wanted, interrupt = _watched(campaign, answering, threads, on_progress)
    fault = answering.fault
    if interrupt is not None:
        by_hand = isinstance(interrupt, KeyboardInterrupt)
        return _Outcome(PAUSED, "interrupted", None if by_hand else interrupt)
    if fault is not None:
        is_known = isinstance(fault, Halted)
        return _Outcome(PAUSED, str(fault) or type(fault).__name__, None if is_known else fault)
    return _Outcome(DONE) if wanted == RUNNING else _Outcome(wanted, "by hand")


def _watched(
    campaign: Campaign,
    answering: Answering,
    threads: Sequence[threading.Thread],
    on_progress: Callable[[Progress], None],
) -> tuple[str, BaseException | None]:
    """Look on until the threads end; return the status wanted, and what interrupted them."""
    started, wanted = time.monotonic(), RUNNING
    interrupt: BaseException | None = None
    first: Progress | None = None
    while True:
        try:
            is_over = not any(thread.is_alive() for thread in threads)
            with session_scope() as session:
                wanted = session.get_one(Campaign, campaign.id).status
                found = progress_of(session, campaign)
            first = first or found
            eta_s = _eta_s(first, found, time.monotonic() - started)
            if wanted != RUNNING:
                answering.stop.set()
            if interrupt is None:
                on_progress(replace(found, eta_s=eta_s, waiting=answering.waiting))
            if is_over:
                return wanted, interrupt
            time.sleep(TICK_S)
        except BaseException as error:
            if interrupt is not None:
                raise  # the second one leaves at once; what was set aside stays spent
            interrupt = error
            answering.stop.set()


def _eta_s(first: Progress, found: Progress, elapsed_s: float) -> float | None:
    n_settled = first.n_left - found.n_left
    return elapsed_s / n_settled * found.n_left if n_settled > 0 else None


def _ended(campaign: Campaign, outcome: _Outcome) -> Campaign:
    """Write down how a campaign stands, with its report."""
    with session_scope() as session:
        row = session.get_one(Campaign, campaign.id, with_for_update=True)
        found = progress_of(session, row)
        row.status = CANCELLED if row.status == CANCELLED else outcome.status
        row.reason, row.updated_at = outcome.reason and scrubbed(outcome.reason), now()
        row.n_done, row.n_duplicate, row.n_failed = found.n_done, found.n_duplicate, found.n_failed
        row.report = report_of(session, row)
        session.add(row)
    return row


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
