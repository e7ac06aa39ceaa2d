"""Each part of `offline_queue` alone, with stand-ins for the others."""

from solution import Connection, Queue, Request, Sender


class Answers:
    def __init__(self, answer):
        self.answer = answer

    def send(self, request):
        return self.answer


class Waiting:
    def __init__(self, *requests):
        self.waiting = list(requests)

    def put(self, request):
        self.waiting.append(request)


def test_connection():
    connection = Connection(bad={"x"})
    assert connection.send(Request("a", "body")) == "ok"
    assert connection.send(Request("x", "other")) == "bad"
    connection.is_up = False
    assert connection.send(Request("a", "body")) == "down"
    assert connection.sent == ["body"]


def test_queue():
    queue = Queue()
    for key, body in (("a", "1"), ("b", "2"), ("a", "3")):
        queue.put(Request(key, body))
    assert [request.body for request in queue.waiting] == ["3", "2"]


def test_flush():
    assert Sender(Waiting(Request("a", "1"), Request("b", "2")), Answers("ok")).flush() == 2
    assert Sender(Waiting(Request("a", "1")), Answers("down")).flush() == 0
    failing = Sender(Waiting(Request("a", "1")), Answers("bad"))
    assert [failing.flush() for _ in range(3)] == [0, 0, 0]
    assert failing.dropped == ["1"]
    assert failing.queue.waiting == []


def test_submit():
    sender = Sender(Waiting(), Answers("down"))
    sender.submit("a", "1")
    assert len(sender.queue.waiting) == 1
