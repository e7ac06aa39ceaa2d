"""What the tests of wrapped clients share; they run beside each major version of a client too."""

import pytest
from provider_app import Serving

from collector.client import Flywheel


@pytest.fixture(scope="session")
def provider():
    with Serving() as serving:
        yield serving


@pytest.fixture
def seen(provider):
    """Requests that the provider saw during the test: path, headers, body."""
    provider.app.seen.clear()
    return provider.app.seen


@pytest.fixture
def flywheel(tmp_path):
    client = Flywheel(spool=tmp_path / "spool", role="coder")
    yield client
    client.close()


@pytest.fixture
def records(flywheel):
    """Return a function that gives the interactions recorded since it was last called."""

    def read():
        taken = flywheel.spool.take(1000)
        if taken is None:
            return []
        flywheel.spool.settle(taken)
        return [line["record"] for line in taken.records]

    return read


@pytest.fixture
def record(records):
    """Return a function that gives the one interaction recorded since it was last called."""

    def read():
        (one,) = records()
        return one

    return read
