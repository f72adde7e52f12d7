"""What a request may be served with on one machine: retained samples, and ones that were never trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from avalanche.benchmarks.utils import AvalancheDataset

from fed_unlearn.avalanche.plugin.buffers import buffered
from fed_unlearn.avalanche.streams.samples import as_images, sample_ids
from fed_unlearn.data.images import ImageSet, concatenate, require_pixels
from fed_unlearn.errors import InvalidDataError, InvalidParameterError

_SETS = (AvalancheDataset, ImageSet)


def require_readable(retain: Any) -> None:
    """Refuse what retained samples cannot be read from.

    Raises
    ------
    InvalidParameterError
        If ``retain`` is none of what :func:`retained_images` takes.
    """
    if not isinstance(retain, _SETS) and retain not in ("memory", "seen"):
        raise InvalidParameterError(
            f'retain = {retain!r} was given; expected "memory", "seen", or an AvalancheDataset or ImageSet'
        )


def validation_sets(validation: Any) -> list[Any] | None:
    """The data sets of what a user gave to validate by; None where nothing was given.

    Parameters
    ----------
    validation : data set, ImageSet, stream or None
        Read once: a generator of experiences will do.

    Raises
    ------
    InvalidParameterError
        If it is none of these.
    """
    if validation is None:
        return None
    if isinstance(validation, _SETS):
        return [validation]
    found = [getattr(item, "dataset", None) for item in validation] if isinstance(validation, Iterable) else [None]
    if not all(isinstance(item, _SETS) for item in found):
        raise InvalidParameterError(
            f"validation = {type(validation).__name__} was given; expected an AvalancheDataset, an ImageSet or a stream"
        )
    return found


def require_usable(dataset: AvalancheDataset) -> None:
    """Refuse samples that no request could be served with, before they are trained on.

    Parameters
    ----------
    dataset : AvalancheDataset
        Its first sample is read.

    Raises
    ------
    InvalidDataError
        If samples have no ids, or images are not float tensors in [0, 1].
    """
    if len(dataset):
        require_pixels(as_images(dataset.subset([0])).images)


def retained_images(retain: Any, strategy: Any, seen: list[Any], experience: Any) -> ImageSet:
    """The retained samples that may be read, each once.

    Parameters
    ----------
    retain : {"memory", "seen"} or data set
        What the strategy keeps and its last training experience; all training experiences so far; or these.
    strategy : SupervisedTemplate
    seen : list of experience
        Training experiences so far, without forgotten samples.
    experience : ForgetExperience
        Of the benchmark, and with images of the shape that is wanted where there are no samples.

    Raises
    ------
    InvalidDataError
        If a data set of the user's has ids that the benchmark does not have: forgotten samples could not be told.
    """
    if isinstance(retain, _SETS):
        images = retain if isinstance(retain, ImageSet) else as_images(retain)
        known = {
            name for item in experience.origin_stream.benchmark.streams["train"] for name in sample_ids(item.dataset)
        }
        foreign = [name for name in images.ids if name not in known]
        if foreign:
            raise InvalidDataError(
                f"retain: sample {foreign[0]!r} and {len(foreign) - 1} more are not of the benchmark's training stream,"
                " so that forgotten ones could not be left out; give a data set under the benchmark's own sample ids"
            )
        return images
    if retain == "memory":
        sources = [*buffered(strategy), *(item.dataset for item in seen[-1:])]
    else:
        sources = [item.dataset for item in seen]
    return _joined(sources, experience.dataset)


def validation_images(sets: list[Any] | None, experience: Any) -> ImageSet:
    """Samples that were never trained on: those given, else the benchmark's ``valid`` stream; none where there is none.

    Parameters
    ----------
    sets : list of data sets, or None
        Of :func:`validation_sets`.
    experience : ForgetExperience
        Of the benchmark, and with images of the shape that is wanted where there are none.
    """
    if sets is None:
        sets = [item.dataset for item in experience.origin_stream.benchmark.streams.get("valid", [])]
    return _joined(sets, experience.dataset)


def _joined(sources: Iterable[Any], like: AvalancheDataset) -> ImageSet:
    """All samples of several sets, each id once; ``like`` gives the shape where there are none."""
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
