"""What a frozen backbone gives for a client's samples, kept on disk: no sample is pushed through it twice.

It stands in the folder of the client's store, without the ids of the samples. Of samples that may be read no longer it
is dropped, at the latest by the next message.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import pickle
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.client.known_answers import digest_of
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.methods.parts.frozen_features import frozen_features
from fed_unlearn.methods.parts.heads import Head

FILE_NAME = "features.pt"

MOST_BYTES = 2**28
"""Features that are larger are not kept: samples are then read at every request."""

_VERSION = 1
_DIGEST_BYTES = 32
_LARGEST = 2**31

logger = logging.getLogger("fed_unlearn.client")


class KeptFeatures:
    """The features of one backbone, in whole steps; :meth:`save` writes them.

    Parameters
    ----------
    folder : Path
        Of the client's store.
    fingerprint : str
        Digest of the data source that sample ids refer to. What is kept of other data is dropped.
    key_of : callable
        Gives the key of a training sample by its id, from which the id cannot be read.
    """

    def __init__(self, folder: Path, fingerprint: str, key_of: Callable[[str], str]) -> None:
        self._path, self._fingerprint, self._key_of = folder / FILE_NAME, fingerprint, key_of
        self._backbone = ""
        self._places: dict[str, int] = {}
        self._values = torch.empty(0, 0, dtype=torch.int32)
        self._has_changed = False
        self._read()

    @staticmethod
    def written_at(folder: Path) -> float:
        """When the folder's file was written, in seconds since the epoch; infinity where there is none."""
        try:
            return (folder / FILE_NAME).stat().st_mtime
        except OSError:
            return math.inf

    def of(self, user: str, model: nn.Module, head: Head, samples: SampleSet, step: float) -> tuple[Tensor, int]:
        """The features of samples, rounded to a step, and how many of them were pushed through the model.

        Parameters
        ----------
        user : str
            For error messages.
        model : nn.Module
        head : Head
            Of the model. Its weights do not matter.
        samples : SampleSet
            With ids.
        step : float

        Returns
        -------
        tuple of Tensor of shape (n, features), float64, and int
        """
        backbone = f"{digest_of(model, without=head.name)} {head.name} {step!r}"
        if backbone != self._backbone:
            self._forget_all(backbone)
        keys = [self._key_of(sample_id) for sample_id in samples.ids]
        missing = [place for place, key in enumerate(keys) if key not in self._places]
        if missing:
            features = frozen_features(user, model, head, samples.subset(torch.tensor(missing)))
            whole = (features / step).round()
            if not bool(whole.abs().max() < _LARGEST):
                return self._unkept(user, model, head, samples, step)
            start = len(self._places)
            self._values = torch.cat([self._values.reshape(-1, whole.shape[1]), whole.int()])
            self._places.update({keys[place]: start + index for index, place in enumerate(missing)})
            self._has_changed = True
        places = torch.tensor([self._places[key] for key in keys], dtype=torch.int64)
        return self._values[places].double() * step, len(missing)

    def save(self, unreadable: Collection[str] = ()) -> None:
        """Write what is kept.

        Parameters
        ----------
        unreadable : collection of str
            Ids of training samples that may be read no longer; their features are dropped.
        """
        dropped = {self._key_of(sample_id) for sample_id in unreadable} & self._places.keys()
        if dropped:
            kept = [(key, place) for key, place in self._places.items() if key not in dropped]
            self._values = self._values[[place for _, place in kept]]
            self._places = {key: index for index, (key, _) in enumerate(kept)}
            self._has_changed = True
        if not self._has_changed:
            return
        self._has_changed = False
        if self._values.nbytes > MOST_BYTES:
            logger.warning("%d features are more than is kept on disk; samples are read again", self._values.numel())
            self._path.unlink(missing_ok=True)
            return
        body = {
            "version": _VERSION,
            "fingerprint": self._fingerprint,
            "backbone": self._backbone,
            "keys": list(self._places),
            "values": self._values,
        }
        content = io.BytesIO()
        torch.save(body, content)
        written = content.getvalue()
        try:
            write_atomically(self._path, hashlib.sha256(written).digest() + written, synced=False)
        except OSError as error:
            with suppress(OSError):  # of a folder in its place, or of one that cannot be written to
                self._path.unlink(missing_ok=True)  # some of what it holds may be read no longer
            logger.warning("%s; samples are read again", error)

    def _unkept(self, user: str, model: nn.Module, head: Head, samples: SampleSet, step: float) -> tuple[Tensor, int]:
        """Features that are no numbers, or too large to be kept: whoever adds them up refuses them."""
        return (frozen_features(user, model, head, samples) / step).round() * step, len(samples)

    def _forget_all(self, backbone: str) -> None:
        self._backbone, self._places = backbone, {}
        self._values, self._has_changed = torch.empty(0, 0, dtype=torch.int32), True

    def _read(self) -> None:
        try:
            written = self._path.read_bytes()
            if hashlib.sha256(written[_DIGEST_BYTES:]).digest() != written[:_DIGEST_BYTES]:
                raise ValueError("it was cut short")
            body = torch.load(io.BytesIO(written[_DIGEST_BYTES:]), weights_only=True)
            if body["version"] != _VERSION or body["fingerprint"] != self._fingerprint:
                return
            self._backbone, self._values = body["backbone"], body["values"]
            self._places = {key: place for place, key in enumerate(body["keys"])}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            logger.warning("%s cannot be read, so samples are read again: %s", self._path, error)
