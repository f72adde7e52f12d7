"""The samples that a request is served with: forget set, retained samples and validation samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import nn

from fed_unlearn.avalanche.plugin.buffers import buffered
from fed_unlearn.avalanche.plugin.history import History
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.samples import as_images, labels_of, sample_ids
from fed_unlearn.data.images import ImageSet, concatenate, require_pixels
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.local import LocalSamples
from fed_unlearn.logits import predict_logits

_SETS = (AvalancheDataset, ImageSet)


class RequestSamples:
    """Reads the samples for requests from what the user of a plug-in chose.

    Parameters
    ----------
    retain, validation
        What the user chose, as for :class:`~fed_unlearn.avalanche.plugin.UnlearningPlugin`.

    Raises
    ------
    InvalidParameterError
        If ``retain`` or ``validation`` is of another kind.
    """

    def __init__(self, retain: Any, validation: Any) -> None:
        if not isinstance(retain, _SETS) and retain not in ("memory", "seen"):
            raise InvalidParameterError(
                f'retain = {retain!r} was given; expected "memory", "seen", or an AvalancheDataset or ImageSet'
            )
        self._retain = retain
        self._validation = None if validation is None else _datasets_of(validation)

    def read(self, strategy: Any, experience: ForgetExperience, history: History, views: Sequence[Any]) -> LocalSamples:
        """Return the samples to serve a request with.

        Parameters
        ----------
        strategy : SupervisedTemplate
            The strategy. Its buffers hold no forgotten samples.
        experience : ForgetExperience
            The experience of the request, which ``history`` has already.
        history : History
            What the plug-in has met.
        views : sequence of DatasetExperience
            The training experiences of ``history``, without forgotten samples.

        Raises
        ------
        InvalidParameterError
            If nothing was trained yet and there are no retained samples.
        InvalidDataError
            If the user's retained samples have ids that the benchmark does not have.
        """
        forget = as_images(experience.dataset)
        retained = self.retained(strategy, experience, views).without(history.forgotten)
        retained = retained.of_classes(set(retained.labels.tolist()) - history.asked_classes)
        arrived = {label for view in views for label in labels_of(view.dataset)}
        # If the model was trained elsewhere, the retained samples tell its classes.
        arrived = arrived or set(retained.labels.tolist())
        if not arrived:
            raise InvalidParameterError(
                f"request {experience.request.id}: the strategy has trained nothing yet, and there are no retained"
                " samples; train first, or give those of the model's training as retain="
            )
        return LocalSamples(
            forget=forget,
            retained=retained,
            validation=self.validation(experience),
            absent_classes=frozenset(range(_class_count(strategy.model, forget))) - arrived,
        )

    def retained(self, strategy: Any, experience: ForgetExperience, views: Sequence[Any]) -> ImageSet:
        """Return the samples that may be read as retained, each once. The user's own may include forgotten ones.

        Raises
        ------
        InvalidDataError
            If the user's samples have ids that the benchmark does not have: forgotten ones could not be told.
        """
        if isinstance(self._retain, _SETS):
            return _of_benchmark(self._retain, experience.origin_stream.benchmark)
        if self._retain == "memory":
            sources = [*buffered(strategy), *(item.dataset for item in views[-1:])]
        else:
            sources = [item.dataset for item in views]
        return _joined(sources, experience.dataset)

    def validation(self, experience: ForgetExperience) -> ImageSet:
        """Return the samples that are never trained on: the user's, or the benchmark's ``valid`` stream, or none."""
        sets = self._validation
        if sets is None:
            sets = [item.dataset for item in experience.origin_stream.benchmark.streams.get("valid", [])]
        return _joined(sets, experience.dataset)


def require_usable(dataset: AvalancheDataset) -> None:
    """Raise if no request could be served with these samples. Call it before they are trained on.

    Parameters
    ----------
    dataset : AvalancheDataset
        The data set. Its first sample is read.

    Raises
    ------
    InvalidDataError
        If samples have no ids, or images are not float tensors in [0, 1].
    """
    if len(dataset):
        require_pixels(as_images(dataset.subset([0])).images)


def _datasets_of(validation: Any) -> list[Any]:
    """Return the data sets of a data set, an ImageSet or a stream, which may be a generator."""
    if isinstance(validation, _SETS):
        return [validation]
    found = [getattr(item, "dataset", None) for item in validation] if isinstance(validation, Iterable) else [None]
    if not all(isinstance(item, _SETS) for item in found):
        raise InvalidParameterError(
            f"validation = {type(validation).__name__} was given; expected an AvalancheDataset, an ImageSet or a stream"
        )
    return found


def _of_benchmark(retain: Any, benchmark: Any) -> ImageSet:
    images = retain if isinstance(retain, ImageSet) else as_images(retain)
    known = {name for item in benchmark.streams["train"] for name in sample_ids(item.dataset)}
    foreign = [name for name in images.ids if name not in known]
    if foreign:
        raise InvalidDataError(
            f"retain: sample {foreign[0]!r} and {len(foreign) - 1} more are not of the benchmark's training stream,"
            " so that forgotten ones could not be left out; give a data set under the benchmark's own sample ids"
        )
    return images


def _joined(sources: Iterable[Any], like: AvalancheDataset) -> ImageSet:
    """Return all samples of several sets, each id once. ``like`` gives the image shape if there are none."""
    parts: list[ImageSet] = []
    known: set[str] = set()
    for source in sources:
        if len(source) == 0:
            continue
        images = source if isinstance(source, ImageSet) else as_images(source)
        part = images.without(known)
        known.update(part.ids)
        parts.append(part)
    if not parts:
        first = as_images(like.subset([0]))
        return first.without(first.ids)
    return concatenate(*parts)


def _class_count(model: nn.Module, images: ImageSet) -> int:
    return predict_logits(model, images.subset(torch.tensor([0]))).shape[1]
