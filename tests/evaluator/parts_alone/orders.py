"""Each part of `orders` alone, with stand-ins for the others."""

import pytest
from solution import Cards, Declined, OutOfStock, Shop, Stock


class Plenty:
    def __init__(self):
        self.counts = {"cup": 9}

    def reserve(self, product, count):
        return count

    def release(self, product, count):
        pass

    def take(self, product, count):
        pass


class Rich:
    def __init__(self):
        self.limits = {"ann": 0}

    def charge(self, customer, amount):
        pass


class Poor(Rich):
    def charge(self, customer, amount):
        raise Declined(customer)


def test_stock():
    stock = Stock({"cup": 5})
    assert stock.reserve("cup", 3) == 3
    assert stock.reserve("cup", 3) == 2
    with pytest.raises(OutOfStock):
        stock.reserve("cup", 1)
    stock.release("cup", 2)
    stock.take("cup", 3)
    assert (stock.counts, stock.reserved) == ({"cup": 2}, {"cup": 0})
    with pytest.raises(OutOfStock):
        stock.reserve("pot", 1)


def test_cards():
    cards = Cards({"ann": 10})
    cards.charge("ann", 10)
    assert cards.limits == {"ann": 0}
    with pytest.raises(Declined):
        cards.charge("ann", 1)
    with pytest.raises(Declined):
        cards.charge("bob", 1)


def test_place():
    order = Shop(Plenty(), Rich(), {"cup": 10}).place("ann", "cup", 3)
    assert (order.count, order.charged, order.state) == (3, 30, "paid")
    held = Shop(Plenty(), Poor(), {"cup": 10}).place("ann", "cup", 3)
    assert (held.count, held.charged, held.state) == (3, 0, "held")


def test_cancel():
    shop = Shop(Plenty(), Rich(), {"cup": 10})
    order = shop.place("ann", "cup", 3)
    shop.cancel(order)
    assert order.state == "cancelled"
    assert shop.cards.limits == {"ann": 30}
