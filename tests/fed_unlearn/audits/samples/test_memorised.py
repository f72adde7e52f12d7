"""Memorised samples, against a loop over models and samples, and planted ones."""

from __future__ import annotations

import pytest
import torch

from fed_unlearn.audits.samples.memorised import balanced_halves, memorisation, most_memorised
from fed_unlearn.errors import InvalidDataError, InvalidParameterError


def test_each_sample_is_in_half_of_the_models() -> None:
    halves = balanced_halves(50, 8, torch.Generator().manual_seed(0))
    assert halves.sum(0).tolist() == [4] * 50
    assert 10 < int(halves[0].sum()) < 40 and not torch.equal(halves[0], halves[1])
    assert torch.equal(halves, balanced_halves(50, 8, torch.Generator().manual_seed(0)))
    assert balanced_halves(20, 5, torch.Generator()).sum(0).tolist() == [2] * 20
    with pytest.raises(InvalidParameterError, match="10 samples and 1 models"):
        balanced_halves(10, 1, torch.Generator())


def test_memorisation_is_the_difference_of_means() -> None:
    generator = torch.Generator().manual_seed(1)
    values, inside = torch.randn(6, 4, generator=generator).double(), balanced_halves(4, 6, generator)
    gaps = memorisation(values, inside)
    for sample in range(4):
        with_it = [float(values[model, sample]) for model in range(6) if inside[model, sample]]
        without = [float(values[model, sample]) for model in range(6) if not inside[model, sample]]
        assert float(gaps[sample]) == pytest.approx(sum(with_it) / 3 - sum(without) / 3, abs=1e-12)


def test_a_sample_in_all_models_or_in_none_has_no_memorisation() -> None:
    inside = torch.tensor([[True, True], [True, False]])
    with pytest.raises(InvalidDataError, match="a model with it and one without"):
        memorisation(torch.zeros(2, 2), inside)
    with pytest.raises(InvalidDataError, match="expected equal shapes"):
        memorisation(torch.zeros(3, 2), inside)


def test_the_most_memorised_are_taken_among_the_candidates() -> None:
    gaps = torch.tensor([9.0, 1.0, 5.0, 5.0, 7.0, 5.0])
    candidates = torch.tensor([1, 2, 3, 4, 5])
    assert most_memorised(gaps, candidates, 3).tolist() == [2, 3, 4]
    with pytest.raises(InvalidParameterError, match="6 memorised samples are wanted of 5"):
        most_memorised(gaps, candidates, 6)
