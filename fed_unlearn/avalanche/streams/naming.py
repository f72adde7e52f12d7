"""Copies of a benchmark's experiences in which every sample has an id."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
from avalanche.benchmarks.scenarios.generic_scenario import EagerCLStream, ExperienceAttribute
from avalanche.benchmarks.utils import AvalancheDataset

from fed_unlearn.avalanche.streams.origin import CopiedWhole, place_of, unmasked
from fed_unlearn.avalanche.streams.samples import SAMPLE_ID, attribute_values, has_sample_ids, located, with_sample_ids
from fed_unlearn.errors import InvalidDataError


def named_stream(name: str, experiences: Iterable[Any], *, prefix: str, once: bool) -> EagerCLStream:
    """Return a stream of copies of the given experiences whose samples have ids.

    Ids that are there already are kept as text. :func:`made_ids` makes the others.

    Parameters
    ----------
    name : str
        Name of the stream.
    experiences : iterable of CLExperience
        The experiences. They are not changed. Copies keep their class, attributes and number.
    prefix : str
        Prefix of ids that are made here.
    once : bool
        Whether every sample must be in one experience only.

    Returns
    -------
    EagerCLStream
        The ``origin_stream`` of the copies. The caller sets its ``benchmark``.

    Raises
    ------
    InvalidDataError
        If only some of the experiences have ids, or ``once`` is set and an id that was there comes twice.
    """
    copies = [copied_experience(experience) for experience in experiences]
    datasets = [getattr(experience, "dataset", None) for experience in copies]
    if all(isinstance(dataset, AvalancheDataset) for dataset in datasets):
        ids = _kept_ids(name, datasets)
        if ids is None:
            ids = made_ids(datasets, prefix)
        elif once:
            require_once(name, ids)
        for experience, dataset, part in zip(copies, datasets, ids, strict=True):
            _set_dataset(experience, _renamed(dataset, part))
    stream = NamedStream(name, copies, set_stream_info=False)
    for index, experience in enumerate(copies):
        if experience._current_experience is None:
            experience.current_experience = index
        experience.origin_stream = stream
    return stream


class NamedStream(CopiedWhole, EagerCLStream):
    """A stream whose experiences are pickled and copied without the benchmark that they were made from.

    Benchmarks such as ``nc_benchmark`` makes cannot be pickled.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_exps": [bare_experience(experience, self) for experience in self._exps]}


def bare_experience(experience: Any, stream: Any = None) -> Any:
    """Return an experience with the data set, number, classes and tasks of another, and with nothing else of it.

    Parameters
    ----------
    experience : DatasetExperience
        The experience, or an online part of one. It is not changed.
    stream : CLStream, optional
        The ``origin_stream`` of the new experience.
    """
    with unmasked(experience):
        bare: Any = DatasetExperience(dataset=experience.dataset)
        bare.current_experience, bare.origin_stream = place_of(experience), stream
        for name in ("classes_in_this_experience", "previous_classes", "classes_seen_so_far", "future_classes"):
            if getattr(experience, name, None) is not None:
                setattr(bare, name, getattr(experience, name))
        if hasattr(experience, "task_labels"):
            bare.task_labels = list(experience.task_labels)
            if len(bare.task_labels) == 1:
                bare.task_label = bare.task_labels[0]
    return bare


def made_ids(datasets: Sequence[AvalancheDataset], prefix: str = "") -> list[list[str]]:
    """Return an id for each sample of a stream's data sets.

    The id is the index in the data set that all given data sets are views of, or, without such a data set, the running
    number over the stream. If a sample of that data set comes more than once, as in permuted benchmarks, each time with
    its own transformation, the id is ``"<experience>:<index>"``: the number of the experience and the index in it, both
    counted from 0.

    Parameters
    ----------
    datasets : sequence of AvalancheDataset
        The data sets of all experiences in order.
    prefix : str
        Prefix of every id.

    Returns
    -------
    list of lists of str
        Ids of the samples, one list for each data set. No id comes twice.
    """
    positions = original_positions(datasets)
    together = [position for part in positions for position in part]
    if len(set(together)) < len(together):
        return [[f"{prefix}{number}:{index}" for index in range(len(part))] for number, part in enumerate(positions)]
    return [[f"{prefix}{position}" for position in part] for part in positions]


def original_positions(datasets: Sequence[AvalancheDataset]) -> list[list[int]]:
    """Return the position of each sample in the data set that all given data sets are views of.

    Returns
    -------
    list of lists of int
        Positions of the samples in the common data set, one list for each data set. Without a common data set, running
        numbers over all data sets.
    """
    found = [located(dataset) for dataset in datasets]
    bases = [base for part in found for base in part[0]]
    if bases and all(base is bases[0] for base in bases):
        return [positions.tolist() for _, _, positions in found]
    ends = np.cumsum([len(dataset) for dataset in datasets]).tolist()
    return [list(range(end - len(dataset), end)) for dataset, end in zip(datasets, ends, strict=True)]


def copied_experience(experience: Any) -> Any:
    """Return a shallow copy that shares no number and no mask with the given experience."""
    copied = copy.copy(experience)
    for name, value in vars(copied).items():
        if isinstance(value, ExperienceAttribute):  # otherwise Avalanche's copies write into the original
            copied.__dict__[name] = copy.copy(value)
    return copied


def experience_with(experience: Any, dataset: AvalancheDataset) -> Any:
    """Return a copy of an experience with another data set."""
    copied = copied_experience(experience)
    _set_dataset(copied, dataset)
    return copied


def require_once(name: str, ids: Sequence[Sequence[str]], first: int = 0) -> None:
    """Raise if a sample comes twice in a stream.

    Parameters
    ----------
    name : str
        Name of the stream, for the message.
    ids : sequence of sequences of str
        Sample ids of each experience.
    first : int
        Number of the first experience, for the message.

    Raises
    ------
    InvalidDataError
        The message names the sample and the experiences.
    """
    experience_of: dict[str, int] = {}
    for number, part in enumerate(ids, start=first):
        for sample_id in part:
            if sample_id in experience_of:
                before = experience_of[sample_id]
                where = f"in experiences {before} and {number}" if before < number else f"twice in experience {number}"
                raise InvalidDataError(
                    f"sample {sample_id!r} comes {where} of the {name} stream; expected each sample at most once"
                )
            experience_of[sample_id] = number


def _kept_ids(name: str, datasets: Sequence[AvalancheDataset]) -> list[list[str]] | None:
    filled = [(number, dataset) for number, dataset in enumerate(datasets) if len(dataset)]
    nameless = [number for number, dataset in filled if not has_sample_ids(dataset)]
    if len(nameless) == len(filled):
        return None
    if nameless:
        raise InvalidDataError(
            f"experience {nameless[0]} of the {name} stream has no sample ids while others have; give them to all data"
            " sets with with_sample_ids, or to none"
        )
    return [list(map(str, attribute_values(dataset, SAMPLE_ID))) if len(dataset) else [] for dataset in datasets]


def _renamed(dataset: AvalancheDataset, ids: list[str]) -> AvalancheDataset:
    if has_sample_ids(dataset) and attribute_values(dataset, SAMPLE_ID) == ids:
        return dataset
    return with_sample_ids(dataset, ids, unique=False)


def _set_dataset(experience: Any, dataset: AvalancheDataset) -> None:
    try:
        experience.dataset = dataset
    except AttributeError:  # the attribute is read-only in newer experiences
        experience._dataset = dataset
