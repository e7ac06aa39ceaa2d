"""Signatures of manifests: Ed25519 over a DSSE envelope, which other tools can verify.

DSSE (github.com/secure-systems-lab/dsse) signs the type of a text together with it, so that a
signature of one thing can not be passed off as one of another. A key is known by the SHA-256 of its
32 public bytes.
"""

import base64
import binascii
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from foundation.errors import BadSetting
from foundation.settings import Settings, get_settings

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_RAW: Final = serialization.Encoding.Raw, serialization.PublicFormat.Raw


class BadEnvelope(ValueError):
    """An envelope that is none, or whose signature is not of its text."""


def pre_authentication(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return the bytes that DSSE signs: `DSSEv1`, and length and text of type and payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, key: Ed25519PrivateKey) -> dict[str, Any]:
    """Return a DSSE envelope of a text, signed."""
    signature = key.sign(pre_authentication(payload))
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}
        ],
    }


def payload_of(envelope: Mapping[str, Any]) -> bytes:
    """Return the text of an envelope, whoever signed it; raises BadEnvelope."""
    try:
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise BadEnvelope(f"a payload of type {envelope['payloadType']!r}")
        return base64.b64decode(envelope["payload"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise BadEnvelope(f"no DSSE envelope ({error!r})") from error


def verify(envelope: Mapping[str, Any], keys: Mapping[str, Ed25519PublicKey]) -> str | None:
    """Return the id of the known key that signed an envelope; None: none of them is named in it.

    Raises:
        BadEnvelope: it names a known key, and the signature is not that key's; or it is none.
    """
    payload = payload_of(envelope)
    for one in envelope.get("signatures") or []:
        key = keys.get(str(one.get("keyid")))
        if key is None:
            continue
        try:
            signature = base64.b64decode(one["sig"], validate=True)
            key.verify(signature, pre_authentication(payload))
        except (KeyError, TypeError, binascii.Error, InvalidSignature) as error:
            raise BadEnvelope(f"the signature is not of key {one['keyid'][:16]}…") from error
        return str(one["keyid"])
    return None


def key_id(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of the key's 32 bytes, in hexadecimal digits."""
    return sha256(key.public_bytes(*_RAW)).hexdigest()


def public_pem(key: Ed25519PublicKey) -> str:
    """Return a public key as others read it."""
    shape = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, shape).decode()


def key_path(settings: Settings) -> Path:
    """Return where this machine's key is, or would be."""
    return settings.signing_key or settings.home.absolute() / "keys" / "signing.pem"


def signing_key() -> Ed25519PrivateKey:
    """Return the key that this machine signs with, made once where no setting names one.

    Raises:
        BadSetting: the file is missing or holds no Ed25519 key, or it cannot be made.
    """
    settings = get_settings()
    path = key_path(settings)
    try:
        if settings.signing_key is None and not path.exists():
            _make(path)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_key(path, f"it cannot be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad_key(path, "it is of another kind")
    return key


def _make(path: Path) -> None:
    """Make a key that only its owner may read; of two processes at once one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    handle, unfinished = tempfile.mkstemp(dir=path.parent)  # readable by its owner alone
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        os.link(unfinished, path)
    os.unlink(unfinished)


def own_key() -> Ed25519PublicKey | None:
    """Return the public half of this machine's key; None: it has none, and none is made."""
    settings = get_settings()
    if settings.signing_key is None and not key_path(settings).exists():
        return None
    return signing_key().public_key()


def trusted_keys() -> dict[str, Ed25519PublicKey]:
    """Return the keys whose signatures count, by id: those that are named, else the own one.

    Raises:
        BadSetting: a setting names no Ed25519 key.
    """
    named = get_settings().trusted_signers
    keys = [_public(one) for one in named] if named else [own_key()]
    return {key_id(key): key for key in keys if key is not None}


def _public(given: str) -> Ed25519PublicKey:
    try:
        if len(given) == 64 and set(given.lower()) <= set("0123456789abcdef"):
            return Ed25519PublicKey.from_public_bytes(bytes.fromhex(given))
        key = serialization.load_pem_public_key(Path(given).read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _bad_signer(given) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _bad_signer(given)
    return key


def _bad_key(path: Path, why: str) -> BadSetting:
    expected = f"the PEM file of an Ed25519 key ({why})"
    remedy = "Make one with: openssl genpkey -algorithm ed25519 -out FILE"
    return BadSetting("FLYWHEEL_SIGNING_KEY", str(path), expected, remedy)


def _bad_signer(given: str) -> BadSetting:
    expected = "PEM files of Ed25519 public keys, or their 64 hexadecimal digits"
    remedy = "Print the own one with: flywheel model signer"
    return BadSetting("FLYWHEEL_TRUSTED_SIGNERS", given, expected, remedy)
