"""Each part of `rate_limits` alone, with stand-ins for the others."""

from solution import Decision, Limiter, Plans, Usage


class Three:
    def __init__(self):
        self.limits = {}

    def limit(self, client):
        return 3


class Used:
    def __init__(self, used):
        self.used = used
        self.windows = {}

    def window(self, client, now):
        return now, self.used

    def add(self, client, start, used):
        pass


def test_plans():
    plans = Plans({"shop": 3})
    assert (plans.limit("shop"), plans.limit("other")) == (3, 2)


def test_usage():
    usage = Usage()
    assert usage.window("a", 130) == (120, 0)
    usage.add("a", 120, 0)
    usage.add("a", 120, 1)
    assert usage.window("a", 179) == (120, 2)
    assert usage.window("a", 180) == (180, 0)
    assert usage.window("b", 150) == (120, 0)


def test_limiter():
    assert Limiter(Three(), Used(0)).ask("a", 10) == Decision(True, 2, 0)
    assert Limiter(Three(), Used(2)).ask("a", 10) == Decision(True, 0, 0)
    limiter = Limiter(Three(), Used(3))
    assert limiter.ask("a", 10) == Decision(False, 0, 60)
    assert limiter.ask("a", 11) == Decision(False, 0, 60)
    assert limiter.refused == {"a": 2}


def test_upgrade():
    plans = Three()
    Limiter(plans, Used(0)).upgrade("a", 9)
    assert plans.limits == {"a": 9}
