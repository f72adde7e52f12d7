"""How an attempt ends without a candidate."""

from __future__ import annotations


class RequestRejectedError(Exception):
    """The requests cannot be served as they were put; the text says why."""


class AttemptFailedError(Exception):
    """The attempt came to no accepted model; the text says why. The samples stay in quarantine."""


class RequestsFailedError(AttemptFailedError):
    """The attempt failed for some of its requests, and not for those that shared it.

    Attributes
    ----------
    requests : tuple of str
        Ids of the requests that failed.
    """

    def __init__(self, reason: str, requests: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.requests = requests


class HoldersAwayError(RequestsFailedError):
    """Holders did not answer: the requests that name them wait until they are back."""


class HoldersFailedError(RequestsFailedError):
    """Holders did not do their part: the requests that name them failed."""
