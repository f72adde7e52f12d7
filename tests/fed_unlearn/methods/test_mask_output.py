from __future__ import annotations

import pytest
import torch
from torch import nn
from trained_digits import FORGOTTEN, Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError, InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.mask_output import MaskOutput


def test_only_the_bias_of_the_forgotten_class_changes(digits: Digits) -> None:
    model = digits.model
    before = state_bytes(model)
    outcome = MaskOutput().unlearn(model, digits.forget)
    assert state_bytes(model) == before
    after = state_bytes(outcome.model)
    assert [name for name in before if after[name] != before[name]] == ["7.bias"]
    expected = model[-1].bias.detach().clone()  # type: ignore[index]
    expected[FORGOTTEN] = -10000.0
    assert torch.equal(outcome.model[-1].bias, expected)  # type: ignore[index]
    assert outcome.guard_labels is None
    assert (outcome.steps, outcome.forward_passes, outcome.backward_passes) == (0, len(digits.forget), 0)


def test_the_class_is_gone_and_the_others_are_as_before(digits: Digits) -> None:
    outcome = MaskOutput().unlearn(digits.model, digits.forget)
    assert accuracy(outcome.model, digits.test_forget) == 0
    kept = [label for label in range(10) if label != FORGOTTEN]
    before = predict_logits(digits.model, digits.test_retain)[:, kept]
    assert torch.equal(predict_logits(outcome.model, digits.test_retain)[:, kept], before)
    assert torch.isfinite(predict_logits(outcome.model, digits.test_forget)).all()


def test_it_is_a_control_and_refuses_what_it_cannot_mask(digits: Digits) -> None:
    assert MaskOutput.is_control
    samples = ImageSet(torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))
    with pytest.raises(InvalidModelError, match="mask-output: the output layer has no bias"):
        MaskOutput().unlearn(nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)), samples)
    with pytest.raises(InvalidParameterError, match=r"mask-output: bias = 5 was given; allowed is a number below 0"):
        MaskOutput(bias=5)
    assert MaskOutput(bias=-7.0).stronger() == MaskOutput(bias=-7.0)
