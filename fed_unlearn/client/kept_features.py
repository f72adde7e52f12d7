"""What a frozen backbone gives for a client's samples, kept on disk: no sample is pushed through it twice.

It stands in the folder of the client's store, without the ids of the samples. Of samples that may be read no longer it
is dropped, at the latest by the next message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fed_unlearn.client.kept_files import read_kept, write_kept
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.methods.parts.frozen_features import frozen_features
from fed_unlearn.methods.parts.heads import Head
from fed_unlearn.model_digests import digest_of

FILE_NAME = "features.pt"

MOST_BYTES = 2**28
"""Features that are larger are not kept: samples are then read at every request."""

_VERSION = 1
_LARGEST = 2**31

logger = logging.getLogger("fed_unlearn.client")


class KeptFeatures:
    """The features of one backbone, in whole steps; :meth:`save` writes them.

    Parameters
    ----------
    folder : Path
        Folder of the client's store.
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
        if (known := read_kept(self._path, _VERSION, fingerprint, _parts_of)) is not None:
            self._backbone, keys, self._values = known
            self._places = {key: place for place, key in enumerate(keys)}

    def of(self, user: str, model: nn.Module, head: Head, samples: SampleSet, step: float) -> tuple[Tensor, int]:
        """The features of samples, rounded to a step, and how many of them were pushed through the model.

        Parameters
        ----------
        user : str
            Name of the method or the client, for error messages.
        model : nn.Module
        head : Head
            Output layer of the model. Its weights do not matter.
        samples : SampleSet
            Samples with ids.
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
        body = {"backbone": self._backbone, "keys": list(self._places), "values": self._values}
        write_kept(self._path, _VERSION, self._fingerprint, body)

    def _unkept(self, user: str, model: nn.Module, head: Head, samples: SampleSet, step: float) -> tuple[Tensor, int]:
        """Features that are no numbers, or too large to be kept: whoever adds them up refuses them."""
        return (frozen_features(user, model, head, samples) / step).round() * step, len(samples)

    def _forget_all(self, backbone: str) -> None:
        self._backbone, self._places = backbone, {}
        self._values, self._has_changed = torch.empty(0, 0, dtype=torch.int32), True


def _parts_of(body: Mapping[str, Any]) -> tuple[str, list[str], Tensor]:
    """The backbone, the keys of the samples, and their features, one row each.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the file holds no such parts.
    """
    backbone, keys, values = body["backbone"], list(body["keys"]), body["values"]
    if len(keys) != len(values):
        raise ValueError("its parts are of different lengths")
    return backbone, keys, values
