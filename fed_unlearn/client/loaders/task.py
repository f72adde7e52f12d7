"""An app's own model, DataLoaders and training function as a task."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import ConfigRecord, Context
from torch import Tensor, nn
from torch.utils.data import Dataset

from fed_unlearn.client.loaders.arguments import NamedArguments, NamedConfig
from fed_unlearn.client.loaders.batches import Key
from fed_unlearn.client.loaders.loaded import LoadedClient, Reading, read_loaders
from fed_unlearn.client.loaders.passes import counted_passes
from fed_unlearn.client.loaders.reading import Memory, has_samples_of
from fed_unlearn.client.loaders.training_loader import training_loader
from fed_unlearn.client.model_check import check_columns
from fed_unlearn.client.session import current_session
from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.model_copies import copied
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.task import Task

owner_log = logging.getLogger("flwr")
"""Flower's own log, which the owner of an app sees."""

_LEADING = ("the model", "the loader")


class LoaderTask(Task):
    """The task of an app that has DataLoaders and a training function.

    The app's model, loaders, batches, transforms and training function are used as they are, in repair too. The three
    functions are called with arguments by the names of their parameters: ``context``, ``node_config``, ``run_config``
    and ``client_id``; and values of the node's and the run's configuration, where ``batch_size`` is ``batch-size``.
    What no configuration has can be bound by ``functools.partial``.

    A sample's id is the ``ids`` entry of the data set, or else its position in the training loader's data set: the
    same client must get the same samples in the same order each time. The names of classes are those of a
    ``ClassLabel`` of Hugging Face, or ``classes`` of a data set of torchvision.

    Parameters
    ----------
    model : callable
        Makes the model, on the CPU: its class, or a function. Parameters with a default keep it.
    loaders : callable
        Gives the client's loaders: the one for training alone, or with one of held-out samples, or with one for
        validation and one for test. A single held-out set is halved for the two. Where none is held out, a fifth of the
        training samples is set aside, with a warning. Batches are pairs ``(inputs, labels)`` or mappings.
    train : callable
        Trains a model in place for one round. Its first argument is a model of its own, which is on the task's device,
        the second a loader like the app's own. By name it gets also ``device``, ``config``, the ConfigRecord of the
        message, and each value of the message's configuration. ``epochs`` may be ``local-epochs`` in a configuration,
        and ``lr`` ``learning-rate``. Samples that went through the model are counted by the library.
    class_count : int
        Number of classes of the whole task. Labels are 0 to ``class_count - 1``.
    normalize : tuple, optional
        Mean and standard deviation by which images are normalised, each a number or one for each channel. It is found
        in transforms of torchvision and Hugging Face by itself.
    input_key, label_key : str or int, optional
        Columns of a batch that hold inputs and labels. Needed where more than one column could be meant.
    evaluate_transform : callable, optional
        The transform without random augmentation, in place of that of the training data set. Audits and searches read
        the training samples by it; without it as they are given.
    folder : str or Path, optional
        The folder below which each client has the folder of its durable store, where the node's configuration has no
        ``client-dir``. By default it lies below ``~/.fed_unlearn``, or ``FED_UNLEARN_HOME``, and the log names it.
    arrays_of : callable, optional
        Gives what of a model travels, where that is a part of its state, such as adapters.
    load_arrays : callable, optional
        Puts what came into a model in place: ``load_arrays(model, arrays)``. Needed where ``arrays_of`` gives names
        that the model's state has not, as PEFT does.
    personal : callable, optional
        Puts what a client keeps for itself, such as a head in ``context.state``, into a model: ``personal(model,
        context)``, in place or as a new model that it returns. Audits look at it.
    keep_personal : callable, optional
        Keeps what a client has for itself of a model that unlearning or repair has made: ``keep_personal(model,
        context)``. Needed where a head or BatchNorm does not travel: it would begin anew with each request. If the
        request is not committed, ``context.state`` gets back what it was before.
    forget_personal : callable, optional
        Drops what a client keeps for itself: ``forget_personal(context)``. By default all array records of
        ``context.state`` are dropped where ``personal`` is given. They come back if the request is not committed.

    Raises
    ------
    InvalidParameterError
        If ``class_count`` is below 2, ``model``, ``loaders`` or ``train`` cannot be called, or ``normalize`` is not a
        mean and a standard deviation.

    Examples
    --------
    >>> def load_data(partition_id, num_partitions, batch_size): ...
    >>> def train(net, trainloader, epochs, lr, device): ...
    >>> install(app, LoaderTask(Net, load_data, train, class_count=10))  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Callable[..., nn.Module],
        loaders: Callable[..., object],
        train: Callable[..., object],
        class_count: int,
        *,
        normalize: tuple[Any, Any] | None = None,
        input_key: Key | None = None,
        label_key: Key | None = None,
        evaluate_transform: Callable[[Any], Any] | None = None,
        folder: str | Path | None = None,
        arrays_of: Callable[[nn.Module], Mapping[str, Tensor]] | None = None,
        load_arrays: Callable[[nn.Module, Mapping[str, Tensor]], object] | None = None,
        personal: Callable[[nn.Module, Context], nn.Module | None] | None = None,
        keep_personal: Callable[[nn.Module, Context], object] | None = None,
        forget_personal: Callable[[Context], object] | None = None,
    ) -> None:
        for name, given in (("model", model), ("loaders", loaders), ("train", train)):
            if not callable(given):
                raise InvalidParameterError(f"{name}: {type(given).__name__} was given; expected something to call")
        self._make = NamedArguments.of(model, "model").required
        self._loaders = NamedArguments.of(loaders, "loaders")
        self._fit = NamedArguments.of(train, "train", leading=_LEADING)
        self._reading = Reading(class_count, normalize, input_key, label_key, evaluate_transform)
        self._folder = folder
        self._arrays_of, self._load_arrays = arrays_of, load_arrays
        self._personal, self._keep_personal, self._forget_personal = personal, keep_personal, forget_personal
        self._of_client: dict[str, tuple[str, LoadedClient]] = {}
        self._memory = Memory()

    def __getstate__(self) -> dict[str, object]:
        """The state without samples, as workers get it."""
        return {**self.__dict__, "_of_client": {}, "_memory": Memory()}

    def build_model(self, context: Context) -> nn.Module:
        """The app's model. One that takes other columns of a batch beside the inputs is refused."""
        known, configs = self._known(context), _configs(context)
        if described := self._make.described(known, configs):
            _say_once(described)
        model: nn.Module = self._make.call((), self._make.found(known, configs))
        check_columns(model, self._loaded(context).other_columns)
        return model

    def load_data(self, context: Context) -> ClientData:
        """The samples of the app's loaders.

        Raises
        ------
        InvalidDataError
            If the loaders cannot be read, in words that say why.
        """
        return self._loaded(context).data

    def dataset_ids(self, context: Context) -> Sequence[str]:
        """The ids of the training loader's data set, with those that were set aside."""
        return self._loaded(context).ids

    def check_dataset(self, dataset: Dataset[Any], context: Context) -> None:
        """Raise if a data set without ids has other samples than the training loader, or has them in another order.

        A few samples are compared, spread over both; and the parts and labels of both where they have some.
        """
        loaded = self._loaded(context)
        if not has_samples_of(dataset, loaded.loader, loaded.keys):
            raise FedUnlearnError(
                "retained() was given other samples than the task's loaders gave; expected the same samples in the same"
                " order each time: split and shuffle with a seeded generator, or give the data set an `ids` attribute"
            )

    def train(
        self, model: nn.Module, samples: SampleSet, config: ConfigRecord, generator: torch.Generator
    ) -> PassCounter:
        """Train by the app's function, on a loader like the app's own.

        The function gets a copy of the model. Layers that it freezes and hooks that it leaves, as Opacus does, would
        meet the next message otherwise.
        """
        context = current_session().context
        loaded = self._loaded(context)
        loader = training_loader(loaded.loader, loaded.keys, samples, generator)
        arguments, own = self._arguments_of_train(config, context), copied(model)
        own.train(model.training)
        with counted_passes(own) as passes:
            self._fit.call((own, loader), arguments)
        model.load_state_dict(own.state_dict())
        return passes

    def check_config(self, config: ConfigRecord, context: Context) -> None:
        """Raise if an argument of the app's training function is in no configuration."""
        self._arguments_of_train(config, context)

    def _arguments_of_train(self, config: ConfigRecord, context: Context) -> dict[str, Any]:
        known = {**self._known(context), "config": config, "device": self.device()}
        configs = [NamedConfig("message's config", config), *_configs(context)]
        if described := self._fit.described(known, configs):
            _say_once(described)
        return self._fit.found(known, configs)

    def arrays_of(self, model: nn.Module) -> Mapping[str, Tensor]:
        """What of a model travels; all of its state unless the app said otherwise."""
        return super().arrays_of(model) if self._arrays_of is None else self._arrays_of(model)

    def load_arrays(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> None:
        """Put what came into a model, as the app said or by the names of its state."""
        if self._load_arrays is None:
            super().load_arrays(model, arrays)
        else:
            self._load_arrays(model, arrays)

    @property
    def has_personal(self) -> bool:
        """Whether the app said how a client's own model is made."""
        return self._personal is not None

    def personal(self, model: nn.Module, context: Context) -> nn.Module:
        """The model with what the client keeps for itself, if it does."""
        made = None if self._personal is None else self._personal(model, context)
        return model if made is None else made

    def keep_personal(self, model: nn.Module, context: Context) -> None:
        """Keep the client's own part of a model, if the app said how."""
        if self._keep_personal is not None:
            self._keep_personal(model, context)

    @property
    def keeps_personal(self) -> bool:
        """Whether the app said how a client's own part of a model is kept."""
        return self._keep_personal is not None

    def forget_personal(self, context: Context) -> None:
        """Drop what the client keeps for itself, if it does."""
        if self._forget_personal is not None:
            self._forget_personal(context)
        elif self._personal is not None:
            for key in list(context.state.array_records):
                del context.state[key]

    def store_folder(self, context: Context) -> Path:
        """``client-dir`` of the node's configuration, else a folder of this client below the task's own."""
        if context.node_config.get("client-dir"):
            return super().store_folder(context)
        client, count = self.client_id(context), context.node_config.get("num-partitions")
        return self._store_parent() / (client if count is None else f"{client}-of-{count}")

    def _store_parent(self) -> Path:
        if self._folder is not None:
            return Path(self._folder).expanduser().absolute()
        home = os.environ.get("FED_UNLEARN_HOME")
        app = self._loaders.module or "app"
        return (Path(home) if home else Path.home() / ".fed_unlearn") / "stores" / app.partition(".")[0]

    def _known(self, context: Context) -> dict[str, Any]:
        return {
            "context": context,
            "client_id": self.client_id(context),
            "node_config": context.node_config,
            "run_config": context.run_config,
        }

    def _loaded(self, context: Context) -> LoadedClient:
        """The client's samples, which are read anew where the arguments of the app's function are others."""
        known, configs = self._known(context), _configs(context)
        arguments = self._loaders.found(known, configs)
        # A function that gets a whole configuration may use all of it.
        settings = context.run_config if self._loaders.uses("context") or self._loaders.uses("run_config") else {}
        own = [(name, value) for name, value in arguments.items() if name not in known]
        client, key = known["client_id"], repr((sorted(own), sorted(settings.items())))
        if client in self._of_client and self._of_client[client][0] != key:
            self._memory.left += self._of_client.pop(client)[1].held_bytes
        if client not in self._of_client:
            given = self._loaders.call((), arguments)
            self._of_client[client] = (key, read_loaders(given, self._reading, client, self._memory))
            self._tell(context, self._loaders.described(known, configs))
        return self._of_client[client][1]

    def _tell(self, context: Context, described: str) -> None:
        """Tell the app's owner what its function is called with, and where the stores are."""
        if described:
            _say_once(described)
        if not context.node_config.get("client-dir"):
            _say_once(f"each client keeps its store in a folder below {self._store_parent()}")


def _configs(context: Context) -> list[NamedConfig]:
    return [NamedConfig("node config", context.node_config), NamedConfig("run config", context.run_config)]


@cache
def _say_once(text: str) -> None:
    """Write a line to Flower's log, once in a process: Ray copies the task to its workers for every message."""
    owner_log.info("fed_unlearn: %s", text)
