"""Audits in one place: what they read, what it costs, and what becomes of one that fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import pytest
import torch
from torch import nn

from fed_unlearn.audits.base import AUDITS, CentralAudit, Observation
from fed_unlearn.audits.battery import audits_of, central_observation, run_audits
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import EmptySetError, InvalidParameterError


class Masked(nn.Module):
    """A linear model that hides output 2 behind a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.hidden(inputs).relu())
        return logits + torch.tensor([0.0, 0.0, -100.0])


def part(count: int, label: int, seed: int) -> TensorSet:
    generator = torch.Generator().manual_seed(seed)
    return TensorSet(torch.randn(count, 4, generator=generator), torch.full((count,), label))


@pytest.fixture
def readings() -> Readings:
    torch.manual_seed(0)
    parts = {
        "forget": part(7, 2, 0),
        "retain": part(5, 0, 1),
        "test_forget": part(3, 2, 2),
        "test_retain": part(4, 1, 3),
    }
    return Readings(Masked(), RequestData(parts=parts, classes=frozenset({2}), class_count=3))


@dataclass(frozen=True)
class MeanFeature(CentralAudit):
    """Mean feature of the forget set."""

    total: float = 0.0

    @classmethod
    def count(cls, seen: Observation) -> Self:
        if seen.central is None or seen.seed == 99:
            raise EmptySetError("mean-feature: nothing to read; give samples")
        return cls(float(seen.central.readings.answers("forget").features.mean()))

    @property
    def value(self) -> float:
        return self.total


def test_answers_hold_what_the_model_serves_and_what_lies_before_its_mask(readings: Readings) -> None:
    model, inputs = readings.model, readings.data.parts["forget"].batch()[0]
    with torch.inference_mode():
        features = model.hidden(inputs).relu()
        raw = model.head(features)
    answers = readings.answers("forget")
    assert torch.allclose(answers.features, features) and torch.allclose(answers.raw, raw)
    assert torch.allclose(answers.served, raw + torch.tensor([0.0, 0.0, -100.0]))
    assert readings.data.staying == (0, 1)


def test_each_sample_is_read_once(readings: Readings) -> None:
    central_observation(readings, "class")
    central_observation(readings, "class")
    assert readings.passes.forward == 7 + 3 + 4
    assert readings.answers("retain") is readings.answers("retain")
    assert readings.passes.forward == 7 + 3 + 4 + 5


def test_an_audit_that_fails_has_an_error_in_place_of_figures(
    readings: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AUDITS, "_classes", dict(AUDITS.available()))
    AUDITS.register("mean-feature")(MeanFeature)
    assert "mean-feature" in audits_of("full", "class") and "mean-feature" not in audits_of("default", "class")
    run = run_audits(central_observation(readings, "class"), ["mean-feature"])["mean-feature"]
    assert run.error is None
    assert run.figures["mean-feature"].value == pytest.approx(float(readings.answers("forget").features.mean()))
    failed = run_audits(central_observation(readings, "class", seed=99), ["mean-feature"])["mean-feature"]
    assert failed.figures == {} and failed.error == "mean-feature: nothing to read; give samples"


def test_figures_of_two_places_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AUDITS, "_classes", dict(AUDITS.available()))
    AUDITS.register("mean-feature")(MeanFeature)
    with pytest.raises(InvalidParameterError, match="needs the model and all samples in one place"):
        MeanFeature(1.0) + MeanFeature(2.0)
