"""Receipts for the owners of clients' data: which are due to a node, and which it has on disk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fed_unlearn import protocol
from fed_unlearn.ledger import Ledger
from fed_unlearn.strategies.receipt_folder import ReceiptFolder
from fed_unlearn.strategies.serving.owner_book import OwnerBook

_OF_CLIENT = "owner-receipts:{client}"


@dataclass
class OwnerReceipts:
    """The receipts of requests that owners have queued at their nodes.

    Attributes
    ----------
    ledger : Ledger
        Keeps which receipt each node has confirmed, in an entry of its own: earlier versions do not read it.
    folder : ReceiptFolder or None
        The receipts; None where none are issued.
    """

    ledger: Ledger
    folder: ReceiptFolder | None

    @property
    def changes(self) -> int:
        """A number that rises with new receipts."""
        return 0 if self.folder is None else self.folder.changes

    def due(self, client: str) -> list[protocol.OwnerReceipt]:
        """The receipts that a client's node does not have yet; of a request that ended again, the newest one.

        Parameters
        ----------
        client : str
            The client.
        """
        if self.folder is None:
            return []
        told, due = self._told(client), list[protocol.OwnerReceipt]()
        for owner_request, known in OwnerBook.of(self.ledger, client).requests.items():
            if len(due) == protocol.MOST_RECEIPTS:
                break
            digest = self.folder.digest(known.request)
            if digest is not None and digest != told.get(owner_request):
                signed = self.folder.signed(known.request)
                if signed is not None and len(signed[0]) <= protocol.LONGEST_RECEIPT:
                    due.append(protocol.OwnerReceipt(owner_request=owner_request, text=signed[0], key=signed[1]))
        return due

    def note(self, client: str, heard: Collection[str]) -> None:
        """Write down, in the open transaction, which receipts a node has.

        Parameters
        ----------
        client : str
            The client of the node.
        heard : collection of str
            Digests of what the node has on disk.
        """
        if self.folder is None or not heard:
            return
        told, new = self._told(client), dict[str, str]()
        for owner_request, known in OwnerBook.of(self.ledger, client).requests.items():
            digest = self.folder.digest(known.request)
            if digest in heard and digest != told.get(owner_request):
                new[owner_request] = str(digest)
        if new:
            self.ledger.set_state(_OF_CLIENT.format(client=client), {**told, **new})

    def _told(self, client: str) -> dict[str, str]:
        body = self.ledger.state(_OF_CLIENT.format(client=client))
        return {str(name): str(digest) for name, digest in body.items()} if isinstance(body, dict) else {}
