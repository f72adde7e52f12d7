"""The receipts of an owner's requests, kept at the client's own node beside the queue."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fed_unlearn.checkpoints import make_private_folder, write_atomically
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.locks import exclusive
from fed_unlearn.owner.records import OwnerRequest
from fed_unlearn.text import printable

if TYPE_CHECKING:  # cryptography is loaded with the first receipt
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from fed_unlearn.receipts import Receipt

FOLDER, PINNED = "receipts", "receipts.pub"
"""The folder of receipts, and the file of the public keys whose receipts are kept, in the client's store folder."""

MOST_OF_A_REQUEST = 16
"""Maximum number of receipts of one request. A request has one of each server for each time that it ended there."""

_LOCK = "receipts.lock"
_LONGEST_PINNED = 2**16
_ID = re.compile("[0-9a-f]{16}")
_PEM = re.compile(b"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class ReceiptRefusedError(FedUnlearnError, ValueError):
    """Raised if a receipt is none, is of another request, or was signed by another key than those that are known."""


class KeptReceipts:
    """The receipts that servers have handed to a node for its owner.

    The key of the first receipt is kept in ``receipts.pub``, unless the owner has put one there. From then on receipts
    of other keys are refused. Whoever works with several servers adds their keys to that file, one after the other.

    Parameters
    ----------
    folder : Path
        The client's store folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self._store, self._folder = folder, folder / FOLDER

    def keep(self, request: OwnerRequest, ledger: str, text: str, key: str) -> None:
        """Keep a receipt. It is on disk when this returns; one that is there already is not written again.

        Parameters
        ----------
        request : OwnerRequest
            The request that it is said to be of.
        ledger : str
            Identity of the ledger whose server has sent it.
        text : str
            The receipt's file.
        key : str
            The public key that came with it, 64 hexadecimal digits.

        Raises
        ------
        ReceiptRefusedError
            If it is refused. The owner finds the reason by :meth:`refusal`.
        FedUnlearnError
            If another process keeps receipts just now, or the file of public keys cannot be used.
        OSError
            If it cannot be written.
        """
        make_private_folder(self._folder)
        with exclusive(self._store / _LOCK, f"the receipts of {self._store}", "try again"):
            content, known = text.encode(errors="replace"), self.files(request.id)
            if not any(file.read_bytes() == content for file in known):
                try:
                    receipt = self._check(request, ledger, content, key)
                    if len(known) >= MOST_OF_A_REQUEST:
                        raise ReceiptRefusedError(f"{len(known)} receipts of it are here already, and no more are kept")
                except ReceiptRefusedError as error:
                    write_atomically(self._reason(request.id), str(error).encode())
                    raise
                if receipt.named_by != "id":  # nothing in it says of which request it is
                    self._note_digest(request.id, content)
                free = next(path for path in self._paths(request.id) if not path.exists())
                write_atomically(free, content)
            self._reason(request.id).unlink(missing_ok=True)

    def files(self, request_id: str) -> list[Path]:
        """The files of a request's receipts, the newest last; empty where there are none, or it is no id."""
        if _ID.fullmatch(request_id) is None:
            return []
        return [path for path in self._paths(request_id) if path.is_file()]

    def refusal(self, request_id: str) -> str:
        """Why the last receipt of a request was refused; empty where none was."""
        if _ID.fullmatch(request_id) is None:
            return ""
        try:
            return printable(self._reason(request_id).read_text(encoding="utf-8", errors="replace"), 500)
        except OSError:
            return ""

    def checked(self, file: Path, request: OwnerRequest) -> bytes:
        """The content of one of a request's files, checked again: against the known keys, and that it is its receipt.

        Parameters
        ----------
        file : Path
            One of :meth:`files`.
        request : OwnerRequest
            The request.

        Raises
        ------
        ReceiptRefusedError
            If it was changed since, no known key has signed it, or another request's file was put in its place.
        FedUnlearnError
            If it, or the file of public keys, cannot be read.
        """
        from fed_unlearn.receipts import RefusedReceiptError, verify

        try:
            content, keys, noted = file.read_bytes(), self._pinned(), self._digests(request.id)
        except OSError as error:
            raise FedUnlearnError(f"{error.filename}: cannot be read: {error.strerror}") from None
        problems = list[str]()
        for key in keys:
            try:
                receipt = verify(content, key).receipt
            except RefusedReceiptError as error:
                problems.append(str(error))
            else:
                # those that were kept before there were digests have none
                is_noted = receipt.named_by == "id" or not noted or hashlib.sha256(content).hexdigest() in noted
                if not is_noted or not _is_of(receipt, request, receipt.ledger):
                    raise ReceiptRefusedError(f"{file}: it is the receipt of another request than {request.id}")
                return content
        told = problems[0] if problems else f"{self._store / PINNED} is missing, which had the key that signed it"
        raise ReceiptRefusedError(f"{file}: {told}")

    # ------------------------------------------------------------------ checks

    def _check(self, request: OwnerRequest, ledger: str, content: bytes, key: str) -> Receipt:
        """Raise ReceiptRefusedError if a receipt must not be kept; else its key is a known one from here on."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        from fed_unlearn.receipts import RefusedReceiptError, public_pem, verify

        try:
            signed_by = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
            receipt = verify(content, signed_by).receipt
        except (RefusedReceiptError, ValueError) as error:
            raise ReceiptRefusedError(printable(str(error))) from None
        if receipt.ledger != ledger:
            raise ReceiptRefusedError("it is of another ledger than that of the server that sent it")
        if not _is_of(receipt, request, ledger):
            raise ReceiptRefusedError("it is of another request")
        pem, pinned = public_pem(signed_by), [public_pem(known) for known in self._pinned()]
        if pinned and pem not in pinned:
            raise ReceiptRefusedError(
                f"another key has signed it than those in {self._store / PINNED}; ask the operator whether the key was"
                " changed, and add the new one to that file then"
            )
        if not pinned:
            write_atomically(self._store / PINNED, pem)
        return receipt

    def _pinned(self) -> list[Ed25519PublicKey]:
        """The keys whose receipts are kept; empty before the first.

        Raises
        ------
        FedUnlearnError
            If the file of public keys is there and holds none, or cannot be read.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        path = self._store / PINNED
        try:
            with path.open("rb") as file:
                found = _PEM.findall(file.read(_LONGEST_PINNED))
            keys = [load_pem_public_key(pem) for pem in found]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FedUnlearnError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError:
            keys = []
        if not keys or not all(isinstance(key, Ed25519PublicKey) for key in keys):
            raise FedUnlearnError(f"{path}: expected Ed25519 public keys in PEM; put there what the operator gives out")
        return [key for key in keys if isinstance(key, Ed25519PublicKey)]

    # ------------------------------------------------------------------ files

    def _paths(self, request_id: str) -> Iterator[Path]:
        for number in range(1, MOST_OF_A_REQUEST + 1):
            yield self._folder / (f"{request_id}.json" if number == 1 else f"{request_id}.{number}.json")

    def _note_digest(self, request_id: str, content: bytes) -> None:
        """Note that a receipt is one of a request. Where it is not written after that, nothing is lost."""
        digests = [*self._digests(request_id), hashlib.sha256(content).hexdigest()]
        write_atomically(self._folder / f"{request_id}.digests", "".join(f"{digest}\n" for digest in digests).encode())

    def _digests(self, request_id: str) -> list[str]:
        """Digests of the receipts of a request that name no id; empty where there are none."""
        try:
            return (self._folder / f"{request_id}.digests").read_text(encoding="utf-8", errors="replace").split()
        except FileNotFoundError:
            return []

    def _reason(self, request_id: str) -> Path:
        return self._folder / f"{request_id}.refused"


def _is_of(receipt: Receipt, request: OwnerRequest, ledger: str) -> bool:
    """Whether a receipt is of a request, as far as the node can tell: by its id, and by what was asked for.

    A server gives a reference in place of an id that holds a name; the node cannot make it.
    """
    asked = ("client", None) if request.kind == "all" else ("sample", request.count)
    if (receipt.scope, receipt.samples) != asked:
        return False
    if receipt.named_by != "id":
        return True
    answer = request.answers.get(ledger)
    named = answer.request if answer is not None else ""
    return receipt.request == named if named else receipt.request.endswith(f"-{request.id}")
