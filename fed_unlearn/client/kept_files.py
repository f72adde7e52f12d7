"""Files that save a client reading its samples again, with a digest in front.

They are not synced to disk, since nothing is lost with them. A file that was cut short or cannot be used is told by its
digest and its version, and is as good as none.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

from fed_unlearn.checkpoints import write_atomically

Kept = TypeVar("Kept")

_DIGEST_BYTES = 32

logger = logging.getLogger("fed_unlearn.client")


def write_kept(path: Path, version: int, fingerprint: str, body: Mapping[str, Any]) -> bool:
    """Write a file, and return whether that went well; if not, there is none, and the log says why.

    Parameters
    ----------
    path : Path
    version : int
        Version of what the file holds.
    fingerprint : str
        Digest of the data source that the samples belong to.
    body : mapping
        Tensors, texts, numbers, and lists and dicts of them.
    """
    content = io.BytesIO()
    torch.save({"version": version, "fingerprint": fingerprint, **body}, content)
    written = content.getvalue()
    try:
        write_atomically(path, hashlib.sha256(written).digest() + written, synced=False)
    except OSError as error:
        with suppress(OSError):  # of a folder in its place, or of one that cannot be written to
            path.unlink(missing_ok=True)  # some of what it holds may be read no longer
        logger.warning("%s; samples are read again", error)
        return False
    return True


def read_kept(path: Path, version: int, fingerprint: str, made_of: Callable[[dict[str, Any]], Kept]) -> Kept | None:
    """What a file holds; None where there is none, or one of another version or other data, or one that is damaged.

    Parameters
    ----------
    path : Path
    version, fingerprint : int, str
        Version of what the file holds and digest of the data source, as for :func:`write_kept`.
    made_of : callable
        Makes what is wanted of the body. It may raise ValueError, KeyError or TypeError where the body does not fit.
    """
    try:
        written = path.read_bytes()
        if hashlib.sha256(written[_DIGEST_BYTES:]).digest() != written[:_DIGEST_BYTES]:
            raise ValueError("it was cut short")
        body = torch.load(io.BytesIO(written[_DIGEST_BYTES:]), weights_only=True)
        if body["version"] != version or body["fingerprint"] != fingerprint:
            return None
        return made_of(body)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        logger.warning("%s cannot be read, so samples are read again: %s", path, error)
        return None


def written_at(path: Path) -> float:
    """When a file was written, in seconds since the epoch; infinity where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return math.inf
