"""Requests of the data's owner, queued at the client's own node: no id of a sample leaves it."""

from fed_unlearn.owner.labels import keep_class_names, kept_class_names
from fed_unlearn.owner.queue import OwnerQueue
from fed_unlearn.owner.receipts import KeptReceipts, ReceiptRefusedError
from fed_unlearn.owner.records import LAST_CLASS, OwnerAnswer, OwnerRequest, QueuedRequest, new_request

__all__ = [
    "LAST_CLASS",
    "KeptReceipts",
    "OwnerAnswer",
    "OwnerQueue",
    "OwnerRequest",
    "QueuedRequest",
    "ReceiptRefusedError",
    "keep_class_names",
    "kept_class_names",
    "new_request",
]
