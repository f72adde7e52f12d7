"""Training from scratch that goes on when a run trains more rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from federation import OPEN_GATE, initial_arrays, make_federation
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg

from fed_unlearn.arrays import Arrays
from fed_unlearn.strategies.training.retraining import Retraining


def differ(first: Arrays, second: Arrays) -> bool:
    return any(not np.array_equal(first[name], second[name]) for name in first)


def test_a_retraining_goes_on_where_the_run_does_and_is_the_run_where_nothing_was_forgotten(tmp_path: Path) -> None:
    """Rounds 1 and 2, then the third alone: the same bytes as the run's, and as three rounds at once."""
    federation = make_federation(tmp_path)
    strategy = federation.strategy(FedAvg(fraction_train=0.5, fraction_evaluate=0.0), gate=OPEN_GATE)
    config = ConfigRecord({"seed": 4})
    first = strategy.start(federation.grid, initial_arrays(), 2, train_config=config)
    retraining = strategy.retraining(federation.grid, initial_arrays(), seed=strategy.seed)
    begun = retraining.catch_up()
    assert not differ(begun, {name: array.numpy() for name, array in first.arrays.items()})
    second = strategy.start(federation.grid, None, 1, train_config=config)
    served = {name: array.numpy() for name, array in second.arrays.items()}
    assert differ(begun, served)
    assert not differ(retraining.catch_up(), served)
    assert not differ(strategy.retraining(federation.grid, initial_arrays(), seed=strategy.seed).catch_up(), served)
    assert not differ(retraining.catch_up(), served), "nothing was trained since"


def test_another_seed_asks_other_clients_and_a_changed_configuration_reaches_only_what_was_there(
    tmp_path: Path,
) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy(FedAvg(fraction_train=0.5, fraction_evaluate=0.0), gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), 2, train_config=ConfigRecord({"seed": 4}))
    models = [strategy.retraining(federation.grid, initial_arrays(), seed=seed).catch_up() for seed in (1, 2, 3)]
    assert differ(models[0], models[1]) or differ(models[0], models[2])
    changed = Retraining(strategy._identified(federation.grid, 60), models[0], config={"seed": 9, "rate": 1})
    assert dict(changed._of(ConfigRecord({"seed": 4, "batch": 2}))) == {"seed": 9, "batch": 2}
