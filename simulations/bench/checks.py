"""Checks of the options of a comparison of methods. Errors say what was given and what was expected."""

from __future__ import annotations

import torch

from fed_unlearn.audits.base import AUDITS
from fed_unlearn.audits.samples.shadows import LEAST_SHADOWS
from fed_unlearn.data.sources import ImageSource
from fed_unlearn.errors import InvalidDataError, InvalidParameterError, InvalidRequestError
from fed_unlearn.methods import Method, available, create, method_class
from fed_unlearn.simulations.bench.settings import (
    DEFAULT_EPOCHS,
    DEFAULT_REPAIR_FRACTION,
    LEAST_REPAIR_SAMPLES,
    MethodBenchSettings,
)
from fed_unlearn.simulations.scenario.reading import parse_value
from fed_unlearn.text import quoted
from fed_unlearn.training import TrainingSettings


def check_options(settings: MethodBenchSettings) -> None:
    """Check that no options contradict each other.

    Raises
    ------
    InvalidParameterError
        If two options do. The message names both.
    """
    by_class, by_sample = bool(settings.forget_classes), settings.forget_samples is not None
    if by_class == by_sample:
        given = "both were given" if by_class else "neither was given"
        raise InvalidParameterError(f"--forget-class and --forget-samples: {given}; expected exactly one of them")
    if settings.trained_oracles and settings.checkpoint is not None and settings.epochs is None:
        option = "--oracle" if settings.oracles is None else "--oracles"
        raise InvalidParameterError(
            f"{option} with --checkpoint: the model was trained elsewhere; expected --epochs, and whatever else the"
            " oracle must be trained with to be its equal, or --oracle-checkpoint"
        )
    _check_shadows(settings)
    known = AUDITS.available()
    for name in settings.skip_audits:
        if name not in known:
            raise InvalidParameterError(f"--skip-audits {name}: is unknown; expected some of {', '.join(known)}")


def _check_shadows(settings: MethodBenchSettings) -> None:
    memorised, shadows = settings.forget_memorised, settings.shadows
    for option, given in (("--shadows", shadows), ("--forget-memorised", memorised)):
        if given and settings.forget_samples is None:
            raise InvalidParameterError(f"{option} {given}: is of single samples; expected --forget-samples beside it")
    if 0 < shadows < LEAST_SHADOWS or (memorised is not None and not shadows):
        raise InvalidParameterError(
            f"--shadows {shadows}: expected at least {LEAST_SHADOWS}, such as 16"
            + ("; --forget-memorised finds its samples by them" if not shadows else ", or none")
        )
    if shadows and settings.checkpoint is not None and settings.epochs is None:
        raise InvalidParameterError(
            "--shadows with --checkpoint: the model was trained elsewhere; expected --epochs, and whatever else shadow"
            " models must be trained with to be its equals"
        )


def chosen_device(name: str | None) -> torch.device:
    """The device of a name. Without a name it is CUDA if there is one, else the CPU.

    Raises
    ------
    InvalidParameterError
        If torch cannot use the device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidParameterError(f"--device {name}: cannot be used ({reason}); expected cpu, or cuda") from error
    return device


def training_settings(settings: MethodBenchSettings) -> TrainingSettings:
    """How the model and the oracle are trained.

    Raises
    ------
    InvalidParameterError
        If a value is out of range.
    """
    return TrainingSettings(
        local_epochs=DEFAULT_EPOCHS if settings.epochs is None else settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        augment=settings.augment,
    )


def repair_settings(settings: MethodBenchSettings, source: ImageSource) -> TrainingSettings | None:
    """How a model is repaired, or None if no repair is asked for.

    Raises
    ------
    InvalidParameterError
        If a value is out of range.
    """
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
            fraction=min(1.0, max(DEFAULT_REPAIR_FRACTION, LEAST_REPAIR_SAMPLES / len(source.train)))
            if repair.fraction is None
            else repair.fraction,
            batch_norm=repair.batch_norm,
        )
    except InvalidParameterError as error:
        raise InvalidParameterError(f"--repair: {error}") from None


def chosen_methods(settings: MethodBenchSettings) -> dict[str, Method]:
    """The methods that were asked for, with their hyper-parameters. Without any, all that serve the scope.

    Raises
    ------
    InvalidParameterError
        If a method or a parameter is unknown or out of range, or a method does not serve such requests.
    """
    scope = settings.scope
    names = list(dict.fromkeys(settings.methods))
    for name in names:
        expected = [*_fitting(scope), *_fitting(scope, controls=True)]
        if scope not in method_class(name, expected=expected).scopes:
            fitting = ", ".join(_fitting(scope))
            raise InvalidParameterError(
                f"--methods {name}: serves {' and '.join(method_class(name).scopes)} requests, not {scope} ones;"
                f" expected some of {fitting}"
            )
    names = names or _fitting(scope)
    if settings.controls:
        names += [name for name in _fitting(scope, controls=True) if name not in names]
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
                f"--set {override}: {quoted(name)} is none of the methods compared; they are {', '.join(names)}"
            )
        parameters[name][parameter.replace("-", "_")] = parse_value(text.strip())
    return {name: create(name, **values) for name, values in parameters.items()}


def _fitting(scope: str, *, controls: bool = False) -> list[str]:
    return [name for name, cls in available().items() if scope in cls.scopes and cls.is_control is controls]


def check_forget(settings: MethodBenchSettings, source: ImageSource) -> None:
    """Check that the data has what is to be forgotten, and more than that.

    Raises
    ------
    InvalidDataError
        If it does not. The message says what the data has.
    """
    held, names, asked = set(source.train.labels.unique().tolist()), source.classes, set[int | None]()
    for label in settings.forget_classes:
        try:
            index = names.index(label)
        except InvalidRequestError:
            index = None
        asked.add(index)
        if index not in held:
            allowed = names.allowed() if len(held) == source.class_count else names.listed(sorted(held))
            raise InvalidDataError(
                f"--forget-class {label}: is not a class of {quoted(settings.dataset)}; expected one of {allowed}"
            )
    if held <= asked:
        raise InvalidDataError(
            f"--forget-class: all {len(held)} classes of {quoted(settings.dataset)} were given, which leaves nothing to"
            " keep; expected fewer"
        )
    if settings.forget_samples is not None:
        count = settings.forget_samples + (settings.forget_memorised or 0)
        more = "" if settings.forget_memorised is None else f" --forget-memorised {settings.forget_memorised}"
        if not 0 < count < len(source.train):
            raise InvalidDataError(
                f"--forget-samples {settings.forget_samples}{more}: {quoted(settings.dataset)} has"
                f" {len(source.train)} training samples; expected at least 1 and fewer than those"
            )


def given_model_parameters(given: tuple[str, ...]) -> dict[str, object]:
    """Turn ``KEY=VALUE`` texts into parameters of :func:`fed_unlearn.models.build_model`. Values are in TOML syntax.

    Raises
    ------
    InvalidParameterError
        If a text is not such a pair.
    """
    parameters = dict[str, object]()
    for item in given:
        key, separator, text = item.partition("=")
        if not separator or not key.strip():
            raise InvalidParameterError(f"--model-parameter {item}: expected KEY=VALUE, such as width=0.5")
        parameters[key.strip().replace("-", "_")] = parse_value(text.strip())
    return parameters
