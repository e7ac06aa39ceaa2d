"""What a campaign may spend: dollars set aside before a call, and calls a minute."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import update
from sqlmodel import Session, col, or_

from collector.campaign.spec import Model
from collector.tables import Campaign, CampaignItem
from foundation.chat import Message

TOKENS_AROUND_A_MESSAGE = 32
"""More than a chat template adds to one message. A token of the text has a byte or more."""


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens."""

    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Return the dollars of a call."""
        tokens_usd = input_tokens * self.input_usd_per_mtok
        return (tokens_usd + output_tokens * self.output_usd_per_mtok) / 1e6

    def at_most(self, messages: Sequence[Message], max_tokens: int) -> float:
        """Return what a call cannot exceed."""
        n_bytes = len(json.dumps(list(messages), ensure_ascii=False).encode("utf-8", "replace"))
        return self.of(n_bytes + TOKENS_AROUND_A_MESSAGE * (len(messages) + 1), max_tokens)


def price_of(model: Model, known: Price | None) -> Price | None:
    """Return a model's price: as declared, else as known elsewhere; local models cost nothing."""
    declared = (model.input_usd_per_mtok, model.output_usd_per_mtok)
    if declared != (None, None):
        return Price(*(price or 0.0 for price in declared))
    return Price() if model.local else known


def set_aside(
    session: Session, campaign: UUID, item: UUID, amount_usd: float, budget_usd: float | None
) -> bool:
    """Set the price of a call aside; False if the budget has no room for it.

    It counts as spent at once, in the campaign and in its item, so that a killed process leaves
    the budget too small by one call, and never too large.
    """
    found = session.execute(
        update(Campaign)
        .where(
            col(Campaign.id) == campaign,
            or_(budget_usd is None, col(Campaign.cost_usd) + amount_usd <= (budget_usd or 0.0)),
        )
        .values(cost_usd=col(Campaign.cost_usd) + amount_usd)
    )
    if found.rowcount == 0:  # type: ignore[attr-defined]
        return False
    _charge(session, item, amount_usd)
    return True


def settle(
    session: Session, campaign: UUID, item: UUID, set_aside_usd: float, spent_usd: float
) -> None:
    """Replace what was set aside by what the call cost."""
    difference = spent_usd - set_aside_usd
    session.execute(
        update(Campaign)
        .where(col(Campaign.id) == campaign)
        .values(cost_usd=col(Campaign.cost_usd) + difference)
    )
    _charge(session, item, difference)


def _charge(session: Session, item: UUID, amount_usd: float) -> None:
    row = session.get_one(CampaignItem, item, with_for_update=True)
    row.cost_usd = (row.cost_usd or 0.0) + amount_usd
    session.add(row)
    session.flush()


class Pace:
    """Spaces calls evenly, so that no minute sees more than the limit; thread-safe."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._interval_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._lock = threading.Lock()
        self._next_at = 0.0

    def wait(self, stop: threading.Event) -> bool:
        """Wait for one's turn; False if `stop` came first."""
        with self._lock:
            at = max(time.monotonic(), self._next_at)
            self._next_at = at + self._interval_s
        return not stop.wait(max(0.0, at - time.monotonic()))
