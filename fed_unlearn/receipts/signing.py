"""Signs receipts, and refuses every file that is not, byte for byte, what the owner of a key has signed."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from pydantic import ValidationError

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.receipts.document import Receipt, ReceiptFile, Signature, canonical_bytes
from fed_unlearn.receipts.keys import Ed25519PrivateKey, Ed25519PublicKey, fingerprint
from fed_unlearn.text import printable

MOST_BYTES = 256 * 1024
"""Greatest size of a receipt's file in bytes."""

_PURPOSE = b"fed_unlearn receipt 1\n"
"""What is signed begins with this, so that no signature of the key means something else."""


class RefusedReceiptError(FedUnlearnError, ValueError):
    """A file that is no receipt, is not as it was signed, or was not signed by the key."""


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt with its signature.

    Attributes
    ----------
    receipt : Receipt
        What it says.
    signature : Signature
        The signature. Only :func:`verify` says whether it is right.
    """

    receipt: Receipt
    signature: Signature

    @property
    def content(self) -> bytes:
        """The bytes of the receipt's file."""
        return canonical_bytes(ReceiptFile(receipt=self.receipt, signature=self.signature)) + b"\n"


def sign(receipt: Receipt, key: Ed25519PrivateKey) -> SignedReceipt:
    """Sign a receipt.

    Parameters
    ----------
    receipt : Receipt
    key : Ed25519PrivateKey
        The key, as :func:`~fed_unlearn.receipts.keys.signing_key` reads it.
    """
    value = sign_bytes(_PURPOSE + canonical_bytes(receipt), key).hex()
    return SignedReceipt(receipt, Signature(algorithm="Ed25519", key=fingerprint(key.public_key()), value=value))


def verify(content: bytes, public_key: Ed25519PublicKey) -> SignedReceipt:
    """Check that a file is, byte for byte, a receipt that the owner of a key has signed.

    Parameters
    ----------
    content : bytes
        Content of the file.
    public_key : Ed25519PublicKey
        The key of whoever is said to have issued the receipt. It must come from them, not with the receipt.

    Raises
    ------
    RefusedReceiptError
        If a byte of the file was changed, the file is no receipt, or another key has signed it. The message says which.
    """
    signed = read_receipt(content)
    expected = fingerprint(public_key)
    if signed.signature.key != expected:
        raise RefusedReceiptError(
            f"it says that the key {signed.signature.key[:16]} signed it, and the key {expected[:16]} was given"
        )
    message = _PURPOSE + canonical_bytes(signed.receipt)
    if not is_signed(message, bytes.fromhex(signed.signature.value), public_key):
        raise RefusedReceiptError(
            "its signature does not fit: the receipt or the signature was changed since it was signed"
        )
    return signed


def read_receipt(content: bytes) -> SignedReceipt:
    """Read a receipt without checking its signature.

    Raises
    ------
    RefusedReceiptError
        If the file is no receipt of this version, or is written in another way than a receipt is.
    """
    if len(content) > MOST_BYTES:
        raise RefusedReceiptError(f"it is no receipt: it is larger than {MOST_BYTES // 1024} KiB")
    try:
        file = ReceiptFile.model_validate_json(content)
    except ValidationError as error:
        raise RefusedReceiptError(f"it is no receipt of version 1: {_first_of(error)}") from error
    except (ValueError, RecursionError) as error:
        raise RefusedReceiptError(f"it is no receipt of version 1: {printable(str(error))}") from error
    signed = SignedReceipt(file.receipt, file.signature)
    if content != signed.content:
        raise RefusedReceiptError(
            "its bytes were changed since it was signed: a receipt is written in one way alone, and this file says the"
            " same in another"
        )
    return signed


def read_unless_damaged(content: bytes, own: Ed25519PublicKey | None) -> SignedReceipt:
    """Read a receipt out of one's own folder: one that names one's own key must be as that key has signed it.

    The signature of another key, such as an earlier one, is not checked.

    Parameters
    ----------
    content : bytes
        Content of the file.
    own : Ed25519PublicKey or None
        One's own key, where it is known.

    Raises
    ------
    RefusedReceiptError
        If the file is no receipt, or says that one's own key signed it and is not as it was signed.
    """
    signed = read_receipt(content)
    return verify(content, own) if own is not None and signed.signature.key == fingerprint(own) else signed


def sign_bytes(message: bytes, key: Ed25519PrivateKey) -> bytes:
    """The Ed25519 signature of a message (RFC 8032), 64 bytes."""
    return key.sign(message)


def is_signed(message: bytes, signature: bytes, public_key: Ed25519PublicKey) -> bool:
    """Whether a signature is that of a message under a key."""
    try:
        public_key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _first_of(error: ValidationError) -> str:
    fault = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return printable(f"{place}: {fault['msg']}" if place else fault["msg"])
