"""Strategies that a scenario names: all of Flower's that can be wrapped, and one line on why the others cannot."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.report.listings import print_strategies
from fed_unlearn.simulations.run.assembly import new_inner_strategy
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.scenario.strategy_catalogue import PAPERS
from fed_unlearn.strategies.inner.kinds import check_supported

FIXED = "DifferentialPrivacyServerSideFixedClipping"
ADAPTIVE = "DifferentialPrivacyServerSideAdaptiveClipping"
NAMED_ALONE = ("FedAvg", "FedProx", "FedAvgM", "FedAdagrad", "FedAdam", "FedYogi", "FedMedian", "FedTrimmedAvg")
ROBUST_WITH_PARAMETERS = ("Krum", "MultiKrum", "Bulyan")


def named(name: str, *parameters: str) -> Strategy:
    settings = [f"training.strategy={name}", *(f"training.parameters.{setting}" for setting in parameters)]
    return new_inner_strategy(load_scenario("digits", [*settings, "clients.count=12"]))


def refusal(name: str, *parameters: str) -> str:
    with pytest.raises(FedUnlearnError) as error:
        named(name, *parameters)
    text = str(error.value)
    assert text.startswith("digits.toml: ") and "\n" not in text
    return text.removeprefix("digits.toml: ")


def test_every_strategy_of_flower_has_its_paper() -> None:
    strategies = {
        name
        for name, value in vars(flower).items()
        if isinstance(value, type) and issubclass(value, Strategy) and value is not Strategy
    }
    assert set(PAPERS) == strategies | {"FrozenHead"}  # the library's own


@pytest.mark.parametrize("name", [*NAMED_ALONE, *ROBUST_WITH_PARAMETERS])
def test_strategies_by_their_names(name: str) -> None:
    inner = named(name, *(["num-malicious-nodes=1"] if name in ROBUST_WITH_PARAMETERS else []))
    assert type(inner) is getattr(flower, name)
    assert inner.min_available_nodes == 12  # type: ignore[attr-defined]
    assert getattr(inner, "num_malicious_nodes", 1) == 1
    check_supported(inner)


def test_a_privacy_wrapper_over_all_clients() -> None:
    inner = named(FIXED, "noise-multiplier=1.5", "clipping-norm=0.5")
    assert isinstance(inner, flower.DifferentialPrivacyServerSideFixedClipping)
    assert (inner.noise_multiplier, inner.clipping_norm, inner.num_sampled_clients) == (1.5, 0.5, 12)
    assert type(inner.strategy) is flower.FedAvg
    assert inner.strategy.min_available_nodes == 12


def test_a_privacy_wrapper_around_a_strategy_with_parameters_of_its_own() -> None:
    inner = named(
        ADAPTIVE,
        "noise-multiplier=0.2",
        "num-sampled-clients=5",
        "initial-clipping-norm=2",
        "inner=FedProx",
        "proximal-mu=0.1",
        "fraction-train=0.8",
    )
    assert isinstance(inner, flower.DifferentialPrivacyServerSideAdaptiveClipping)
    assert (inner.clipping_norm, inner.num_sampled_clients) == (2, 5)
    assert isinstance(inner.strategy, flower.FedProx)
    assert (inner.strategy.proximal_mu, inner.strategy.fraction_train) == (0.1, 0.8)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["FedXgbBagging"], "training.strategy: FedXgbBagging cannot be used: its model is a set of boosted trees"),
        (
            ["DifferentialPrivacyClientSideFixedClipping"],
            "training.strategy: DifferentialPrivacyClientSideFixedClipping cannot be used: clipping is left to a mod",
        ),
        (["QFedAvg"], "training.strategy: QFedAvg cannot be used: it needs the training loss of every client"),
        (
            [FIXED, "noise-multiplier=1.0", "clipping-norm=1.0", "inner=FedMedian"],
            f"training: strategy {FIXED} cannot be wrapped: its noise is made for a mean of clipped updates, and"
            " FedMedian",
        ),
        (
            [FIXED, "noise-multiplier=1.0", "clipping-norm=1.0", "inner=FedXgbCyclic"],
            "training.parameters.inner: FedXgbCyclic cannot be used",
        ),
        ([FIXED, "inner=Fed"], "training.parameters.inner: 'Fed' was given; expected a strategy of Flower: FedAvg, "),
        ([FIXED, "clipping-norm=1.0"], f"training.parameters: strategy {FIXED}: "),
        (
            [FIXED, "noise-multiplier=-1.0", "clipping-norm=1.0"],
            f"training.parameters: strategy {FIXED}: The noise multiplier should be a non-negative value.",
        ),
        (
            [FIXED, 'noise-multiplier="much"', "clipping-norm=1.0"],
            "training.parameters.noise_multiplier: 'much' was given; expected a number",
        ),
        (["FedTrimmedAvg", "beta=0.7"], "training.parameters: strategy FedTrimmedAvg: `beta` must be in the range"),
        (["FedAvgM", "server-momentum=true"], "training.parameters.server_momentum: True was given; expected a number"),
        (["MultiKrum", "num-nodes-to-select=0"], "training: strategy MultiKrum cannot be wrapped: num_nodes_to_select"),
        (["FedAvg", "proximal-mu=1.0"], "training.parameters: strategy FedAvg: "),
        (["FedSGD"], "training.strategy: 'FedSGD' was given; expected a strategy of Flower: FedAvg, FedProx, "),
    ],
)
def test_what_cannot_be_used_is_one_line_with_the_reason(given: Sequence[str], said: str) -> None:
    assert refusal(*given).startswith(said)


def test_the_list_says_how_each_is_treated(capsys: pytest.CaptureFixture[str]) -> None:
    print_strategies()
    listed = " ".join(capsys.readouterr().out.split())
    for name, paper in PAPERS.items():
        assert f"{name} paper {paper}" in listed
    for fact in (
        "proximal-mu = 0.0",
        "noise-multiplier, clipping-norm, num-sampled-clients, inner = FedAvg",
        "momenta, which carry the data, are reset on commit",
        "go through it and need 4 num-malicious-nodes + 3 answers",
        "are clipped and noised as training is, and counted",
        "refused its model is a set of boosted trees",
    ):
        assert fact in listed
