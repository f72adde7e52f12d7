"""Images that are made when they are read, so that a client holds more of them than fit in memory."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset

from fed_unlearn.client import LoaderTask, install, retained
from fed_unlearn.data.images import ClientData
from fed_unlearn.data.lazy import LazySet
from fed_unlearn.seeding import isolated_random
from fed_unlearn.simulations.inprocess import InProcessGrid

CLASSES, SIDE = 5, 224
BYTES = 3 * SIDE * SIDE * 4  # of one image, as a model reads it


@cache
def _noise() -> Tensor:
    """Pixels in [0, 0.6], from which an image is cut out: to draw them anew for each would take most of the time."""
    return torch.rand(3, 2 * SIDE, 2 * SIDE, generator=torch.Generator().manual_seed(0)).mul_(0.6)


class MadeImages(Dataset[tuple[Tensor, int]]):
    """Images of five classes. Each class has a corner or the centre that is brighter, under noise from a place of its own.

    Attributes
    ----------
    reads : int
        Images made so far.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.reads = 0
        self.labels = torch.arange(count) % CLASSES

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads += 1
        label, half = int(self.labels[index]), SIDE // 2
        row, column = index // SIDE % SIDE, index % SIDE
        image = _noise()[:, row : row + SIDE, column : column + SIDE].clone()
        top, left = ((0, 0), (0, half), (half, 0), (half, half), (half // 2, half // 2))[label]
        image[:, top : top + half, left : left + half] += 0.3
        return image, label


def images_of(client: int, clients: int, count: int) -> ClientData:
    """A client's data of so many images: nine tenths to train on, the rest to validate and test."""
    made = MadeImages(count)
    every = LazySet(made, made.labels, [f"{client}-{index}" for index in range(count)])
    ends = [count * 18 // 20, count * 19 // 20]
    train, validation, test = (every.subset(part) for part in torch.arange(count).tensor_split(ends))
    return ClientData(train, validation, test, CLASSES, f"made images, {count} at client {client} of {clients}")


def loader_grid(folder: Path, *counts: int) -> InProcessGrid:
    """Clients of an app with DataLoaders and a training function, with so many images each."""

    def load_data(partition_id: int) -> list[DataLoader[Any]]:
        count = counts[partition_id]
        parts = torch.arange(count).tensor_split([count * 18 // 20, count * 19 // 20])
        return [
            DataLoader(Subset(MadeImages(count), part.tolist()), batch_size=32, shuffle=index == 0)
            for index, part in enumerate(parts)
        ]

    def fit(net: nn.Module, loader: DataLoader[Any]) -> int:
        net.train()
        optimizer, seen = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), 0
        for images, labels in loader:
            optimizer.zero_grad()
            functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
            seen += len(labels)
        return seen

    app = ClientApp()
    install(app, LoaderTask(pooling_model, load_data, fit, class_count=CLASSES))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model = pooling_model()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        seen = fit(model, retained(load_data(int(context.node_config["partition-id"]))[0], context))
        records = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": seen})}
        return Message(RecordDict(records), reply_to=message)

    stores = [{"client-dir": str(folder / "loaders" / str(client))} for client in range(len(counts))]
    return InProcessGrid(app, len(counts), node_configs=stores)


def pooling_model() -> nn.Module:
    """Averages over large patches, then two layers; always with the same weights."""
    with isolated_random(0):
        return nn.Sequential(nn.AvgPool2d(28), nn.Flatten(), nn.Linear(3 * 64, 32), nn.ReLU(), nn.Linear(32, CLASSES))
