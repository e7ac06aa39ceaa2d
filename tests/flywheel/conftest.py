"""Commands as processes of their own, or in this one; a tiny base to train."""

import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from by_hand import Said, python
from tiny_base import build_tiny_base


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Said]:
    """`process(*arguments, **environment)`: a `flywheel` command as a process of its own."""

    def run(*arguments: str, **environment: str) -> Said:
        return python("-m", "flywheel", *arguments, folder=tmp_path, **environment)

    return run


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """`command(*arguments)`: the same in this process, where starting one proves nothing more."""
    from flywheel.__main__ import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["flywheel", *arguments])
        capfd.readouterr()
        before = signal.getsignal(signal.SIGTERM)
        try:
            main()
        except SystemExit as left:
            code = left.code
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = capfd.readouterr()
        return Said(int(code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    """A database without a schema, beside the test one."""
    name = f"flywheel_empty_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    head, _, query = postgres_url.partition("?")
    yield f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
