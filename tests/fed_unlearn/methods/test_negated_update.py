"""The leaving client's negated update: the change of a training, turned round."""

from __future__ import annotations

import pytest
import torch
from trained_digits import Digits

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods import create


def test_the_change_is_that_of_a_training_turned_round_and_scaled(digits: Digits) -> None:
    outcomes = {
        scale: create("negated-update", scale=scale).unlearn(digits.model, digits.forget) for scale in (1.0, 3.0)
    }
    given = list(digits.model.parameters())
    for parameter, one, three in zip(
        given, outcomes[1.0].model.parameters(), outcomes[3.0].model.parameters(), strict=True
    ):
        assert torch.allclose(three - parameter, 3 * (one - parameter), atol=1e-5)
    assert outcomes[3.0].steps == outcomes[1.0].steps > 0


def test_training_does_not_stop_for_the_aim_and_the_outcome_says_whether_it_was_met(digits: Digits) -> None:
    far = create("negated-update", scale=50.0, target_accuracy=0.5).unlearn(digits.model, digits.forget)
    near = create("negated-update", scale=1e-3, target_accuracy=0.5).unlearn(digits.model, digits.forget)
    assert far.steps == near.steps and far.converged and not near.converged
    assert create("negated-update").stronger() == create("negated-update", scale=8.0)
    with pytest.raises(InvalidParameterError, match="negated-update: scale = 0"):
        create("negated-update", scale=0)
