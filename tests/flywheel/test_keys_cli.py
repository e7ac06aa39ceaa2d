"""`flywheel key`, `flywheel budget` and `flywheel usage`."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from by_hand import Said
from sqlmodel import Session

from collector.tables import Feedback
from foundation.settings import get_settings
from foundation.tables import now
from router import keys
from router.tables import UsageDay

Command = Callable[..., Said]


def test_a_key_is_shown_once_then_rotated_and_revoked(
    command: Command, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "open on this machine" in command("key", "list").out
    with monkeypatch.context() as locked:
        locked.setenv("FLYWHEEL_API_KEY", "Zq7vN3kLm8TtRw2YpX5cJ9b")
        get_settings.cache_clear()
        assert "FLYWHEEL_API_KEY alone opens" in command("key", "list").out
    get_settings.cache_clear()
    made = command(
        *("key", "create", "ci", "--kind", "service", "--role", "coder", "--role", "tester"),
        *("--project", "shop", "--expires", "2100-01-01", "--requests-per-minute", "60"),
        *("--tokens-per-minute", "1000", "--concurrent", "4"),
        *("--tokens-per-day", "1e6", "--cost-per-month", "12.5", "--json"),
    ).json
    assert made["key"].startswith("fw_")
    assert (made["kind"], made["roles"], made["projects"]) == (
        *("service", ["coder", "tester"], ["shop"]),
    )
    assert made["expires_at"] == "2100-01-01T00:00:00Z"
    limits = {"requests_per_minute": 60, "tokens_per_minute": 1000, "concurrent": 4}
    assert made["limits"] == limits
    listed = command("key", "list").out
    assert "ci" in listed
    assert made["key"] not in listed
    rotated = command("key", "rotate", "ci", "--json").json
    assert rotated["key"] != made["key"]
    assert command("key", "revoke", "ci", "--json").json["revoked_at"]
    told = {b["measure"]: b["amount"] for b in command("budget", "list", "--json").json
            if b["scope"] == "key:ci"}  # fmt: skip
    assert told == {"tokens_per_day": 1e6, "cost_usd_per_month": 12.5}
    refused = command("key", "create", "ci")
    assert refused.code == 2
    assert "expected one that no key has" in refused.err


def test_a_scoped_key_its_grace_its_end_and_what_came_by_it(
    command: Command, session: Session
) -> None:
    soon = (now() + timedelta(days=3)).strftime("%Y-%m-%d")
    made = command("key", "create", "ci", "--scope", "feedback", "--expires", soon, "--json").json
    assert made["scopes"] == ["feedback"]
    assert command("key", "create", "old", "--json").json["scopes"] == ["gateway"]
    refused = command("key", "create", "x", "--scope", "read", "--role", "coder")
    assert refused.code == 2
    assert "some roles or projects" in refused.err
    assert command("key", "rotate", "ci", "--grace", "a while").code == 2
    rotated = command("key", "rotate", "ci", "--grace", "24h", "--json").json
    assert "previous_hash" not in rotated
    listed = " ".join(command("key", "list").out.split())
    assert "ci ends in" in listed
    assert "ci: the old secret opens for 24 h" in listed
    assert "Nothing came by ci" in command("key", "records", "ci").out
    by = keys.get_key(session, "ci").id
    session.add(Feedback(kind="success", value=1, interaction_id=by, key_id=by, source="test"))
    session.commit()
    (group,) = command("key", "records", "ci", "--json").json
    assert (group["what"], group["source"], group["n"]) == ("feedback", "test", 1)


def test_budgets(command: Command, database: str) -> None:
    assert command("budget", "set", "all", "cost_usd_per_month", "250").code == 0
    listed = command("budget", "list").out
    assert "$250.00" in listed
    assert "100,000,000 tokens (default)" in listed
    assert command("budget", "unset", "all", "cost_usd_per_month", "--json").code == 0
    assert "$250.00" not in command("budget", "list").out
    refused = command("budget", "set", "all", "tokens", "1")
    assert (refused.code, refused.out) == (2, "")


def test_usage_says_what_is_estimated_and_what_has_no_price(
    command: Command, session: Session
) -> None:
    assert "No calls in the last 30 days." in command("usage").out
    counted = {"n_calls": 1200, "n_estimated": 7, "n_unpriced": 1199, "input_tokens": 34_000}
    session.add(UsageDay(day=now().date(), role="coder", project="p", model="m", **counted))
    session.commit()
    said = command("usage", "--by", "model", "--days", "1").out
    assert "34,000" in said
    assert "Of 7 calls nobody stated the tokens" in said
    assert "1,199 calls are of models without a price" in said
    (group,) = command("usage", "--json").json
    assert (group["group"], group["n_calls"]) == ("coder", 1200)
