"""What models have answered to a client's samples, kept on disk: no sample is read by the same model twice.

The model that a request is committed with is the one that the next request begins with, and what is looked at after the
commit. Its answers are known from the audit by which it was accepted.

They stand in the folder of the client's store, without the ids of the samples. Of samples that may be read no longer
they are dropped, at the latest by the next message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fed_unlearn.client.kept_files import read_kept, write_kept
from fed_unlearn.model_digests import digest_of

FILE_NAME = "answers.pt"

MOST_MODELS = 5
"""The served model, and the candidates of an attempt with one or two repair rounds, the last with its rows set."""

MOST_BYTES = 2**26
"""Answers of the models that were asked longest ago are dropped where all are larger."""

_VERSION = 2
_KEY_LENGTH = 32
_TRAIN = "train"


@dataclass
class ModelAnswers:
    """What one model has answered.

    Attributes
    ----------
    digest : str
        Digest of the model.
    keys : list of str
        Keys of the samples, as :meth:`KnownAnswers.key_of` makes them.
    logits, scores : Tensor of shape (n, classes), float32
    readers : list of str
        Attempts that each sample was read for, as one string a sample; an empty string for none.
    """

    digest: str
    keys: list[str] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    scores: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    readers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._places = {key: place for place, key in enumerate(self.keys)}

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Positions of the samples that the model was not asked about."""
        return [position for position, key in enumerate(keys) if key not in self._places]

    def read_for(self, keys: Sequence[str], reader: str) -> list[str]:
        """Those of the samples that were read for some attempts before."""
        places = {key: self._places.get(key) for key in keys}
        return [key for key, place in places.items() if place is not None and self.readers[place] == reader]

    def of(self, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Logits and scores of samples that the model was asked about, in their order."""
        places = torch.tensor([self._places[key] for key in keys], dtype=torch.int64)
        return self.logits[places], self.scores[places]

    def add(self, keys: Sequence[str], logits: Tensor, scores: Tensor, reader: str) -> None:
        """Note what the model has answered to further samples."""
        self.logits = torch.cat([self.logits, logits.cpu()]) if self.keys else logits.cpu()
        self.scores = torch.cat([self.scores, scores.cpu()]) if self.keys else scores.cpu()
        self._places.update({key: len(self.keys) + place for place, key in enumerate(keys)})
        self.keys.extend(keys)
        self.readers.extend([reader] * len(keys))

    def without(self, keys: Collection[str]) -> ModelAnswers:
        """The answers without those to some samples."""
        kept = [place for place, key in enumerate(self.keys) if key not in keys]
        if len(kept) == len(self.keys):
            return self
        names, readers = [self.keys[place] for place in kept], [self.readers[place] for place in kept]
        return ModelAnswers(self.digest, names, self.logits[kept], self.scores[kept], readers)

    @property
    def bytes(self) -> int:
        """Size of the tensors."""
        return self.logits.nbytes + self.scores.nbytes


class KnownAnswers:
    """The answers of the models that were asked last; :meth:`save` writes them.

    Parameters
    ----------
    folder : Path
        Folder of the client's store.
    fingerprint : str
        Digest of the data source that sample ids refer to. What is known of other data is dropped.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._path, self._fingerprint = folder / FILE_NAME, fingerprint
        self._models = read_kept(self._path, _VERSION, fingerprint, _answers_of) or []
        self._has_changed = False

    def key_of(self, part: str, sample_id: str) -> str:
        """The key of a sample, from which its id cannot be read. Ids are unique within a part of a client's data."""
        return hashlib.sha256(f"{self._fingerprint}/{part}/{sample_id}".encode()).hexdigest()[:_KEY_LENGTH]

    def of(self, model: nn.Module) -> ModelAnswers:
        """What a model has answered so far; it counts as asked last."""
        digest = digest_of(model)
        known = next((answers for answers in self._models if answers.digest == digest), ModelAnswers(digest))
        if not self._models or self._models[-1] is not known:
            self._models = [*(answers for answers in self._models if answers is not known), known]
            self._has_changed = True
        return known

    def before(self, answers: ModelAnswers) -> list[ModelAnswers]:
        """What other models have answered, those that were asked last first."""
        return [known for known in reversed(self._models) if known is not answers]

    def keep_last(self) -> None:
        """Drop what all models have answered but the one that was asked last."""
        self._has_changed = self._has_changed or len(self._models) > 1
        del self._models[:-1]

    def save(self, unreadable: Collection[str] = ()) -> None:
        """Write what is known.

        Parameters
        ----------
        unreadable : collection of str
            Ids of training samples that may be read no longer; what is known of them is dropped.
        """
        dropped = {self.key_of(_TRAIN, sample_id) for sample_id in unreadable}
        before = [len(answers.keys) for answers in self._models]
        kept = [answers.without(dropped) for answers in self._models][-MOST_MODELS:]
        while sum(answers.bytes for answers in kept) > MOST_BYTES:
            del kept[0]
        self._has_changed = self._has_changed or [len(answers.keys) for answers in kept] != before
        self._models = kept
        if self._has_changed:
            self._write()

    def drop(self, unreadable: Collection[str]) -> None:
        """As :meth:`save`, and the file is written anew in any case."""
        self._has_changed = True
        self.save(unreadable)

    def add(self, answers: ModelAnswers, keys: Sequence[str], logits: Tensor, scores: Tensor, reader: str) -> None:
        """Note what one of the models has answered to further samples, read for some attempts."""
        answers.add(keys, logits, scores, reader)
        self._has_changed = True

    def _write(self) -> None:
        body = [
            {name: getattr(answers, name) for name in ("digest", "keys", "logits", "scores", "readers")}
            for answers in self._models
        ]
        self._has_changed = not write_kept(self._path, _VERSION, self._fingerprint, {"models": body})


def _answers_of(body: Mapping[str, Any]) -> list[ModelAnswers]:
    """What a file holds.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is no such file.
    """
    found = [ModelAnswers(**answers) for answers in body["models"]]
    if any(not len(one.keys) == len(one.logits) == len(one.scores) == len(one.readers) for one in found):
        raise ValueError("its parts are of different lengths")
    return found
