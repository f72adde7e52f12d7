"""Hides clients' names in what a run says while it lasts: its log, its events and its errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock

from fed_unlearn.simulations.run.pseudonyms import Pseudonyms, client_count, in_order, is_anonymous, met_clients
from fed_unlearn.strategies import Event

_PLACEHOLDER = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[a-zA-Z%]")
_BEFORE_NAMES = re.compile(r"\b(?:client|holder)s? $")
_CLAIMED = re.compile(r"sa(?:ys|y) that (?:it is|they are) client (.+?);")


class Anonymity:
    """Puts letters in place of the names of a run's clients.

    Names come from the ledger of the run, and from messages that are about a client before the ledger has met it. A
    letter that was given stays.

    Parameters
    ----------
    folder : Path
        The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._ledger, self._count = folder / "ledger.db", client_count(folder)
        self._pseudonyms: Pseudonyms | None = None
        self._lock = Lock()  # clients of one process answer in threads

    def hidden(self, text: str, *names: str) -> str:
        """A text without names.

        Parameters
        ----------
        text : str
        *names : str
            Names of clients that the text may have, beside those that are known.
        """
        with self._lock:
            found = [*met_clients(self._ledger), *names, *_CLAIMED.findall(text)]
            if self._pseudonyms is None and not found:  # clients that are not numbered have no letters yet
                return Pseudonyms(in_order((), self._count)).scrubbed(text)
            known = self._pseudonyms or Pseudonyms(in_order(found, self._count))
            self._pseudonyms = known.and_of(found)
            return self._pseudonyms.scrubbed(text)

    def event(self, event: Event) -> Event:
        """An event whose text has no names."""
        return replace(event, text=self.hidden(event.text))

    @contextmanager
    def in_logs(self) -> Iterator[None]:
        """Hide names in all that Flower and this library log, to whatever file or terminal."""
        names = _NamesFilter(self)
        handlers = [handler for name in ("flwr", "fed_unlearn") for handler in logging.getLogger(name).handlers]
        for handler in handlers:
            handler.filters.insert(0, names)  # others replace a record's arguments, which say what is a name
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(names)


def anonymity_of(folder: Path) -> Anonymity | None:
    """What hides the names of a run that was begun with ``--anonymous``; None for any other run."""
    return Anonymity(folder) if is_anonymous(folder) else None


class _NamesFilter(logging.Filter):
    """Lets every record pass, without the names of clients."""

    def __init__(self, anonymity: Anonymity) -> None:
        super().__init__()
        self._anonymity = anonymity

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the record's message by one without names."""
        try:
            said = record.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit: the handler tells
            return True
        record.msg = self._anonymity.hidden(said, *_told_names(record))
        record.args = ()
        return True


def _told_names(record: logging.LogRecord) -> list[str]:
    """The arguments of a message that stand after the word client or holder."""
    if not isinstance(record.args, tuple):
        return []
    names, end, arguments = list[str](), 0, iter(record.args)
    for match in _PLACEHOLDER.finditer(str(record.msg)):
        if match.group().endswith("%"):
            continue
        argument = next(arguments, None)
        if isinstance(argument, str) and _BEFORE_NAMES.search(record.msg[end : match.start()]):
            names += argument.split(", ")
        end = match.end()
    return names
