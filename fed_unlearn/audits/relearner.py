"""A copy of a model that is trained on samples of forgotten classes, from the same start for every model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize, remove_weight_norm

from fed_unlearn.audits.layers import output_layer, raw_logits
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.logits import batch_slices, device_of
from fed_unlearn.methods.parts.checks import check_samples
from fed_unlearn.methods.parts.heads import OutputLayer
from fed_unlearn.model_copies import copied
from fed_unlearn.pass_counter import PassCounter

_MASK = 1000.0  # an output whose bias lies this far below the median of all is masked


@dataclass(frozen=True)
class Relearner:
    """A copy under training. BatchNorm statistics are frozen and dropout is off.

    Attributes
    ----------
    audit : str
        Name of the audit, for error messages.
    layer : nn.Linear or nn.Conv2d
        The copy's output layer.
    device : torch.device
    outputs_of : callable
        Inputs (n, ...) to the layer's outputs (n, classes), with gradients.
    optimizer : torch.optim.Optimizer
        Optimizer of every floating-point parameter of the copy.
    passes : PassCounter
        What training and measuring cost is added to it.
    """

    audit: str
    layer: OutputLayer
    device: torch.device
    outputs_of: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    passes: PassCounter

    def train(self, inputs: Tensor, labels: Tensor) -> None:
        """One optimizer step on the cross-entropy of a batch."""
        self.passes.add(forward=len(labels), backward=len(labels))
        loss = functional.cross_entropy(self.outputs_of(inputs), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def outputs(self, samples: SampleSet, step: int) -> Tensor:
        """Outputs of the layer for all samples, after ``step`` steps.

        Raises
        ------
        UnlearningDivergedError
            If an output is not a finite number.
        """
        self.passes.add(forward=len(samples))
        with torch.inference_mode():
            parts = [self.outputs_of(inputs) for inputs, _ in samples.batches(batch_slices(samples, self.device))]
            outputs = torch.cat(parts)
            if not (outputs < torch.inf).all():  # minus infinity is the mask of another class
                raise UnlearningDivergedError(
                    f"{self.audit}: the outputs are not finite at step {step}; try a smaller learning rate"
                )
        return outputs.clone()

    def recall(self, samples: SampleSet, step: int) -> float:
        """Share of the samples that are predicted under their own label, after ``step`` steps."""
        right = self.outputs(samples, step).argmax(dim=1) == samples.labels
        return int(right.sum()) / len(samples)


@contextmanager
def relearner(
    audit: str,
    model: nn.Module,
    samples: SampleSet,
    *,
    classes: Collection[int],
    fresh_row: bool,
    learning_rate: float,
    momentum: float,
    head: str | None = None,
    half_precision: bool = False,
    passes: PassCounter | None = None,
) -> Iterator[Relearner]:
    """Yield a copy of a model that is ready to relearn classes. Masks of these classes are lifted.

    SGD climbs an output bias of -10,000 more slowly than it learns anything, so that a mask would look like deep
    forgetting. Outputs are read directly from the output layer, before a wrapper changes them.

    Parameters
    ----------
    audit : str
        Name of the audit, for error messages.
    model : nn.Module
        The model. It is not changed.
    samples : SampleSet
        Samples that the model reads, at least one.
    classes : collection of int
        The classes to relearn. Nothing is reset if these are none or all classes of the model.
    fresh_row : bool
        If True, the output rows and biases of the classes start as the mean of the others: what an earlier row holds,
        or that it was overwritten, has no effect. If False, the rows stay, and only the biases are set, to the median
        of the others.
    learning_rate, momentum : float
        Learning rate and momentum of SGD.
    head : str, optional
        Name of the layer that gives the logits; the one that is found in a traced call if None.
    half_precision : bool
        Whether passes compute in bfloat16 where autocast allows it.
    passes : PassCounter, optional
        What training and measuring cost is added to it.

    Raises
    ------
    InvalidDataError
        If a label is not an output of the model.
    InvalidModelError
        If the model has no output layer that can be found, or its weight cannot be set.
    InvalidParameterError
        If a class is not an output of the model.
    """
    copy = copied(model).eval()
    device = device_of(copy)
    samples = samples.to(device)
    layer = output_layer(audit, copy, samples, head)
    check_samples(audit, "forget", samples, samples.input_shape, layer.weight.shape[0])
    _set_start(audit, layer, classes, fresh_row)
    parameters = [parameter.requires_grad_(True) for parameter in copy.parameters() if parameter.is_floating_point()]
    optimizer = torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum)
    with raw_logits(copy, layer) as logits_of:

        def outputs_of(inputs: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=half_precision):
                outputs = logits_of(inputs)
            return outputs.float()

        yield Relearner(audit, layer, device, outputs_of, optimizer, passes or PassCounter())


@dataclass(frozen=True)
class Climb:
    """How many steps it took to reach each of some targets.

    Attributes
    ----------
    steps : tuple of int
        Steps until each target was reached; the bound where it was not.
    reached : tuple of bool
    recall : float
        Recall at the end of the training.
    """

    steps: tuple[int, ...]
    reached: tuple[bool, ...]
    recall: float


def climb(
    train: Callable[[], None],
    recall_after: Callable[[int], float],
    targets: Sequence[float],
    *,
    max_steps: int,
    is_measured: Callable[[int], bool],
    to_the_end: bool = False,
) -> Climb:
    """Train until the recall has reached every target.

    Parameters
    ----------
    train : callable
        Takes one step.
    recall_after : callable
        The recall, given the number of steps taken.
    targets : sequence of float
    max_steps : int
        Bound on the steps.
    is_measured : callable
        Tells whether the recall is measured after a number of steps. It always is before the first and after the last.
    to_the_end : bool
        Whether all ``max_steps`` are taken, also where every target is reached before.
    """
    recall, step = recall_after(0), 0
    found = [0 if recall >= target else None for target in targets]
    while step < max_steps and (to_the_end or None in found):
        train()
        step += 1
        if is_measured(step) or step == max_steps:
            recall = recall_after(step)
            reached = (recall >= target for target in targets)
            found = [step if first is None and now else first for first, now in zip(found, reached, strict=True)]
    return Climb(
        tuple(max_steps if first is None else first for first in found),
        tuple(first is not None for first in found),
        recall,
    )


def _set_start(audit: str, layer: OutputLayer, classes: Collection[int], fresh_row: bool) -> None:
    every = range(layer.weight.shape[0])
    if unknown := sorted(set(classes).difference(every)):
        raise InvalidParameterError(f"{audit}: classes {unknown} were given; the model has outputs 0 to {every[-1]}")
    given = sorted(set(classes))
    others = [index for index in every if index not in given]
    if not given or not others:
        return
    _make_plain(audit, layer)
    with torch.no_grad():
        if layer.bias is not None:
            others = _unmasked(layer.bias, others)
            biases = layer.bias[others]
            layer.bias[given] = biases.mean() if fresh_row else biases.median()
        if fresh_row:
            layer.weight[given] = layer.weight[others].mean(dim=0)


def _unmasked(bias: Tensor, classes: list[int]) -> list[int]:
    """The classes that no earlier request has masked; all of them where none is left."""
    lowest = bias[classes].median() - _MASK
    return [index for index in classes if bias[index] > lowest] or classes


def _make_plain(audit: str, layer: OutputLayer) -> None:
    """Turn a weight or bias that is computed in every pass into a parameter, which can be set."""
    if parametrize.is_parametrized(layer):
        parametrized = [name for name, _ in layer.get_submodule("parametrizations").named_children()]
        # torch's own removal would change the class, which the given model's layer shares.
        values = {name: getattr(layer, name).detach().clone() for name in parametrized}
        layer.__class__ = type(layer).__bases__[0]
        del layer.parametrizations
        for name, value in values.items():
            layer.register_parameter(name, nn.Parameter(value))
    if "weight_g" in dict(layer.named_parameters(recurse=False)):
        remove_weight_norm(layer)
    if not isinstance(layer.weight, nn.Parameter):
        raise InvalidModelError(
            f"{audit}: the weight of the output layer is a {type(layer.weight).__name__} that is computed in every"
            " pass; expected an nn.Parameter: use the layer of torch.nn, or torch.nn.utils.parametrizations"
        )
