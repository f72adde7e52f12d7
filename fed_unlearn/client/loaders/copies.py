"""A DataLoader like another one, over other samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from fed_unlearn.errors import InvalidDataError


class JoiningBatchSampler(BatchSampler):
    """Batches where the last one, of a single sample, is joined to the one before."""

    def __iter__(self) -> Iterator[list[int]]:
        """Yield positions, batch by batch."""
        held: list[int] = []
        for batch in super().__iter__():
            if held and len(batch) == 1:
                held = [*held, *batch]
                continue
            if held:
                yield held
            held = batch
        if held:
            yield held

    def __len__(self) -> int:
        return super().__len__() - 1


def check_loader(loader: DataLoader[Any]) -> None:
    """Raise if a loader does not read each sample of a map-style dataset once.

    Raises
    ------
    InvalidDataError
        If its dataset is iterable-style, it has a sampler or a batch sampler of its own, or makes no batches.
    """
    if isinstance(loader.dataset, IterableDataset) or not isinstance(loader.dataset, Sized):
        raise InvalidDataError(
            f"a loader over {type(loader.dataset).__name__}, an iterable-style dataset, was given; expected a map-style"
            " one: samples that are forgotten are left out by their position"
        )
    if type(loader).__iter__ is not DataLoader.__iter__:
        raise InvalidDataError(
            f"a {type(loader).__name__}, a loader with an __iter__ of its own, was given; expected a DataLoader: what"
            " it makes of batches would be lost. Do it in the collate function"
        )
    if loader.batch_sampler is None:
        raise InvalidDataError("a loader without batches was given; expected one with a batch_size")
    batches = loader.batch_sampler
    is_plain = isinstance(batches, BatchSampler) and type(batches) in (BatchSampler, JoiningBatchSampler)
    sampler: object = batches.sampler if isinstance(batches, BatchSampler) and is_plain else batches
    if type(sampler) not in (RandomSampler, SequentialSampler):
        raise InvalidDataError(
            f"a loader with a {type(sampler).__name__} was given; its choice would fall on forgotten samples: give one"
            " with shuffle=True or False, over a torch.utils.data.Subset if it is to read a part"
        )
    if isinstance(sampler, RandomSampler) and (sampler.replacement or len(sampler) != len(loader.dataset)):
        raise InvalidDataError(
            f"a loader that draws {len(sampler)} of {len(loader.dataset)} samples was given; expected one that reads"
            " each of them once"
        )


def same_loader(
    loader: DataLoader[Any],
    dataset: Dataset[Any],
    *,
    collate: Callable[[list[Any]], Any] | None = None,
    generator: torch.Generator | None = None,
) -> DataLoader[Any]:
    """A loader over other samples, with everything else of a given one.

    A last batch of one sample is joined to the one before, since a layer that normalises over the batch cannot train on
    it. The one batch of fewer samples than a batch has is not dropped.

    Parameters
    ----------
    loader : DataLoader
        The loader, one that :func:`check_loader` takes.
    dataset : Dataset
        The samples, as a map-style data set.
    collate : callable, optional
        Makes a batch of a list of items, in place of the loader's own function.
    generator : torch.Generator, optional
        Source of the order and of the workers' seeds, on the CPU; the loader's own where none is given.
    """
    if not isinstance(dataset, Sized):
        raise InvalidDataError(f"{type(dataset).__name__} has no length; expected a map-style dataset")
    size = len(dataset)
    batches = _batch_sampler(loader)
    source = generator if generator is not None else loader.generator
    shuffles = size > 0 and isinstance(batches.sampler, RandomSampler)
    drops_last = batches.drop_last and size >= batches.batch_size  # else nothing would be left
    batching: dict[str, Any] = {"batch_size": batches.batch_size, "drop_last": drops_last, "shuffle": shuffles}
    if _leaves_one(size, batches.batch_size, drops_last):
        sampler = RandomSampler(dataset, generator=source) if shuffles else SequentialSampler(dataset)
        batching = {"batch_sampler": JoiningBatchSampler(sampler, batches.batch_size, drops_last)}
    copied: DataLoader[Any] = DataLoader(
        dataset,
        **batching,
        num_workers=loader.num_workers,
        collate_fn=collate or loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=source,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
    if copied.batch_size is None:  # with a batch sampler, and training functions ask for it
        object.__setattr__(copied, "batch_size", batches.batch_size)
    return copied


def _batch_sampler(loader: DataLoader[Any]) -> BatchSampler:
    if not isinstance(loader.batch_sampler, BatchSampler):
        raise InvalidDataError(f"a loader with {type(loader.batch_sampler).__name__} was given; expected a batch_size")
    return loader.batch_sampler


def _leaves_one(size: int, batch_size: int, drops_last: bool) -> bool:
    """Whether a last batch has one sample, and there is one before."""
    return batch_size > 1 and size > batch_size and size % batch_size == 1 and not drops_last
