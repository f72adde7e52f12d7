"""What releases with noise cost together: the account against closed forms, and what it counts."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from federation import initial_arrays, make_federation
from flwr.app import ConfigRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from flwr.supercore.privacy_accounting import (
    GaussianPrivacyEvent,
    NeighboringRelation,
    PrivacyConfig,
    PrivacySpent,
    SamplingMethod,
)
from made_replies import drawn_model, moved, replies_of

from fed_unlearn.arrays import unpack
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.inner.aggregation import AggregationFailedError, aggregate_through
from fed_unlearn.strategies.inner.kinds import check_supported
from fed_unlearn.strategies.inner.privacy import PrivacyAccountant, noise_multiplier_of
from fed_unlearn.strategies.inner.state import restore_server_state, server_state
from fed_unlearn.strategies.training.trainer import Trainer


def fixed(noise: float, norm: float, clients: int = 4, accountant: object = None) -> Strategy:
    return flower.DifferentialPrivacyServerSideFixedClipping(
        flower.FedAvg(fraction_evaluate=0.0),
        noise,
        norm,
        clients,
        accountant=accountant,  # type: ignore[arg-type]
    )


def adaptive(noise: float, norm: float, clients: int = 4, deviation: float | None = None) -> Strategy:
    return flower.DifferentialPrivacyServerSideAdaptiveClipping(
        flower.FedAvg(fraction_evaluate=0.0),
        noise,
        clients,
        initial_clipping_norm=norm,
        clipped_count_stddev=deviation,
    )


def test_the_account_against_the_closed_form() -> None:
    """k releases of multiplier z: rho = k / (2 z^2), epsilon = rho + 2 sqrt(rho ln(1 / delta))."""
    accountant = PrivacyAccountant()
    assert accountant.epsilon(1e-5) == 0.0
    accountant.add("train", 2.0, 30)
    accountant.add("repair", 2.0)
    accountant.add("unlearn", 4.0)
    rho = 31 / 8 + 1 / 32
    assert accountant.rho == pytest.approx(rho, rel=1e-12)
    assert accountant.epsilon(1e-5) == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1e5)), rel=1e-12)
    assert accountant.count == 32
    # One release of z = 1 by hand: 1/2 + 2 sqrt(ln(1e5) / 2).
    one = PrivacyAccountant()
    one.add("train", 1.0)
    assert one.epsilon(1e-5) == pytest.approx(5.298526, abs=1e-6)


def test_the_bound_holds_for_the_gaussian_mechanism_itself() -> None:
    """delta of N(0, z^2) at sensitivity 1 (Balle and Wang, ICML 2018, theorem 8) is no more than it says."""

    def cumulative(value: float) -> float:
        return 0.5 * math.erfc(-value / math.sqrt(2))

    for multiplier in (0.7, 1.0, 3.0):
        for count in (1, 10):
            accountant = PrivacyAccountant()
            accountant.add("train", multiplier, count)
            together = multiplier / math.sqrt(count)
            for delta in (1e-3, 1e-6):
                epsilon = accountant.epsilon(delta)
                half, shift = 1 / (2 * together), epsilon * together
                exact = cumulative(half - shift) - math.exp(epsilon) * cumulative(-half - shift)
                assert exact <= delta


def test_an_account_survives_being_written() -> None:
    accountant = PrivacyAccountant()
    accountant.add("train", 1.1, 3)
    accountant.add("repair", 0.0)
    again = PrivacyAccountant.from_json(accountant.to_json())
    assert again.releases == {("train", 1.1): 3, ("repair", 0.0): 1}
    assert again.epsilon(1e-5) == math.inf, "one release had no noise"
    assert json.loads(accountant.to_json())["version"] == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2, "releases": []}', '{"version": 1, "releases": [{}]}'])
def test_an_account_that_cannot_be_read_does_not_begin_anew(text: str) -> None:
    with pytest.raises(InvalidParameterError, match="privacy account"):
        PrivacyAccountant.from_json(text)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda account: account.add("train", -1.0), "noise multiplier -1.0 was given"),
        (lambda account: account.add("train", math.nan), "noise multiplier nan was given"),
        (lambda account: account.add("train", 1.0, 0), "0 releases were given"),
        (lambda account: account.epsilon(0.0), "delta 0.0 was given"),
        (lambda account: account.epsilon(1.0), "delta 1.0 was given"),
    ],
)
def test_numbers_out_of_range(call: Callable[[PrivacyAccountant], object], said: str) -> None:
    with pytest.raises(InvalidParameterError, match=said):
        call(PrivacyAccountant())


def test_the_multiplier_of_a_release() -> None:
    """Adaptive clipping spends some of it on the count of clipped updates; together they are what was asked for."""
    assert noise_multiplier_of(fixed(0.7, 1.0)) == 0.7
    assert noise_multiplier_of(adaptive(0.3, 1.0)) == pytest.approx(0.3, rel=1e-12)
    assert noise_multiplier_of(adaptive(1.5, 1.0, clients=40)) == pytest.approx(1.5, rel=1e-12)
    assert noise_multiplier_of(adaptive(0.0, 1.0)) == 0.0
    assert noise_multiplier_of(flower.FedAvg()) is None
    assert noise_multiplier_of(flower.FedMedian()) is None


def test_every_release_is_counted(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    grid = EligibleGrid(federation.grid)
    grid.identify(4, 10.0, {})
    accountant, inner = PrivacyAccountant(), fixed(0.5, 0.2)
    trainer = Trainer(inner, grid, 10.0, 0, accountant=accountant)
    arrays = unpack(initial_arrays())
    for number in (1, 2):
        arrays = trainer.train(arrays, number, ConfigRecord()).arrays
    base = drawn_model(0)
    aggregate_through(inner, base, replies_of([moved(base, 1)]), 1, purpose="unlearn", accountant=accountant)
    aggregate_through(inner, base, replies_of([moved(base, 1)]), 1, accountant=accountant)
    assert accountant.releases == {("train", 0.5): 2, ("unlearn", 0.5): 1, ("repair", 0.5): 1}
    plain = Trainer(flower.FedAvg(fraction_evaluate=0.0), grid, 10.0, 0, accountant=accountant)
    plain.train(arrays, 3, ConfigRecord())
    federation.app._registered_funcs.clear()
    trainer.train(arrays, 4, ConfigRecord())
    assert accountant.count == 4, "nothing was released without noise by design, or without a reply"


class CountingAccountant:
    """Stands for Flower's own, whose package is not installed: counts releases, and allows so many."""

    def __init__(self, allowed: int) -> None:
        self.config = PrivacyConfig(
            1e-5, 10, NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.NO_AMPLIFICATION, max_epsilon=1.0
        )
        self.allowed = allowed
        self.events: list[GaussianPrivacyEvent] = []

    @property
    def num_releases(self) -> int:
        return len(self.events)

    def compose(self, event: GaussianPrivacyEvent, count: int = 1) -> None:
        self.events += [event] * count

    def would_exceed(self, event: GaussianPrivacyEvent) -> bool:
        return self.num_releases >= self.allowed

    def get_privacy_spent(self) -> PrivacySpent:
        return PrivacySpent(float(self.num_releases), 1e-5, self.num_releases, "counting")

    def state_dict(self) -> dict[str, object]:
        return {"compositions": [{"count": 1, "size": event.sample_size} for event in self.events]}

    def load_state_dict(self, state: dict[str, list[dict[str, int]]]) -> None:
        self.events = [GaussianPrivacyEvent(0.5, row["size"], 10) for row in state["compositions"]]


def test_flowers_own_accountant_counts_repair_too_and_stops_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = make_federation(tmp_path)
    grid = EligibleGrid(federation.grid)
    grid.identify(4, 10.0, {})
    accountant = CountingAccountant(allowed=3)
    inner = fixed(0.5, 0.2, accountant=accountant)
    trainer = Trainer(inner, grid, 10.0, 0)
    arrays = unpack(initial_arrays())
    arrays = trainer.train(arrays, 1, ConfigRecord()).arrays
    base = drawn_model(0)
    aggregate_through(inner, base, replies_of([moved(base, client) for client in range(4)], [1.0, 2.0, 3.0, 4.0]), 1)
    aggregate_through(inner, base, replies_of([moved(base, 1)]), 2)
    assert [event.sample_size for event in accountant.events] == [4, 4, 1]
    with pytest.raises(AggregationFailedError, match="PrivacyBudgetExhausted"):
        aggregate_through(inner, base, replies_of([moved(base, 1)]), 3)
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        after = trainer.train(arrays, 2, ConfigRecord()).arrays
    assert all(np.array_equal(after[key], arrays[key]) for key in arrays)
    assert "training round 2: nobody is asked: PrivacyBudgetExhausted" in caplog.text
    assert accountant.num_releases == 3


def test_what_flowers_own_accountant_counted_never_goes_back() -> None:
    base = drawn_model(0)
    inner = fixed(0.5, 0.2, accountant=CountingAccountant(allowed=9))
    check_supported(inner)
    early = server_state(inner)
    aggregate_through(inner, base, replies_of([moved(base, client) for client in range(4)]), 1)
    late = server_state(inner)
    restore_server_state(inner, *early)
    assert inner.accountant.num_releases == 1, "a release that was rolled back was seen all the same"  # type: ignore
    again = fixed(0.5, 0.2, accountant=CountingAccountant(allowed=9))
    restore_server_state(again, *late)
    assert again.accountant.num_releases == 1  # type: ignore[attr-defined]


def test_fewer_clients_than_flowers_accountant_wants_stop_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = make_federation(tmp_path, clients=3)
    grid = EligibleGrid(federation.grid)
    grid.identify(3, 10.0, {})
    trainer = Trainer(fixed(0.5, 0.2, clients=4, accountant=CountingAccountant(9)), grid, 10.0, 0)
    arrays = unpack(initial_arrays())
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        after = trainer.train(arrays, 1, ConfigRecord()).arrays
    assert all(np.array_equal(after[key], arrays[key]) for key in arrays)
    assert "does not match num_sampled_clients: 3 != 4" in caplog.text
