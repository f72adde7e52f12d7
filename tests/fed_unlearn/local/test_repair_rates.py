"""The learning rate of repair: that of the model's own training where nobody asks for more."""

from __future__ import annotations

import pytest
import torch
from federation import digits_of, small_model
from torch import nn

from fed_unlearn.avalanche.plugin.optimizers import learning_rate_of
from fed_unlearn.local import LocalPlan, LocalSamples
from fed_unlearn.local.repairs import Repairs
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.training import TrainingSettings

TRAIN = digits_of(0, clients=1, size=200).train
PLANNED = TrainingSettings().learning_rate


def repaired(plan: LocalPlan, trained_at: float | None, *, asked: bool) -> dict[str, bytes]:
    """The weights after one round."""
    model = small_model()
    repairs = Repairs(
        plan=plan,
        samples=LocalSamples(forget=TRAIN, retained=TRAIN, validation=TRAIN),
        seed=0,
        client="0",
        request_id="one",
        before=0,
        trained_at=trained_at,
        passes=PassCounter(),
    )
    repairs.train(model, [], asked=asked, gently=False)
    assert repairs.rounds == 1
    return weights(model)


def weights(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def at(rate: float) -> dict[str, bytes]:
    """The weights after one round of a plan with this rate."""
    return repaired(LocalPlan(repair_config={"learning-rate": rate}), None, asked=False)


@pytest.mark.parametrize(
    ("trained_at", "asked", "expected"),
    [
        (0.001, False, 0.001),
        (0.001, True, PLANNED),
        (10 * PLANNED, False, PLANNED),
        (None, False, PLANNED),
    ],
)
def test_repair_that_nobody_asked_for_takes_no_larger_steps_than_training_did(
    trained_at: float | None, asked: bool, expected: float
) -> None:
    assert repaired(LocalPlan(), trained_at, asked=asked) == at(expected)
    assert at(0.001) != at(PLANNED)


def test_a_rate_that_the_plan_sets_is_taken() -> None:
    plan = LocalPlan(repair=TrainingSettings(learning_rate=0.02))
    assert repaired(plan, 0.001, asked=False) == at(0.02)


def test_the_rate_of_a_strategy_is_the_one_that_its_optimizer_started_from() -> None:
    model = small_model()
    first, *others = model.parameters()
    optimizer = torch.optim.SGD([{"params": [first], "lr": 0.2}, {"params": others}], lr=0.1, momentum=0.9)
    assert learning_rate_of(optimizer) == 0.2
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.01)
    optimizer.step()
    scheduler.step()
    assert learning_rate_of(optimizer) == 0.2
    assert learning_rate_of(torch.optim.Adam(model.parameters(), lr=0.2)) is None
    assert learning_rate_of(torch.optim.SGD(model.parameters(), lr=0.0)) is None
