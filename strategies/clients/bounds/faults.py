"""Why a client did nothing of use, in words that hold no data of its own."""

from __future__ import annotations

import re

from fed_unlearn.protocol.faults import told_of
from fed_unlearn.text import printable

_KIND = re.compile(r"(?:[^\W\d]\w*\.)*([A-Z]\w*)(?::\s*(.*))?", re.S)
_OF_THE_LIBRARY = frozenset({"FedUnlearnError", "InvalidRequestError", "ProtocolError"})
"""Errors of an installed app's own handling: their texts hold no data."""

NO_ANSWER = "it did not answer"
"""Why there is no reply of a client that was asked."""

_ERROR_ANSWER = "it answered with an error: "


def fault_of(reason: str) -> str:
    """A reason for the results: the kind of an error alone, with the name of what is missing where it is about one.

    Parameters
    ----------
    reason : str
        A reason of the library's own, which is returned as it is, or the last line of an error of the client's app.

    Returns
    -------
    str
        Printable, at most 200 characters.
    """
    found = _KIND.fullmatch(reason.removeprefix(_ERROR_ANSWER).strip())
    if found is None:
        return printable(reason)
    kind, text = found.groups()
    if text and kind in _OF_THE_LIBRARY:
        return printable(text)
    return printable(told_of(kind, text or ""))
