"""Samples that an app's own training pushes through a model."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from fed_unlearn.client.loaders.passes import counted_passes


class Keywords(nn.Module):
    """Takes a dictionary and gives one, as models of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 4), nn.Linear(4, 3)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        logits = self.head(self.embedding(input_ids).mean(1))
        return (
            {"loss": functional.cross_entropy(logits, labels), "logits": logits}
            if labels is not None
            else {"logits": logits}
        )


def test_forward_and_backward_are_counted() -> None:
    model = nn.Linear(2, 3)
    with counted_passes(model) as passes:
        for size in (5, 2):
            model(torch.rand(size, 2)).sum().backward()
        with torch.no_grad():
            model(torch.rand(4, 2))
    assert (passes.forward, passes.backward) == (11, 7)
    model(torch.rand(9, 2)).sum().backward()
    assert (passes.forward, passes.backward) == (11, 7) and not model._forward_hooks


def test_keywords_and_dictionaries() -> None:
    model = Keywords()
    with counted_passes(model) as passes:
        model(input_ids=torch.ones(6, 3, dtype=torch.int64), labels=torch.zeros(6, dtype=torch.int64))[
            "loss"
        ].backward()
    assert (passes.forward, passes.backward) == (6, 6)


def test_gradients_are_the_same() -> None:
    model, inputs = nn.Linear(2, 3), torch.rand(5, 2)
    (plain,) = torch.autograd.grad(model(inputs).square().sum(), model.weight)
    with counted_passes(model):
        (counted,) = torch.autograd.grad(model(inputs).square().sum(), model.weight)
    assert torch.equal(plain, counted)
