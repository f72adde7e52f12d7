"""What a client calls its classes, on its reply to ``query.identify``."""

from __future__ import annotations

from flwr.app import ConfigRecord, Message

from fed_unlearn.class_names import ClassNames, class_names_problem
from fed_unlearn.text import printable

_KEY = "class-names"
_NAMES = "names"


def write_class_names(reply: Message, names: ClassNames) -> None:
    """Put the names of the classes on a reply, where they are others than the indices. A server may do without."""
    if names.differ:
        reply.content[_KEY] = ConfigRecord({_NAMES: list(names.names)})


def read_class_names(reply: Message, class_count: int) -> tuple[tuple[str, ...] | None, str | None]:
    """The names of the classes that a reply tells.

    Parameters
    ----------
    reply : Message
    class_count : int
        Number of classes of the task.

    Returns
    -------
    tuple of (tuple of str or None) and (str or None)
        The names; None where it tells none that can be used. Why it tells none; None where it tells some, or none were
        to be told.
    """
    record = reply.content.get(_KEY)
    if not isinstance(record, ConfigRecord):
        return None, None
    told = record.get(_NAMES)
    names = list(told) if isinstance(told, list) else []
    problem = class_names_problem(names, class_count)
    return (None, printable(problem)) if problem is not None else (tuple(map(str, names)), None)
