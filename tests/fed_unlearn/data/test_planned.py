"""Loaders of planned batches."""

from __future__ import annotations

import torch
from torch.utils.data import TensorDataset, default_collate

from fed_unlearn.data.planned import planned_loader

ROWS = TensorDataset(torch.arange(6.0))


def test_batches_are_those_of_the_plan() -> None:
    read = planned_loader(ROWS, [[4, 1], [2]], collate=default_collate)
    assert [rows.tolist() for (rows,) in read] == [[4.0, 1.0], [2.0]]
    assert list(planned_loader(ROWS, [], collate=default_collate)) == []


def test_workers_read_several_batches_and_a_single_one_needs_none() -> None:
    assert planned_loader(ROWS, [[0], [1]], collate=default_collate, workers=2).num_workers == 2
    assert planned_loader(ROWS, [[0, 1]], collate=default_collate, workers=2).num_workers == 0


def test_nothing_is_drawn_from_the_global_generator_and_another_order_has_another_seed() -> None:
    before = torch.random.get_rng_state()
    loaders = [planned_loader(ROWS, plan, collate=default_collate) for plan in ([[0, 1]], [[1, 0]], [[0, 1]])]
    for loader in loaders:
        list(loader)
    assert torch.equal(torch.random.get_rng_state(), before)
    seeds = [loader.generator.initial_seed() for loader in loaders if loader.generator is not None]
    assert seeds[0] == seeds[2] != seeds[1]
