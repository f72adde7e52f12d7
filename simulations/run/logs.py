"""Where log messages go during a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write what Flower and this library log to a file, too."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
        handler.close()


@contextmanager
def quiet_flower() -> Iterator[None]:
    """Keep Flower's messages below a warning off the terminal. The file ``log.txt`` has them."""
    handlers = [(handler, handler.level) for handler in logging.getLogger("flwr").handlers]
    for handler, _ in handlers:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in handlers:
            handler.setLevel(level)
