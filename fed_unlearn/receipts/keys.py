"""The key that receipts are signed with: a file that only its owner can read, and the public key beside it."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fed_unlearn.checkpoints import make_private_folder, write_atomically
from fed_unlearn.errors import FedUnlearnError, StorageError

__all__ = [
    "Ed25519PrivateKey", "Ed25519PublicKey", "default_receipt_key", "fingerprint", "public_key_file", "public_pem",
    "read_private_key", "read_public_key", "signing_key",
]  # fmt: skip

_MOST_BYTES = 64 * 1024
_RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def default_receipt_key(ledger: Path) -> Path:
    """The key file for the receipts of a ledger whose operator names none: ``receipts.key`` beside ``ledger.db``."""
    return ledger.with_name("receipts.key")


def public_key_file(path: Path) -> Path:
    """The file of the public key that belongs to a key file: ``receipts.pub`` beside ``receipts.key``."""
    return path.with_name(f"{path.name}.pub") if path.suffix in ("", ".pub") else path.with_suffix(".pub")


def signing_key(path: Path) -> Ed25519PrivateKey:
    """Read the key that receipts are signed with. It is made, with its folder, if the file does not exist.

    The public key is written beside it, for those who check receipts. If several processes make the key at once, they
    end with one key.

    Parameters
    ----------
    path : Path
        File of the private key, in PEM (PKCS #8, without a password).

    Raises
    ------
    FedUnlearnError
        If the file is no such key, others can read it, or it cannot be read or made. If the file of the public key has
        another one.
    """
    try:
        make_private_folder(path.parent)
        has_public = public_key_file(path).exists()  # asked first: another process writes it last
        if not path.exists():
            if has_public:
                raise _other_public(public_key_file(path))
            _make(path)
    except OSError as error:
        raise StorageError(
            f"{path}: the key of receipts cannot be made: {error.strerror}; name a file in a folder that is there"
        ) from error
    key = read_private_key(path)
    _write_public(public_key_file(path), key)
    return key


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises
    ------
    FedUnlearnError
        If the file is no Ed25519 key in PEM without a password, such as a public key, others can read it, or it cannot
        be read.
    """
    content = _content(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_private_key(path, content) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_private_key(path, content)
    found = path.stat()
    if os.name == "posix" and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
        raise FedUnlearnError(
            f"{path}: others can read this private key (mode {stat.S_IMODE(found.st_mode):04o}); if nobody has, take"
            f" their rights away: chmod 600 {path}"
        )
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key.

    Raises
    ------
    FedUnlearnError
        If the file is no Ed25519 public key in PEM, or cannot be read.
    """
    try:
        key = serialization.load_pem_public_key(_content(path))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "public", "it begins with -----BEGIN PUBLIC KEY-----") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public", "it begins with -----BEGIN PUBLIC KEY-----")
    return key


def public_pem(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    """A public key, or that of a private key, in PEM."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the 32 bytes of a public key, in hexadecimal."""
    return hashlib.sha256(key.public_bytes(*_RAW)).hexdigest()


def _make(path: Path) -> None:
    """Write a new key, unless another process was faster."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_atomically(temporary, pem)
        with suppress(FileExistsError):
            os.link(temporary, path)  # unlike a rename, this never replaces a file
    finally:
        temporary.unlink(missing_ok=True)


def _write_public(path: Path, key: Ed25519PrivateKey) -> None:
    if path.exists():
        if fingerprint(read_public_key(path)) != fingerprint(key.public_key()):
            raise _other_public(path)
        return
    # The folder of a key that was given may be one that cannot be written to.
    with suppress(OSError):
        write_atomically(path, public_pem(key))
        path.chmod(0o644)


def _other_public(path: Path) -> FedUnlearnError:
    return FedUnlearnError(
        f"{path}: the public key of another private key; earlier receipts may need it: put that private key back, or"
        " move this file to another name"
    )


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise FedUnlearnError(f"{path}: not a file; the file of a key was expected")
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise FedUnlearnError(f"{path}: the key cannot be read: {what}") from error


def _no_private_key(path: Path, content: bytes) -> FedUnlearnError:
    try:
        serialization.load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return _no_key(path, "private", "PKCS #8, without a password")
    return FedUnlearnError(f"{path}: a public key; the private key that belongs to it was expected, to sign with")


def _no_key(path: Path, kind: str, form: str) -> FedUnlearnError:
    return FedUnlearnError(f"{path}: no {kind} key; an Ed25519 {kind} key in PEM was expected ({form})")
