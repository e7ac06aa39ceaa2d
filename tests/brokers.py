"""The brokers that job tests run on: the database itself, Redis and RabbitMQ.

`FLYWHEEL_TEST_REDIS_URL` and `FLYWHEEL_TEST_AMQP_URL` name the two servers; where one is not set,
its tests are skipped and say so. The queues' names are those of this test process alone.
"""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from by_hand import wait_until

PREFIX = f"test-{uuid.uuid4().hex[:12]}-"
URLS = {
    "embedded": None,
    "redis": "FLYWHEEL_TEST_REDIS_URL",
    "rabbitmq": "FLYWHEEL_TEST_AMQP_URL",
}
_used: set[str] = set()


@dataclass(frozen=True)
class Broker:
    """A broker in use: `environment` leads other processes to it."""

    name: str
    environment: dict[str, str | None]

    def messages(self) -> int:
        """Return how many messages wait in all queues."""
        from foundation.queue import QUEUES, get_queue, queue_name

        with get_queue().connection_for_read() as connection:
            channel = connection.channel()
            names = [queue_name(name) for name in QUEUES]
            if self.name == "rabbitmq":
                counts = [channel.queue_declare(n, passive=True).message_count for n in names]
            else:
                counts = [channel._size(name) for name in names]
            _end(channel)
            return sum(counts)

    def await_messages(self, n: int) -> None:
        """Wait until `n` messages wait: a broker counts them a moment after it took them."""
        wait_until(lambda: self.messages() == n, f"{n} messages", seconds=60)

    def lose_messages(self) -> None:
        """Take every waiting message away."""
        from foundation.queue import QUEUES, get_queue, queue_name

        with get_queue().connection_for_write() as connection:
            channel = connection.channel()
            for name in QUEUES:
                channel.queue_purge(queue_name(name))
            _end(channel)


def _end(channel: object) -> None:
    """Close the embedded broker's session, which holds a transaction open."""
    session = getattr(channel, "session", None)
    if session is not None:
        session.close()


def url_of(name: str) -> str | None:
    """Return a broker's URL, None for the embedded one; skips the test where there is none."""
    variable = URLS[name]
    if variable is None:
        return None
    url = os.environ.get(variable)
    if url is None:
        pytest.skip(f"{variable} is not set")
    return url


@pytest.fixture(params=list(URLS))
def broker(
    request: pytest.FixtureRequest, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Broker]:
    """An empty broker of each kind in turn, which this process sends its jobs by."""
    with in_use(request.param, monkeypatch) as used:
        used.lose_messages()
        yield used


class in_use:
    """Use a broker in this process, until the block ends."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self._patch = name, monkeypatch

    def __enter__(self) -> Broker:
        from foundation.queue import declare_queues

        environment = {"FLYWHEEL_BROKER_URL": url_of(self.name), "FLYWHEEL_QUEUE_PREFIX": PREFIX}
        for variable, value in environment.items():
            if value is None:
                self._patch.delenv(variable, raising=False)
            else:
                self._patch.setenv(variable, value)
        _connect_anew()
        declare_queues()
        _used.add(self.name)
        return Broker(self.name, environment)

    def __exit__(self, *_: object) -> None:
        for variable in ("FLYWHEEL_BROKER_URL", "FLYWHEEL_QUEUE_PREFIX"):
            self._patch.delenv(variable, raising=False)
        _connect_anew()


def _connect_anew() -> None:
    from foundation.queue import get_queue
    from foundation.settings import get_settings

    get_settings.cache_clear()
    if get_queue.cache_info().currsize:
        get_queue().close()
    get_queue.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def no_queues_left() -> Iterator[None]:
    """Delete the queues of this test process from brokers that others use too."""
    yield
    for name in _used - {"embedded"}:
        delete_queues(os.environ[str(URLS[name])], PREFIX)


def delete_queues(url: str, prefix: str) -> None:
    """Delete the queues of a deployment from its broker."""
    from kombu import Connection

    from foundation.queue import QUEUES

    with Connection(url) as connection:
        for queue in QUEUES:
            connection.channel().queue_delete(prefix + queue)
