"""A scenario as a Task: its model, each client's data, and its training."""

from __future__ import annotations

import logging
import os
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import ConfigRecord, Context
from torch import Tensor, nn

from fed_unlearn.data.clients import client_data, set_aside, training_positions
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.data.sources import ImageSource, load_source
from fed_unlearn.data.trigger import Trigger
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.models import build_model
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.simulations.carried import carrier
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.scenario.checks import LeavingClients
from fed_unlearn.simulations.scenario.sections import (
    DataSection,
    ForgetStep,
    Scenario,
    TimelineEntry,
    TrainingSection,
)
from fed_unlearn.task import Task
from fed_unlearn.training import TrainingSettings, train_locally

logger = logging.getLogger("flwr")

_SETTINGS = {field.name for field in fields(TrainingSettings)}


def training_config(section: TrainingSection, seed: int, *, experience: int = 0, arrived: int = 0) -> ConfigRecord:
    """The training settings of a scenario as the configuration of messages.

    Parameters
    ----------
    section : TrainingSection
    seed : int
    experience : int
        The experience to train on, counted from 1, or 0 for all that has arrived.
    arrived : int
        The last experience that has arrived, counted from 1, or 0 for all.
    """
    settings = section.model_dump(by_alias=True, exclude={"strategy", "parameters"})
    stream = {"experience": experience, "arrived": arrived} if experience or arrived else {}
    return ConfigRecord({**settings, "seed": seed, **stream})


def training_settings(config: ConfigRecord) -> TrainingSettings:
    """The training settings in the configuration of a message."""
    named: dict[str, Any] = {key.replace("-", "_"): value for key, value in config.items()}
    return TrainingSettings(**{key: value for key, value in named.items() if key in _SETTINGS})


def scenario_of(context: Context) -> Scenario:
    """The scenario of a Flower run, given by ``scenario``, ``set`` and ``seed`` of its configuration."""
    return _scenario(*_run_key(context), _nodes(context))


def fitted(scenario: Scenario, nodes: int) -> Scenario:
    """Adapt a scenario to a federation of another size. The data is divided among its nodes.

    ``flwr run`` starts as many nodes as its own configuration says, or 2 by default. The client of a request is taken
    modulo the number of nodes. Requests that would leave fewer than two clients or name a client that has left are left
    out, with a warning.
    """
    smaller, left_out = _fitted(scenario, nodes)
    for step_id in left_out:
        logger.warning("fed_unlearn: request %s is left out: %d clients are too few for it", step_id, nodes)
    return smaller


def _fitted(scenario: Scenario, nodes: int) -> tuple[Scenario, list[str | None]]:
    if nodes == scenario.clients.count:
        return scenario, []
    clients = LeavingClients(nodes)
    timeline: list[TimelineEntry] = []
    left_out: list[str | None] = []
    for entry in scenario.timeline:
        kept: list[ForgetStep] = []
        for step in entry.requests:
            moved = step if step.client is None else step.model_copy(update={"client": step.client % nodes})
            if clients.problem_with(moved) is None:
                kept.append(moved)
            else:
                left_out.append(step.id)
        if entry.train is not None:
            timeline.append(entry)
        elif kept:
            timeline.append(entry.with_requests(tuple(kept)))
    changed: dict[str, object] = {"count": nodes}
    if (backdoor := scenario.clients.backdoor) is not None:
        changed["backdoor"] = backdoor.model_copy(update={"client": backdoor.client % nodes})
    update = {"clients": scenario.clients.model_copy(update=changed), "timeline": tuple(timeline)}
    return scenario.model_copy(update=update), left_out


def _nodes(context: Context) -> int:
    """The number of nodes that a client is told, or 0 on the server."""
    return int(context.node_config.get("num-partitions", 0))


def run_folder(context: Context) -> Path:
    """The folder of a Flower run: ``out`` of its configuration, or else a folder below ``~/.fed_unlearn``.

    It is the same for server and clients. ``FED_UNLEARN_HOME`` replaces ``~/.fed_unlearn``.
    """
    out = str(context.run_config.get("out", ""))
    if out:
        return Path(out)
    home = os.environ.get("FED_UNLEARN_HOME")
    return (Path(home) if home else Path.home() / ".fed_unlearn") / "runs" / f"run-{context.run_id}"


def _run_key(context: Context) -> tuple[str, tuple[str, ...]]:
    config = context.run_config
    overrides = [item.strip() for item in str(config.get("set", "")).split(";") if item.strip()]
    seed = int(config.get("seed", -1))
    return str(config.get("scenario", "digits")), (*overrides, *([f"seed={seed}"] if seed >= 0 else []))


@lru_cache(maxsize=4)
def _scenario(name: str, overrides: tuple[str, ...], nodes: int) -> Scenario:
    scenario = load_scenario(name, overrides)
    return _fitted(scenario, nodes)[0] if nodes else scenario


@lru_cache(maxsize=4)
def _clients_data(name: str, overrides: tuple[str, ...], nodes: int) -> dict[int, ClientData]:
    """The data of each client of a scenario that this process has loaded; together as large as the source itself."""
    return {}


def _data_of(name: str, overrides: tuple[str, ...], nodes: int, client: int) -> ClientData:
    """A client's data, loaded once in a process. Ray's workers make a new task for every message."""
    known = _clients_data(name, overrides, nodes)
    if client not in known:
        scenario = _scenario(name, overrides, nodes)
        known[client] = data_of_client(scenario, source_of(scenario.data), client)
    return known[client]


def data_of_client(scenario: Scenario, source: ImageSource, client: int) -> ClientData:
    """The data of a client of a scenario. Messages say when its training samples arrive.

    Every client knows the trigger of ``[clients.backdoor]``; one has it in its training samples.

    Raises
    ------
    InvalidParameterError, InvalidRequestError, InvalidDataError
        If the data cannot be divided as the scenario asks, or has no such class, or no room for the trigger.
    """
    data = client_data(source, client, scenario.clients.count, **_division(scenario))
    backdoor, trigger = scenario.clients.backdoor, trigger_of(scenario, source)
    if backdoor is None or trigger is None or client != backdoor.client:
        return replace(data, trigger=trigger)
    train = trigger.planted(data.train, seeded_generator(scenario.seed, "backdoor", client))
    return replace(data, train=train, trigger=trigger)


def trigger_of(scenario: Scenario, source: ImageSource) -> Trigger | None:
    """The trigger of a scenario's backdoor; None where it has none.

    Raises
    ------
    InvalidRequestError
        If the data has no such class.
    """
    backdoor = scenario.clients.backdoor
    if backdoor is None:
        return None
    target = source.classes.index(backdoor.target)
    return Trigger(target, backdoor.size, backdoor.value, backdoor.corner, backdoor.fraction)


def training_positions_of(scenario: Scenario, source: ImageSource) -> list[Tensor]:
    """The positions in ``source.train`` of the training samples of each client of a scenario.

    Raises
    ------
    InvalidParameterError
        If the data cannot be divided as the scenario asks.
    """
    return training_positions(source, scenario.clients.count, **_division(scenario))


def _division(scenario: Scenario) -> dict[str, Any]:
    """How a scenario divides its data among clients."""
    return {
        "partition": scenario.clients.partition,
        "parameters": scenario.clients.parameters,
        "validation_fraction": scenario.data.validation_fraction,
        "seed": scenario.seed,
    }


def source_of(data: DataSection) -> ImageSource:
    """The images of a scenario that clients divide, loaded once in a process.

    Raises
    ------
    InvalidDataError
        If they cannot be read.
    """
    return _divided(data)[0]


def server_samples_of(data: DataSection) -> ImageSet:
    """The training images that the server keeps for its own validation; none unless ``server-fraction`` is set."""
    return _divided(data)[1]


@lru_cache(maxsize=2)
def _divided(data: DataSection) -> tuple[ImageSource, ImageSet]:
    """What clients divide, and what the server keeps.

    Raises
    ------
    InvalidDataError
        If they cannot be read.
    """
    source = load_source(
        data.dataset,
        root=Path(data.root) if data.root is not None else None,
        download=data.download,
        image_size=data.image_size,
        test_fraction=data.test_fraction,
        label=data.label,
    )
    if len(source.train) == 0 or len(source.test) == 0:
        raise InvalidDataError(
            f"{data.dataset}: {len(source.train)} training and {len(source.test)} test images; both need some"
        )
    return set_aside(source, data.server_fraction)


class ScenarioTask(Task):
    """The task of every simulation. The configuration of the run has all that it needs."""

    def build_model(self, context: Context) -> nn.Module:
        """Build the scenario's model with fresh weights."""
        data = self.load_data(context)
        channels, height, width = data.train.input_shape
        return _model_of(scenario_of(context), data.class_count, (channels, height, width))

    def load_data(self, context: Context) -> ClientData:
        """Load the samples of the client that the message is for."""
        self._set_threads(context)
        division = (*_run_key(context), _nodes(context), int(context.node_config["partition-id"]))
        return carrier.value(division, lambda: _data_of(*division))

    def forget_cached_state(self, context: Context) -> None:
        """Let the next process read the data anew."""
        carrier.drop()

    def train(
        self, model: nn.Module, samples: SampleSet, config: ConfigRecord, generator: torch.Generator
    ) -> PassCounter:
        """Train by SGD with the settings of the message."""
        return train_locally(model, samples, training_settings(config), generator)

    def store_folder(self, context: Context) -> Path:
        """Return ``client-dir`` of the node's configuration, or else a folder of the run."""
        if context.node_config.get("client-dir"):
            return super().store_folder(context)
        return run_folder(context) / "clients" / self.client_id(context)

    @staticmethod
    def _set_threads(context: Context) -> None:
        threads = scenario_of(context).run.threads
        if threads and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def new_model(scenario: Scenario, source: ImageSource) -> nn.Module:
    """Build a scenario's model with fresh weights, which are the same for the same seed."""
    return _model_of(scenario, source.class_count, source.image_shape)


def _model_of(scenario: Scenario, class_count: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return build_model(
        scenario.model.name,
        class_count=class_count,
        image_shape=image_shape,
        seed=scenario.seed,
        parameters=scenario.model.parameters,
    )
