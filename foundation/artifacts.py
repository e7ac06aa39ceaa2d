"""Artifacts (datasets, adapters, reports): folders or files addressed by the hash of their content.

The root is any fsspec URL, so the same code keeps a local folder or an object store. A reader never
sees half of an artifact: `foundation.artifact_store` says how each kind of root keeps that promise.
What comes from a remote root is hashed again before anybody reads it.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from foundation.artifact_store import SCHEME, UNFINISHED, Files, FolderStore, answering, opened
from foundation.errors import ArtifactDamaged, NotFound
from foundation.settings import get_settings

COPIES_LOOKED_AT_S = 3600.0
"""A machine that fetches asks this often whether the artifacts it has copies of are still there."""


@dataclass(frozen=True)
class Artifact:
    """A stored artifact: its URI (`sha256/<hex>`), content hash and size in bytes."""

    uri: str
    content_hash: str
    size_bytes: int


def hash_tree(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file, or of a folder's sorted (name, content) pairs, and its size."""
    digest, size = hashlib.sha256(), 0
    for name, file in _files(path):
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        size += file.stat().st_size
    return digest.hexdigest(), size


def put(path: Path, root: str | None = None) -> Artifact:
    """Store a file or a folder; storing the same content twice is one artifact.

    Raises:
        ArtifactStoreUnavailable: the object store does not take it.
    """
    content_hash, size = hash_tree(path)
    uri = f"{SCHEME}/{content_hash}"
    with _store(root) as store:
        if store.exists(uri):
            store.mark(content_hash)
        if not store.exists(uri):  # it may have left between the two looks
            store.add(content_hash, _files(path))
    return Artifact(uri, content_hash, size)


def exists(uri: str, root: str | None = None) -> bool:
    """Return whether the store has the artifact."""
    with _store(root) as store:
        return store.exists(uri)


def listed(uri: str, root: str | None = None) -> list[tuple[str, int]]:
    """Return the files of an artifact, by name, with their sizes in bytes; nothing is copied.

    Raises:
        NotFound: the store has no artifact of that URI.
    """
    with _store(root) as store:
        return sorted((name, size) for name, (_, size) in _found(store, uri).items())


def beginnings(uri: str, n_bytes: int, root: str | None = None) -> dict[str, bytes]:
    """Return the first bytes of each file of an artifact, by name.

    Raises:
        NotFound: the store has no artifact of that URI.
    """
    with _store(root) as store:
        return {
            name: store.filesystem.cat_file(path, start=0, end=min(n_bytes, size))
            for name, (path, size) in sorted(_found(store, uri).items())
            if size
        }


def delete(uri: str, root: str | None = None) -> None:
    """Remove an artifact and this machine's copy of it; nothing happens where there is none.

    Other machines remove their copies when they fetch again or start a worker (`forget_copies`).
    """
    with _store(root) as store:
        store.delete(uri)
    shutil.rmtree(_cache() / uri, ignore_errors=True)


def fetch(uri: str, root: str | None = None) -> Path:
    """Return a local folder with the artifact's files, copying it once from a remote root.

    Processes of one machine may fetch the same at once: each copies, and the first one's stays.

    Raises:
        NotFound: the store has no artifact of that URI.
        ArtifactDamaged: what was copied is not what the URI names.
    """
    with _store(root) as store:
        found = _found(store, uri)
        if store.is_local:
            return Path(f"{store.base}/{uri}")
        cached = _cache() / uri
        if not cached.exists():
            unfinished = _cache() / UNFINISHED / uuid4().hex
            try:
                _copy(store, found, unfinished)
                _require_intact(uri, unfinished, store.base)
                _keep(unfinished, cached)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
            _forget_copies(store, COPIES_LOOKED_AT_S)
    return cached


def forget_copies(root: str | None = None) -> None:
    """Remove this machine's copies of artifacts that have left a remote root: erased, collected."""
    with _store(root) as store:
        if not store.is_local:
            _forget_copies(store, 0.0)


def require_store(root: str | None = None) -> None:
    """Check that a remote root can be written and read, before hours of work end there.

    Raises:
        ArtifactStoreUnavailable: it does not answer, or may not be written.
    """
    with _store(root) as store, tempfile.TemporaryDirectory() as folder:
        if store.is_local:
            return
        file = Path(folder) / "probe"
        file.write_bytes(uuid4().bytes)
        content_hash, _ = hash_tree(file)
        store.add(content_hash, _files(file))
        store.delete(f"{SCHEME}/{content_hash}")


def _files(path: Path) -> Files:
    if path.is_file():
        return [(path.name, path)]
    return [
        (file.relative_to(path).as_posix(), file)
        for file in sorted(file for file in path.rglob("*") if file.is_file())
    ]


@contextmanager
def _store(root: str | None) -> Iterator[FolderStore]:
    store = opened(root)
    with answering(store):
        yield store


def _found(store: FolderStore, uri: str) -> dict[str, tuple[str, int]]:
    found = store.files(uri)
    if found is None:
        expected = f"an artifact under {store.base}"
        raise NotFound("artifact", uri, expected, "Was its root moved or cleaned?")
    return found


def _copy(store: FolderStore, found: dict[str, tuple[str, int]], target: Path) -> None:
    target.mkdir(parents=True)
    for name, (path, _) in found.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        store.filesystem.get_file(path, str(target / name))


def _require_intact(uri: str, folder: Path, base: str) -> None:
    content_hash, _ = hash_tree(folder)
    if uri != f"{SCHEME}/{content_hash}":
        raise ArtifactDamaged(uri, base, content_hash)


def _keep(unfinished: Path, cached: Path) -> None:
    """Rename a whole copy to its place; another process may have been quicker."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    try:
        unfinished.rename(cached)
    except OSError:
        if not cached.exists():
            raise


def _forget_copies(store: FolderStore, at_most_every_s: float) -> None:
    looked_at = _cache() / ".looked-at"
    if looked_at.exists() and time.time() - looked_at.stat().st_mtime < at_most_every_s:
        return
    looked_at.parent.mkdir(parents=True, exist_ok=True)
    looked_at.touch()
    for copy in (_cache() / SCHEME).glob("*"):
        if not store.exists(f"{SCHEME}/{copy.name}"):
            shutil.rmtree(copy, ignore_errors=True)


def _cache() -> Path:
    return get_settings().home.absolute() / "cache"
