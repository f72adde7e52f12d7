"""Whether a benchmark shows samples as the clients hold them; for those that users make."""

from __future__ import annotations

from typing import Any

import torch

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError

_COMPARED = 8
_TOLERANCE = 1e-4  # of a pixel in [0, 1]; a step of a byte is forty times as much


def check_served_as_held(benchmark: Any, name: str, held: ImageSet) -> None:
    """Compare a stream of a benchmark with the samples that it was made of: all labels, and some images of each part.

    Clients train and are tested on their own samples: labels that a benchmark renames and images that it changes when
    they are read for evaluation would be measured by the server alone.

    Parameters
    ----------
    benchmark : CLScenario
    name : str
        Name of the stream, ``"train"`` or ``"test"``.
    held : ImageSet
        What it was made of.

    Raises
    ------
    InvalidDataError
        Naming the first sample that is not there, or that is another one.
    """
    positions = {sample_id: position for position, sample_id in enumerate(held.ids)}
    labels = held.labels.tolist()
    for number, experience in enumerate(benchmark.streams.get(name, ()), start=1):
        where = f"experience {number} of the {name} stream"
        for sample_id, label in _labels_by_id(experience, where):
            if sample_id not in positions:
                raise InvalidDataError(
                    f"{where} has a sample {sample_id!r}, which is no {name} sample; expected samples of the given"
                    f" {name} set, under their own ids"
                )
            if label != labels[positions[sample_id]]:
                raise InvalidDataError(
                    f"{where} gives sample {sample_id!r} the label {label}; expected {labels[positions[sample_id]]}, as"
                    " clients have it: make a benchmark that does not rename classes"
                )
        _check_images(experience.dataset, where, positions, held)


def _labels_by_id(experience: Any, where: str) -> list[tuple[str, int]]:
    from fed_unlearn.avalanche.streams.samples import labels_of, sample_ids

    try:
        return list(zip(sample_ids(experience.dataset), labels_of(experience.dataset), strict=True))
    except (AttributeError, KeyError, InvalidDataError) as error:
        raise InvalidDataError(f"{where} has no data set with targets and sample ids ({error})") from error


def _check_images(dataset: Any, where: str, positions: dict[str, int], held: ImageSet) -> None:
    from fed_unlearn.avalanche.streams.reading import as_samples

    if len(dataset) == 0:
        return
    chosen = sorted({step * (len(dataset) - 1) // (_COMPARED - 1) for step in range(_COMPARED)})
    few = dataset.subset(chosen)
    reason = "as another image or label"
    try:
        shown = as_samples(few)
        pixels, labels = shown.batch()
        expected, own = held.batch(torch.tensor([positions[sample_id] for sample_id in shown.ids]))
        same = pixels.shape == expected.shape and bool((pixels - expected).abs().max() <= _TOLERANCE)
        same = same and torch.equal(labels, own)
    except Exception as error:  # transformations are the user's own code
        same, reason = False, f"otherwise ({type(error).__name__}: {error})".replace("\n", " ")
    if not same:
        raise InvalidDataError(
            f"{where} shows a sample that a client holds {reason}; expected samples as they were given, since what a"
            " benchmark does when they are read for evaluation does not reach clients: leave out such transformations"
        )
