"""Orders of a shop: stock that is reserved, payments, and the orders that need both.

Placing an order reserves goods, charges the card, and then takes the goods out of stock. Goods in
stock that are not reserved are free. A declined card leaves nothing changed but, where the rule
says so, a hold. Cancelling pays the charged amount back and puts the goods back.
"""

from dataclasses import dataclass

PARTIAL = True
HOLD = True


class Declined(Exception):
    """The card does not pay."""


class OutOfStock(Exception):
    """There are not enough goods."""


@dataclass
class Order:
    """An order; its state is `new`, `held`, `paid` or `cancelled`."""

    customer: str
    product: str
    count: int
    charged: int
    state: str


class Stock:
    """How much there is, and how much of it is reserved."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = dict(counts)
        self.reserved: dict[str, int] = {}

    def reserve(self, product: str, count: int) -> int:
        """Reserves free goods; returns how many."""
        free = self.counts.get(product, 0) - self.reserved.get(product, 0)
        if free < 1 or (free < count and not PARTIAL):
            raise OutOfStock(product)
        taken = min(count, free)
        self.reserved[product] = self.reserved.get(product, 0) + taken
        return taken

    def release(self, product: str, count: int) -> None:
        """Gives reserved goods free."""
        self.reserved[product] -= count

    def take(self, product: str, count: int) -> None:
        """Hands reserved goods out."""
        self.reserved[product] -= count
        self.counts[product] -= count


class Cards:
    """What customers can still pay."""

    def __init__(self, limits: dict[str, int]) -> None:
        self.limits = dict(limits)

    def charge(self, customer: str, amount: int) -> None:
        """Takes money, or Declined."""
        if self.limits.get(customer, 0) < amount:
            raise Declined(customer)
        self.limits[customer] -= amount


class Shop:
    """Places and cancels orders."""

    def __init__(self, stock: Stock, cards: Cards, prices: dict[str, int]) -> None:
        self.stock = stock
        self.cards = cards
        self.prices = prices

    def place(self, customer: str, product: str, count: int) -> Order:
        """An order that is paid, or held."""
        reserved = self.stock.reserve(product, count)
        amount = reserved * self.prices[product]
        order = Order(customer, product, reserved, 0, "new")
        try:
            self.pay(order, amount)
        except Declined:
            if HOLD:
                order.state = "held"
            else:
                self.stock.release(product, reserved)
                raise
        return order

    def pay(self, order: Order, amount: int) -> None:
        """Charges for an order and hands it out."""
        self.cards.charge(order.customer, amount)
        self.stock.take(order.product, order.count)
        order.charged, order.state = amount, "paid"

    def cancel(self, order: Order) -> None:
        """Undoes an order; one that is cancelled stays so."""
        if order.state == "held":
            self.stock.release(order.product, order.count)
        elif order.state == "paid":
            self.cards.limits[order.customer] += order.charged
            self.stock.counts[order.product] += order.count
        order.state = "cancelled"
