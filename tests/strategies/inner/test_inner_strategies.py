"""Every strategy of Flower, wrapped: which ones can be, and that they forget."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import pytest
from federation import OPEN_GATE, initial_arrays, make_federation
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from inner_strategies import (
    MAKE,
    PRIVATE,
    REFUSED,
    ROBUST,
    HeavyBall,
    adaptive,
    fixed,
    said_by_us,
)

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.inner.kinds import aggregates_repair, check_supported

FORGETTING_GATE = Gate(
    class_thresholds=Thresholds(max_forget_accuracy=0.05, max_retain_drop=None, max_total_retain_drop=None),
    sample_thresholds=Thresholds(max_forget_accuracy=0.0, max_retain_drop=None, max_total_retain_drop=None),
)


@pytest.mark.parametrize(
    "name",
    ["FedAvg", "FedAdam", "FedProx", "FedMedian", "MultiKrum", "DifferentialPrivacyServerSideFixedClipping"],
)
def test_a_timeline_of_training_and_requests(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy(MAKE[name](), gate=FORGETTING_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=6)
    strategy.submit(ForgetRequest.for_class(3))
    first = strategy.start(federation.grid, num_rounds=2)
    strategy.submit(ForgetRequest.for_samples(2, count=2))
    second = strategy.start(federation.grid, num_rounds=1)
    of_class, of_samples = *first.requests, *second.requests
    assert of_class.status is Status.COMMITTED, of_class.reason
    before, after = of_class.before, of_class.after
    assert before is not None and before.forget_accuracy is not None and before.forget_accuracy > 0.8
    assert after is not None and after.forget_accuracy is not None and after.forget_accuracy <= 0.05
    assert before.test_retain_accuracy is not None and after.test_retain_accuracy is not None
    assert after.test_retain_accuracy > before.test_retain_accuracy - 0.05
    if of_samples.status is Status.COMMITTED:
        assert of_samples.after is not None and of_samples.after.forget_accuracy == 0.0
    else:
        # Its user does not trust single clients, and these samples have one holder.
        assert name in ROBUST and of_samples.reason is not None and "1 usable replies came" in of_samples.reason
    last = second.relapse[-1]
    assert last.after == "train:3"
    assert last.forget_accuracy["r1"] is not None and last.forget_accuracy["r1"] <= 0.05
    assert last.test_forget_accuracy["r1"] is not None and last.test_forget_accuracy["r1"] <= 0.1


@pytest.mark.parametrize("name", ["FedMedian", "MultiKrum", "DifferentialPrivacyServerSideFixedClipping"])
def test_unlearn_and_repair_rounds_go_through_it(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = MAKE[name]()
    federation = make_federation(tmp_path)
    strategy = federation.strategy(inner, gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=3)
    strategy.submit(ForgetRequest.for_class(3))
    counts: list[int] = []
    own = inner.aggregate_train

    def counted(number: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        counts.append(len(replies := list(replies)))
        return own(number, replies)

    monkeypatch.setattr(inner, "aggregate_train", counted)
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED, outcome.reason
    assert len(counts) >= 2 and set(counts) == {4}, "an unlearn round and a repair round at least, of four clients"


@pytest.mark.parametrize("name", MAKE)
def test_what_makes_sense_is_accepted(name: str) -> None:
    inner = MAKE[name]()
    check_supported(inner)
    assert aggregates_repair(inner) is (name in ROBUST or name in PRIVATE)
    of_the_users_own = type("Own", (type(inner),), {})
    inner.__class__ = of_the_users_own
    check_supported(inner)
    assert aggregates_repair(inner) is (name in ROBUST or name in PRIVATE)


def test_every_strategy_of_flower_is_either_accepted_or_refused() -> None:
    strategies = {
        name
        for name, value in vars(flower).items()
        if isinstance(value, type) and issubclass(value, Strategy) and value is not Strategy
    }
    assert strategies == set(MAKE) | set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_checked_is_refused(name: str) -> None:
    reason = "boosted trees" if "Xgb" in name else f"use {name.replace('Client', 'Server')}"
    with pytest.raises(InvalidParameterError, match=rf"^strategy {name} cannot be wrapped: .*{reason}"):
        check_supported(REFUSED[name]())


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (fixed(MAKE["FedMedian"]()), "FedMedian makes something else of them"),
        (fixed(MAKE["FedAdam"]()), "FedAdam makes something else of them"),
        (adaptive(MAKE["FedAvgM"]()), "FedAvgM makes something else of them"),
        (adaptive(REFUSED["FedXgbBagging"]()), "FedXgbBagging makes something else of them"),
        (fixed(fixed()), "DifferentialPrivacyServerSideFixedClipping makes something else"),
        (flower.MultiKrum(num_nodes_to_select=0), "num_nodes_to_select = 0 was given; expected 1 or more"),
        (flower.Bulyan(num_malicious_nodes=-1), "num_malicious_nodes = -1 was given; expected 0 or more"),
        (flower.QFedAvg(client_learning_rate=0.0), "client_learning_rate = 0.0 was given; expected a number above 0"),
        (flower.FedAvg, "FedAvg was given as the strategy; expected an instance"),
        (None, "NoneType was given as the strategy; expected an instance"),
    ],
)
def test_what_is_meaningless_says_why(inner: Strategy, reason: str) -> None:
    with pytest.raises(InvalidParameterError) as error:
        check_supported(inner)
    assert reason in str(error.value)


def test_a_strategy_is_wrapped_once(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    with pytest.raises(InvalidParameterError, match="serves forget requests already"):
        check_supported(federation.strategy())


def test_of_a_strategy_of_ones_own_the_log_says_how_it_is_treated(caplog: pytest.LogCaptureFixture) -> None:
    own, robust = HeavyBall(), HeavyBall()
    robust.aggregates_repair = True  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        check_supported(own)
        check_supported(robust)
    said = said_by_us(caplog)
    assert "HeavyBall is not one of Flower's" in said[0] and "are averaged by the server" in said[0]
    assert "go through its own aggregate_train" in said[1]
    assert [aggregates_repair(own), aggregates_repair(robust)] == [False, True]
