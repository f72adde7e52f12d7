"""An app with loaders whose clients keep BatchNorm for themselves (FedBN) forgets a class, and fails without a trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from federation import CLIENTS, FAST_PLAN, digits_of
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from keeping_node import holds_bytes, put_by, seen
from partial_models import Net
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from fed_unlearn import ForgetRequest
from fed_unlearn.client import LoaderTask, install, retained
from fed_unlearn.client.working_model import frozen_rest
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.seeding import isolated_random
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import ContinualUnlearning, UnlearningPlan

CLASS = 3
NORM = "norm"
RUINOUS = replace(FAST_PLAN, parameters={"boundary-shrink": {"epochs": 10, "learning_rate": 5.0}})
NO_LOSS = Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.0, max_total_retain_drop=0.0)


def net() -> nn.Module:
    with isolated_random(7):
        return Net(normed=True)


def is_own(name: str) -> bool:
    return name.startswith("body.2.")


def travelling(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not is_own(name)}


def load_norm(model: nn.Module, context: Context) -> None:
    if NORM in context.state:
        model.load_state_dict(context.state.array_records[NORM].to_torch_state_dict(), strict=False)


def keep_norm(model: nn.Module, context: Context) -> None:
    own = {name: value for name, value in model.state_dict().items() if is_own(name)}
    context.state[NORM] = ArrayRecord(own)


def loaders(context: Context) -> list[DataLoader[Any]]:
    data = digits_of(int(context.node_config["partition-id"]))
    parts = [TensorDataset(part.images, part.labels) for part in (data.train, data.validation, data.test)]
    order = torch.Generator().manual_seed(0)
    return [
        DataLoader(part, batch_size=32, shuffle=index == 0, generator=order if index == 0 else None)
        for index, part in enumerate(parts)
    ]


def fit(model: nn.Module, loader: DataLoader[Any], config: ConfigRecord, context: Context) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        for images, labels in loader:
            if len(labels) > 1:
                optimizer.zero_grad()
                functional.cross_entropy(model(images), labels).backward()
                optimizer.step()


def task_of(**options: Any) -> LoaderTask:
    return LoaderTask(net, loaders, fit, 10, arrays_of=travelling, personal=load_norm, **options)


class Trial:
    """A federation of the app, trained."""

    def __init__(self, folder: Path, plan: UnlearningPlan = FAST_PLAN, gate: Gate | None = None) -> None:
        app = ClientApp()
        install(app, task_of(keep_personal=keep_norm))

        @app.train()
        def train(message: Message, context: Context) -> Message:
            model = net()
            model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict(), strict=False)
            load_norm(model, context)
            loader = retained(loaders(context)[0], context)
            fit(model, loader, ConfigRecord(), context)
            keep_norm(model, context)
            metrics = MetricRecord({"num-examples": len(loader.dataset)})
            return Message(RecordDict({"arrays": ArrayRecord(travelling(model)), "metrics": metrics}), reply_to=message)

        stores = [{"client-dir": str(folder / str(client))} for client in range(CLIENTS)]
        self.grid = InProcessGrid(app, CLIENTS, node_configs=stores)
        inner = FedAvg(fraction_evaluate=0.0, min_available_nodes=2)
        self.strategy = ContinualUnlearning(inner, ledger=folder / "ledger.db", plan=plan, gate=gate)
        self.arrays = self.strategy.start(self.grid, ArrayRecord(travelling(net())), num_rounds=6).arrays

    @property
    def states(self) -> list[RecordDict]:
        return [self.grid._contexts[client + 1].state for client in range(CLIENTS)]

    def accuracy(self, client: int, *, of_class: bool) -> float:
        """Of a client's test samples of the class, or of the others, that its own model has right."""
        model = net()
        model.load_state_dict(self.arrays.to_torch_state_dict(), strict=False)
        model.load_state_dict(self.states[client].array_records[NORM].to_torch_state_dict(), strict=False)
        test = digits_of(client).test
        chosen = (test.labels == CLASS) == of_class
        return float((model.eval()(test.images[chosen]).argmax(1) == test.labels[chosen]).float().mean())


def test_a_class_is_forgotten_by_the_models_that_clients_use(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    assert sum(trial.accuracy(client, of_class=True) for client in range(CLIENTS)) / CLIENTS > 0.6
    old = [state.array_records[NORM] for state in trial.states]
    trial.strategy.submit(ForgetRequest.for_class(CLASS))
    result = trial.strategy.start(trial.grid, num_rounds=0)
    trial.arrays = result.arrays
    assert result.requests[-1].status == "committed", result.requests[-1].reason
    assert set(result.arrays) == set(travelling(net()))
    for client, state in enumerate(trial.states):
        assert trial.accuracy(client, of_class=True) <= 0.05
        assert trial.accuracy(client, of_class=False) > 0.7
        changing = ArrayRecord({name: array for name, array in old[client].items() if "num_batches" not in name})
        assert not put_by(state) and not holds_bytes(state, changing)


def test_where_it_fails_batch_norm_is_what_it_was(tmp_path: Path) -> None:
    trial = Trial(tmp_path, RUINOUS, Gate(class_thresholds=NO_LOSS, max_repair_rounds=0))
    before = [seen(state) for state in trial.states]
    trial.strategy.submit(ForgetRequest.for_class(CLASS))
    outcome = trial.strategy.start(trial.grid, num_rounds=0).requests[-1]
    assert outcome.status == "failed", outcome.reason
    assert [seen(state) for state in trial.states] == before


@pytest.mark.parametrize("keeps", [True, False])
def test_what_does_not_travel_learns_only_where_it_is_kept(keeps: bool) -> None:
    task, model = task_of(**({"keep_personal": keep_norm} if keeps else {})), net()
    assert task.keeps_personal is keeps
    with frozen_rest(task, model):
        free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert ("body.2.weight" in free) is keeps and "head.weight" in free
