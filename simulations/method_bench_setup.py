"""From the settings of a comparison to its parts, all checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sources import ImageSource, load_source
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.inference import predict_logits
from fed_unlearn.methods import Method, available, create, method_class
from fed_unlearn.models import build_model, checkpoint_parameters, load_checkpoint
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.simulations.method_bench_settings import DEFAULT_EPOCHS, MethodBenchSettings
from fed_unlearn.simulations.overrides import parse_value
from fed_unlearn.training import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class BenchParts:
    """Everything that a comparison needs, sound and on its device.

    Attributes
    ----------
    settings : MethodBenchSettings
    methods : dict of str to Method
        In the order asked for, with their hyper-parameters.
    train, test : ImageSet
        ``test`` is without ``unseen``.
    unseen : ImageSet or None
        Test samples that only methods may read.
    class_names : tuple of str
    fingerprint : str
        Of the data set.
    model : nn.Module
        The checkpoint's, or one with fresh weights.
    oracle : nn.Module or None
        The oracle checkpoint's.
    training : TrainingSettings
        Of the model and of the oracle, where they are trained.
    repair : TrainingSettings or None
        Of guarded repair.
    model_parameters : dict of str to object
        As the model was built with.
    device : torch.device
    """

    settings: MethodBenchSettings
    methods: Mapping[str, Method]
    train: ImageSet
    test: ImageSet
    unseen: ImageSet | None
    class_names: tuple[str, ...]
    fingerprint: str
    model: nn.Module
    oracle: nn.Module | None
    training: TrainingSettings
    repair: TrainingSettings | None
    model_parameters: Mapping[str, object]
    device: torch.device

    def fresh_model(self) -> nn.Module:
        """The untrained model, with the same initial weights every time."""
        return build_model(
            self.settings.model,
            class_count=len(self.class_names),
            image_shape=self.train.image_shape,
            seed=self.settings.seed,
            parameters=self.model_parameters,
        ).to(self.device)


@dataclass(frozen=True)
class ForgetSplit:
    """The training samples, divided.

    Attributes
    ----------
    forget, retain : ImageSet
    classes : frozenset of int
        Forgotten classes; empty where single samples are forgotten.
    """

    forget: ImageSet
    retain: ImageSet
    classes: frozenset[int]


def prepare_bench(settings: MethodBenchSettings) -> BenchParts:
    """Load and check all parts of a comparison; nothing is trained and nothing written.

    Raises
    ------
    FedUnlearnError
        Naming the option, what was given and what was expected.
    """
    _check_options(settings)
    device = _device(settings.device)
    training, repair = _training(settings), _repair(settings)
    methods = _methods(settings)
    source = load_source(settings.dataset)
    _check_forget(settings, source)
    test, unseen = _without_unseen(settings, source.test)
    parameters = _model_parameters(settings.model_parameters)
    built_with = {**_told_by(settings.model, settings.checkpoint or settings.oracle_checkpoint), **parameters}
    return BenchParts(
        settings=settings,
        methods=methods,
        train=source.train,
        test=test,
        unseen=unseen,
        class_names=source.class_names,
        fingerprint=source.fingerprint,
        model=_model(settings, source, built_with, settings.checkpoint).to(device),
        oracle=None
        if settings.oracle_checkpoint is None
        else _model(
            settings, source, {**_told_by(settings.model, settings.oracle_checkpoint), **parameters},
            settings.oracle_checkpoint,
        ).to(device),
        training=training,
        repair=repair,
        model_parameters=built_with,
        device=device,
    )  # fmt: skip


def split_samples(parts: BenchParts, model: nn.Module) -> ForgetSplit:
    """Divide the training samples into those to forget and those to keep.

    Single samples are drawn by the seed among those that the model has right: nothing can be seen to be forgotten in
    the others.

    Raises
    ------
    InvalidDataError
        If the model has too few samples right.
    """
    train, count = parts.train, parts.settings.forget_samples
    if count is None:
        classes = torch.tensor(sorted(set(parts.settings.forget_classes)))
        chosen = torch.isin(train.labels, classes)
    else:
        right = (predict_logits(model, train).argmax(dim=1) == train.labels).nonzero().flatten()
        if count > len(right):
            raise InvalidDataError(
                f"--forget-samples {count}: the model has only {len(right)} of {len(train)} training samples right;"
                " ask for fewer, or give a model that is trained"
            )
        chosen = torch.zeros(len(train), dtype=torch.bool)
        chosen[drawn(right, count, parts.settings.seed, "forget")] = True
    return ForgetSplit(
        forget=train.subset(chosen.nonzero().flatten()),
        retain=train.subset((~chosen).nonzero().flatten()),
        classes=frozenset(parts.settings.forget_classes),
    )


def drawn(positions: Tensor, count: int, seed: int, purpose: str) -> Tensor:
    """``count`` of the positions, or all where there are fewer, by the seed; ascending, int64."""
    order = torch.randperm(len(positions), generator=seeded_generator(seed, "bench", purpose))
    return positions[order[:count]].sort().values


def _check_options(settings: MethodBenchSettings) -> None:
    by_class, by_sample = bool(settings.forget_classes), settings.forget_samples is not None
    if by_class == by_sample:
        given = "both were given" if by_class else "neither was given"
        raise InvalidParameterError(f"--forget-class and --forget-samples: {given}; expected exactly one of them")
    if settings.oracle and settings.oracle_checkpoint is not None:
        raise InvalidParameterError("--oracle and --oracle-checkpoint: both were given; expected at most one of them")
    if settings.oracle and settings.checkpoint is not None and settings.epochs is None:
        raise InvalidParameterError(
            "--oracle with --checkpoint: the model was trained elsewhere; expected --epochs, and whatever else the"
            " oracle must be trained with to be its equal, or --oracle-checkpoint"
        )


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidParameterError(f"--device {name}: cannot be used ({reason}); expected cpu, or cuda") from error
    return device


def _training(settings: MethodBenchSettings) -> TrainingSettings:
    return TrainingSettings(
        local_epochs=DEFAULT_EPOCHS if settings.epochs is None else settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        augment=settings.augment,
    )


def _repair(settings: MethodBenchSettings) -> TrainingSettings | None:
    repair = settings.repair
    if repair is None:
        return None
    if repair.margin < 0 or repair.weight < 1:
        raise InvalidParameterError(
            f"--repair-margin {repair.margin:g} and --repair-weight {repair.weight} were given; expected at least 0"
            " and at least 1"
        )
    try:
        return TrainingSettings(
            local_epochs=repair.epochs,
            learning_rate=repair.learning_rate,
            batch_size=repair.batch_size,
            fraction=repair.fraction,
            batch_norm=repair.batch_norm,
        )
    except InvalidParameterError as error:
        raise InvalidParameterError(f"--repair: {error}") from None


def _methods(settings: MethodBenchSettings) -> dict[str, Method]:
    """The methods asked for with their hyper-parameters, in that order."""
    scope = settings.scope
    names = list(dict.fromkeys(settings.methods))
    for name in names:
        if scope not in method_class(name).scopes:
            fitting = ", ".join(_fitting(scope))
            raise InvalidParameterError(
                f"--methods {name}: serves {' and '.join(method_class(name).scopes)} requests, not {scope} ones;"
                f" expected some of {fitting}"
            )
    names = names or _fitting(scope)
    parameters: dict[str, dict[str, object]] = {name: {} for name in names}
    for override in settings.overrides:
        key, separator, text = override.partition("=")
        name, dot, parameter = key.strip().rpartition(".")
        if not separator or not dot or not parameter:
            raise InvalidParameterError(
                f"--set {override}: expected METHOD.PARAMETER=VALUE, such as boundary-shrink.epochs=1"
            )
        if name not in parameters:
            raise InvalidParameterError(
                f"--set {override}: {name!r} is none of the methods compared; they are {', '.join(names)}"
            )
        parameters[name][parameter.replace("-", "_")] = parse_value(text.strip())
    return {name: create(name, **values) for name, values in parameters.items()}


def _fitting(scope: str) -> list[str]:
    return [name for name, cls in available().items() if scope in cls.scopes and not cls.is_control]


def _check_forget(settings: MethodBenchSettings, source: ImageSource) -> None:
    held = set(source.train.labels.unique().tolist())
    for label in settings.forget_classes:
        if label not in held:
            allowed = f"0..{source.class_count - 1}" if len(held) == source.class_count else str(sorted(held))
            raise InvalidDataError(
                f"--forget-class {label}: is not a class of {settings.dataset!r}; expected one of {allowed}"
            )
    if held <= set(settings.forget_classes):
        raise InvalidDataError(
            f"--forget-class: all {len(held)} classes of {settings.dataset!r} were given, which leaves nothing to keep;"
            " expected fewer"
        )
    count = settings.forget_samples
    if count is not None and not 0 < count < len(source.train):
        raise InvalidDataError(
            f"--forget-samples {count}: {settings.dataset!r} has {len(source.train)} training samples; expected at"
            " least 1 and fewer than those"
        )


def _without_unseen(settings: MethodBenchSettings, test: ImageSet) -> tuple[ImageSet, ImageSet | None]:
    count = len(test) // 10 if settings.unseen is None else settings.unseen
    if not 0 <= count < len(test):
        raise InvalidDataError(
            f"--unseen {count}: {settings.dataset!r} has {len(test)} test samples; expected fewer than those"
        )
    if count == 0:
        return test, None
    chosen = torch.zeros(len(test), dtype=torch.bool)
    chosen[drawn(torch.arange(len(test)), count, settings.seed, "unseen")] = True
    return test.subset((~chosen).nonzero().flatten()), test.subset(chosen.nonzero().flatten())


def _model_parameters(given: tuple[str, ...]) -> dict[str, object]:
    parameters = dict[str, object]()
    for item in given:
        key, separator, text = item.partition("=")
        if not separator or not key.strip():
            raise InvalidParameterError(f"--model-parameter {item}: expected KEY=VALUE, such as width=0.5")
        parameters[key.strip().replace("-", "_")] = parse_value(text.strip())
    return parameters


def _told_by(model: str, checkpoint: Path | None) -> dict[str, object]:
    return {} if checkpoint is None else checkpoint_parameters(model, checkpoint)


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
