"""Which arrays of a model are plain rows of its output layer, and which models have none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.methods.parts.output_rows import plain_rows
from fed_unlearn.output_rows import OutputRows

ROWS = OutputRows("head.weight", "head.bias")


class Model(nn.Module):
    """A body and a head, with something behind it."""

    def __init__(self, head: nn.Module | None = None, behind: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 5), head or nn.Linear(5, 4)
        self.behind = behind or (lambda logits: logits)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.behind(self.head(self.body(inputs).relu()))


class Cosine(nn.Linear):
    """Directions alone count."""

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(functional.normalize(inputs), functional.normalize(self.weight))


class Tied(nn.Module):
    """The head's weights are those of the layer before it."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 4)
        self.head.weight = self.body.weight

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs[:, :4]).relu())
        return logits


class Squared(nn.Module):
    """Goes through no linear layer with one output a class."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 5), nn.Bilinear(5, 5, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.body(inputs)
        logits: Tensor = self.head(features, features)
        return logits


def rows_of(model: nn.Module) -> OutputRows | None:
    inputs = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    return plain_rows(model, TensorSet(inputs, torch.tensor([0, 1, 2])), model.state_dict())


def frozen(layer: nn.Linear) -> nn.Linear:
    return layer.requires_grad_(False)


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (Model(), ROWS),
        (Model(nn.Linear(5, 4, bias=False)), OutputRows("head.weight")),
        (Model(behind=lambda logits: logits.log_softmax(1)), ROWS),
        (Model(behind=lambda logits: 3 * logits), ROWS),
        (nn.DataParallel(Model()), OutputRows("module.head.weight", "module.head.bias")),
        (Model(behind=lambda logits: logits + torch.tensor([0.0, 50.0, 0.0, -50.0])), None),
        (Model(weight_norm(nn.Linear(5, 4))), None),
        (Model(Cosine(5, 4)), None),
        (Model(frozen(nn.Linear(5, 4))), None),
        (Squared(), None),
        (Tied(), None),
    ],
    ids=[
        "plain",
        "no-bias",
        "log-softmax",
        "scaled",
        "parallel",
        "shifted",
        "weight-norm",
        "cosine",
        "frozen",
        "squared",
        "tied",
    ],
)
def test_rows_are_found_where_they_are_plain(model: nn.Module, rows: OutputRows | None) -> None:
    assert rows_of(model) == rows


def test_rows_that_do_not_travel_under_one_name_are_none() -> None:
    model = Model()
    inputs = TensorSet(torch.rand(1, 6), torch.tensor([0]))
    state = model.state_dict()
    assert plain_rows(model, inputs, {"a": state["head.weight"], "b": state["head.bias"]}) == OutputRows("a", "b")
    assert plain_rows(model, inputs, {"body.weight": state["body.weight"]}) is None
    assert plain_rows(model, inputs, {**state, "again": state["head.weight"]}) is None
