"""Validation samples of the server's own, by which a gate judges retained accuracy in place of clients' counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from fed_unlearn.arrays import Arrays, pack, to_state_dict
from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, InvalidDataError
from fed_unlearn.logits import predict_logits
from fed_unlearn.text import printable


@dataclass(frozen=True, eq=False)
class ServerValidation:
    """Labelled samples that the server holds itself, and a model to read them by.

    They must be samples that no client trains on. The accuracy on them needs no client's word.

    Attributes
    ----------
    samples : SampleSet
        Labelled samples, at least one.
    model : nn.Module
        A model of the federation's kind, on the device that computes. Its weights are overwritten at every count.
    load : callable, optional
        Puts the arrays of the federation, as tensors by name, into ``model``: the task's ``load_arrays``. Needed where
        clients send a part of the model; the rest stays as it is here.

    Raises
    ------
    InvalidDataError
        If there is no sample, or something else than a SampleSet is given.

    Examples
    --------
    >>> from fed_unlearn.strategies import Gate
    >>> gate = Gate(validation=ServerValidation(samples, model))  # doctest: +SKIP
    """

    samples: SampleSet
    model: nn.Module
    load: Callable[[nn.Module, Mapping[str, Tensor]], object] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.samples, SampleSet):
            given = type(self.samples).__name__
            raise InvalidDataError(
                f"server validation: samples are a {given}; expected an ImageSet or another SampleSet"
            )
        if len(self.samples) == 0:
            raise InvalidDataError("server validation: no sample was given; expected at least one")

    def count(self, arrays: Arrays) -> ClassCounts:
        """Count how many samples of each class a model has right.

        Parameters
        ----------
        arrays : dict of ndarray
            The model, as the federation exchanges it.

        Returns
        -------
        ClassCounts
            Correct and total samples, with one entry for each output of the model.

        Raises
        ------
        InvalidDataError
            If ``model`` is of another kind than the federation's, so that its arrays do not fit.
        """
        try:
            tensors = to_state_dict(pack(arrays))
            if self.load is not None:
                self.load(self.model, tensors)
            else:
                self.model.load_state_dict(tensors)
        except (RuntimeError, FedUnlearnError) as error:
            told = printable(str(error))
            raise InvalidDataError(
                f"server validation: the federation's arrays do not fit its model: {told}; give one of the same"
                " kind, and load=task.load_arrays where clients send a part of it"
            ) from error
        logits = predict_logits(self.model, self.samples)
        return ClassCounts.of(logits, self.samples.labels.cpu(), logits.shape[1])
