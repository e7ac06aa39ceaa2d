"""Judges tests of `orders`."""

import pytest

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.orders import (
    HOLD,
    PARTIAL,
    Cards,
    Declined,
    OutOfStock,
    Shop,
    Stock,
)

CHECKS = Checks(
    rules={
        "PARTIAL": {
            True: "Where fewer goods are free than ordered, but at least one, those are sold.",
            False: "Where fewer goods are free than ordered, nothing is sold.",
        },
        "HOLD": {
            True: "Where the card is declined the order is held, with its goods reserved; it "
            "can be paid later.",
            False: "Where the card is declined there is no order, and the goods are free again.",
        },
    },
    faults=[
        Fault(
            "the card is charged after the goods are handed out",
            "        self.cards.charge(order.customer, amount)\n"
            "        self.stock.take(order.product, order.count)",
            "        self.stock.take(order.product, order.count)\n"
            "        self.cards.charge(order.customer, amount)",
        ),
        Fault(
            "what was ordered is charged, not what was reserved",
            "amount = reserved * self.prices[product]",
            "amount = count * self.prices[product]",
            only={"PARTIAL": True},
        ),
        Fault(
            "what was ordered is handed out, not what was reserved",
            "Order(customer, product, reserved,",
            "Order(customer, product, count,",
            only={"PARTIAL": True},
        ),
        Fault(
            "goods stay reserved after a declined card",
            "self.stock.release(product, reserved)\n",
            "pass\n",
        ),
        Fault(
            "goods that are handed out stay in stock",
            "self.stock.take(order.product, order.count)",
            "self.stock.release(order.product, order.count)",
        ),
        Fault(
            "goods that are handed out stay reserved",
            "self.stock.take(order.product, order.count)",
            "self.stock.counts[order.product] -= order.count",
        ),
        Fault(
            "today's price is paid back",
            "+= order.charged",
            "+= order.count * self.prices[order.product]",
        ),
        Fault(
            "cancelled goods do not come back",
            "            self.stock.counts[order.product] += order.count\n",
            "",
        ),
        Fault(
            "cancelling a held order adds goods",
            "            self.stock.release(order.product, order.count)\n        elif",
            "            self.stock.counts[order.product] += order.count\n        elif",
            only={"HOLD": True},
        ),
    ],
)


def shop() -> Shop:
    """Two products, two customers."""
    return Shop(Stock({"cup": 5, "pot": 2}), Cards({"ann": 100, "bob": 30}), {"cup": 10, "pot": 25})


def state(made: Shop) -> tuple[int, int, int, int]:
    """Cups there, cups reserved, and what both customers can pay."""
    stock, limits = made.stock, made.cards.limits
    return stock.counts["cup"], stock.reserved.get("cup", 0), limits["ann"], limits["bob"]


def test_orders_that_are_paid() -> None:
    """Goods and money move together."""
    made = shop()
    order = made.place("ann", "cup", 3)
    assert (order.customer, order.product, order.count) == ("ann", "cup", 3)
    assert (order.charged, order.state) == (30, "paid")
    assert state(made) == (2, 0, 70, 30)
    made.place("bob", "cup", 2)
    assert state(made) == (0, 0, 70, 10)
    assert made.stock.counts["pot"] == 2


def test_fewer_goods_than_ordered() -> None:
    """Some are sold, or none; without any there is no order."""
    made = shop()
    made.place("ann", "pot", 1)
    if PARTIAL:
        order = made.place("bob", "pot", 3)
        assert (order.count, order.charged, order.state) == (1, 25, "paid")
        assert made.cards.limits["bob"] == 5
        assert (made.stock.counts["pot"], made.stock.reserved["pot"]) == (0, 0)
    else:
        with pytest.raises(OutOfStock, match="pot"):
            made.place("bob", "pot", 3)
        assert made.cards.limits["bob"] == 30
        assert made.stock.reserved["pot"] == 0
        made.place("ann", "pot", 1)
    for product in ("pot", "fork"):
        with pytest.raises(OutOfStock, match=product):
            made.place("ann", product, 1)


def test_a_declined_card() -> None:
    """The goods wait for the customer, or are free for the next one."""
    made = shop()
    if HOLD:
        order = made.place("bob", "cup", 4)
        assert (order.state, order.charged, order.count) == ("held", 0, 4)
        assert state(made) == (5, 4, 100, 30)
        made.cards.limits["bob"] = 40
        made.pay(order, 40)
        assert (order.state, order.charged) == ("paid", 40)
        assert state(made) == (1, 0, 100, 0)
    else:
        with pytest.raises(Declined, match="bob"):
            made.place("bob", "cup", 4)
        assert state(made) == (5, 0, 100, 30)
        assert made.place("ann", "cup", 5).state == "paid"
        with pytest.raises(OutOfStock):
            made.place("bob", "cup", 1)


def test_what_others_hold_is_not_free() -> None:
    """Until it is given up."""
    made = shop()
    if HOLD:
        held = made.place("eve", "cup", 4)
        assert made.place("ann", "cup", 1).state == "paid"
        with pytest.raises(OutOfStock, match="cup"):
            made.place("ann", "cup", 1)
        made.cancel(held)
        assert state(made) == (4, 0, 90, 30)
    else:
        with pytest.raises(Declined, match="eve"):
            made.place("eve", "cup", 4)
    assert made.place("ann", "cup", 4).charged == 40


def test_cancelling() -> None:
    """Brings back what was paid, whatever the price is now, and once."""
    made = shop()
    first, second = made.place("ann", "cup", 3), made.place("ann", "cup", 1)
    made.prices["cup"] = 99
    for _ in range(2):
        made.cancel(first)
        assert first.state == "cancelled"
        assert state(made) == (4, 0, 90, 30)
    assert second.state == "paid"
    made.prices["cup"] = 10
    assert made.place("bob", "cup", 3).charged == 30
    assert state(made) == (1, 0, 90, 0)


def test_the_last_cent_and_the_last_piece() -> None:
    """Are enough."""
    made = shop()
    assert made.place("bob", "cup", 3).state == "paid"
    assert made.cards.limits["bob"] == 0
    assert made.place("ann", "cup", 2).count == 2
    assert made.stock.counts["cup"] == 0
