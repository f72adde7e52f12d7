"""Checks of a method's model and samples before it trains, and of losses and weights while it does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fed_unlearn.data.images import as_image_set
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.data.streamed import StreamedSet
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import EmptySetError, InvalidDataError, InvalidModelError, UnlearningDivergedError
from fed_unlearn.logits import device_of, evaluation_mode, predict_logits
from fed_unlearn.model_inputs import model_inputs

_CHECKED_SAMPLES = 16
_NAMES = {"pixels": "a float32 image", "values": "a float32 input", "tokens": "int64 tokens"}

SampleSource = Dataset[tuple[Tensor, int]] | DataLoader[tuple[Tensor, Tensor]]
"""Samples in memory, or a loader over samples that do not fit there."""


def given_samples(method: str, kind: str, source: SampleSource, *, reads: bool = True) -> SampleSet:
    """Read a set of samples that a user gave, and check its pixels.

    Parameters
    ----------
    method : str
        Name of the method, for error messages.
    kind : {"forget", "retain", "unseen"}
        Which of the sets this is, for error messages.
    source : Dataset or DataLoader
        The set, as the user gave it.
    reads : bool, default True
        Whether the method reads inputs of this set. If not, those that are not in memory are not read here either.

    Raises
    ------
    EmptySetError
        If the set has no sample.
    InvalidDataError
        If the set cannot be read, or a pixel is outside [0, 1].
    """
    if isinstance(source, DataLoader):
        try:
            return StreamedSet(source)
        except (EmptySetError, InvalidDataError) as error:
            raise type(error)(f"{method}: {kind} set: {error}") from None
    if hasattr(source, "__len__") and len(source) == 0:
        raise EmptySetError(
            f"{method}: the forget set has no sample; at least one was expected"
            if kind == "forget"
            else f"{method}: the {kind} set has no sample; give None where there is none. If the forget set is"
            " the whole data, nothing is left to keep: start from a new model"
        )
    try:
        if not isinstance(source, SampleSet):
            return as_image_set(source)
        if reads or isinstance(source, TensorSet):
            _check_values(source)
    except InvalidDataError as error:
        raise InvalidDataError(f"{method}: {kind} set: {error}") from None
    return source


def _check_values(samples: SampleSet) -> None:
    """Check values against the domain: all of those in memory, the first few of those that are read when needed."""
    if isinstance(samples, TensorSet):
        samples.domain.check(samples.inputs)
    else:
        seen = samples.evaluated()
        seen.domain.check(seen.batch(slice(0, _CHECKED_SAMPLES))[0])


def unused_parameters(method: str, model: nn.Module, samples: SampleSet) -> frozenset[str]:
    """Names of the parameters that may be trained and on which the outputs for the first sample do not depend.

    Raises
    ------
    InvalidModelError
        If they depend on none of them.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    read = samples.evaluated().subset(torch.tensor([0], device=samples.labels.device))
    with evaluation_mode(model), torch.enable_grad():
        total = model(model_inputs(model, read.batch()[0].to(device_of(model)))).float().sum()
    if named and not total.requires_grad:
        raise InvalidModelError(
            f"{method}: no gradient leads from the logits of {type(model).__name__} to its parameters; expected a"
            " model that can be trained through its outputs: return the logits, neither detached nor predictions"
        )
    gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True) if named else ()
    return frozenset(name for name, gradient in zip(named, gradients, strict=True) if gradient is None)


def class_count_of(method: str, model: nn.Module, samples: SampleSet) -> int:
    """Number of outputs of a model, found by running it on the first sample.

    Raises
    ------
    InvalidModelError
        If the model cannot read such inputs, or its output is not of shape (1, classes).
    """
    try:
        logits = predict_logits(model, samples.subset(torch.tensor([0])))
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidModelError(
            f"{method}: the model gives no logits for {_NAMES[samples.domain.kind]} of shape {samples.input_shape}"
            f" ({str(error).splitlines()[0]}); expected a model that does"
        ) from error
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InvalidModelError(
            f"{method}: the model gave outputs of shape {tuple(logits.shape)} for one sample; expected logits of shape"
            " (1, classes) with at least two classes"
        )
    return logits.shape[1]


def check_samples(method: str, kind: str, samples: SampleSet, shape: tuple[int, ...], class_count: int) -> None:
    """Raise if samples have another shape than the forget set, or labels that are not outputs of the model.

    Raises
    ------
    InvalidDataError
        The message names the ``kind`` of the samples, what was given and what was expected.
    """
    if samples.input_shape != shape:
        named = "images" if samples.domain.kind == "pixels" else samples.domain.kind
        raise InvalidDataError(
            f"{method}: {kind} {named} of shape {samples.input_shape} were given; expected {shape}, that of the"
            " forget set"
        )
    outside = sorted({int(label) for label in samples.labels.unique() if not 0 <= label < class_count})
    if outside:
        raise InvalidDataError(
            f"{method}: {kind} labels {outside} were given; the model has outputs 0 to {class_count - 1}"
        )


def check_excluded(method: str, excluded_classes: Collection[int], class_count: int) -> None:
    """Raise if an excluded class is not an output of the model.

    Raises
    ------
    InvalidDataError
        The message names those classes.
    """
    if not isinstance(excluded_classes, Collection) or isinstance(excluded_classes, str):
        raise InvalidDataError(
            f"{method}: excluded_classes = {excluded_classes!r} was given; expected a collection of classes, such as"
            " {3}"
        )
    outside = [label for label in excluded_classes if not isinstance(label, Integral) or not 0 <= label < class_count]
    if outside:
        raise InvalidDataError(
            f"{method}: excluded classes {outside} were given; the model has outputs 0 to {class_count - 1}"
        )


def check_classes_left(method: str, labels: Tensor, excluded_classes: Collection[int], class_count: int) -> None:
    """Raise if the excluded classes leave a forget sample no class but its own.

    Raises
    ------
    InvalidDataError
        If there is such a sample.
    """
    left = set(range(class_count)) - set(excluded_classes)
    if not left or (len(left) == 1 and bool((labels == next(iter(left))).any())):
        raise InvalidDataError(
            f"{method}: classes {sorted(excluded_classes)} of {class_count} are excluded, which leaves samples"
            " of the forget set no class but their own"
        )


def check_losses(method: str, losses: Sequence[Tensor], last_step: int) -> None:
    """Raise if a loss is not finite. Waits for the device once.

    Parameters
    ----------
    method : str
        Name of the method, for the message.
    losses : sequence of Tensor
        Scalar losses of consecutive steps.
    last_step : int
        Number of the step that the last loss is of.

    Raises
    ------
    UnlearningDivergedError
        The message names the first step whose loss is not finite.
    """
    stacked = torch.stack(list(losses))
    finite = torch.isfinite(stacked)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        raise UnlearningDivergedError(
            f"{method}: the loss is {float(stacked[first])} at step {last_step - len(losses) + first + 1}; the"
            " given model is unchanged: try a smaller learning rate"
        )


def check_weights(method: str, model: nn.Module, steps: int) -> None:
    """Raise if a weight is not finite after the last step. No loss shows what the last step did.

    Raises
    ------
    UnlearningDivergedError
        If a weight or buffer is not finite.
    """
    finite = [torch.isfinite(tensor).all() for tensor in model.state_dict().values() if tensor.is_floating_point()]
    if finite and not bool(torch.stack(finite).all()):
        raise UnlearningDivergedError(
            f"{method}: the weights are not finite at step {steps}; the given model is unchanged: try a smaller"
            " learning rate"
        )
