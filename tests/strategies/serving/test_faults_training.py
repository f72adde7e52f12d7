"""Faults of clients in ordinary training; :mod:`test_faults` has the table of what each of them leads to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fault_trials import ALWAYS_WRONG, CLASS, Trial, evaluating, length, trained, trained_with
from faulty_grid import every_array, metric
from federation import initial_arrays, same_bytes
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedMedian

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, unpack
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import Forget, Train
from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError


@pytest.mark.parametrize("kind", [*ALWAYS_WRONG, "deaf", "silent", "gone"])
def test_a_client_that_does_wrong_is_left_out(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    trial = Trial(tmp_path)
    trial.do(kind, 2, protocol.TRAIN)
    with caplog.at_level("WARNING", logger="fed_unlearn"):
        result = trial.train()
    assert same_bytes(result.arrays, trained_with("gone", 2, 2))
    named = [record.getMessage() for record in caplog.records if "client 2 is left out" in record.getMessage()]
    assert bool(named) == (kind in ALWAYS_WRONG)


def test_who_answers_twice_is_heard_once() -> None:
    assert same_bytes(trained_with("twice", 2, 2), trained_with("none", 2, 2))


def test_an_answer_to_an_earlier_round_is_not_used() -> None:
    late, silent = trained_with("late", 2, 3, times=1), trained_with("silent", 2, 3, times=1)
    assert same_bytes(late, silent)
    assert not same_bytes(late, trained_with("none", 2, 3))


def average(models: list[Arrays], weights: list[int]) -> Arrays:
    return {
        name: sum(w / sum(weights) * model[name].astype(np.float64) for w, model in zip(weights, models, strict=True))
        for name in models[0]
    }


@pytest.mark.parametrize("first", [True, False], ids=["in the first round", "in a later round"])
def test_an_absurdly_long_change_is_scaled_down(tmp_path: Path, first: bool) -> None:
    trial = Trial(tmp_path)
    base = initial_arrays() if first else trial.train(1).arrays
    usual = 0.0 if first else trial.strategy.served.update_norm  # type: ignore[union-attr]
    came = trial.recorded(protocol.TRAIN)
    start = unpack(base)
    trial.grid.spoil(every_array(lambda value: value * np.float32(1e6)), 2, protocol.TRAIN, times=1)
    result = trial.train(1)
    models = [model for _, model in sorted(came, key=lambda item: item[0])]
    lengths = sorted(length(model, start) for model in models[:2] + models[3:])
    absurd = {name: value * np.float32(1e6) for name, value in models[2].items()}
    bound = min(10 * max(usual or 0.0, lengths[1]), 6 * lengths[-1])
    share = bound / length(absurd, start)
    models[2] = {name: start[name] + share * (absurd[name].astype(np.float64) - start[name]) for name in start}
    expected = average(models, [64] * 4)
    for name, array in result.arrays.items():
        np.testing.assert_allclose(array.numpy(), expected[name], rtol=1e-4, atol=1e-5)


def test_changes_of_usual_length_stay_as_they_are(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    came = trial.recorded(protocol.TRAIN)
    trial.grid.spoil(every_array(lambda value: value * np.float32(1.2)), 1, protocol.TRAIN)
    result = trial.train(1)
    models = [
        {name: value * np.float32(1.2) if client == 1 else value for name, value in m.items()} for client, m in came
    ]
    for name, expected in average(models, [64] * 4).items():
        np.testing.assert_allclose(result.arrays[name].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_robust_strategy_bounds_by_itself(tmp_path: Path) -> None:
    trial = Trial(tmp_path, new_inner=lambda: FedMedian(fraction_evaluate=0.0))
    came = trial.recorded(protocol.TRAIN)
    trial.grid.spoil(every_array(lambda value: value * np.float32(1e6)), 2, protocol.TRAIN)
    result = trial.train(1)
    for name, array in result.arrays.items():
        models = [value[name] * np.float32(1e6 if client == 2 else 1) for client, value in came]
        np.testing.assert_allclose(array.numpy(), np.median(models, axis=0), rtol=1e-5)


def test_a_round_that_nobody_answers_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    before = trial.train(0).arrays
    for client in range(4):
        trial.do("deaf", client, protocol.TRAIN)
    assert same_bytes(trial.train(1).arrays, before)


EVALUATIONS = ("raises", "deaf", "silent", "late", "weight 0", "weight nan", "twice", "gone")


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_wrong_evaluations_do_no_harm(tmp_path: Path, kind: str) -> None:
    """Each client's loss is its number, all weigh the same."""
    trial = Trial(tmp_path, new_inner=evaluating)
    trial.do(kind, 2, "evaluate")
    result = trial.train()
    losses = [float(str(metrics["loss"])) for metrics in result.evaluate_metrics_clientapp.values()]
    expected = (0 + 1 + 2 + 3) / 4 if kind == "twice" else (0 + 1 + 3) / 3
    assert losses == [pytest.approx(expected)] * 2
    assert same_bytes(result.arrays, trained_with("gone" if kind == "gone" else "none", 2, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, [1, 2]])
def test_costs_that_are_no_counts_are_not_counted(tmp_path: Path, value: float | list[int]) -> None:
    trial = Trial(tmp_path)
    trial.grid.spoil(metric("forward-passes", value), 2, protocol.TRAIN)
    assert trial.train(1).training_traffic.forward_passes == 3 * 64 * 2, "samples and local epochs of the others"


# ---------------------------------------------------------------------- nobody is there, or nobody looks


def test_training_without_any_client_goes_on_when_one_is_back(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    served = trial.train(0).arrays
    trial.grid.gone |= {0, 1, 2, 3}
    result = trial.train(3)
    assert same_bytes(result.arrays, served)
    assert trial.strategy.state.load_training() is not None
    trial.grid.heal()
    again = trial.train(3)
    assert same_bytes(again.arrays, trained_with("none", 2, 2 + 3))
    assert trial.strategy.state.load_training() is None
    assert [item.rounds for item in trial.strategy.state.experiences()] == [2, 3]


def test_clients_that_vanish_between_two_rounds_are_waited_for(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    seen: list[int] = []

    def vanish(client: int, reply: object) -> None:
        seen.append(client)
        if len(seen) == 8:
            trial.grid.gone |= {0, 1, 2, 3}

    trial.grid.watch(protocol.TRAIN, vanish)  # type: ignore[arg-type]
    result = trial.train(4)
    assert same_bytes(result.arrays, initial_arrays()), "the gate has not seen what was trained"
    open_training = trial.strategy.state.load_training()
    assert open_training is not None and open_training.done == 2
    trial.grid.heal()
    trial.restart()
    assert same_bytes(trial.train(4).arrays, trained_with("none", 2, 4))


@pytest.mark.parametrize("kind", ["deaf", "raises", "gone"])
def test_training_that_nobody_audits_is_served_when_somebody_does(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path)
    served = trial.train(0).arrays
    if kind == "gone":
        trial.grid.watch(protocol.TRAIN, lambda client, reply: trial.grid.gone.add(client))
    for client in range(4):
        if kind != "gone":
            trial.do(kind, client, protocol.AUDIT)
    trial.strategy.submit(CLASS)
    trial.strategy.ledger.withdraw("r1")
    if kind == "raises":
        with pytest.raises(ClientsFailedError, match="no client could be audited: client 0: "):
            trial.train(1)
    else:
        assert same_bytes(trial.train(1).arrays, served)
    trial.grid.watch(protocol.TRAIN, lambda client, reply: None)
    trial.grid.heal()
    assert same_bytes(trial.serve().arrays, trained_with("none", 2, 3))


def test_a_timeline_stops_where_nobody_is_there_and_goes_on(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    timeline = (
        Train(rounds=2),
        Train(rounds=1, train_config=ConfigRecord()),
        Forget((ForgetRequest.for_class(3, id="later"),)),
    )
    trial.grid.gone |= {0, 1, 2, 3}
    trial.strategy.run(trial.grid, timeline, initial_arrays(), timeout=0.2)
    assert len(trial.strategy.state.experiences()) == 1
    trial.grid.heal()
    result = trial.strategy.run(trial.grid, timeline, initial_arrays(), timeout=0.2)
    assert [str(outcome.status) for outcome in result.requests] == ["committed"]
    assert len(trial.strategy.state.experiences()) == 2
