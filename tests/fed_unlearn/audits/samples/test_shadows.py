"""What shadow models say of samples."""

from __future__ import annotations

import pytest
import torch
from scipy.special import logit, softmax
from torch import nn

from fed_unlearn.audits.samples.shadows import Shadows, confidences, sample_confidence
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import InvalidDataError


def test_confidences_are_the_logits_of_probabilities() -> None:
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)) * 3
    labels = torch.arange(20) % 5
    probabilities = softmax(logits.double().numpy(), axis=1)[range(20), labels.numpy()]
    assert sample_confidence(logits, labels).tolist() == pytest.approx(logit(probabilities).tolist(), abs=1e-6)
    sure = torch.tensor([[60.0, 0.0], [80.0, 0.0]])  # whose probabilities are 1 in double precision
    assert sample_confidence(sure, torch.tensor([0, 0])).tolist() == pytest.approx([60, 80])


def test_confidences_of_several_models_stand_in_rows() -> None:
    samples = TensorSet(torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3)
    torch.manual_seed(0)
    models = [nn.Linear(4, 3), nn.Linear(4, 3)]
    found = confidences(models, samples)
    assert found.shape == (2, 6) and found.dtype == torch.float64
    with torch.inference_mode():
        logits = models[1](samples.batch()[0])
    assert torch.allclose(found[1], sample_confidence(logits, samples.labels))
    assert confidences(models, samples.subset(torch.arange(0))).shape == (2, 0)


def test_samples_are_grouped_where_some_were_chosen_as_memorised() -> None:
    values = torch.zeros(4, 3, dtype=torch.float64)
    assert {
        name: group.tolist() for name, group in Shadows(retrained=values, retrained_test=values).groups().items()
    } == {"": [0, 1, 2]}
    chosen = Shadows(retrained=values, retrained_test=values, memorised=torch.tensor([False, True, False]))
    assert {name: group.tolist() for name, group in chosen.groups().items()} == {"_random": [0, 2], "_memorised": [1]}
    only = Shadows(retrained=values, retrained_test=values, memorised=torch.ones(3, dtype=torch.bool))
    assert list(only.groups()) == ["_memorised"]


def test_shapes_and_values_are_checked() -> None:
    values = torch.zeros(4, 3, dtype=torch.float64)
    with pytest.raises(InvalidDataError, match=r"\(4, 3\), \(4, 2\) were given; expected at least 4 models"):
        Shadows(retrained=values, retrained_test=values, unlearned=values[:, :2])
    with pytest.raises(InvalidDataError, match=r"\(3, 3\) were given"):
        Shadows(retrained=values[:3], retrained_test=values[:3])
    with pytest.raises(InvalidDataError, match="5 models were read on test samples and 4 on the forget set"):
        Shadows(retrained=values, retrained_test=torch.zeros(5, 1))
    with pytest.raises(InvalidDataError, match=r"memorised has shape \(2,\); expected \(3,\)"):
        Shadows(retrained=values, retrained_test=values, memorised=torch.ones(2, dtype=torch.bool))
    with pytest.raises(InvalidDataError, match="not a finite number"):
        Shadows(retrained=values + torch.inf, retrained_test=values)
