"""What lies below the division of a model gives for a client's retained samples, kept on disk while a request lasts.

In a deployment every message is a process of its own, which finds here what the first one has computed. It stands in
the folder of the client's store, without the ids of samples. It is found again only for the same model before and the
same samples, and is dropped as soon as a request ends or another begins.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import pickle
import shutil
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.methods.parts.activation_cache import activation_shape, fill_activations, reserve

HEAD_NAME, VALUES_NAME = "activations.pt", "activations.bin"

MOST_BYTES = 2**32
"""Activations that are larger are not kept: the model comes with every round, and samples are read in every round."""

_LEFT_FREE = 2  # the file takes at most one in so many of the free bytes of its disk
_IN_MEMORY = 2**28  # bytes of activations that are read at once; more stay in the file
_VERSION = 1
_UNREADABLE = (
    *(OSError, EOFError, pickle.UnpicklingError),
    *(ValueError, KeyError, TypeError, AttributeError, RuntimeError),
)
"""What reading a file raises that another version or another program wrote, or that was cut short."""

logger = logging.getLogger("fed_unlearn.client")


@dataclass(frozen=True)
class Kept:
    """What is kept.

    Attributes
    ----------
    activations : Tensor of shape (n, ...)
    answers : Tensor of shape (n, classes) or None
        Logits of the model before, float32.
    upper_share : float
        Share of the model's operations above the division.
    """

    activations: Tensor
    answers: Tensor | None
    upper_share: float = 1.0


class KeptActivations:
    """The activations of one division, for the samples of one request.

    Parameters
    ----------
    folder : Path
        Folder of the client's store.
    fingerprint : str
        Digest of the data source that sample ids refer to.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._head, self._values, self._fingerprint = folder / HEAD_NAME, folder / VALUES_NAME, fingerprint

    def key_of(self, base: str, upper: Sequence[str], samples: SampleSet, *, asks_model: bool) -> str:
        """The key of what is kept, from which no id can be read.

        Parameters
        ----------
        base : str
            Digest of the model before.
        upper : sequence of str
            Names of the arrays above the division.
        samples : SampleSet
            Samples of the request, with ids, in their order.
        asks_model : bool
            Whether answers of the model before are kept too.
        """
        parts = [self._fingerprint, base, str(asks_model), "\n".join(upper), "\n".join(samples.ids)]
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()

    @property
    def is_there(self) -> bool:
        """Whether anything is kept, of whatever request."""
        return self._head.exists()

    def find(self, key: str) -> Kept | None:
        """What is kept under a key; None where there is nothing, or it cannot be read."""
        try:
            body = torch.load(io.BytesIO(self._head.read_bytes()), weights_only=True)
            if body["version"] != _VERSION or body["key"] != key:
                return None
            shape, dtype = torch.Size(body["shape"]), getattr(torch, body["dtype"])
            held = self._mapped(shape, dtype, is_new=False)
            if self._values.stat().st_size != held.nbytes or _checksum(held) != body["checksum"]:
                raise ValueError(f"{self._values} was cut short")
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            logger.warning("%s and its values cannot be read, so samples are read again: %s", self._head, error)
            return None
        values = held.clone() if held.nbytes <= _IN_MEMORY else held
        return Kept(values, body["answers"], body["upper_share"])

    def fill(self, model: nn.Module, lower: nn.Module, samples: SampleSet, device: torch.device) -> Tensor | None:
        """Compute activations and write them; :meth:`keep` has to follow.

        Parameters
        ----------
        model : nn.Module
            The model, which says how inputs are laid out.
        lower : nn.Module
            The part below the division, in evaluation mode.
        samples : SampleSet
        device : torch.device
            Device of the model.

        Returns
        -------
        Tensor of shape (n, ...) or None
            None where they are too many, or the disk is too full.
        """
        self.drop()
        shape, dtype = activation_shape(model, lower, samples, device)
        size = math.prod(shape) * dtype.itemsize
        if size > MOST_BYTES or shutil.disk_usage(self._values.parent).free < _LEFT_FREE * size:
            logger.warning("%d bytes of activations are more than can be kept; samples are read in every round", size)
            return None
        try:
            reserve(self._values, size)
            held = self._mapped(shape, dtype, is_new=True)
        except (OSError, RuntimeError) as error:
            self.drop()
            logger.warning("%s; samples are read in every round", error)
            return None
        return fill_activations(held, model, lower, samples, device)

    def keep(self, key: str, kept: Kept) -> None:
        """Write down what the activations of :meth:`fill` belong to, and what goes with them.

        Parameters
        ----------
        key : str
            Key of the model and the samples, by which :meth:`find` looks for the activations.
        kept : Kept
            The activations, and what goes with them.
        """
        activations = kept.activations
        body = {
            "version": _VERSION,
            "key": key,
            "shape": list(activations.shape),
            "dtype": str(activations.dtype).removeprefix("torch."),
            "checksum": _checksum(activations),
            "answers": kept.answers,
            "upper_share": kept.upper_share,
        }
        content = io.BytesIO()
        torch.save(body, content)
        try:
            write_atomically(self._head, content.getvalue(), synced=False)
        except OSError as error:
            self.drop()
            logger.warning("%s; samples are read again", error)

    def drop(self) -> None:
        """Remove all that is kept."""
        for path in (self._head, self._values):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _mapped(self, shape: torch.Size, dtype: torch.dtype, *, is_new: bool) -> Tensor:
        place, count = str(self._values), math.prod(shape)
        if not is_new and not self._values.exists():
            raise FileNotFoundError(place)
        return torch.from_file(place, shared=is_new, size=count, dtype=dtype).view(shape)


def _checksum(values: Tensor) -> int:
    raw: Any = values.reshape(-1).view(torch.uint8).numpy()
    return zlib.crc32(memoryview(raw)) if raw.size else 0
