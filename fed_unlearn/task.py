"""The user's side of a federated app: the model, a client's data, and the training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Context
from torch import nn

from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.methods.base import PassCounter


class Task(ABC):
    """What the unlearning actions need of a user's app. Subclass it and pass an instance to ``install``."""

    @abstractmethod
    def build_model(self, context: Context) -> nn.Module:
        """Build the model on the CPU. Its weights are overwritten by those of each message."""

    @abstractmethod
    def load_data(self, context: Context) -> ClientData:
        """This client's training, validation and test samples. Cache them, because every message asks for them."""

    def dataset_ids(self, context: Context) -> Sequence[str]:
        """The id of each sample of the data set that the app gives to ``retained()``, in its order.

        Those of :meth:`load_data` by default. It may have samples that ``load_data`` has not in its training set; they
        are not trained on.
        """
        return self.load_data(context).train.ids

    @abstractmethod
    def train(
        self, model: nn.Module, samples: SampleSet, config: ConfigRecord, generator: torch.Generator
    ) -> PassCounter:
        """Train a model in place for one round, as the app's own training does.

        Parameters
        ----------
        model : nn.Module
            The model with the weights of the message, on :meth:`device`.
        samples : SampleSet
            The samples that may be trained on: retained samples and, in repair, guarded samples under their guard
            labels. They are read by ``samples.batches(positions)``, or as a map-style dataset of ``(input, label)``.
        config : ConfigRecord
            The configuration of the training message.
        generator : torch.Generator
            The only source of randomness.

        Returns
        -------
        PassCounter
            Number of samples in forward and backward passes.
        """

    def forget_cached_state(self, context: Context) -> None:  # noqa: B027 - most tasks cache nothing
        """Drop cached state of samples that were just forgotten: optimizer state, loaders, replay buffers."""

    def client_id(self, context: Context) -> str:
        """Name of this client, which is the same after a restart: ``client-id`` or ``partition-id`` of the node config.

        Raises
        ------
        FedUnlearnError
            If the node config has neither.
        """
        for key in ("client-id", "partition-id"):
            if key in context.node_config:
                return str(context.node_config[key])
        raise FedUnlearnError(
            "the node config has neither client-id nor partition-id; start the node with"
            " --node-config 'client-id=\"NAME\"', or override Task.client_id"
        )

    def store_folder(self, context: Context) -> Path:
        """Folder of this client's durable store: ``client-dir`` of the node config.

        Raises
        ------
        FedUnlearnError
            If the node config has no ``client-dir``.
        """
        folder = context.node_config.get("client-dir")
        if not folder:
            raise FedUnlearnError(
                "the node config has no client-dir; start the node with --node-config 'client-dir=\"FOLDER\"'"
                " (a folder that outlives the process), or override Task.store_folder"
            )
        return Path(str(folder))

    def device(self) -> torch.device:
        """The device to compute on: the first CUDA device that this process sees, else the CPU."""
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
