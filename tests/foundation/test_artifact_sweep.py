"""What leaves the artifact store: nothing that somebody puts there at that very moment."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from foundation import artifact_sweep
from foundation.artifact_sweep import look_at, remove_unless_put, stored, unfinished
from foundation.artifacts import exists, fetch, put
from foundation.settings import get_settings
from foundation.tables import now


def folder(path: Path, text: str = "1") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "x").write_text(text)
    return path


@pytest.mark.parametrize("root", [None, "memory://sweep"])
def test_everything_stored_is_told_with_its_size_and_age(settings, tmp_path, root):
    before = now()
    uri = put(folder(tmp_path / "a", "123"), root=root).uri
    assert [(one.uri, one.size_bytes) for one in stored(root)] == [(uri, 3)]
    assert before - timedelta(seconds=2) <= next(stored(root)).put_at <= now()
    assert not remove_unless_put(uri, before - timedelta(hours=1), root)
    assert remove_unless_put(uri, now() + timedelta(hours=1), root)
    assert look_at(uri, root) is None
    assert not exists(uri, root)
    assert remove_unless_put(uri, before, root)


def test_an_empty_store_has_nothing(settings):
    assert not list(stored())
    assert not list(unfinished())
    assert look_at("sha256/none") is None


def test_what_is_put_again_is_young_again(settings, tmp_path):
    uri = put(folder(tmp_path / "a")).uri
    between = now()
    time.sleep(0.05)  # the times of files lag behind the clock by some milliseconds
    put(tmp_path / "a")
    assert not remove_unless_put(uri, between)
    assert exists(uri)


@pytest.mark.parametrize("moment", ["before it is set aside", "after it was set aside"])
def test_who_puts_what_is_leaving_has_it(settings, tmp_path, monkeypatch, moment):
    """Whichever of the two is first: the artifact is there when both are done."""
    uri = put(folder(tmp_path / "a")).uri
    move = LocalFileSystem.mv

    def meanwhile(self: Any, source: str, target: str, **more: Any) -> None:
        monkeypatch.setattr(LocalFileSystem, "mv", move)
        if moment.startswith("before"):
            put(tmp_path / "a")
        move(self, source, target, **more)
        if moment.startswith("after"):
            put(tmp_path / "a")

    monkeypatch.setattr(LocalFileSystem, "mv", meanwhile)
    remove_unless_put(uri, now() + timedelta(hours=1))
    assert (fetch(uri) / "x").read_text() == "1"


def test_what_a_killed_put_or_removal_left_is_found_and_removed(settings, tmp_path):
    root = Path(get_settings().artifacts_root)
    folder(root / ".unfinished" / "abc-1")
    folder(root / ".leaving" / "def")
    left = sorted(one.uri for one in unfinished())
    assert left == [".leaving/def", ".unfinished/abc-1"]
    for uri in left:
        assert remove_unless_put(uri, now() + timedelta(hours=1))
    assert not list(unfinished())


def test_the_copy_of_a_remote_artifact_leaves_with_it(settings, tmp_path):
    uri = put(folder(tmp_path / "a"), root="memory://copies").uri
    copy = fetch(uri, root="memory://copies")
    assert artifact_sweep.remove_unless_put(uri, now() + timedelta(hours=1), "memory://copies")
    assert not copy.exists()
