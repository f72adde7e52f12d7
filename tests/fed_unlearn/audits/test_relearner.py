from collections.abc import Sequence

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from fed_unlearn.audits.relearner import Climb, climb, relearner
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import InvalidModelError, InvalidParameterError
from fed_unlearn.pass_counter import PassCounter


def climbed(recalls: Sequence[float], targets: Sequence[float], every: int = 1, to_the_end: bool = False) -> Climb:
    taken: list[int] = []
    found = climb(
        lambda: taken.append(1),
        lambda step: recalls[step] if step == len(taken) else -1.0,
        targets,
        max_steps=len(recalls) - 1,
        is_measured=lambda step: step % every == 0,
        to_the_end=to_the_end,
    )
    assert len(taken) == (len(recalls) - 1 if to_the_end or not all(found.reached) else max(found.steps))
    return found


def test_a_climb_ends_at_its_last_target_or_at_its_bound() -> None:
    recalls = [0.1, 0.2, 0.5, 0.4, 0.9, 0.3]
    assert climbed(recalls, [0.4, 0.9]) == Climb((2, 4), (True, True), 0.9)
    assert climbed(recalls, [0.4, 0.9], to_the_end=True) == Climb((2, 4), (True, True), 0.3)
    assert climbed(recalls, [0.05, 0.95]) == Climb((0, 5), (True, False), 0.3)
    assert climbed(recalls, [0.45], every=4) == Climb((4,), (True,), 0.9)
    assert climbed(recalls, [0.95], every=4) == Climb((5,), (False,), 0.3)
    assert climbed([0.5, 0.9], [0.3]) == Climb((0,), (True,), 0.5)


class Pooled(nn.Module):
    """A convolution puts out the logits, which are averaged over positions."""

    def __init__(self, head: nn.Conv2d) -> None:
        super().__init__()
        self.head = head

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(inputs.view(-1, 4, 1, 1))
        return outputs.mean((2, 3))


def samples(count: int = 6) -> TensorSet:
    generator = torch.Generator().manual_seed(0)
    return TensorSet(torch.randn(count, 4, generator=generator), torch.full((count,), 2))


def heads() -> list[nn.Linear | nn.Conv2d]:
    torch.manual_seed(0)
    return [nn.Linear(4, 5), nn.Linear(4, 5, bias=False), nn.Conv2d(4, 5, 1)]


@pytest.mark.parametrize("head", heads())
def test_the_start_is_the_mean_of_the_other_rows(head: nn.Linear | nn.Conv2d) -> None:
    model = nn.Sequential(nn.Identity(), head) if isinstance(head, nn.Linear) else Pooled(head)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    passes = PassCounter()
    options = {"classes": [2, 4], "fresh_row": True, "learning_rate": 0.1, "momentum": 0.0, "passes": passes}
    with relearner("relearn", model, samples(), **options) as copy:  # type: ignore[arg-type]
        layer = copy.layer
        for row in (2, 4):
            assert torch.allclose(layer.weight[row], head.weight[[0, 1, 3]].mean(0), atol=1e-7)
            if head.bias is not None and layer.bias is not None:
                assert layer.bias[row].item() == pytest.approx(head.bias[[0, 1, 3]].mean().item())
        assert torch.equal(layer.weight[[0, 1, 3]], head.weight[[0, 1, 3]])
        inputs, labels = samples().batch()
        expected = model(inputs)[:, [0, 1, 3]]
        assert torch.allclose(copy.outputs_of(inputs)[:, [0, 1, 3]], expected, atol=1e-6)
        copy.train(inputs, labels)
        right = copy.outputs_of(inputs).argmax(1) == 2
        assert copy.recall(samples(), 1) == pytest.approx(right.double().mean().item())
    assert (passes.forward, passes.backward) == (12, 6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_one_step_is_that_of_softmax_regression_by_hand() -> None:
    model = nn.Sequential(heads()[0])
    inputs, labels = samples().batch()
    weight, bias = (value.detach().double().clone() for value in (model[0].weight, model[0].bias))
    others = [0, 1, 3, 4]
    weight[2], bias[2] = weight[others].mean(0), bias[others].mean()
    error = (inputs.double() @ weight.T + bias).softmax(1)
    error[:, 2] -= 1
    options = {"classes": [2], "fresh_row": True, "learning_rate": 0.3, "momentum": 0.0}
    with relearner("relearn", model, samples(), **options) as copy:  # type: ignore[arg-type]
        copy.train(inputs, labels)
        stepped = weight - 0.3 * error.T @ inputs.double() / 6, bias - 0.3 * error.mean(0)
        assert torch.allclose(copy.layer.weight.double(), stepped[0], atol=1e-6)
        assert copy.layer.bias is not None and torch.allclose(copy.layer.bias.double(), stepped[1], atol=1e-6)


@pytest.mark.parametrize("mask", [-torch.inf, -10_000.0])
def test_an_earlier_mask_of_another_class_is_no_part_of_the_mean(mask: float) -> None:
    model = nn.Sequential(heads()[0])
    with torch.no_grad():
        model[0].bias[0], model[0].bias[2] = mask, mask
    for fresh_row, expected in ((True, model[0].bias[[1, 3, 4]].mean()), (False, model[0].bias[[1, 3, 4]].median())):
        options = {"classes": [2], "fresh_row": fresh_row, "learning_rate": 0.1, "momentum": 0.0}
        with relearner("relearn", model, samples(), **options) as copy:  # type: ignore[arg-type]
            assert copy.layer.bias is not None
            assert copy.layer.bias[2].item() == pytest.approx(expected.item())
            assert copy.layer.bias[0].item() == mask
            rows = model[0].weight[[1, 3, 4]].mean(0) if fresh_row else model[0].weight[2]
            assert torch.allclose(copy.layer.weight[2], rows, atol=1e-7)


def test_a_computed_weight_becomes_one_that_can_be_set() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(heads()[0]))
    options = {"classes": [2], "fresh_row": True, "learning_rate": 0.1, "momentum": 0.0}
    with relearner("relearn", model, samples(), **options) as copy:  # type: ignore[arg-type]
        others = model[0].weight[[0, 1, 3, 4]].mean(0)
        assert torch.allclose(copy.layer.weight[2], others, atol=1e-6)
        assert torch.allclose(copy.outputs(samples(), 0)[:, 2], copy.outputs(samples(), 0)[:, others_of(2)].mean(1))


def others_of(label: int) -> list[int]:
    return [index for index in range(5) if index != label]


def test_what_cannot_start_is_refused() -> None:
    options = {"fresh_row": True, "learning_rate": 0.1, "momentum": 0.0}
    with (
        pytest.raises(InvalidParameterError, match=r"relearn: classes \[9\] were given; the model has outputs 0 to 4"),
        relearner("relearn", nn.Sequential(heads()[0]), samples(), classes=[9], **options),  # type: ignore[arg-type]
    ):
        pass
    odd = nn.Sequential(nn.Linear(4, 5))
    prune.identity(odd[0], "weight")
    with (
        pytest.raises(InvalidModelError, match="the weight of the output layer is a Tensor that is computed"),
        relearner("relearn", odd, samples(), classes=[2], **options),  # type: ignore[arg-type]
    ):
        pass
