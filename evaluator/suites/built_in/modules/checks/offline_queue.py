"""Judges tests of `offline_queue`."""

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.offline_queue import (
    GIVE_UP,
    IN_ORDER,
    Connection,
    Queue,
    Request,
    Sender,
)

CHECKS = Checks(
    rules={
        "IN_ORDER": {
            True: "Nothing is sent past a request that failed and still waits.",
            False: "A request that failed waits, and those behind it are sent.",
        },
        "GIVE_UP": {
            True: "A request that failed three times is dropped; those behind it go on.",
            False: "A request is never dropped.",
        },
    },
    faults=[
        Fault(
            "new requests wait for the next flush",
            "        self.queue.put(Request(key, body))\n        self.flush()",
            "        self.queue.put(Request(key, body))",
        ),
        Fault(
            "new requests overtake those that wait",
            "        self.queue.put(Request(key, body))\n        self.flush()",
            "        if self.connection.send(Request(key, body)) != 'ok':\n"
            "            self.queue.put(Request(key, body))\n        self.flush()",
        ),
        Fault(
            "what was sent stays in the queue",
            "                self.queue.waiting.remove(request)\n                continue",
            "                continue",
        ),
        Fault(
            "a connection that is down counts as an attempt",
            '            if answer == "down":\n                break\n',
            '            if answer == "down":\n                request.attempts += 1\n'
            "                break\n",
        ),
        Fault(
            "a connection that is down loses the request",
            '            if answer == "down":\n                break\n',
            '            if answer == "down":\n'
            "                self.queue.waiting.remove(request)\n                break\n",
        ),
        Fault(
            "a replaced request keeps its attempts",
            "                self.waiting[place] = request\n",
            "                other.body = request.body\n",
        ),
        Fault(
            "a replaced request goes to the end",
            "                self.waiting[place] = request\n                return",
            "                self.waiting.remove(other)\n                break",
        ),
        Fault("keys and bodies are mixed up", "Request(key, body)", "Request(body, key)"),
    ],
)


def sender(*, up: bool = True, bad: tuple[str, ...] = ()) -> Sender:
    """A sender on a new connection."""
    return Sender(Queue(), Connection(up, set(bad)))


def waiting(made: Sender) -> list[tuple[str, int]]:
    """Bodies that wait, with their attempts."""
    return [(one.body, one.attempts) for one in made.queue.waiting]


def test_sent_at_once() -> None:
    """Nothing is left."""
    made = sender()
    made.submit("a", "first")
    made.submit("a", "second")
    assert made.connection.sent == ["first", "second"]
    assert waiting(made) == []
    assert made.flush() == 0


def test_without_a_connection_and_then_with_one() -> None:
    """In the order in which they came, the newest of each key."""
    made = sender(up=False)
    for key, body in (("a", "a1"), ("b", "b1"), ("c", "c1"), ("a", "a2")):
        made.submit(key, body)
    assert made.connection.sent == []
    assert waiting(made) == [("a2", 0), ("b1", 0), ("c1", 0)]
    made.connection.is_up = True
    assert made.flush() == 3
    made.submit("d", "d1")
    assert made.connection.sent == ["a2", "b1", "c1", "d1"]
    assert made.dropped == []


def test_going_online_by_the_next_request() -> None:
    """It does not overtake."""
    made = sender(up=False)
    made.submit("a", "a1")
    made.connection.is_up = True
    made.submit("b", "b1")
    assert made.connection.sent == ["a1", "b1"]
    assert waiting(made) == []


def test_a_request_that_fails() -> None:
    """Three times, with others behind it."""
    made = sender(bad=("x",))
    made.submit("x", "x1")
    made.submit("b", "b1")
    assert made.connection.sent == ([] if IN_ORDER else ["b1"])
    assert waiting(made)[0] == ("x1", 2)
    assert made.flush() == (1 if IN_ORDER and GIVE_UP else 0)
    assert made.dropped == (["x1"] if GIVE_UP else [])
    assert [body for body, _ in waiting(made)] == (
        [] if GIVE_UP else ["x1", "b1"] if IN_ORDER else ["x1"]
    )
    made.connection.bad.clear()
    made.flush()
    assert sorted(made.connection.sent) == (["b1"] if GIVE_UP else ["b1", "x1"])
    assert made.connection.sent[-1] == ("b1" if GIVE_UP or IN_ORDER else "x1")


def test_replacing_a_request_that_failed() -> None:
    """It begins anew, in its place."""
    made = sender(bad=("x",))
    made.submit("x", "x1")
    made.flush()
    made.connection.is_up = False
    made.submit("y", "y1")
    made.submit("x", "x2")
    assert waiting(made) == [("x2", 0), ("y1", 0)]
    made.connection.is_up = True
    made.flush()
    made.flush()
    assert made.dropped == []
    assert waiting(made)[0] == ("x2", 2)


def test_being_down_is_no_failure() -> None:
    """However often."""
    made = sender(up=False, bad=("x",))
    made.submit("x", "x1")
    assert [made.flush() for _ in range(4)] == [0, 0, 0, 0]
    assert waiting(made) == [("x1", 0)]
    assert Request("k", "b").attempts == 0
