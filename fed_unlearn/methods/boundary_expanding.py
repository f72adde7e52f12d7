"""Boundary Expanding (Chen et al., "Boundary Unlearning", CVPR 2023).

The last layer gets one more output, the shadow class. The copy is trained to predict it for the forget samples. Then
the shadow output is removed, and each forget sample falls to one of the other classes near it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.errors import InvalidModelError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import ForgetDescent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.labels import nearest_allowed
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.methods.registry import register
from fed_unlearn.models import last_linear


@register("boundary-expanding")
@dataclass(frozen=True, kw_only=True)
class BoundaryExpanding(ForgetDescent):
    """Teach the forget samples to be a shadow class, then remove that class.

    The weights of the shadow output start at zero. Random weights could make it start high. The loss would then be low
    before the old class has fallen, its gradient would vanish, and the old class would win again without the shadow.
    For the same reason, the accuracy that ends the training is measured without the shadow output.

    Parameters
    ----------
    epochs, learning_rate, momentum, batch_size, max_steps
        As in :class:`~fed_unlearn.methods.descent.ForgetDescent`.
    stop_per_sample : bool, default True
        Whether samples that are no longer recognised are left out of the loss. The paper keeps them all to the end.
    trained_layers : int, default 3
        Number of last layers that are trained. The paper trains all. Training only three keeps more of the other
        classes.
    target_accuracy : float, default 0.03
        The aim: without the shadow, at most this share of the forget set is still predicted under its own label.
    head : str or None, default None
        Name of the linear layer that outputs the logits. None means the model's last linear layer.
    """

    paper: ClassVar[str] = "Chen et al., Boundary Unlearning, CVPR 2023"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample")
    needs: ClassVar[str] = "forget"

    stop_per_sample: bool = True
    target_accuracy: float = 0.03
    head: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head is not None:
            require("head", self.name, self.head, str)

    def _apply(self, work: Workspace) -> Applied:
        head = output_layer(self.name, work, self.head)

        def loss_of(batch: Batch) -> Tensor:
            shadow = torch.full_like(batch.forget_labels, work.class_count)
            return self._mean_loss(work, batch, functional.cross_entropy(batch.forget_logits, shadow, reduction="none"))

        with _widened(head):
            converged, steps = self._descend(work, loss_of)
        logits = predict_logits(work.model, work.forget)
        work.passes.add(forward=len(work.forget))
        return Applied(converged, steps, nearest_allowed(logits, work.forget.labels.cpu(), work.excluded_classes))


def output_layer(method: str, work: Workspace, name: str | None = None) -> nn.Linear:
    """The linear layer of ``work.model`` that outputs the logits.

    Raises
    ------
    InvalidModelError
        If the model has no such layer, or the layer's outputs are not the model's classes.
    """
    try:
        found, layer = last_linear(work.model, name)
    except InvalidModelError as error:
        raise InvalidModelError(f"{method}: {error}; use a method that needs no linear layer") from None
    if layer.out_features != work.class_count:
        raise InvalidModelError(
            f"{method}: layer {found!r} has {layer.out_features} outputs and the model {work.class_count};"
            " expected the linear layer that outputs the logits: name it with 'head'"
        )
    return layer


@contextmanager
def _widened(layer: nn.Linear) -> Iterator[None]:
    """Give a layer one more output, zero at first; remove the output again at the end and keep what was trained."""
    weight, bias = layer.weight, layer.bias
    layer.weight = _with_row(weight)
    if bias is not None:
        layer.bias = _with_row(bias)
    layer.out_features += 1
    try:
        yield
    finally:
        layer.out_features -= 1
        with torch.no_grad():
            weight.copy_(layer.weight[:-1])
            layer.weight = weight
            if bias is not None:
                bias.copy_(layer.bias[:-1])
                layer.bias = bias


def _with_row(parameter: Tensor) -> nn.Parameter:
    wide = torch.cat([parameter.detach(), torch.zeros_like(parameter[:1])])
    return nn.Parameter(wide, requires_grad=parameter.requires_grad)
