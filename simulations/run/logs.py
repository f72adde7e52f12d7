"""Where log messages go during a run."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fed_unlearn.text import printable

MOST_LOGGED = 10_000
"""Greatest length of a line of a message, in characters."""


class EscapingFilter(logging.Filter):
    """Lets every record pass, with its unprintable characters escaped and its lines cut: clients may send any text."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the record's message by one that is safe to show."""
        try:
            said = record.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit: the handler tells
            return True
        parts = re.split(r"([\n\t])", said)
        record.msg = "".join(part if part in ("\n", "\t") else printable(part, MOST_LOGGED) for part in parts)
        record.args = ()
        return True


class _LogFile(logging.FileHandler):
    """A log file. What cannot be written to it is lost: a full disk is told of by whoever writes results."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write what Flower and this library log to a file, too."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(EscapingFilter())
    loggers = [logging.getLogger("flwr"), logging.getLogger("fed_unlearn")]
    levels = [item.level for item in loggers]
    for item in loggers:
        item.addHandler(handler)
        item.setLevel(logging.INFO)
    try:
        yield
    finally:
        for item, level in zip(loggers, levels, strict=True):
            item.removeHandler(handler)
            item.setLevel(level)
        with suppress(OSError):
            handler.close()


@contextmanager
def quiet_flower() -> Iterator[None]:
    """Keep Flower's messages below a warning off the terminal, and escape the others. ``log.txt`` has them all."""
    handlers = [(handler, handler.level) for handler in logging.getLogger("flwr").handlers]
    escaping = EscapingFilter()
    for handler, _ in handlers:
        handler.setLevel(logging.WARNING)
        handler.addFilter(escaping)
    try:
        yield
    finally:
        for handler, level in handlers:
            handler.setLevel(level)
            handler.removeFilter(escaping)
