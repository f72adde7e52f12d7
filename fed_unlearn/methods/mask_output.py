"""Masked output: a control, not a method. The class is never predicted again, and nothing is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods.base import Applied, Method, Scope, Workspace
from fed_unlearn.methods.boundary_expanding import output_layer
from fed_unlearn.methods.descent import accuracy_of
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.methods.registry import register


@register("mask-output")
@dataclass(frozen=True, kw_only=True)
class MaskOutput(Method):
    """Put the bias of the forgotten classes' outputs far below every logit.

    Accuracy looks perfect while every feature stays: an audit that this passes is no audit.

    Parameters
    ----------
    bias : float, default -10000
        The new bias; finite, so that losses stay so.
    head : str or None, default None
        Name of the linear layer that puts out the logits; the last one of the model where None.
    """

    paper: ClassVar[str] = "none: a control"
    scopes: ClassVar[tuple[Scope, ...]] = ("class",)
    needs: ClassVar[str] = "forget"
    is_control: ClassVar[bool] = True

    bias: float = -10000.0
    head: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require("bias", self.name, self.bias, float, below=0)
        if self.head is not None:
            require("head", self.name, self.head, str)

    def stronger(self) -> Self:
        """The same: a mask has no strength."""
        return self

    def _apply(self, work: Workspace) -> Applied:
        layer = output_layer(self.name, work, self.head)
        if layer.bias is None:
            raise InvalidModelError(f"{self.name}: the output layer has no bias; one with a bias was expected")
        forgotten = torch.unique(work.forget.labels).to(layer.bias.device)
        with torch.no_grad():
            layer.bias[forgotten] = self.bias
        return Applied(converged=accuracy_of(work, work.forget, step=0) == 0, steps=0, guard_labels=None)
