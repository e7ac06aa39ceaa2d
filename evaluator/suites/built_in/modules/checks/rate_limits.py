"""Judges tests of `rate_limits`."""

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.rate_limits import (
    ALIGNED,
    KEEP_USED,
    Decision,
    Limiter,
    Plans,
    Usage,
)

CHECKS = Checks(
    rules={
        "KEEP_USED": {
            True: "What was used counts on after another plan was given.",
            False: "Another plan begins without any request used.",
        },
        "ALIGNED": {
            True: "Windows begin at multiples of 60, for all clients alike.",
            False: "A client's window begins with its first request after the last window.",
        },
    },
    faults=[
        Fault(
            "all clients share one window",
            "start, used = self.usage.window(client, now)",
            "client, asked = '', client\n        start, used = self.usage.window(client, now)",
        ),
        Fault(
            "everybody has the plan of nobody",
            "self.plans.limit(client)",
            "self.plans.limit('')",
        ),
        Fault(
            "what was used is not carried on",
            "self.usage.add(client, start, used)",
            "self.usage.add(client, start, 0)",
        ),
        Fault(
            "the window begins anew with each request",
            "self.usage.add(client, start, used)",
            "self.usage.add(client, now, used)",
        ),
        Fault(
            "one request too many is allowed",
            "if used < limit:",
            "if used <= limit:",
        ),
        Fault(
            "the wait does not know when the window began",
            "start + 60 - now",
            "60",
        ),
        Fault("a new plan is not kept", "self.plans.limits[client] = limit", "pass"),
    ],
)


def limiter() -> Limiter:
    """With one client that has a plan."""
    return Limiter(Plans({"shop": 3}), Usage())


def test_a_plan_is_used_up_and_begins_again() -> None:
    """Up to the last second of the window, and at the first of the next."""
    made = limiter()
    assert [made.ask("shop", now) for now in (130, 135, 140)] == [
        Decision(True, 2, 0),
        Decision(True, 1, 0),
        Decision(True, 0, 0),
    ]
    assert made.ask("shop", 150) == Decision(False, 0, 30 if ALIGNED else 40)
    assert made.ask("shop", 179) == Decision(False, 0, 1 if ALIGNED else 11)
    assert made.ask("shop", 180) == Decision(ALIGNED, 2 if ALIGNED else 0, 0 if ALIGNED else 10)
    assert made.ask("shop", 190).allowed
    assert made.usage.windows["shop"] == ((180, 2) if ALIGNED else (190, 1))
    assert made.refused == {"shop": 2 if ALIGNED else 3}


def test_clients_do_not_take_from_each_other() -> None:
    """Those without a plan may ask twice, each."""
    made = limiter()
    found = [made.ask(name, 60).allowed for name in ("a", "a", "b", "a", "b", "b", "shop")]
    assert found == [True, True, True, False, True, False, True]
    assert made.refused == {"a": 1, "b": 1}
    assert made.usage.windows == {"a": (60, 2), "b": (60, 2), "shop": (60, 1)}


def test_another_plan_in_the_middle_of_a_window() -> None:
    """It holds at once."""
    made = limiter()
    for _ in range(3):
        made.ask("new", 120)
    made.upgrade("new", 4)
    assert made.ask("new", 121).left == (1 if KEEP_USED else 3)
    made.upgrade("new", 1)
    assert made.ask("new", 122).allowed is not KEEP_USED
    assert not made.ask("new", 123).allowed
    made.upgrade("never", 1)
    assert made.ask("never", 124) == Decision(True, 0, 0)
