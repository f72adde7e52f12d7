"""Models whose hidden features hold as much of a class as a test says."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from audited_digits import data, model, readings
from torch import nn

from fed_unlearn.audits.battery import central_observation, run_audits
from fed_unlearn.audits.features.critic import judged_information
from fed_unlearn.audits.features.information import InformationDifference, index_of, layer_information
from fed_unlearn.audits.observation import Observation
from fed_unlearn.audits.readings import PartName, Readings, RequestData
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.seeding import seeded_generator

SHIFT = 2.0


def gaussians() -> RequestData:
    """The first of six values lies at 2 for samples of class 2, and at -2 for the others."""
    generator = torch.Generator().manual_seed(0)
    parts: dict[PartName, TensorSet] = {}
    for name in ("forget", "retain", "test_forget", "test_retain"):
        values = torch.randn(400, 6, generator=generator)
        values[:, 0] += SHIFT if name in ("forget", "test_forget") else -SHIFT
        labels = torch.full((400,), 2) if name in ("forget", "test_forget") else torch.arange(400) % 2
        parts[name] = TensorSet(values, labels)
    return RequestData(parts=parts, classes=frozenset({2}), class_count=3)


GAUSSIANS = gaussians()


@cache
def holding(share: float) -> Readings:
    """A model whose features are the six values, with noise of the others in place of a part of the first."""
    network = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))

    with torch.no_grad():
        for layer in (network[0], network[1]):
            layer.weight.copy_(torch.eye(6))
            layer.bias.zero_()
        network[0].weight[0] = torch.tensor([share, math.sqrt(1 - share**2), 0, 0, 0, 0])
        network[0].weight[1] = torch.tensor([0.0, 0, 1, 0, 0, 0])
    return Readings(network, GAUSSIANS)


def observed(share: float, original: float = 1.0) -> Observation:
    return central_observation(holding(share), "class", original=holding(original), oracles=(holding(0.0),))


def test_the_original_is_at_1_and_what_is_as_the_oracle_at_0() -> None:
    assert InformationDifference.count(observed(1.0)).value == pytest.approx(1, abs=1e-9)
    assert InformationDifference.count(observed(0.0)).value == pytest.approx(0, abs=1e-9)


def test_between_them_it_grows_with_what_is_left() -> None:
    counted = [InformationDifference.count(observed(share)) for share in (0.2, 0.5, 0.8)]
    values = [one.value for one in counted]
    assert 0 < values[0] < values[1] < values[2] < 1  # type: ignore[operator]
    for one in counted:
        assert one.interval is not None and one.interval[0] < one.value < one.interval[1]  # type: ignore[operator]


def test_the_index_is_the_ratio_of_the_layers_sums() -> None:
    """The same from the critics' figures, layer by layer and side by side."""
    unlearned, original, oracle = (layer_information(holding(share), 0) for share in (0.5, 1.0, 0.0))
    assert list(unlearned) == ["1", "penultimate features"]  # the first layer reads the samples themselves

    def total(of_model: dict[str, torch.Tensor]) -> float:
        return sum(float(layer[:400].mean() + layer[400:].mean()) / 2 for layer in of_model.values())

    expected = (total(unlearned) - total(oracle)) / (total(original) - total(oracle))
    assert InformationDifference.count(observed(0.5)).value == pytest.approx(expected, abs=1e-9)


def test_a_layer_s_information_is_that_of_its_critic() -> None:
    features = [holding(0.5).answers(part).features for part in ("retain", "forget", "test_retain", "test_forget")]
    generator = seeded_generator(0, "information difference", "critic", "penultimate features")
    expected = judged_information((features[0], features[1]), (features[2], features[3]), generator)
    assert torch.allclose(layer_information(holding(0.5), 0)["penultimate features"], expected)


def test_an_original_that_tells_no_more_than_chance_gives_no_index() -> None:
    assert InformationDifference.count(observed(0.5, original=0.0)).value is None
    noise = torch.randn(800, generator=torch.Generator().manual_seed(0)).double()
    assert index_of(noise, noise - noise.mean(), 400, seed=0) == ()
    index = index_of(noise / 2 + 0.5, noise + 1, 400, seed=0)
    assert index == pytest.approx((0.5, 0.5, 0.5), abs=1e-9)


def test_the_interval_is_that_of_resampled_sides() -> None:
    random = np.random.default_rng(5)
    left, whole = torch.from_numpy(random.normal(0.3, 1, 500)), torch.from_numpy(random.normal(0.9, 1, 500))
    value, low, high = index_of(left, whole, 200, seed=0)
    # The delta method: variances of both sides of left - value * whole, over the square of the denominator.
    rest = (left - value * whole).numpy()
    error = math.sqrt(rest[:200].var() / 200 + rest[200:].var() / 300) / 2
    bottom = float(whole[:200].mean() + whole[200:].mean()) / 2
    assert ((high - low) / 2, (high + low) / 2) == pytest.approx((1.96 * error / bottom, value), rel=0.08)


def test_changes_of_the_output_layer_change_nothing_and_it_is_read_once() -> None:
    original, masked, overwritten = (
        layer_information(readings(n), 0) for n in ("original", "mask-output", "overwritten")
    )
    assert all(torch.equal(original[name], masked[name]) for name in original)
    assert all(torch.equal(original[name], overwritten[name]) for name in original)
    fresh = Readings(model("oracle"), data())
    compared = central_observation(fresh, "class", original=readings("original"), oracles=(readings("second-oracle"),))
    first, again = (run_audits(compared, ["information_difference"])["information_difference"] for _ in range(2))
    assert (first.figures, again.forward_passes) == (again.figures, 0) and first.forward_passes > 0


def test_without_an_original_or_an_oracle_there_is_no_figure() -> None:
    alone = central_observation(readings("original"), "class", oracles=(readings("oracle"),))
    assert InformationDifference.count(alone).value is None and InformationDifference().interval is None
    assert InformationDifference.count(central_observation(readings("original"), "class")).value is None
