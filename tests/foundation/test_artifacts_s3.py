"""Artifacts in an object store, by S3's own protocol: nothing is renamed there, nothing is half."""

import importlib
import multiprocessing
import sys
import threading
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from object_store import client, keys, new_bucket, object_store, other_machine

from foundation import artifacts
from foundation.artifact_store import ObjectStore, opened
from foundation.artifact_sweep import look_at, remove_unless_put, stored, unfinished
from foundation.artifacts import beginnings, delete, exists, fetch, listed, put
from foundation.errors import (
    ArtifactDamaged,
    ArtifactStoreUnavailable,
    BadSetting,
    MissingExtra,
    NotFound,
)
from foundation.tables import now

LATER = timedelta(hours=1)


@pytest.fixture(scope="module")
def address():
    with object_store() as found:
        yield found


@pytest.fixture
def root(address, settings, monkeypatch) -> str:
    return new_bucket(monkeypatch, address)


def folder(path: Path, **files: str) -> Path:
    for name, content in files.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return path


def read(path: Path) -> dict[str, str]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_text() for file in files}


def test_another_machine_has_what_one_has_put(root, tmp_path, monkeypatch):
    content = {"x": "12345", "deep__y": "2"}
    one = put(folder(tmp_path / "a", **content))
    assert put(folder(tmp_path / "b", **content)) == one
    other_machine(monkeypatch, tmp_path / "other")
    assert exists(one.uri)
    assert listed(one.uri) == [("deep/y", 1), ("x", 5)]
    assert beginnings(one.uri, 4) == {"deep/y": b"2", "x": b"1234"}
    assert read(fetch(one.uri)) == {"x": "12345", "deep/y": "2"}
    assert [(kept.uri, kept.size_bytes) for kept in stored()] == [(one.uri, 6)]
    assert abs(look_at(one.uri).put_at - now()) < timedelta(minutes=1)
    delete(one.uri)
    delete(one.uri)
    assert not exists(one.uri)
    with pytest.raises(NotFound, match="artifact"):
        fetch(one.uri)


def test_a_single_file_comes_back_in_a_folder(root, tmp_path):
    one = put(folder(tmp_path / "a", x="1") / "x")
    assert read(fetch(one.uri)) == {"x": "1"}


def test_a_put_that_was_killed_is_not_seen_and_is_swept(root, address, tmp_path, monkeypatch):
    made = folder(tmp_path / "a", x="1", y="2")
    content_hash, _ = artifacts.hash_tree(made)
    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "_write_manifest", _killed)
        with pytest.raises(KeyboardInterrupt):
            put(made)
    uri = f"sha256/{content_hash}"
    assert len(keys(address, root)) == 2
    assert not exists(uri)
    with pytest.raises(NotFound):
        fetch(uri)
    assert not list(stored())
    assert put(made).uri == uri
    left = [one.uri for one in unfinished()]
    assert len(left) == 1
    assert not remove_unless_put(left[0], now() - LATER), "it may be under way"
    assert remove_unless_put(left[0], now() + LATER)
    assert not list(unfinished())
    assert read(fetch(uri)) == {"x": "1", "y": "2"}


def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


def test_two_who_put_the_same_at_once_store_one_artifact(root, tmp_path, monkeypatch):
    """Both have looked and found nothing before either writes."""
    made = folder(tmp_path / "a", x="1", y="2")
    add, both = ObjectStore.add, threading.Barrier(2)

    def together(self: Any, *args: Any) -> None:
        both.wait(20)
        add(self, *args)

    monkeypatch.setattr(ObjectStore, "add", together)
    threads = [threading.Thread(target=put, args=(made,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (one,) = stored()
    assert one.size_bytes == 2
    assert read(fetch(one.uri)) == {"x": "1", "y": "2"}
    assert all(remove_unless_put(left.uri, now() + LATER) for left in unfinished())
    assert exists(one.uri)
    assert len(listed(one.uri)) == 2


@pytest.mark.parametrize("moment", ["before it is hidden", "after it was hidden"])
def test_who_puts_what_is_leaving_has_it(root, tmp_path, monkeypatch, moment):
    made = folder(tmp_path / "a", x="1")
    uri = put(made).uri
    put(made)  # a mark of this very second is there already
    hide = ObjectStore._hidden

    def meanwhile(self: Any, which: str) -> Any:
        monkeypatch.setattr(ObjectStore, "_hidden", hide)
        if moment.startswith("before"):
            put(made)
        found = hide(self, which)
        if moment.startswith("after"):
            put(made)
        return found

    monkeypatch.setattr(ObjectStore, "_hidden", meanwhile)
    remove_unless_put(uri, now() + LATER)
    assert read(fetch(uri)) == {"x": "1"}
    assert remove_unless_put(uri, now() + LATER)
    assert not exists(uri)


def test_nothing_stale_is_told(root, address, tmp_path):
    uri = put(folder(tmp_path / "a", x="1")).uri
    assert exists(uri)
    assert len(list(stored())) == 1
    with client(address) as others:
        for key in keys(address, root):
            others.delete_object(Bucket=root.split("/")[2], Key=f"wheel/{key}")
    assert not exists(uri)
    assert not list(stored())


def test_what_was_damaged_is_refused_and_not_kept(root, address, settings, tmp_path):
    uri = put(folder(tmp_path / "a", x="1", y="2")).uri
    (key,) = [key for key in keys(address, root) if key.endswith("/x")]
    with client(address) as others:
        others.put_object(Bucket=root.split("/")[2], Key=f"wheel/{key}", Body=b"9")
    with pytest.raises(ArtifactDamaged, match="backup"):
        fetch(uri)
    assert not list((settings.home / "cache").rglob("x"))


def test_two_may_fetch_at_once(root, tmp_path, monkeypatch):
    uri = put(folder(tmp_path / "a", x="1")).uri
    keep, both = artifacts._keep, threading.Barrier(2)

    def together(*args: Any) -> None:
        both.wait(20)
        keep(*args)

    monkeypatch.setattr(artifacts, "_keep", together)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(uri))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found[0] == found[1]
    assert read(found[0]) == {"x": "1"}


def test_another_machines_copy_leaves_after_the_artifact(root, settings, tmp_path, monkeypatch):
    uri = put(folder(tmp_path / "a", x="1")).uri
    copy = fetch(uri)
    other_machine(monkeypatch, tmp_path / "other")
    delete(uri)
    assert copy.exists()
    other_machine(monkeypatch, settings.home)
    artifacts.forget_copies()
    assert not copy.exists()


def _put_and_fetch(made: Path, answer: Any) -> None:
    answer.send(read(fetch(put(made).uri)))


def test_a_forked_process_has_a_connection_of_its_own(root, tmp_path):
    """As a child of the worker, which asked the store before it forked."""
    put(folder(tmp_path / "a", x="1"))
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    child = fork.Process(target=_put_and_fetch, args=(folder(tmp_path / "b", y="2"), theirs))
    child.start()
    assert ours.poll(30), "the child hangs"
    assert ours.recv() == {"y": "2"}
    child.join(10)
    assert read(fetch(put(tmp_path / "b").uri)) == {"y": "2"}


def test_a_wrong_bucket_or_key_is_said_before_anything_ends_there(root, address, monkeypatch):
    artifacts.require_store()
    with pytest.raises(ArtifactStoreUnavailable, match="FLYWHEEL_ARTIFACTS_URL"):
        artifacts.require_store("s3://no-such-bucket/wheel")
    with client(address) as others:
        assert "no-such-bucket" not in str(others.list_buckets()["Buckets"])
    _require_rights(address, after=0)
    try:
        with pytest.raises(ArtifactStoreUnavailable, match="AWS_"):
            artifacts.require_store()
        with pytest.raises(ArtifactStoreUnavailable, match="AWS_"):
            exists("sha256/none")
    finally:
        _require_rights(address, after=10**9)


def _require_rights(address: str, after: int) -> None:
    """Let moto refuse keys that it has not given out, from so many requests on."""
    asked = urllib.request.Request(f"{address}/moto-api/reset-auth", str(after).encode())
    asked.add_header("Content-Type", "text/plain")
    urllib.request.urlopen(asked).close()


def test_a_missing_driver_is_named(settings, monkeypatch):
    known = importlib.import_module("fsspec.registry")._registry
    for name in ("s3", "s3a"):
        monkeypatch.delitem(known, name, raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtra, match=r"\[s3\]"):
        opened("s3://bucket/wheel")
    with pytest.raises(BadSetting, match="FLYWHEEL_ARTIFACTS_URL"):
        opened("nothing://bucket")
