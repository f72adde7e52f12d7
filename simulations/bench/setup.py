"""The parts of a comparison, made from its settings and checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sources import ImageSource, load_source
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import Method
from fed_unlearn.models import build_model, checkpoint_parameters, load_checkpoint
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.simulations.bench.checks import (
    check_forget,
    check_options,
    chosen_device,
    chosen_methods,
    given_model_parameters,
    repair_settings,
    training_settings,
)
from fed_unlearn.simulations.bench.settings import MethodBenchSettings
from fed_unlearn.text import quoted
from fed_unlearn.training import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class BenchParts:
    """Everything that a comparison needs, checked and on its device.

    Attributes
    ----------
    settings : MethodBenchSettings
    methods : dict of str to Method
        The methods with their hyper-parameters, in the order asked for.
    source : ImageSource
        The data set. Models are trained on all of its training samples.
    test : ImageSet
        Test samples of the data set, without ``unseen``.
    unseen : ImageSet or None
        Test samples that only methods may read.
    model : nn.Module
        The model of the checkpoint, or one with fresh weights.
    oracles : tuple of nn.Module
        The models of the oracles' checkpoints.
    training : TrainingSettings
        How the model and the oracle are trained, if they are.
    repair : TrainingSettings or None
        How guarded repair trains.
    model_parameters : dict of str to object
        The parameters that the model was built with.
    device : torch.device
    """

    settings: MethodBenchSettings
    methods: Mapping[str, Method]
    source: ImageSource
    test: ImageSet
    unseen: ImageSet | None
    model: nn.Module
    oracles: tuple[nn.Module, ...]
    training: TrainingSettings
    repair: TrainingSettings | None
    model_parameters: Mapping[str, object]
    device: torch.device

    def fresh_model(self) -> nn.Module:
        """Build the model without training, with the same initial weights every time."""
        return _model(self.settings, self.source, self.model_parameters, None).to(self.device)


@dataclass(frozen=True)
class ForgetSplit:
    """The training samples, divided into those to forget and those to keep.

    Attributes
    ----------
    forget, retain : ImageSet
    kept : Tensor of shape (n,), int64
        Positions of ``retain`` among the training samples.
    classes : frozenset of int
        The forgotten classes. Empty if single samples are forgotten.
    memorised : frozenset of str
        Ids of the samples to forget that were chosen since models memorise them.
    """

    forget: ImageSet
    retain: ImageSet
    kept: Tensor
    classes: frozenset[int]
    memorised: frozenset[str] = frozenset()

    def positions(self) -> Tensor:
        """Positions of ``forget`` among the training samples, ascending, int64."""
        is_forgotten = torch.ones(len(self.forget) + len(self.kept), dtype=torch.bool)
        is_forgotten[self.kept] = False
        return is_forgotten.nonzero().flatten()


def prepare_bench(settings: MethodBenchSettings) -> BenchParts:
    """Load and check all parts of a comparison. Nothing is trained and nothing is written.

    Raises
    ------
    FedUnlearnError
        If a setting cannot be used. The message names the option, what was given and what was expected.
    """
    check_options(settings)
    device = chosen_device(settings.device)
    training = training_settings(settings)
    methods = chosen_methods(settings)
    source = load_source(settings.dataset, label=settings.label)
    repair = repair_settings(settings, source)
    check_forget(settings, source)
    test, unseen = _without_unseen(settings, source.test, any(method.reads_unseen for method in methods.values()))
    first = next(iter(settings.oracle_checkpoint), None)
    parameters = _model_parameters(settings, settings.checkpoint or first)
    model = _model(settings, source, parameters, settings.checkpoint).to(device)
    oracles = tuple(
        _model(settings, source, _model_parameters(settings, path), path).to(device)
        for path in settings.oracle_checkpoint
    )
    return BenchParts(
        settings=settings,
        methods=methods,
        source=source,
        test=test,
        unseen=unseen,
        model=model,
        oracles=oracles,
        training=training,
        repair=repair,
        model_parameters=parameters,
        device=device,
    )


def split_samples(parts: BenchParts, model: nn.Module) -> ForgetSplit:
    """Divide the training samples into those to forget and those to keep.

    Single samples are drawn by the seed among those that the model classifies correctly. In the others, forgetting
    could not be seen.

    Raises
    ------
    InvalidDataError
        If the model classifies too few samples correctly.
    """
    train, count = parts.source.train, parts.settings.forget_samples
    classes = frozenset(parts.source.classes.indices(parts.settings.forget_classes))
    if count is None:
        chosen = torch.isin(train.labels, torch.tensor(sorted(classes)))
    else:
        right = (predict_logits(model, train).argmax(dim=1) == train.labels).nonzero().flatten()
        if count > len(right):
            raise InvalidDataError(
                f"--forget-samples {count}: the model has only {len(right)} of {len(train)} training samples right;"
                " ask for fewer, or give a model that is trained"
            )
        chosen = torch.zeros(len(train), dtype=torch.bool)
        chosen[drawn(right, count, parts.settings.seed, "forget")] = True
    kept = (~chosen).nonzero().flatten()
    return ForgetSplit(
        forget=train.subset(chosen.nonzero().flatten()),
        retain=train.subset(kept),
        kept=kept,
        classes=classes,
    )


def drawn(positions: Tensor, count: int, seed: int, purpose: str) -> Tensor:
    """Draw ``count`` of the positions by the seed, or all if there are fewer. The result is ascending, int64."""
    order = torch.randperm(len(positions), generator=seeded_generator(seed, "bench", purpose))
    return positions[order[:count]].sort().values


def _without_unseen(settings: MethodBenchSettings, test: ImageSet, is_read: bool) -> tuple[ImageSet, ImageSet | None]:
    """Divide test samples into those to measure on and those set aside, which are balanced between classes."""
    classes = test.labels.unique()
    tenth = max(len(test) // 10, len(classes)) if is_read else 0
    count = tenth if settings.unseen is None else settings.unseen
    if not 0 <= count < len(test):
        raise InvalidDataError(
            f"--unseen {count}: {quoted(settings.dataset)} has {len(test)} test samples; expected fewer than those"
        )
    if is_read and count < len(classes):
        raise InvalidDataError(
            f"--unseen {count}: a method must have unseen samples of every class; expected at least {len(classes)}"
        )
    if count == 0:
        return test, None
    order = torch.randperm(len(test), generator=seeded_generator(settings.seed, "bench", "unseen"))
    rank = torch.empty_like(order)  # of each sample within its class, in the random order
    for label in classes:
        own = order[test.labels[order] == label]
        rank[own] = torch.arange(len(own))
    chosen = torch.zeros(len(test), dtype=torch.bool)
    chosen[order[rank[order].argsort(stable=True)][:count]] = True
    return test.subset((~chosen).nonzero().flatten()), test.subset(chosen.nonzero().flatten())


def _model_parameters(settings: MethodBenchSettings, checkpoint: Path | None) -> dict[str, object]:
    """The parameters that the checkpoint's shapes imply, overridden by those that were given."""
    implied = {} if checkpoint is None else checkpoint_parameters(settings.model, checkpoint)
    return {**implied, **given_model_parameters(settings.model_parameters)}


def _model(
    settings: MethodBenchSettings, source: ImageSource, parameters: Mapping[str, object], checkpoint: Path | None
) -> nn.Module:
    model = build_model(
        settings.model,
        class_count=source.class_count,
        image_shape=source.image_shape,
        seed=settings.seed,
        parameters=parameters,
    )
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    return model
