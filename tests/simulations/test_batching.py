from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray
from torch import nn

from fed_unlearn.client.session import current_session
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.owner import OwnerQueue, new_request
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.simulations import client_app
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.engines import batching
from fed_unlearn.simulations.run.driver import in_process_grid, prepare
from fed_unlearn.simulations.scenario import Scenario, load_scenario
from fed_unlearn.simulations.task import ScenarioTask, training_config
from fed_unlearn.strategies import ContinualUnlearning

SYNTHETIC = """
name = "many"
[run]
threads = 1
evaluate-every = 100
[data]
dataset = "synthetic:200"
validation-fraction = 0.1
[clients]
count = 7
[model]
name = "small-cnn"
width = 4
[[timeline]]
train = { rounds = 2 }
"""


def scenario_of(folder: Path, *overrides: str) -> Scenario:
    path = folder / "many.toml"
    path.write_text(SYNTHETIC)
    return load_scenario(str(path), overrides)


def trained(scenario: Scenario, folder: Path) -> dict[str, NDArray[np.float32]]:
    strategy = ContinualUnlearning(FedAvg(fraction_evaluate=0.0), ledger=folder / "ledger.db", seed=scenario.seed)
    config = training_config(scenario.training, scenario.seed)
    grid, initial = in_process_grid(scenario, folder), prepare(scenario).initial
    result = strategy.start(grid, initial, num_rounds=2, train_config=config)
    strategy.ledger.close()
    return {name: array.numpy() for name, array in result.arrays.items()}


def test_clients_trained_together_make_the_model_that_they_make_alone_but_for_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = trained(scenario_of(tmp_path), tmp_path / "alone")
    by_themselves: list[int] = []
    train = ScenarioTask.train
    monkeypatch.setattr(ScenarioTask, "train", lambda *given: (by_themselves.append(1), train(*given))[1])
    together = trained(scenario_of(tmp_path, "run.batch-clients=4"), tmp_path / "together")
    for name, value in alone.items():
        np.testing.assert_allclose(together[name], value, rtol=1e-4, atol=1e-5)
    assert any((together[name] != value).any() for name, value in alone.items())
    assert (
        len(by_themselves) <= 2 and not client_app.trained_ahead
    )  # of 14: one client has a sample less than the others


def test_a_client_whose_data_cannot_be_read_answers_with_its_error_and_the_others_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load = client_app.retained

    def retained(samples: ImageSet, context: Context) -> ImageSet:
        if context.node_config["partition-id"] == 2:
            raise OSError("the disk is gone")
        return load(samples, context)

    monkeypatch.setattr(client_app, "retained", retained)
    with caplog.at_level("WARNING"):
        arrays = trained(scenario_of(tmp_path, "run.batch-clients=7"), tmp_path / "run")
    assert (
        "client 2 is left out: it answered with an error: FedUnlearnError: train: OSError at the client" in caplog.text
    )
    assert caplog.text.count("is left out") == 1
    assert all(np.isfinite(value).all() for value in arrays.values())


@pytest.mark.parametrize("model", ["all-cnn"])
def test_a_scenario_whose_model_keeps_batch_statistics_is_refused(tmp_path: Path, model: str) -> None:
    scenario = scenario_of(tmp_path, "run.batch-clients=4", f"model.name={model}", "model.width=0.1")
    with pytest.raises(FedUnlearnError, match=r"many.toml: run.batch-clients: clients of the model 'all-cnn' cannot"):
        prepare(scenario)


def test_another_engine_is_refused_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario_of(tmp_path)
    order = ["run", str(tmp_path / "many.toml"), "--engine", "ray", "--set", "run.batch-clients=4"]
    assert run_command([*order, "--out", str(tmp_path / "run")]) == 2
    assert "run.batch-clients: 4 was given" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["class", "all"])
def test_what_an_owner_asks_for_is_not_trained_on_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Literal["class", "all"]
) -> None:
    folder = tmp_path / "run"
    node = folder / "clients" / "2"
    node.mkdir(parents=True)
    OwnerQueue(node).add(new_request(kind, of_class=3 if kind == "class" else None))
    ahead: set[str] = set()
    alone: dict[str, ImageSet] = {}
    order, train = batching.train_order, ScenarioTask.train

    def ordering(message: Message, context: Context) -> client_app.TrainOrder:
        ahead.add(client_app.task.client_id(context))
        return order(message, context)

    def noting(task: ScenarioTask, model: nn.Module, samples: ImageSet, *rest: Any) -> PassCounter:
        alone[current_session().client_id] = samples
        return train(task, model, samples, *rest)

    monkeypatch.setattr(batching, "train_order", ordering)
    monkeypatch.setattr(ScenarioTask, "train", noting)
    trained(scenario_of(tmp_path, "run.batch-clients=4"), folder)
    assert ahead == {"0", "1", "3", "4", "5", "6"}
    assert ("2" in alone) == (kind == "class"), "it trains by itself, or not at all"
    if kind == "class":
        assert len(alone["2"]) and 3 not in alone["2"].labels.tolist()
