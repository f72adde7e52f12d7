"""Models that do not answer with logits are refused before the first round."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from federation import DigitsTask, digits_of, initial_arrays, make_federation
from torch import Tensor, nn

from fed_unlearn.client.model_check import check_columns, check_logits
from fed_unlearn.data.images import ClientData
from fed_unlearn.errors import FedUnlearnError, InvalidModelError, UnsuitableModelError


@dataclass
class Answer:
    logits: Tensor


class Model(nn.Module):
    """Answers with what a function makes of ten outputs."""

    def __init__(self, kind: str = "logits") -> None:
        super().__init__()
        self.layer, self.kind = nn.Linear(64, 10), kind

    def forward(self, images: Tensor) -> object:
        outputs = self.layer(images.flatten(1))
        return {
            "logits": outputs,
            "object": Answer(outputs),
            "pair": (outputs, outputs),
            "one output": outputs[:, :1],
            "flat": outputs.flatten(),
            "classes": outputs.argmax(1, keepdim=True),
        }[self.kind]


SAID = {
    "object": "with a Answer, whose .logits it may be",
    "pair": "with a tuple",
    "one output": "1 outputs for 10 classes",
    "flat": r"a tensor of shape \(10,\) and torch.float32 for one sample",
    "classes": r"shape \(1, 1\) and torch.int64",
}


@pytest.mark.parametrize("kind", SAID)
def test_what_is_no_logits_is_refused_with_what_it_is(kind: str) -> None:
    with pytest.raises(InvalidModelError, match=SAID[kind]):
        check_logits(Model(kind), digits_of(0))


def test_logits_pass_and_the_model_stays_in_training() -> None:
    model, data = Model(), digits_of(0)
    check_logits(model, data)
    assert model.training
    none = torch.arange(0)
    empty = ClientData(data.train.subset(none), data.validation.subset(none), data.test.subset(none), 10, "none")
    check_logits(Model("pair"), empty)


def test_a_model_that_fails_is_refused_with_the_shape_of_its_input() -> None:
    with pytest.raises(InvalidModelError, match=r"RuntimeError on an input of shape \(1, 1, 8, 8\)"):
        check_logits(nn.Linear(3, 10), digits_of(0))


def test_a_federation_ends_before_its_first_round(tmp_path: Path) -> None:
    task = DigitsTask(model_of=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    federation = make_federation(tmp_path, task=task)
    with pytest.raises(FedUnlearnError, match="4 outputs for 10 classes"):
        federation.strategy().start(federation.grid, initial_arrays(), num_rounds=1)
    assert task.trained_ids == []


class Masked(nn.Module):
    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return tokens


def test_a_model_that_takes_a_mask_beside_its_inputs_is_refused() -> None:
    check_columns(Masked(), {"text", "index"})
    check_columns(Model(), {"attention_mask"})
    with pytest.raises(UnsuitableModelError, match=r"takes .attention_mask. beside its inputs"):
        check_columns(Masked(), {"attention_mask", "index"})
