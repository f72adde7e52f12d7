"""The user's side of a federated app: the model, a client's data, and the training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from flwr.app import ConfigRecord, Context
from torch import Tensor, nn
from torch.utils.data import Dataset

from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.shapes import misfit, quoted_name, shapes_of


class Task(ABC):
    """What the unlearning actions need of a user's app. Subclass it and pass an instance to ``install``."""

    @abstractmethod
    def build_model(self, context: Context) -> nn.Module:
        """Build the model on the CPU. What travels is overwritten by each message, see :meth:`arrays_of`."""

    @abstractmethod
    def load_data(self, context: Context) -> ClientData:
        """This client's training, validation and test samples. Cache them, because every message asks for them."""

    def dataset_ids(self, context: Context) -> Sequence[str]:
        """The id of each sample of the data set that the app gives to ``retained()``, in its order.

        Those of :meth:`load_data` by default. It may have samples that ``load_data`` has not in its training set; they
        are not trained on.
        """
        return self.load_data(context).train.ids

    def check_dataset(self, dataset: Dataset[Any], context: Context) -> None:  # noqa: B027 - not every task can tell
        """Raise if a data set without ids, which the app gives to ``retained()``, has other samples than the task's.

        Raises
        ------
        FedUnlearnError
            If it has: positions would name other samples.
        """

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

    def check_config(self, config: ConfigRecord, context: Context) -> None:  # noqa: B027 - most tasks need nothing of it
        """Raise if a training message's configuration lacks what :meth:`train` needs.

        It is called at every training message, so that this is seen before the first request and not in its repair.

        Raises
        ------
        FedUnlearnError
            If it does.
        """

    def arrays_of(self, model: nn.Module) -> Mapping[str, Tensor]:
        """What of a model travels between clients and server: all of its state, where this is not overridden.

        An app that sends a part, such as adapters, a head or all but BatchNorm, gives that part, under the names that
        its own messages have. ``load_arrays`` is to be overridden too where these are not names of the model's state.

        Parameters
        ----------
        model : nn.Module
            A model of this task, never to be changed.

        Returns
        -------
        mapping of str to Tensor
            Tensors by name, at least one. Order, names and shapes are the same for every model of this task.
        """
        return model.state_dict()

    def load_arrays(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> None:
        """Put what came from the server into a model in place; the rest of the model stays as it is.

        Parameters
        ----------
        model : nn.Module
            A model of this task.
        arrays : mapping of str to Tensor
            Tensors by name, as :meth:`arrays_of` gives them, on the CPU.

        Raises
        ------
        FedUnlearnError
            If they are not the arrays that :meth:`arrays_of` gives.
        """
        problem = misfit(shapes_of(arrays), shapes_of(self.arrays_of(model)))
        unknown = [] if problem else model.load_state_dict(dict(arrays), strict=False).unexpected_keys
        if unknown:
            problem = f"has also {', '.join(map(quoted_name, unknown[:3]))}, which the state of the model lacks"
        if problem:
            raise FedUnlearnError(
                f"the model that came {problem}; expected what {type(self).__name__}.arrays_of gives: server and"
                " handlers send the same part of the model, and load_arrays puts it back"
            )

    def personal(self, model: nn.Module, context: Context) -> nn.Module:
        """The model that this client really uses: a model with what it keeps for itself, such as a head or BatchNorm.

        Audits look at it too. Where a part does not travel, unlearning and repair begin with this client's own.

        Parameters
        ----------
        model : nn.Module
            A model with the weights of a message, which may be changed and returned. What does not travel has its
            first values, as :meth:`build_model` gives them.
        context : Context
            Context of the message, with the client's state. Nothing in it may be changed.

        Returns
        -------
        nn.Module
            The model as it is, where this is not overridden.
        """
        return model

    @property
    def has_personal(self) -> bool:
        """Whether clients use a model of their own: whether :meth:`personal` is overridden."""
        return type(self).personal is not Task.personal

    def keep_personal(self, model: nn.Module, context: Context) -> None:  # noqa: B027 - most tasks keep nothing
        """Keep what does not travel of a model that unlearning or repair has just made, as the app's training does.

        The request's model may still be refused. Then ``context.state`` gets back what this has changed, see
        :meth:`forget_personal`.
        """

    @property
    def keeps_personal(self) -> bool:
        """Whether what does not travel is kept: whether :meth:`keep_personal` is overridden."""
        return type(self).keep_personal is not Task.keep_personal

    def forget_personal(self, context: Context) -> None:  # noqa: B027 - most tasks keep nothing
        """Drop what this client keeps for itself, since samples that it was made with are to be forgotten.

        It is called as soon as these samples are out of training, before the request's model is judged, and once more
        for every further attempt. :meth:`keep_personal` may follow, with a model that has unlearned them. Where the
        whole model travels, it is called at every client for a class.

        The library keeps the records of ``context.state`` that this changes until the attempt is over. If the request
        fails or waits, they are put back as they were. If it is committed, they are dropped for good. Nothing is put
        back of what a client keeps elsewhere, such as in a file.
        """

    def forget_cached_state(self, context: Context) -> None:  # noqa: B027 - most tasks cache nothing
        """Drop cached state of samples that were just forgotten: optimizer state, loaders, replay buffers.

        It is called when a request is committed, and not at its attempts: data that are loaded stay for the audits.
        """

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
