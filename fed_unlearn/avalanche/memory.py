"""What a request may be served with on one machine: retained samples, and ones that were never trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from avalanche.benchmarks.utils import AvalancheDataset

from fed_unlearn.avalanche.buffers import buffered
from fed_unlearn.avalanche.samples import as_images
from fed_unlearn.data.images import ImageSet, concatenate

_SETS = (AvalancheDataset, ImageSet)


def retained_images(retain: Any, strategy: Any, seen: list[Any], like: AvalancheDataset) -> ImageSet:
    """The retained samples that may be read, each once.

    Parameters
    ----------
    retain : {"memory", "seen"} or data set
        What the strategy keeps and its last training experience; all training experiences so far; or these.
    strategy : SupervisedTemplate
    seen : list of experience
        Training experiences so far, without forgotten samples.
    like : AvalancheDataset
        With images of the shape that is wanted where there are no samples.
    """
    if retain == "memory":
        sources = [*buffered(strategy), *(experience.dataset for experience in seen[-1:])]
    elif retain == "seen":
        sources = [experience.dataset for experience in seen]
    else:
        sources = [retain]
    return _joined(sources, like)


def validation_images(validation: Any, experience: Any) -> ImageSet:
    """Samples that were never trained on: those given, else the benchmark's ``valid`` stream; none where there is none.

    Parameters
    ----------
    validation : data set, ImageSet, stream or None
    experience : ForgetExperience
        Of the benchmark, and with images of the shape that is wanted where there are none.
    """
    if validation is None:
        validation = experience.origin_stream.benchmark.streams.get("valid", [])
    if isinstance(validation, _SETS):
        return _joined([validation], experience.dataset)
    return _joined([item.dataset for item in validation], experience.dataset)


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
