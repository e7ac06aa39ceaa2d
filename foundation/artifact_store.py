"""How artifacts lie in a root: two layouts, one for folders that can be renamed, one for objects.

A folder is written under a temporary name and renamed to its hash, which is one step. An object
store has no rename: there the files of a put lie in a folder of their own below the hash, and a
manifest that names this folder is written last. Who reads looks at the manifest, so nobody sees
half of an artifact; two puts of the same content have a folder each, and one manifest wins.
"""

import errno
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import fsspec

from foundation.errors import ArtifactStoreUnavailable, BadSetting, MissingExtra
from foundation.settings import get_settings

SCHEME: Final = "sha256"
UNFINISHED, PUT_AGAIN, LEAVING = ".unfinished", ".put-again", ".leaving"
"""Folders of the root beside the artifacts: files under way, marks of artifacts that somebody put
once more, so that none leaves before it has a row, and what a removal has set aside."""

MANIFEST: Final = "complete.json"
_WITHOUT_FOLDERS: Final = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}

Files = Sequence[tuple[str, Path]]
"""Name in the artifact and place on this machine of each file."""

_Listed = dict[str, tuple[Any, dict[str, dict[str, Any]]]]


@dataclass(frozen=True)
class Stored:
    """Something in the store: its URI, size in bytes, and when somebody last put it there."""

    uri: str
    size_bytes: int
    put_at: datetime


class FolderStore:
    """A root on a file system that renames in one step: a local disk, NFS.

    Args:
        filesystem: of fsspec.
        base: path of the root in it.
    """

    is_local = True

    def __init__(self, filesystem: Any, base: str) -> None:
        self.filesystem, self.base = filesystem, base

    def exists(self, uri: str) -> bool:
        """Return whether there is a whole artifact of that URI."""
        return bool(self.filesystem.exists(f"{self.base}/{uri}"))

    def files(self, uri: str) -> dict[str, tuple[str, int]] | None:
        """Return path in the file system and size in bytes of each file; None: no artifact."""
        source = f"{self.base}/{uri}"
        if not self.filesystem.exists(source):
            return None
        return _below(source, self.filesystem.find(source, detail=True))

    def add(self, content_hash: str, files: Files) -> None:
        """Store files under their hash, unless somebody was quicker."""
        target = f"{self.base}/{SCHEME}/{content_hash}"
        unfinished = f"{self.base}/{UNFINISHED}/{content_hash}-{uuid4().hex[:12]}"
        for name, file in files:
            self._make_room(f"{unfinished}/{name}")
            self.filesystem.put_file(str(file), f"{unfinished}/{name}")
        self._make_room(target)
        if self.filesystem.exists(target):
            self.filesystem.rm(unfinished, recursive=True)
        else:
            self.filesystem.mv(unfinished, target, recursive=True)

    def delete(self, uri: str) -> None:
        """Remove an artifact; nothing happens where there is none."""
        if self.filesystem.exists(f"{self.base}/{uri}"):
            self.filesystem.rm(f"{self.base}/{uri}", recursive=True)

    def stored(self) -> Iterator[Stored]:
        """Yield every artifact."""
        yield from self._listed(SCHEME)

    def unfinished(self) -> Iterator[Stored]:
        """Yield what has no hash: files of a put under way, or killed, and of a killed removal."""
        yield from self._listed(UNFINISHED)
        yield from self._listed(LEAVING)

    def look_at(self, uri: str) -> Stored | None:
        """Return size and age of an artifact or an unfinished one; None where there is none."""
        try:
            files = self.filesystem.find(f"{self.base}/{uri}", detail=True)
            put_at = [_utc(self.filesystem.modified(name)) for name in files]
        except FileNotFoundError:  # it left, or was moved to its hash, while it was looked at
            return None
        if not files:
            return None
        size = sum(int(about["size"] or 0) for about in files.values())
        return Stored(uri, size, _latest(max(put_at), self.marked_at(_hash_of(uri))))

    def set_aside(self, uri: str) -> "_Aside":
        """Take an artifact out of sight in one step; it can be brought back."""
        aside = f"{self.base}/{LEAVING}/{_hash_of(uri)}"
        if not uri.startswith(LEAVING):
            self._make_room(aside)
            if self.filesystem.exists(aside):
                self.filesystem.rm(aside, recursive=True)
            self.filesystem.mv(f"{self.base}/{uri}", aside, recursive=True)
        return _Aside(uri, aside)

    def bring_back(self, aside: "_Aside") -> None:
        """Undo `set_aside`, unless somebody has stored the same meanwhile."""
        if not self.filesystem.exists(f"{self.base}/{aside.uri}"):
            self.filesystem.mv(aside.folder, f"{self.base}/{aside.uri}", recursive=True)

    def discard(self, aside: "_Aside") -> None:
        """Remove what was set aside."""
        self.filesystem.rm(aside.folder, recursive=True)

    def mark(self, content_hash: str) -> None:
        """Note that somebody puts an artifact again that is there."""
        self._make_room(self._mark(content_hash))
        # Another text each time: the clock of an object store counts whole seconds.
        self.filesystem.pipe_file(self._mark(content_hash), uuid4().hex.encode())

    def mark_of(self, content_hash: str) -> bytes | None:
        """Return what tells one mark from another; None where nobody left one."""
        try:
            told: bytes = self.filesystem.cat_file(self._mark(content_hash), start=0)
        except FileNotFoundError:
            return None
        return told

    def marked_at(self, content_hash: str) -> datetime | None:
        """Return when somebody put an artifact again; None where nobody did."""
        try:
            return _utc(self.filesystem.modified(self._mark(content_hash)))
        except FileNotFoundError:
            return None

    def unmark(self, content_hash: str) -> None:
        """Remove the mark of an artifact that has left, if it has one."""
        try:
            self.filesystem.rm_file(self._mark(content_hash))
        except FileNotFoundError:
            return

    def _mark(self, content_hash: str) -> str:
        return f"{self.base}/{PUT_AGAIN}/{content_hash}"

    def _make_room(self, path: str) -> None:
        """Make the folder of a path; object stores have none, and some would make a bucket."""
        if not _protocols(self.filesystem) & _WITHOUT_FOLDERS:
            self.filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)

    def _listed(self, place: str) -> Iterator[Stored]:
        if not self.filesystem.exists(f"{self.base}/{place}"):
            return
        for folder in self.filesystem.ls(f"{self.base}/{place}", detail=False):
            name = folder.rstrip("/").rsplit("/", 1)[-1]
            if (found := self.look_at(f"{place}/{name}")) is not None:
                yield found


class ObjectStore(FolderStore):
    """A root where nothing can be renamed: S3 and what speaks like it, and every other URL.

    `sha256/<hash>/<put>/<file>` are the files of one put, `sha256/<hash>/complete.json` names the
    put that counts, with the sizes of its files.
    """

    is_local = False

    def exists(self, uri: str) -> bool:
        """As of a folder."""
        return self._manifest(uri) is not None

    def files(self, uri: str) -> dict[str, tuple[str, int]] | None:
        """As of a folder; the manifest tells it, nothing is listed."""
        manifest = self._manifest(uri)
        if manifest is None:
            return None
        folder = f"{self.base}/{uri}/{manifest['folder']}"
        return {name: (f"{folder}/{name}", size) for name, size in manifest["files"].items()}

    def add(self, content_hash: str, files: Files) -> None:
        """As of a folder."""
        uri, put = f"{SCHEME}/{content_hash}", uuid4().hex[:12]
        folder = f"{self.base}/{uri}/{put}"
        for name, file in files:
            self._make_room(f"{folder}/{name}")
            self.filesystem.put_file(str(file), f"{folder}/{name}")
        if self.exists(uri):  # somebody was quicker
            self._remove_folder(folder)
            return
        told = {"folder": put, "files": {name: file.stat().st_size for name, file in files}}
        self._write_manifest(uri, json.dumps(told).encode())

    def delete(self, uri: str) -> None:
        """As of a folder; the manifest leaves first, so that nobody sees half of it."""
        if (aside := self._hidden(uri)) is not None:
            self.discard(aside)

    def stored(self) -> Iterator[Stored]:
        """As of a folder, from one listing."""
        for uri, (manifest, puts) in self._everything().items():
            if manifest is not None and (put := self._counting(uri, puts)) is not None:
                at = _latest(_modified(self.filesystem, *manifest), self.marked_at(_hash_of(uri)))
                yield Stored(uri, _size(puts[put]), at)

    def unfinished(self) -> Iterator[Stored]:
        """Yield puts that no manifest names: under way, killed, or second of two."""
        yield from self._unnamed(self._everything())

    def _unnamed(self, found: _Listed) -> Iterator[Stored]:
        for uri, (manifest, puts) in found.items():
            counting = self._counting(uri, puts) if manifest is not None else None
            for put in puts.keys() - {counting}:
                at = max(_modified(self.filesystem, *file) for file in puts[put].items())
                yield Stored(f"{uri}/{put}", _size(puts[put]), at)

    def look_at(self, uri: str) -> Stored | None:
        """As of a folder."""
        if _is_put(uri):
            near = self._unnamed(self._everything(of=uri.split("/")[1]))
            return next((one for one in near if one.uri == uri), None)
        manifest = self._manifest(uri)
        if manifest is None:
            return None
        at = _utc(self.filesystem.modified(f"{self.base}/{uri}/{MANIFEST}"))
        size = sum(manifest["files"].values())
        return Stored(uri, size, _latest(at, self.marked_at(_hash_of(uri))))

    def set_aside(self, uri: str) -> "_Aside":
        """As of a folder."""
        return self._hidden(uri) or _Aside(uri, f"{self.base}/{uri}")

    def bring_back(self, aside: "_Aside") -> None:
        """As of a folder."""
        if aside.manifest is not None and not self.exists(aside.uri):
            self._write_manifest(aside.uri, aside.manifest)

    def discard(self, aside: "_Aside") -> None:
        """As of a folder."""
        self._remove_folder(aside.folder)

    def _hidden(self, uri: str) -> "_Aside | None":
        """Remove a manifest; return what brings it back, None where there is none."""
        raw = None if _is_put(uri) else self._raw_manifest(uri)
        if raw is None:
            return None
        self.filesystem.rm_file(f"{self.base}/{uri}/{MANIFEST}")
        return _Aside(uri, f"{self.base}/{uri}/{json.loads(raw)['folder']}", raw)

    def _raw_manifest(self, uri: str) -> bytes | None:
        try:
            # From a place on: s3fs asks for the size first of what it is to read whole.
            raw: bytes = self.filesystem.cat_file(f"{self.base}/{uri}/{MANIFEST}", start=0)
        except FileNotFoundError:
            return None
        return raw

    def _manifest(self, uri: str) -> dict[str, Any] | None:
        raw = self._raw_manifest(uri)
        return None if raw is None else json.loads(raw)

    def _write_manifest(self, uri: str, raw: bytes) -> None:
        path = f"{self.base}/{uri}/{MANIFEST}"
        self._make_room(path)
        self.filesystem.pipe_file(path, raw)

    def _remove_folder(self, folder: str) -> None:
        try:
            self.filesystem.rm(folder, recursive=True)
        except FileNotFoundError:  # an artifact without files, or another one removes it, too
            return

    def _everything(self, of: str = "") -> _Listed:
        """Return, by URI, the manifest (path, information) or None, and each put's files.

        Args:
            of: a content hash, to list no other.
        """
        found: _Listed = {}
        place = f"{self.base}/{SCHEME}"
        try:
            listed = self.filesystem.find(f"{place}/{of}" if of else place, detail=True)
        except FileNotFoundError:
            return found
        for name, (path, _) in sorted(_below(place, listed).items()):
            content_hash, _, rest = name.partition("/")
            uri = f"{SCHEME}/{content_hash}"
            manifest, puts = found.get(uri, (None, {}))
            if rest == MANIFEST:
                manifest = (path, listed[path])
            else:
                puts.setdefault(rest.partition("/")[0], {})[path] = listed[path]
            found[uri] = (manifest, puts)
        return found

    def _counting(self, uri: str, puts: Mapping[str, object]) -> str | None:
        """Return the put that the manifest names, of those listed; None: it left meanwhile."""
        if len(puts) == 1:  # as a rule, which saves a look at the manifest
            return next(iter(puts))
        manifest = self._manifest(uri)
        return manifest["folder"] if manifest and manifest["folder"] in puts else None


@dataclass(frozen=True)
class _Aside:
    """What was taken out of sight: its URI, where its files are, and the manifest it had."""

    uri: str
    folder: str
    manifest: bytes | None = None


def opened(root: str | None = None) -> FolderStore:
    """Return the store of a root, by default of the one in the settings.

    It is opened anew for each use: what fsspec keeps of an object store (an event loop, its thread)
    does not survive a fork, and a list that it remembers would hide what others have stored.

    Raises:
        MissingExtra: the driver of `s3://` is not installed.
        BadSetting: no installed driver knows the URL.
    """
    url = root or get_settings().artifacts_root
    try:
        filesystem, base = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        if url.startswith(("s3://", "s3a://")):
            raise MissingExtra("s3fs", "s3") from error
        raise _unknown(url, f"{error}.") from error
    except ValueError as error:  # fsspec: Protocol not known
        raise _unknown(url, f"{error}. See docs/scaling.md.") from error
    kind = FolderStore if "file" in _protocols(filesystem) else ObjectStore
    return kind(filesystem, base.rstrip("/"))


def _protocols(filesystem: Any) -> set[str]:
    told = filesystem.protocol
    return {told} if isinstance(told, str) else set(told)


def _unknown(url: str, remedy: str) -> BadSetting:
    expected = "a folder, or a URL whose fsspec driver is installed"
    return BadSetting("FLYWHEEL_ARTIFACTS_URL", url, expected, remedy)


@contextmanager
def answering(store: FolderStore) -> Iterator[None]:
    """Say in plain words that an object store does not do what it is asked.

    Raises:
        ArtifactStoreUnavailable: no answer, no such bucket, or the credentials do not open it.
    """
    if store.is_local:
        yield
        return
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, *_driver_errors())):
            raise
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise  # this machine's own disk
        raise ArtifactStoreUnavailable(store.base, _reason(error)) from error


def _driver_errors() -> tuple[type[Exception], ...]:
    """Return the errors of botocore, which derive from nothing that is known here, once loaded."""
    known = sys.modules.get("botocore.exceptions")
    return () if known is None else (known.BotoCoreError, known.ClientError)


def _reason(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__).rstrip(".")


def _below(folder: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, int]]:
    """Return path and size of what was found, by its name below the folder."""
    prefix = len(folder.strip("/")) + 1
    return {
        path.lstrip("/")[prefix:]: (path, int(about["size"] or 0)) for path, about in found.items()
    }


def _size(files: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(int(about["size"] or 0) for about in files.values())


def _modified(filesystem: Any, path: str, about: Mapping[str, Any]) -> datetime:
    """Return when an object was written: as S3's listing tells it, else by asking for it."""
    told = about.get("LastModified")
    return _utc(told if isinstance(told, datetime) else filesystem.modified(path))


def _latest(at: datetime, marked: datetime | None) -> datetime:
    return at if marked is None else max(at, marked)


def _utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _is_put(uri: str) -> bool:
    """Return whether a URI is that of one put (`sha256/<hash>/<put>`), not of an artifact."""
    return uri.count("/") > 1


def _hash_of(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]
