"""An app whose owner has data of no library's: tensors. ``query.process`` tells what the client's process is like."""

from __future__ import annotations

import colorsys  # noqa: F401 - a module that nothing else imports
import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from torch import nn

from fed_unlearn.client import current_session, install, retained
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.seeding import isolated_random, seeded_generator
from fed_unlearn.task import Task
from fed_unlearn.training import TrainingSettings, train_locally

SETTINGS = TrainingSettings(local_epochs=1, learning_rate=0.1, momentum=0.0, batch_size=16)


def some_samples(count: int, name: str) -> ImageSet:
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 3
    images = torch.rand(count, 1, 4, 4, generator=generator) / 2
    images[torch.arange(count), 0, labels] += 0.5
    return ImageSet(images, labels, [f"{name}-{index}" for index in range(count)])


class PlainTask(Task):
    def build_model(self, context: Context) -> nn.Module:
        with isolated_random(0):
            return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))

    def load_data(self, context: Context) -> ClientData:
        return ClientData(some_samples(60, "a"), some_samples(18, "b"), some_samples(21, "c"), 3, "plain")

    def train(
        self, model: nn.Module, samples: ImageSet, config: ConfigRecord, generator: torch.Generator
    ) -> PassCounter:
        return train_locally(model, samples, SETTINGS, generator)


app = ClientApp()
install(app, PlainTask())
server = ServerApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    samples = retained(current_session().data.train, context)
    model = current_session().model_with(message.content["arrays"])
    PlainTask().train(model, samples, ConfigRecord(), seeded_generator(0, "train"))
    arrays = ArrayRecord({name: value.cpu() for name, value in model.state_dict().items()})
    return Message(
        RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": len(samples)})}), reply_to=message
    )


@app.query("process")
def process(message: Message, context: Context) -> Message:
    """What the process is like, and its ids in a file while it waits."""
    facts = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "cuda": torch.cuda.is_initialized(),
        "bad-fork": torch.cuda._is_in_bad_fork(),
        "threads": torch.get_num_threads(),
        "draws": [random.random(), float(np.random.rand())],
        "modules": sorted({name.partition(".")[0] for name in sys.modules}),
        "argument": sorted(message.content),
    }
    (Path(str(context.run_config["folder"])) / "process.json").write_text(json.dumps(facts))
    time.sleep(float(str(context.run_config["wait"])))
    big = torch.rand(400, 400) @ torch.rand(400, 400)  # more than one thread could be at work
    return Message(
        RecordDict({"facts": ConfigRecord({"json": json.dumps(facts), "sum": float(big.sum())})}), reply_to=message
    )
