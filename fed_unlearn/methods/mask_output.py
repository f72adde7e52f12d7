"""Masked output, a control: the class is never predicted again, but nothing is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import torch
from annotated_types import Lt
from torch import nn

from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods.base import Applied, Method, Scope, Workspace
from fed_unlearn.methods.descent import accuracy_of
from fed_unlearn.methods.parts.heads import find_head
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.methods.registry import register


@register("mask-output")
@dataclass(frozen=True, kw_only=True)
class MaskOutput(Method):
    """Set the bias of the forgotten classes' outputs far below every logit.

    The accuracy looks perfect, while every feature stays. An audit that accepts this control does not measure
    forgetting.

    Parameters
    ----------
    bias : float, default -10000
        The new bias. It is finite, so that losses stay finite.
    head : str or None, default None
        Name of the linear layer or 1x1 convolution that outputs the logits. None means the one that does in a traced
        call.
    """

    paper: ClassVar[str] = "none: a control"
    scopes: ClassVar[tuple[Scope, ...]] = ("class",)
    needs: ClassVar[str] = "forget"
    is_control: ClassVar[bool] = True

    bias: Annotated[float, Lt(0)] = -10000.0
    head: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head is not None:
            require("head", self.name, self.head, str)

    def stronger(self) -> Self:
        """The same method, because a mask has no strength."""
        return self

    def _apply(self, work: Workspace) -> Applied:
        head = find_head(self.name, work.model, work.forget, self.head)
        layer = head.layer
        if not isinstance(layer.bias, nn.Parameter):
            raise InvalidModelError(
                f"{self.name}: the output layer has no bias of its own; expected one with a bias: build layer"
                f" {head.name!r} with bias=True, or use another method"
            )
        forgotten = torch.unique(work.forget.labels).to(layer.bias.device)
        with torch.no_grad():
            layer.bias[forgotten] = self.bias
        return Applied(converged=accuracy_of(work, work.forget, step=0) == 0, steps=0)
