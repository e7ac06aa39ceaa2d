"""Is a version what was registered, by whom, and unchanged? Asked before anything reads its files.

Each version with files gets a signed manifest when it is registered. It is checked before the
version is served, promoted, evaluated, exported, merged, combined or trained on. What does not
agree with its manifest is refused, always. Who may sign, and whether a version without a signature
that counts may be used, is the deployment's to say (`FLYWHEEL_TRUSTED_SIGNERS`,
`FLYWHEEL_REQUIRE_SIGNED`).
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sqlmodel import Session

from foundation.artifacts import hash_tree
from foundation.errors import FlywheelError
from foundation.settings import get_settings
from trainer import manifest, signing
from trainer.manifest import File
from trainer.safe_files import require_safe
from trainer.tables import ModelVersion

log = logging.getLogger(__name__)

VERIFIED, UNKNOWN_SIGNER, UNSIGNED, ALTERED = "verified", "unknown_signer", "unsigned", "altered"
"""Signed by a key that counts; by another one; by nobody; or not what was signed or registered."""
NO_FILES: Final = "no_files"
"""A base or external model: its files are not ours to sign."""


class Untrusted(FlywheelError):
    """A version is not what was registered, or nobody who counts has signed it.

    Attributes:
        version: its name.
        status: altered, unknown_signer or unsigned.
        reason: what was found.
    """

    http_status = 409

    def __init__(self, version: str, status: str, reason: str) -> None:
        self.version, self.status, self.reason = version, status, reason
        super().__init__(
            f"files of {version}: {status} ({reason}), expected those that were registered, signed "
            f"by a key that counts. Nothing was read of them. See: flywheel model verify {version}"
        )


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        status: verified, unknown_signer, unsigned, altered or no_files.
        reasons: what is otherwise than it should be, in words.
        signer: id of the key that signed; None: nobody.
        files: whether files were looked at, too.
    """

    status: str
    reasons: tuple[str, ...]
    signer: str | None = None
    files: bool = False


def attest(
    session: Session, version: ModelVersion, folder: Path, signed_by: str = "flywheel"
) -> None:
    """Sign what a version is, with this machine's key, and keep that in its row.

    Args:
        session: of the transaction that registers it; it is flushed.
        version: a stored row with files.
        folder: its files on this machine.
        signed_by: as of `manifest.statement`.

    Raises:
        BadSetting: there is no key that could sign.
    """
    payload = manifest.statement(session, version, manifest.files_in(folder), signed_by)
    version.attestation = signing.sign(payload, signing.signing_key())
    session.add(version)
    session.flush()


def told_by(version: ModelVersion) -> Mapping[str, Any] | None:
    """Return the statement of a version, whoever signed it; None: it has none.

    Raises:
        BadEnvelope: what stands in its row is no signed statement.
    """
    if version.attestation is None:
        return None
    try:
        told = json.loads(signing.payload_of(version.attestation))
        known = told["predicateType"] == manifest.PREDICATE_TYPE
        if not known or told["_type"] != manifest.STATEMENT_TYPE:
            raise signing.BadEnvelope(f"a statement of type {told['predicateType']!r}")
        told["predicate"]["version"], told["subject"]
    except (ValueError, KeyError, TypeError) as error:
        raise signing.BadEnvelope(str(error)) from error
    return dict(told)


def check(version: ModelVersion, folder: Path | None) -> Checked:
    """Compare a version with its signed manifest, and its files, where a folder is given.

    Args:
        version: a row.
        folder: its files on this machine; None: only row and signature are looked at.
    """
    if version.artifact_uri is None:
        return Checked(NO_FILES, ())
    looked = folder is not None
    try:
        told = told_by(version)
        if told is None:
            return _unsigned(version, folder)
        assert version.attestation is not None
        signer = signing.verify(version.attestation, signing.trusted_keys())
    except signing.BadEnvelope as error:
        return Checked(ALTERED, (str(error),), None, looked)
    wrong = manifest.row_differences(version, told)
    if folder is not None:
        wrong += manifest.file_differences(_files(folder), told)
    if wrong:
        return Checked(ALTERED, tuple(wrong), signer, looked)
    if signer is None:
        names = [str(one.get("keyid"))[:16] for one in version.attestation.get("signatures") or []]
        reason = f"signed by {', '.join(names) or 'nobody'}, which is no key that counts here"
        return Checked(UNKNOWN_SIGNER, (reason,), None, looked)
    return Checked(VERIFIED, (), signer, looked)


def _unsigned(version: ModelVersion, folder: Path | None) -> Checked:
    if folder is not None and version.content_hash is not None:
        found = _tree(folder)
        if found != version.content_hash:
            reason = (
                f"its files in {folder} were changed or cut: hash {found[:12]}…, "
                f"expected {version.content_hash[:12]}…"
            )
            return Checked(ALTERED, (reason,), None, True)
    return Checked(UNSIGNED, ("it has no signed manifest",), None, folder is not None)


def require_readable(version: ModelVersion, folder: Path) -> None:
    """Check that a version's files may be read: trusted, and nothing that runs is among them.

    Raises:
        Untrusted: as `require_trusted`.
        BadInput: as `trainer.safe_files.require_safe`; what is signed was looked at before that.
    """
    if require_trusted(version, folder) != VERIFIED:
        trusts = version.base_model in get_settings().trusted_bases
        _require_safe(f"files of {version.name}", folder, _looks(folder), trusts)


@lru_cache(maxsize=256)
def _require_safe(
    what: str, folder: Path, _: tuple[tuple[str, int, int, int], ...], may_have_code: bool
) -> None:
    require_safe(what, folder, may_have_code=may_have_code, needs_weights=False)


def require_trusted(version: ModelVersion, folder: Path | None = None) -> str:
    """Check that a version may be used; one without a signature that counts is told of in the log.

    Returns its status, as of `Checked`.

    Raises:
        Untrusted: it was altered; or, where the deployment asks for signatures, it has none that
            counts.
    """
    found = check(version, folder)
    if found.status in (VERIFIED, NO_FILES):
        return found.status
    settings = get_settings()
    named = found.status == UNKNOWN_SIGNER and bool(settings.trusted_signers)
    if found.status == ALTERED or settings.require_signed or named:
        raise Untrusted(version.name, found.status, "; ".join(found.reasons))
    if _tell_once(version.name, found.status):
        log.warning("%s is used, but %s", version.name, "; ".join(found.reasons))
    return found.status


_told: set[tuple[str, str]] = set()


def _tell_once(name: str, status: str) -> bool:
    is_new = (name, status) not in _told
    _told.add((name, status))
    return is_new


def _files(folder: Path) -> list[File]:
    return list(_read(folder, _looks(folder)))


def _tree(folder: Path) -> str:
    return _read_tree(folder, _looks(folder))


def _looks(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return what changes when a file does: name, size, times of content and of the entry.

    Files of gigabytes are not read twice by one process while these stay; nobody but the system
    sets the last of them.
    """
    found = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return tuple((str(p), s.st_size, s.st_mtime_ns, s.st_ctime_ns) for p, s in found)


@lru_cache(maxsize=256)
def _read(folder: Path, _: tuple[tuple[str, int, int, int], ...]) -> tuple[File, ...]:
    return tuple(manifest.files_in(folder))


@lru_cache(maxsize=256)
def _read_tree(folder: Path, _: tuple[tuple[str, int, int, int], ...]) -> str:
    return hash_tree(folder)[0]
