import numpy as np
import pytest
import torch
from audited_digits import data, model, readings, seen
from scipy.stats import t
from torch import Tensor

from fed_unlearn.audits.battery import central_observation, run_audits
from fed_unlearn.audits.features.activations import layer_inputs
from fed_unlearn.audits.features.alignment import GROUPS, Alignment, linear_cka
from fed_unlearn.audits.readings import Readings


def cka_of_gram_matrices(first: Tensor, second: Tensor) -> float:
    """Brute force: HSIC of linear kernels, centred by the matrix H = I - 1/n."""
    one, other = first.double().numpy(), second.double().numpy()
    centring = np.eye(len(one)) - 1 / len(one)
    grams = [centring @ (side @ side.T) @ centring for side in (one, other)]
    hsic = [[np.trace(left @ right) for right in grams] for left in grams]
    return float(hsic[0][1] / np.sqrt(hsic[0][0] * hsic[1][1]))


def cka_of_features(first: Tensor, second: Tensor) -> float:
    """Without a Gram matrix: squared norms of the products of centred features."""
    one, other = (side.double().numpy() - side.double().numpy().mean(0) for side in (first, second))
    products = [np.linalg.norm(left.T @ right) for left, right in ((one, other), (one, one), (other, other))]
    return float(products[0] ** 2 / (products[1] * products[2]))


def layers(name: str) -> list[Tensor]:
    part = data().parts["test_forget"]
    hidden = layer_inputs(Readings(model(name), data()), part, most_side=8)
    return [*hidden.values(), readings(name).answers("test_forget").features]


def test_figures_are_those_of_brute_force_averaged_over_oracles() -> None:
    figures = Alignment.count(seen("delete")).figures
    mine, *oracles = (layers(name) for name in ("delete", "oracle", "second-oracle"))
    for cka in (cka_of_gram_matrices, cka_of_features):
        expected = [np.mean([cka(layer, other[depth]) for other in oracles]) for depth, layer in enumerate(mine)]
        assert [figures[name].value for name in ("cka_1", "cka_features")] == pytest.approx(expected, abs=1e-6)
    retained = [readings(name).answers("test_retain").features for name in ("delete", "oracle", "second-oracle")]
    expected_retained = np.mean([cka_of_features(retained[0], other) for other in retained[1:]])
    assert figures["cka_retained"].value == pytest.approx(expected_retained, abs=1e-6)


def test_the_interval_is_that_of_the_jackknife() -> None:
    mine, *oracles = (layers(name)[-1] for name in ("original", "oracle", "second-oracle"))
    groups = np.arange(len(mine)) * GROUPS // len(mine)
    without = np.array(
        [
            np.mean([cka_of_features(mine[groups != group], other[groups != group]) for other in oracles])
            for group in range(GROUPS)
        ]
    )
    half = t.ppf(0.975, GROUPS - 1) * np.sqrt((GROUPS - 1) / GROUPS * ((without - without.mean()) ** 2).sum())
    measured = Alignment.count(seen("original")).figures["cka_features"]
    assert measured.value is not None
    assert measured.interval == pytest.approx((measured.value - half, measured.value + half), abs=1e-6)


def test_a_rotation_and_a_scale_change_nothing() -> None:
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double()
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)).double()).Q
    turned = features @ rotation * 3 + 7
    grams = [side @ side.T for side in (features, turned)]
    assert linear_cka(*grams) == pytest.approx(1, abs=1e-9)
    other = torch.randn(40, 6, generator=torch.Generator().manual_seed(2)).double()
    assert linear_cka(grams[0], other @ other.T) < 0.5


def test_features_of_an_oracle_lie_nearer_to_an_oracle_s_than_those_of_models_that_only_hide_the_class() -> None:
    oracle, original, masked, overwritten = (
        Alignment.count(seen(name)).value for name in ("oracle", "original", "mask-output", "overwritten")
    )
    assert oracle is not None and original is not None
    assert original == masked == overwritten < oracle - 0.05


def test_layers_are_read_once_a_model_and_counted() -> None:
    part = len(data().parts["test_forget"])
    original, oracle = (Readings(model(name), data()) for name in ("original", "oracle"))
    first, again = (
        run_audits(central_observation(original, "class", oracles=(oracle,)), ["alignment"])["alignment"]
        for _ in range(2)
    )
    assert first.figures == again.figures and (first.forward_passes, again.forward_passes) == (part, 0)
    assert oracle.passes.forward == part + len(data().parts["test_forget"]) + len(data().parts["test_retain"])


def test_without_an_oracle_there_is_no_figure() -> None:
    alone = central_observation(readings("original"), "class")
    assert {measured.value for measured in Alignment.count(alone).figures.values()} == {None}
