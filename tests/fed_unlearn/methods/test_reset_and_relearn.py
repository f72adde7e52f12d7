from __future__ import annotations

import dataclasses
import math
import tempfile
from functools import cache
from pathlib import Path
from typing import Self

import pytest
import torch
from block_models import Branching, Encoder, perceptron, rows, tokens
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from trained_digits import FORGOTTEN, Digits, accuracy, fitted, state_bytes

from fed_unlearn.audits.scores import scored_logits
from fed_unlearn.data.domain import PIXELS
from fed_unlearn.data.images import concatenate
from fed_unlearn.data.sample_set import Indices, SampleSet
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import InvalidDataError, InvalidModelError, InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.delete import Delete
from fed_unlearn.methods.reset_and_relearn import ResetAndRelearn
from fed_unlearn.models import build_model
from fed_unlearn.seeding import isolated_random

OTHERS = [label for label in range(10) if label != FORGOTTEN]


class Unreadable(SampleSet):
    """Samples of which nobody may read more than labels."""

    def __init__(self, samples: SampleSet) -> None:
        self.labels, self.ids, self.domain, self.shape = samples.labels, samples.ids, PIXELS, samples.input_shape

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.shape

    def batch(self, indices: Indices = slice(None)) -> tuple[Tensor, Tensor]:
        raise AssertionError("a forget sample was read")

    def subset(self, indices: Tensor) -> Self:
        raise AssertionError("a forget sample was read")

    def relabelled(self, labels: Tensor) -> Self:
        raise AssertionError("a forget sample was read")

    def to(self, device: torch.device) -> Self:
        return self


def quick(**settings: object) -> ResetAndRelearn:
    return ResetAndRelearn(**{"epochs": 1, "batch_size": 64, **settings})  # type: ignore[arg-type]


@cache
def small_cnns() -> tuple[nn.Module, nn.Module]:
    """The original and an oracle, by the tests' own data."""
    from trained_digits import train_digits

    digits = train_digits()
    original, oracle = (build_model("small-cnn", class_count=10, image_shape=(1, 8, 8)) for _ in range(2))
    everything = concatenate(digits.forget, digits.retain)
    return fitted(original, everything, epochs=15), fitted(oracle, digits.retain, epochs=15)


def own_score_auc(model: nn.Module, digits: Digits) -> float:
    """How well the forgotten class's log-odds, without its bias, rank its test images above others."""
    scores = [scored_logits(model, part)[1][:, FORGOTTEN] for part in (digits.test_forget, digits.test_retain)]
    return float(roc_auc_score([1] * len(scores[0]) + [0] * len(scores[1]), torch.cat(scores)))


def test_a_class_is_forgotten_nearer_to_an_oracle_than_by_delete(digits: Digits) -> None:
    original, oracle = small_cnns()
    outcome = ResetAndRelearn().unlearn(original, digits.forget, digits.retain)
    assert outcome.converged
    assert accuracy(outcome.model, digits.forget) == accuracy(outcome.model, digits.test_forget) == 0
    assert accuracy(outcome.model, digits.test_retain) >= accuracy(oracle, digits.test_retain) - 0.02
    deleted = Delete().unlearn(original, digits.forget).model
    found, aim, hidden = (own_score_auc(model, digits) for model in (outcome.model, oracle, deleted))
    assert abs(found - aim) < 0.7 * abs(hidden - aim)


def test_no_input_of_a_forget_sample_is_read(digits: Digits) -> None:
    outcome = quick().unlearn(digits.model, Unreadable(digits.forget), digits.retain)
    same = quick().unlearn(digits.model, digits.forget, digits.retain)
    assert state_bytes(outcome.model) == state_bytes(same.model)


def test_what_lies_below_stays_bit_for_bit_and_what_lies_above_is_new(digits: Digits) -> None:
    model = digits.model
    before, after = state_bytes(model), state_bytes(quick().unlearn(model, digits.forget, digits.retain).model)
    changed = {name.split(".")[0] for name in before if after[name] != before[name]}
    assert changed == {"5", "7"}  # neither the convolution nor its BatchNorm, with its statistics
    weights = {name: model.get_parameter(name).detach().clone() for name in ("5.weight", "7.weight")}
    untrained = quick(learning_rate=1e-12, distillation=0.0).unlearn(model, digits.forget, digits.retain).model
    for name, old in weights.items():
        fresh = untrained.get_parameter(name).detach()
        alike = torch.corrcoef(torch.stack([old.flatten(), fresh.flatten()]))[0, 1]
        assert abs(float(alike)) < 0.15
        assert float(fresh.abs().max()) <= old.shape[1] ** -0.5 + 1e-6  # the bound of nn.Linear's own draws


def test_statistics_of_a_drawn_batchnorm_are_those_of_retained_samples(digits: Digits) -> None:
    with isolated_random(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))
    model[3].running_mean.fill_(100.0)  # type: ignore[union-attr, operator]
    outcome = quick(blocks=1, epochs=8).unlearn(model.eval(), digits.forget, digits.retain)
    with torch.no_grad():
        hidden = outcome.model[:3](digits.retain.batch()[0])  # type: ignore[index]
    norm = outcome.model[3]  # type: ignore[index]
    assert float((norm.running_mean - hidden.mean(0)).abs().max()) < 0.5
    assert int(norm.num_batches_tracked) == outcome.steps


def test_the_forgotten_rows_are_the_mean_of_the_others(digits: Digits) -> None:
    outcome = quick().unlearn(digits.model, digits.forget, digits.retain, excluded_classes=[FORGOTTEN, 8])
    layer = outcome.model[7]  # type: ignore[index]
    kept = [label for label in OTHERS if label != 8]
    for tensor in (layer.weight, layer.bias):
        for label in (FORGOTTEN, 8):
            torch.testing.assert_close(tensor[label], tensor[kept].mean(0))
    assert not set(predict_logits(outcome.model, digits.retain).argmax(1).tolist()) & {FORGOTTEN, 8}


def test_samples_are_forgotten_by_cross_entropy_alone(digits: Digits) -> None:
    everything = concatenate(digits.forget, digits.retain)
    forget, retain = everything.subset(torch.arange(8)), everything.subset(torch.arange(8, len(everything)))
    distilled, plain = (
        quick(distillation=share).unlearn(digits.model, forget, retain, excluded_classes=[]) for share in (0.7, 0.0)
    )
    assert state_bytes(distilled.model) == state_bytes(plain.model)
    assert accuracy(distilled.model, digits.test_forget) > 0.8  # the class itself is kept
    by_class = [quick(distillation=share).unlearn(digits.model, digits.forget, digits.retain) for share in (0.7, 0.0)]
    assert state_bytes(by_class[0].model) != state_bytes(by_class[1].model)


def test_passes_equal_a_hand_count(digits: Digits) -> None:
    retain = digits.retain.subset(torch.arange(90))
    outcome = quick(epochs=2, batch_size=40).unlearn(digits.model, digits.forget, retain)
    # The activations 90, two epochs of 90 through the linear layers, the given and the changed model measured on 90 each.
    linear, convolution = 256 * 48 + 48 * 10, 64 * 9 * 16
    upper = math.ceil(2 * 90 * linear / (linear + convolution))
    assert (outcome.forward_passes, outcome.backward_passes, outcome.steps) == (90 + upper + 180, upper, 6)
    half = quick(epochs=2, batch_size=40, retain_fraction=0.5).unlearn(digits.model, digits.forget, retain)
    upper = math.ceil(90 * linear / (linear + convolution))
    assert (half.forward_passes, half.backward_passes, half.steps) == (45 + upper + 90, upper, 4)


def test_an_untraced_model_takes_whole_passes() -> None:
    with isolated_random(0):
        model = Branching().eval()
    samples = TensorSet(rows(60), torch.arange(60) % 3)
    outcome = quick(blocks=1).unlearn(model, samples.of_classes([0]), samples.of_classes([1, 2]))
    assert (outcome.forward_passes, outcome.backward_passes) == (
        40 + 40 + 40 + 40,
        40,
    )  # with the answers of the original


def test_activations_in_a_file_give_the_same_and_the_file_is_removed(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    in_memory, in_file = (
        quick(cache_bytes=most).unlearn(digits.model, digits.forget, digits.retain) for most in (2**30, 0)
    )
    assert state_bytes(in_memory.model) == state_bytes(in_file.model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["branching", "encoder", "perceptron"])
def test_other_models_train_their_last_blocks_alone(kind: str) -> None:
    with isolated_random(0):
        model = {"branching": Branching, "encoder": lambda: Encoder(3), "perceptron": perceptron}[kind]().eval()
    inputs = tokens(20, 60) if kind == "encoder" else rows(60)
    classes = 4 if kind == "encoder" else 3
    samples = TensorSet(inputs, torch.arange(60) % classes)
    outcomes = [
        quick(blocks=1).unlearn(model, samples.of_classes([0]), samples.of_classes(range(1, classes))) for _ in range(2)
    ]
    before, after = state_bytes(model), state_bytes(outcomes[0].model)
    assert after == state_bytes(outcomes[1].model)
    changed = {name.rpartition(".")[0] for name in before if after[name] != before[name]}
    expected = {"branching": {"third", "head"}, "perceptron": {"2", "4"}}.get(kind)
    if expected is None:
        assert all(name.startswith(("encoder.layers.2.", "head")) for name in changed) and len(changed) > 4
    else:
        assert changed == expected
    assert all(parameter.requires_grad for parameter in outcomes[0].model.parameters())


def test_frozen_parts_stay_and_a_wholly_frozen_part_is_refused(digits: Digits) -> None:
    model = digits.model
    model[5].requires_grad_(False)  # type: ignore[index]
    after = quick().unlearn(model, digits.forget, digits.retain).model
    assert torch.equal(after[5].weight, model[5].weight)  # type: ignore[index]
    model.requires_grad_(False)
    with pytest.raises(InvalidModelError, match="reset-and-relearn: all of blocks 5, 7 is frozen"):
        quick().unlearn(model, digits.forget, digits.retain)


def test_nothing_retained_of_another_class_is_refused(digits: Digits) -> None:
    with pytest.raises(InvalidDataError, match=r"classes \[3, 5\] are forgotten, and no retained sample is of another"):
        quick().unlearn(digits.model, digits.forget, digits.retain.of_classes([5]), excluded_classes=[5])


def test_parameters() -> None:
    weak = ResetAndRelearn()
    assert weak.stronger() == dataclasses.replace(weak, blocks=3, epochs=6)
    with pytest.raises(InvalidParameterError, match=r"reset-and-relearn: distillation = 2 was given"):
        ResetAndRelearn(distillation=2)
    with pytest.raises(InvalidParameterError, match=r"reset-and-relearn: head = 3 was given"):
        ResetAndRelearn(head=3)  # type: ignore[arg-type]
