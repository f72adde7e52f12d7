"""An app's own DataLoaders and training function as a task."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from flwr.app import ConfigRecord, Context
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from fed_unlearn.client.loaders.batches import BatchKeys, Key
from fed_unlearn.client.loaders.evaluation import with_transform
from fed_unlearn.client.loaders.passes import counted_passes
from fed_unlearn.client.loaders.reading import Memory, domain_of, fingerprint_of, first_batch, label_column, samples_of
from fed_unlearn.client.loaders.training_loader import training_loader
from fed_unlearn.client.session import current_session
from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, InvalidDataError, InvalidParameterError
from fed_unlearn.holder import halves
from fed_unlearn.methods.base import PassCounter
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.task import Task

logger = logging.getLogger("fed_unlearn.client")

Loaders = DataLoader[Any] | Sequence[DataLoader[Any]]
MakeLoaders = Callable[[Context], Loaders]
"""Gives a client's loader of training samples; with it one of held-out samples, or one each for validation and test."""

Fit = Callable[[nn.Module, DataLoader[Any], ConfigRecord, Context], object]
"""Trains a model in place for one round, given the loader, the configuration of the message, and the context."""

_CUT_OFF = 0.2
"""Share of the training samples that is set aside where an app holds none out."""


@dataclass(frozen=True)
class _Loaded:
    """What is kept of one client: its training loader, its samples, and the ids of all that its training loader has."""

    loader: DataLoader[Any]
    keys: BatchKeys
    data: ClientData
    ids: tuple[str, ...]


class LoaderTask(Task):
    """The task of an app that has DataLoaders and a training function.

    The app's loaders, batches, transforms and training function are used as they are, in repair too. A sample's id is
    the ``ids`` entry of the data set, or else its position in the training loader's data set: the same client must
    get the same samples in the same order each time.

    Parameters
    ----------
    model : callable
        Makes the model, on the CPU. Its class, where that takes no argument.
    loaders : callable
        Gives the client's loaders for a context: the one for training alone, or with one of held-out samples, or with
        one for validation and one for test. A single held-out set is halved for the two. Where none is held out, a
        fifth of the training samples is set aside, with a warning. Batches are pairs ``(inputs, labels)`` or mappings.
    train : callable
        Trains a model in place for one round: ``train(model, loader, config, context)``. The model is on the task's
        device. Samples that went through it are counted by the library.
    class_count : int
        Number of classes of the whole task. Labels are 0 to ``class_count - 1``.
    normalize : tuple, optional
        Mean and standard deviation by which images are normalised, each a number or one for each channel. It is found
        in transforms of torchvision and Hugging Face by itself.
    input_key, label_key : str or int, optional
        Where a batch has inputs and labels. Needed where more than one column could be meant.
    evaluate_transform : callable, optional
        The transform without random augmentation, in place of that of the training data set. Audits and searches read
        the training samples by it; without it as they are given.
    folder : str or Path, optional
        The folder below which each client has the folder of its durable store, where the node's configuration has no
        ``client-dir``. By default it lies below ``~/.fed_unlearn``, or ``FED_UNLEARN_HOME``, and the log names it.
    arrays_of : callable, optional
        Gives what of a model travels, where that is a part of its state, such as adapters.
    personal : callable, optional
        Puts what a client keeps for itself, such as a head in ``context.state``, into a model: ``personal(model,
        context)``, in place or as a new model that it returns. Audits look at it.
    forget_personal : callable, optional
        Drops what a client keeps for itself: ``forget_personal(context)``. By default all array records of
        ``context.state`` are dropped where ``personal`` is given.

    Raises
    ------
    InvalidParameterError
        If ``class_count`` is below 2, or something that is to be called cannot be.

    Examples
    --------
    >>> install(app, LoaderTask(Net, loaders, fit, class_count=10))  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        loaders: MakeLoaders,
        train: Fit,
        class_count: int,
        *,
        normalize: tuple[Any, Any] | None = None,
        input_key: Key | None = None,
        label_key: Key | None = None,
        evaluate_transform: Callable[[Any], Any] | None = None,
        folder: str | Path | None = None,
        arrays_of: Callable[[nn.Module], Mapping[str, Tensor]] | None = None,
        personal: Callable[[nn.Module, Context], nn.Module | None] | None = None,
        forget_personal: Callable[[Context], object] | None = None,
    ) -> None:
        for name, given in (("model", model), ("loaders", loaders), ("train", train)):
            if not callable(given):
                raise InvalidParameterError(f"{name}: {type(given).__name__} was given; expected something to call")
        if class_count < 2:
            raise InvalidParameterError(f"class_count = {class_count} was given; expected at least 2")
        self._make, self._loaders, self._fit = model, loaders, train
        self._class_count, self._normalize = class_count, normalize
        self._input_key, self._label_key = input_key, label_key
        self._evaluate_transform, self._folder = evaluate_transform, folder
        self._arrays_of, self._personal, self._forget_personal = arrays_of, personal, forget_personal
        self._of_client: dict[str, _Loaded] = {}
        self._memory = Memory()

    def __getstate__(self) -> dict[str, object]:
        """The state without samples, as workers get it."""
        return {**self.__dict__, "_of_client": {}, "_memory": Memory()}

    def build_model(self, context: Context) -> nn.Module:
        """The app's model."""
        return self._make()

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
        """Raise if a data set without ids has other samples than the training loader, by parts and labels."""
        loaded = self._loaded(context)
        ours = loaded.loader.dataset
        parts = [list(each.indices) for each in (dataset, ours) if isinstance(each, Subset)]
        labels = [label_column(each, loaded.keys.label) for each in (dataset, ours)]
        if (len(parts) == 2 and parts[0] != parts[1]) or (None not in labels and labels[0] != labels[1]):
            raise FedUnlearnError(
                "retained() was given other samples than the task's loaders gave; expected the same samples in the same"
                " order each time: split with a seeded generator, or give the data set an `ids` attribute"
            )

    def train(
        self, model: nn.Module, samples: SampleSet, config: ConfigRecord, generator: torch.Generator
    ) -> PassCounter:
        """Train by the app's function, on a loader like the app's own."""
        context = current_session().context
        loaded = self._loaded(context)
        loader = training_loader(loaded.loader, loaded.keys, samples, generator)
        with counted_passes(model) as passes:
            self._fit(model, loader, config, context)
        return passes

    def arrays_of(self, model: nn.Module) -> Mapping[str, Tensor]:
        """What of a model travels; all of its state unless the app said otherwise."""
        return super().arrays_of(model) if self._arrays_of is None else self._arrays_of(model)

    @property
    def has_personal(self) -> bool:
        """Whether the app said how a client's own model is made."""
        return self._personal is not None

    def personal(self, model: nn.Module, context: Context) -> nn.Module:
        """The model with what the client keeps for itself, if it does."""
        made = None if self._personal is None else self._personal(model, context)
        return model if made is None else made

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
        app = getattr(self._loaders, "__module__", None) or "app"
        return (Path(home) if home else Path.home() / ".fed_unlearn") / "stores" / app.partition(".")[0]

    def _loaded(self, context: Context) -> _Loaded:
        client = self.client_id(context)
        if client not in self._of_client:
            self._of_client[client] = self._load(context)
            if not context.node_config.get("client-dir"):
                logger.info("client %s keeps its store in %s", client, self.store_folder(context))
        return self._of_client[client]

    def _load(self, context: Context) -> _Loaded:
        given = self._loaders(context)
        parts = [given] if isinstance(given, DataLoader) else list(given)
        if not 1 <= len(parts) <= 3 or not all(isinstance(part, DataLoader) for part in parts):
            kinds = ", ".join(type(part).__name__ for part in parts)
            raise InvalidDataError(
                f"the task's loaders: {kinds or 'nothing'} was given; expected a DataLoader of training samples, and"
                " if there are some one of held-out samples, or one for validation and one for test"
            )
        loader = parts[0]
        keys = BatchKeys.of(first_batch(loader), input_key=self._input_key, label_key=self._label_key)
        domain = domain_of(loader, keys, self._normalize)
        plain = None
        if self._evaluate_transform is not None:
            plain = with_transform(loader.dataset, self._evaluate_transform)
        samples: SampleSet = samples_of(loader, keys, domain, evaluation=plain, memory=self._memory)
        ids = samples.ids
        held: list[SampleSet] = [samples_of(part, keys, domain, memory=self._memory) for part in parts[1:]]
        self._check_labels([samples, *held])
        fingerprint = fingerprint_of(samples)
        if not held:
            samples, aside = self._cut(samples, self.client_id(context))
            held = [aside]
        validation, test = held if len(held) == 2 else halves(held[0])
        return _Loaded(loader, keys, ClientData(samples, validation, test, self._class_count, fingerprint), ids)

    def _cut(self, samples: SampleSet, client: str) -> tuple[SampleSet, SampleSet]:
        order = torch.randperm(len(samples), generator=seeded_generator("set aside", client))
        count = round(_CUT_OFF * len(samples))
        logger.warning(
            "client %s holds no samples out; %d of its %d training samples are set aside for validation and test, and"
            " are not trained on: give a loader of held-out samples to train on all",
            client,
            count,
            len(samples),
        )
        return samples.subset(order[count:].sort().values), samples.subset(order[:count].sort().values)

    def _check_labels(self, parts: Sequence[SampleSet]) -> None:
        for part in parts:
            outside = sorted({int(label) for label in part.labels.unique() if not 0 <= label < self._class_count})
            if outside:
                raise InvalidDataError(
                    f"the task's loaders: labels {outside[:5]} were read; expected 0 to {self._class_count - 1}, as"
                    f" class_count = {self._class_count} says"
                )
