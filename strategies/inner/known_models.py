"""Which models a process has seen: digests of those that served, or that rounds made, and not the models."""

from __future__ import annotations

from flwr.serverapp.strategy import Strategy

from fed_unlearn.arrays import Arrays
from fed_unlearn.shapes import Shapes, shapes_of
from fed_unlearn.strategies.inner.contents import Path
from fed_unlearn.strategies.inner.model_forms import model_digest, read_model

PREFIX = "_fed_unlearn_"
"""Prefix of attributes that the library puts on a strategy."""

_MODELS = f"{PREFIX}models"
_MOST_DIGESTS = 10_000


class KnownModels:
    """Tells a model of the training from arrays that only look like one, such as a momentum.

    Attributes
    ----------
    shapes : mapping of str to tuple of int
        Shapes of the arrays of the model that serves, in its order; empty before the first.
    """

    def __init__(self) -> None:
        self.shapes: Shapes = {}
        self._digests: dict[str, None] = {}
        self._given: dict[Path, str] | None = None

    def note(self, arrays: Arrays) -> None:
        """Remember a model; of more than ten thousand the oldest is forgotten."""
        digest = model_digest(arrays)
        self._digests.pop(digest, None)
        self._digests[digest] = None
        if len(self._digests) > _MOST_DIGESTS:
            del self._digests[next(iter(self._digests))]

    def note_served(self, arrays: Arrays) -> None:
        """Remember the model that serves; what is kept is read as models of its names and shapes."""
        self.shapes = shapes_of(arrays)
        self.note(arrays)

    def note_kept(self, value: object) -> None:
        """Remember a model in the form in which a strategy keeps it; does nothing for anything else."""
        arrays = read_model(value, self.shapes)
        if arrays is not None:
            self.note(arrays)

    def has(self, digest: str) -> bool:
        """Whether a model with the digest is remembered."""
        return digest in self._digests

    def is_model(self, value: object) -> bool:
        """Whether a value is a model that is remembered, in any form."""
        arrays = read_model(value, self.shapes)
        return arrays is not None and self.has(model_digest(arrays))

    @property
    def knows_given(self) -> bool:
        """Whether it is noted what the user put on the strategy."""
        return self._given is not None

    def note_given(self, digests: dict[Path, str]) -> None:
        """Note which models the user put on the strategy before the first round, by where they lie."""
        self._given = digests

    def is_given(self, path: Path, digest: str) -> bool:
        """Whether a model lies where the user put it, and is as it was."""
        return (self._given or {}).get(path) == digest


def known_models(inner: Strategy) -> KnownModels:
    """The models that are known where a strategy is trained; they go with its copies."""
    known: KnownModels = vars(inner).setdefault(_MODELS, KnownModels())
    return known
