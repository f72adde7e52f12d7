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

from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import ForgetDescent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.heads import Head, OutputLayer, find_head, one_row_a_sample
from fed_unlearn.methods.parts.labels import nearest_allowed
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.methods.registry import register


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
        Name of the linear layer or 1x1 convolution that outputs the logits. None means the one that does in a traced
        call.
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
        head = find_head(self.name, work.model, work.forget, self.head)

        def loss_of(batch: Batch) -> Tensor:
            shadow = torch.full_like(batch.forget_labels, work.class_count)
            return self._mean_loss(work, batch, functional.cross_entropy(batch.forget_logits, shadow, reduction="none"))

        plain = _plain_layer(work.model, head)
        if plain is not None:
            with _widened(plain):
                converged, steps = self._descend(work, loss_of)
        else:
            with _shadowed(work.model, head.layer) as added:
                converged, steps = self._descend(work, loss_of, added=added)
        logits = predict_logits(work.model, work.forget)
        work.passes.add(forward=len(work.forget))
        return Applied(converged, steps, nearest_allowed(logits, work.forget.labels.cpu(), work.excluded_classes))


def _plain_layer(model: nn.Module, head: Head) -> nn.Linear | None:
    """The head's layer if one more output of it is one more of the model, and nothing else makes or reads its weights.

    Parametrisations change the layer's class, and older ones compute the weights in a hook.
    """
    layer = head.layer
    if not isinstance(layer, nn.Linear) or type(layer) is not nn.Linear or not head.is_last or layer._forward_pre_hooks:
        return None
    own = {id(parameter) for parameter in layer._parameters.values() if parameter is not None}
    holders = [module for module in model.modules() if own & {id(value) for value in module._parameters.values()}]
    return layer if len(holders) == 1 and id(layer.weight) in own else None


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


@contextmanager
def _shadowed(model: nn.Module, layer: OutputLayer) -> Iterator[list[nn.Parameter]]:
    """Give a model one more logit, which reads what the layer reads; yield its parameters, zero at first.

    The layer is not touched: its weights may be made of others, be those of another layer too, or be followed by a mask
    as wide as the classes. What the model does to most of the layer's outputs, such as taking off the log-sum-exp of
    all, is done to the new one.
    """
    seen: list[tuple[Tensor, Tensor]] = []
    weight = nn.Parameter(layer.weight.new_zeros(layer.weight[0].numel()), requires_grad=layer.weight.requires_grad)
    parameters = [weight]
    if layer.bias is not None:
        parameters.append(nn.Parameter(layer.bias.new_zeros(1), requires_grad=layer.bias.requires_grad))

    def with_shadow(module: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        read, raw = (one_row_a_sample(values, layer) for values in seen[-1])
        seen.clear()
        shadow = functional.linear(read, weight.unsqueeze(0), *parameters[1:])
        shift = (logits - raw).median(dim=1, keepdim=True).values
        return torch.cat([logits, (shadow + shift).to(logits.dtype)], dim=1)

    handles = [
        layer.register_forward_hook(lambda module, inputs, outputs: seen.append((inputs[0], outputs.clone()))),
        model.register_forward_hook(with_shadow),
    ]
    try:
        yield parameters
    finally:
        for handle in handles:
            handle.remove()
