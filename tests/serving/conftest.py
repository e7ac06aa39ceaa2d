import threading
import time

import pytest
import uvicorn
from fitting import train
from tiny_base import QUICK, build_tiny_base, make_rows


@pytest.fixture(scope="session")
def served_base(tmp_path_factory):
    return build_tiny_base(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="session")
def yes_adapter(served_base, tmp_path_factory):
    """An adapter that answers every request with `yes 7`, which the base never does."""
    from dataclasses import replace

    recipe = replace(QUICK, lr=1e-2, epochs=12, eval_steps=50, dropout=0.0)
    folder = tmp_path_factory.mktemp("adapter")
    rows = make_rows(64, "yes 7")
    return train(served_base, folder, recipe, rows).folder


class RunningServer:
    """A uvicorn server on a free port, on a thread of this process."""

    def __init__(self, app):
        self.app = app
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
        )
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self):
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    @property
    def open_requests(self):
        return len(self._server.server_state.tasks)

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="session")
def running():
    """Runs an application: `with running(app) as server`."""
    return RunningServer


@pytest.fixture(scope="session")
def server(served_base):
    from serving.api import create_engine_app

    with RunningServer(create_engine_app(served_base, threads=1, wait_ms=20)) as running:
        yield running
