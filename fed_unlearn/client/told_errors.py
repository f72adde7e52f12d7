"""What of a client's error the server may read."""

from __future__ import annotations

from fed_unlearn.errors import (
    FedUnlearnError,
    InvalidRequestError,
    NothingRetainedError,
    ProtocolError,
    UnsuitableInputsError,
    UnsuitableModelError,
)
from fed_unlearn.protocol.faults import told_of

_SPEAKING = (
    FedUnlearnError,
    InvalidRequestError,
    NothingRetainedError,
    ProtocolError,
    UnsuitableInputsError,
    UnsuitableModelError,
)
"""Errors whose text holds no data."""


def describe(error: Exception) -> str:
    """The text of an error that the server may read: its message if that holds no data, else its class only.

    The names of a missing module, variable or attribute are no data, and of such an error's text they alone are told.
    """
    if type(error) in _SPEAKING:
        return str(error)
    if isinstance(error, ImportError | NameError | AttributeError):
        return told_of(type(error).__name__, str(error))
    return f"{type(error).__name__} at the client; its own log has the details"
