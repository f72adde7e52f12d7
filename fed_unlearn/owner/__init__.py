"""Requests of the data's owner, queued at the client's own node: no id of a sample leaves it."""

from fed_unlearn.owner.queue import OwnerQueue
from fed_unlearn.owner.records import OwnerAnswer, OwnerRequest, QueuedRequest, new_request

__all__ = ["OwnerAnswer", "OwnerQueue", "OwnerRequest", "QueuedRequest", "new_request"]
