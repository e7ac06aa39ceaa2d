"""Artifacts (datasets, adapters, reports): folders or files addressed by the hash of their content.

The root is any fsspec URL, so the same code keeps a local folder or an object store. An artifact is
written under a temporary name and moved to its hash: a reader never sees half of one.
"""

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import fsspec

from foundation.errors import NotFound
from foundation.settings import get_settings

SCHEME = "sha256"
UNFINISHED, PUT_AGAIN = ".unfinished", ".put-again"
"""Folders of the root beside the artifacts: files under way, and marks of artifacts that somebody
put once more, so that none leaves before it has a row."""


@dataclass(frozen=True)
class Artifact:
    """A stored artifact: its URI (`sha256/<hex>`), content hash and size in bytes."""

    uri: str
    content_hash: str
    size_bytes: int


def hash_tree(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file, or of a folder's sorted (name, content) pairs, and its size."""
    digest, size = hashlib.sha256(), 0
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        size += file.stat().st_size
    return digest.hexdigest(), size


def put(path: Path, root: str | None = None) -> Artifact:
    """Store a file or a folder; storing the same content twice is one artifact."""
    content_hash, size = hash_tree(path)
    uri = f"{SCHEME}/{content_hash}"
    filesystem, base = fsspec.core.url_to_fs(root or get_settings().artifacts_root)
    target = f"{base}/{uri}"
    if filesystem.exists(target):
        filesystem.makedirs(f"{base}/{PUT_AGAIN}", exist_ok=True)
        filesystem.pipe_file(f"{base}/{PUT_AGAIN}/{content_hash}", b"")
    if not filesystem.exists(target):  # it may have left between the two looks
        unfinished = f"{base}/{UNFINISHED}/{content_hash}-{tempfile.mktemp(dir='').strip('/')}"
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            name = file.name if path.is_file() else file.relative_to(path).as_posix()
            filesystem.makedirs(f"{unfinished}/{name}".rsplit("/", 1)[0], exist_ok=True)
            filesystem.put_file(str(file), f"{unfinished}/{name}")
        filesystem.makedirs(f"{base}/{SCHEME}", exist_ok=True)
        if filesystem.exists(target):
            filesystem.rm(unfinished, recursive=True)
        else:
            filesystem.mv(unfinished, target, recursive=True)
    return Artifact(uri, content_hash, size)


def exists(uri: str, root: str | None = None) -> bool:
    """Return whether the store has the artifact."""
    filesystem, base = fsspec.core.url_to_fs(root or get_settings().artifacts_root)
    return bool(filesystem.exists(f"{base}/{uri}"))


def listed(uri: str, root: str | None = None) -> list[tuple[str, int]]:
    """Return the files of an artifact, by name, with their sizes in bytes; nothing is copied.

    Raises:
        NotFound: the store has no artifact of that URI.
    """
    filesystem, base = fsspec.core.url_to_fs(root or get_settings().artifacts_root)
    source = f"{base}/{uri}"
    if not filesystem.exists(source):
        raise NotFound(
            "artifact", uri, f"an artifact under {base}", "Was its root moved or cleaned?"
        )
    found = filesystem.find(source, detail=True)
    prefix = len(source.lstrip("/")) + 1
    return sorted((name.lstrip("/")[prefix:], int(about["size"])) for name, about in found.items())


def beginnings(uri: str, n_bytes: int, root: str | None = None) -> dict[str, bytes]:
    """Return the first bytes of each file of an artifact, by name.

    Raises:
        NotFound: the store has no artifact of that URI.
    """
    filesystem, base = fsspec.core.url_to_fs(root or get_settings().artifacts_root)
    return {
        name: filesystem.read_block(f"{base}/{uri}/{name}", 0, n_bytes)
        for name, size in listed(uri, root)
        if size
    }


def delete(uri: str, root: str | None = None) -> None:
    """Remove an artifact and this machine's copy of it; nothing happens where there is none.

    Other machines' copies stay until their `cache` folders are cleaned.
    """
    settings = get_settings()
    filesystem, base = fsspec.core.url_to_fs(root or settings.artifacts_root)
    if filesystem.exists(f"{base}/{uri}"):
        filesystem.rm(f"{base}/{uri}", recursive=True)
    shutil.rmtree(settings.home.absolute() / "cache" / uri, ignore_errors=True)


def fetch(uri: str, root: str | None = None) -> Path:
    """Return a local folder with the artifact's files, copying it once from a remote root.

    Raises:
        NotFound: the store has no artifact of that URI.
    """
    settings = get_settings()
    filesystem, base = fsspec.core.url_to_fs(root or settings.artifacts_root)
    source = f"{base}/{uri}"
    if not filesystem.exists(source):
        raise NotFound(
            "artifact", uri, f"an artifact under {base}", "Was its root moved or cleaned?"
        )
    if filesystem.protocol in ("file", ("file", "local")):
        return Path(source)
    cached = settings.home.absolute() / "cache" / uri
    if not cached.exists():
        unfinished = Path(tempfile.mkdtemp(dir=_folder(cached.parent)))
        filesystem.get(source, str(unfinished), recursive=True)
        inner = unfinished / source.rsplit("/", 1)[-1]
        shutil.move(inner if inner.exists() else unfinished, cached)
    return cached


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
