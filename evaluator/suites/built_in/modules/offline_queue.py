"""Requests of an app: queued while there is no connection, and sent later.

The connection answers `ok`, `down` (nothing works at the moment) or `bad` (this request failed).
What is sent is taken out of the queue. A request of a kind `key` replaces a waiting one of the
same key, in its place, and with no attempt counted.
"""

from dataclasses import dataclass, field

IN_ORDER = True
GIVE_UP = True


@dataclass
class Request:
    """Something to send."""

    key: str
    body: str
    attempts: int = 0


@dataclass
class Connection:
    """What is sent, and what will be answered; keys in `bad` fail."""

    is_up: bool = True
    bad: set[str] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)

    def send(self, request: Request) -> str:
        """Tries once."""
        if not self.is_up:
            return "down"
        if request.key in self.bad:
            return "bad"
        self.sent.append(request.body)
        return "ok"


class Queue:
    """What waits, the oldest first."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []

    def put(self, request: Request) -> None:
        """Adds a request, or replaces the one of its key."""
        for place, other in enumerate(self.waiting):
            if other.key == request.key:
                self.waiting[place] = request
                return
        self.waiting.append(request)


class Sender:
    """Sends at once if possible."""

    def __init__(self, queue: Queue, connection: Connection) -> None:
        self.queue = queue
        self.connection = connection
        self.dropped: list[str] = []

    def submit(self, key: str, body: str) -> None:
        """Queues a request and sends what can be sent."""
        self.queue.put(Request(key, body))
        self.flush()

    def flush(self) -> int:
        """Tries what waits; returns how many were sent."""
        n_sent = 0
        for request in list(self.queue.waiting):
            answer = self.connection.send(request)
            if answer == "down":
                break
            if answer == "ok":
                n_sent += 1
                self.queue.waiting.remove(request)
                continue
            request.attempts += 1
            if GIVE_UP and request.attempts == 3:
                self.queue.waiting.remove(request)
                self.dropped.append(request.body)
            elif IN_ORDER:
                break
        return n_sent
