"""Federations of an app's own loaders: a client that has nothing left to train on, and arguments that are missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from federation import FAST_PLAN, all_digits, initial_arrays, small_model
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from fed_unlearn.arrays import to_state_dict
from fed_unlearn.client import LoaderTask, install, retained
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import ContinualUnlearning

FORGOTTEN, LONE, CLIENTS = 3, 2, 3


def load_data(partition_id: int, batch_size: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Digits of all classes; client 2 has the forgotten one alone."""
    images, labels = all_digits().train.batch(slice(0, 600))
    own = torch.arange(partition_id, 600, CLIENTS)
    if partition_id == LONE:
        own = (labels == FORGOTTEN).nonzero().flatten()
    cut = len(own) * 3 // 4
    sets = [TensorDataset(images[places], labels[places]) for places in (own[:cut], own[cut:])]
    return DataLoader(sets[0], batch_size, shuffle=True), DataLoader(sets[1], batch_size)


def train_fn(net: nn.Module, trainloader: DataLoader[Any], epochs: int, lr: float) -> float:
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9), torch.zeros(())
    for _ in range(epochs):
        for images, labels in trainloader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
    return loss.item() / len(trainloader)  # as apps do, which fails where there is no batch


def app_of(trained: list[str], train: Callable[..., object] = train_fn) -> ClientApp:
    app = ClientApp()
    install(app, LoaderTask(small_model, load_data, train, class_count=10))

    @app.train()
    def handle(message: Message, context: Context) -> Message:
        loader = retained(load_data(int(context.node_config["partition-id"]), 32)[0], context)
        trained.append(str(context.node_config["partition-id"]))
        model = small_model()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        train_fn(model, loader, 2, 0.1)
        metrics = MetricRecord({"num-examples": len(loader.dataset)})  # type: ignore[arg-type]
        return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)

    return app


def grid_of(app: ClientApp, folder: Path, **config: Any) -> InProcessGrid:
    stores = [{"client-dir": str(folder / str(client))} for client in range(CLIENTS)]
    run = {"batch-size": 32, **{name.replace("_", "-"): value for name, value in config.items()}}
    return InProcessGrid(app, CLIENTS, node_configs=stores, run_config=run)


def test_a_client_that_has_only_the_forgotten_class_trains_no_more(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained: list[str] = []
    grid = grid_of(app_of(trained), tmp_path, local_epochs=2)
    strategy = ContinualUnlearning(FedAvg(fraction_evaluate=0.0), ledger=tmp_path / "ledger.db", plan=FAST_PLAN)
    settings = {"train_config": ConfigRecord({"lr": 0.1})}
    strategy.start(grid, initial_arrays(), num_rounds=3, **settings)
    assert trained.count(str(LONE)) == 3
    strategy.submit(ForgetRequest.for_class(FORGOTTEN, id="class"))
    served = strategy.start(grid, num_rounds=0, **settings)
    assert str(served.requests[0].status) == "committed"
    del trained[:]
    result = strategy.start(grid, num_rounds=2, **settings)
    assert sorted(trained) == ["0", "0", "1", "1"]
    images, labels = all_digits().test.batch()
    model = small_model()
    model.load_state_dict(to_state_dict(result.arrays))
    right = model(images).argmax(1) == labels
    assert float(right[labels == FORGOTTEN].float().mean()) <= 0.05
    assert float(right[labels != FORGOTTEN].float().mean()) > 0.75


def test_an_argument_that_no_configuration_has_ends_the_first_round(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained: list[str] = []
    strategy = ContinualUnlearning(FedAvg(fraction_evaluate=0.0), ledger=tmp_path / "ledger.db", plan=FAST_PLAN)
    with pytest.raises(FedUnlearnError, match=r"client 0: train: LoaderTask.s train: train_fn.. needs"):
        strategy.start(grid_of(app_of(trained), tmp_path), initial_arrays(), num_rounds=3)
    assert trained == []
    said = caplog.text.replace('"', "'")
    assert "LoaderTask's train: train_fn() needs 'epochs' and 'lr', and no configuration has it" in said


def test_a_new_ledger_is_told_of_what_another_one_has_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    grid, settings = grid_of(app_of([]), tmp_path, local_epochs=2), {"train_config": ConfigRecord({"lr": 0.1})}
    for name, told in (("first", 0), ("second", 3)):
        strategy = ContinualUnlearning(FedAvg(fraction_evaluate=0.0), ledger=tmp_path / f"{name}.db", plan=FAST_PLAN)
        result = strategy.start(grid, initial_arrays(), num_rounds=1, **settings)
        assert len(repr(result)) < 2000  # Flower's own, without the bytes of the model
        assert caplog.text.count("as requests of another ledger ask") == told
        strategy.submit(ForgetRequest.for_class(FORGOTTEN, id="class"))
        strategy.start(grid, num_rounds=0, **settings)
    assert "client 2: 46 of its 46 training samples stay out of training" in caplog.text
    assert str(tmp_path / "2") in caplog.text
    strategy.submit(ForgetRequest.for_class(FORGOTTEN, id="again"))
    strategy.start(grid, num_rounds=0, **settings)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any(text.startswith("request again: rejected: class 3 is forgotten already") for text in said)


def test_a_training_function_that_fails_in_repair_is_in_the_reason(tmp_path: Path) -> None:
    def fails(net: nn.Module, loader: DataLoader[Any]) -> None:
        raise KeyError("momentum")

    grid = grid_of(app_of([], fails), tmp_path)
    strategy = ContinualUnlearning(FedAvg(fraction_evaluate=0.0), ledger=tmp_path / "ledger.db", plan=FAST_PLAN)
    strategy.start(grid, initial_arrays(), num_rounds=3)
    strategy.submit(ForgetRequest.for_class(FORGOTTEN, id="class"))
    [outcome] = strategy.start(grid, num_rounds=0).requests
    assert str(outcome.status) == "failed"
    assert "no client could repair the model: client 0: " in str(outcome.reason) and "KeyError" in str(outcome.reason)
