"""The folder in which a server keeps a signed receipt of each request that ended, with a page to read beside it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fed_unlearn.checkpoints import make_private_folder
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.chain import LedgerEvent
from fed_unlearn.protocol import receipt_digest
from fed_unlearn.text import printable

if TYPE_CHECKING:  # cryptography is loaded with the first receipt
    from fed_unlearn.receipts.keys import Ed25519PrivateKey, Ed25519PublicKey

logger = logging.getLogger("fed_unlearn.strategies")

_SHOWN_REQUESTS = 5


@dataclass(frozen=True)
class _End:
    """One end of a request, of which there is to be a receipt."""

    request_id: str
    number: int


@dataclass(frozen=True)
class _Issued:
    """A receipt that is on disk."""

    path: Path
    digest: str


class ReceiptFolder:
    """Issues the receipts that are missing, and finds those that are there.

    What a request came to stands in the ledger, and a receipt is made of that alone. So nothing has to be remembered: a
    receipt that is missing after a crash, or since the disk was full, is made up for whenever this is looked at again.

    Parameters
    ----------
    ledger : Ledger
        The ledger whose requests end.
    folder : Path
        The folder. It is made with the first receipt.
    key : Path, optional
        The file of the private key; ``receipts.key`` beside the ledger where none is given. It is made with the first
        receipt, and its public key in a file beside it.

    Attributes
    ----------
    folder : Path
    issued : list of Path
        The files of the receipts that were issued, the newest last.
    changes : int
        A number that rises whenever receipts were issued or found.
    """

    def __init__(self, ledger: Ledger, folder: Path, key: Path | None = None) -> None:
        self.folder, self.changes, self._has_receipts = folder, 0, False
        self.issued: list[Path] = []
        self._key_file, self._ledger = key, ledger
        self._seen = 0
        self._said: list[str] = []
        self._ends: dict[str, int] = {}
        self._due: list[_End] = []
        self._newest: dict[str, _Issued] = {}

    @classmethod
    def of(cls, ledger: Ledger, folder: str | Path | None, key: str | Path | None) -> ReceiptFolder | None:
        """The folder of a strategy; None where it issues no receipts.

        Raises
        ------
        InvalidParameterError
            If there is a key and no folder.
        """
        if folder is not None:
            return cls(ledger, Path(folder), None if key is None else Path(key))
        if key is not None:
            raise InvalidParameterError(f"receipt_key {key} without receipts; give the folder of receipts too")
        return None

    def digest(self, request_id: str) -> str | None:
        """Digest of the receipt of a request's last end, as nodes say it; None where there is none."""
        issued = self._newest.get(request_id)
        return None if issued is None else issued.digest

    def signed(self, request_id: str) -> tuple[str, str] | None:
        """The receipt of a request's last end, and the public key of its signature.

        Parameters
        ----------
        request_id : str
            Id of the request.

        Returns
        -------
        tuple of str or None
            The text of the file, and the key as 64 hexadecimal digits. None where the receipt or the key cannot be
            read, or an earlier key has signed the receipt.
        """
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        from fed_unlearn.receipts import verify
        from fed_unlearn.receipts.files import file_content

        issued = self._newest.get(request_id)
        if issued is None:
            return None
        try:
            content, key = file_content(issued.path), self._signing_key().public_key()
            verify(content, key)
        except (FedUnlearnError, OSError) as error:
            logger.warning("the receipt of request %s cannot be handed to its owner: %s", request_id, error)
            return None
        return content.decode(), key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def catch_up(self) -> list[str]:
        """Issue the receipts that are missing. Call it outside of the ledger's transactions.

        Returns
        -------
        list of str
            Why receipts are still missing, in a sentence for each cause, where that has changed since it was last said.
            No error is raised, be it of a file, a key, a clock or a template: what was committed stays so.
        """
        before, self._said = self._said, self._problems()
        return self._said if self._said != before else []

    def _problems(self) -> list[str]:
        """Issue what is missing, and say what stays so."""
        try:
            self._look()
            if not self._due:
                return []
            key = self._signing_key()
            make_private_folder(self.folder)
        except Exception as error:  # no error of a receipt, of whatever kind, may hide what was committed
            return [_missing(self._due, error)]
        failed: dict[str, tuple[list[_End], Exception]] = {}
        for end in list(self._due):
            try:
                self._issue(end, key)
            except Exception as error:  # as above
                failed.setdefault(_cause(error), ([], error))[0].append(end)
            else:
                self._due.remove(end)
        return [_missing(ends, error) for ends, error in failed.values()]

    # ------------------------------------------------------------------ what is due

    def _look(self) -> None:
        """Note the ends that have come since, and, the first time, the receipts that are there."""
        events = self._ledger.ends(after=self._seen)
        if not events:
            return
        found = {} if self._seen else self._found(events)
        for event in events:
            request_id = str(event.request_id)
            number = self._ends[request_id] = self._ends.get(request_id, 0) + 1
            self._newest.pop(request_id, None)
            if event.digest in found:
                self._newest[request_id] = found[event.digest]
            else:
                self._due.append(_End(request_id, number))
        self._seen = events[-1].sequence
        self.changes += 1

    def _found(self, events: Sequence[LedgerEvent]) -> dict[str, _Issued]:
        """The receipts that are there, by the digest of their end; a page that is missing is written."""
        from fed_unlearn.receipts.files import receipts_of_ends

        kept = receipts_of_ends(self.folder, self._ledger.identity, events, self._public_key())
        for receipt in kept.values():
            try:
                if not receipt.page.exists():
                    receipt.write_page()
            except Exception as error:  # the receipt itself is there, and counts
                logger.warning("%s: its page cannot be written: %s", receipt.path, _cause(error))
        self._has_receipts = bool(kept)
        return {digest: _Issued(each.path, receipt_digest(each.signed.content)) for digest, each in kept.items()}

    # ------------------------------------------------------------------ one receipt

    def _public_key(self) -> Ed25519PublicKey | None:
        """The public half of the key; None where the key is not there or cannot be used."""
        from fed_unlearn.receipts import default_receipt_key
        from fed_unlearn.receipts.keys import read_private_key

        path = self._key_file or default_receipt_key(self._ledger.path)
        try:
            return read_private_key(path).public_key() if path.exists() else None
        except (FedUnlearnError, OSError):
            return None  # whoever signs with it is told

    def _signing_key(self) -> Ed25519PrivateKey:
        """The key, which is made before the first receipt and not after it."""
        from fed_unlearn.receipts import default_receipt_key, signing_key

        path = self._key_file or default_receipt_key(self._ledger.path)
        if self._has_receipts and not path.exists():
            raise FedUnlearnError(
                f"{path}: the key that signed the receipts in {self.folder} is not there; put it back or name its file,"
                " or make a new one there and tell everybody who checks receipts"
            )
        return signing_key(path)

    def _issue(self, end: _End, key: Ed25519PrivateKey) -> None:
        from fed_unlearn.receipts import issue
        from fed_unlearn.receipts.files import ReceiptOnDisk, possible_paths

        signed = issue(self._ledger, end.request_id, key, number=end.number)
        path = next(path for path in possible_paths(self.folder, signed) if not path.exists())  # what is there is kept
        ReceiptOnDisk(path, signed).write()
        self.issued.append(path)
        self._has_receipts = True
        if end.number == self._ends[end.request_id]:
            self._newest[end.request_id] = _Issued(path, receipt_digest(signed.content))
        self.changes += 1


def _missing(ends: Sequence[_End], error: Exception) -> str:
    """Which receipts are missing, and why."""
    names = list(dict.fromkeys(printable(end.request_id) for end in ends))
    more = f" and {len(names) - _SHOWN_REQUESTS} more" if len(names) > _SHOWN_REQUESTS else ""
    of_requests = f" of requests {', '.join(names[:_SHOWN_REQUESTS])}{more}" if names else ""
    return (
        f"receipts are missing{of_requests}: {_cause(error)}; the ledger has what was done, and they are made"
        " up for as soon as they can be written"
    )


def _cause(error: Exception) -> str:
    """What went wrong, in words; errors of other programs with their kind, since their texts say little alone."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, FedUnlearnError | OSError):
        return str(error)
    return f"{type(error).__name__}: {printable(str(error))}"
