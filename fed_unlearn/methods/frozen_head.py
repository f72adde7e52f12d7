"""A ridge head on a frozen backbone: the head in closed form over retained samples is the retrained one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from annotated_types import Gt

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods.base import Applied, Method, Scope, Workspace
from fed_unlearn.methods.parts.frozen_features import check_replaceable, frozen_features, put_head
from fed_unlearn.methods.parts.heads import find_head
from fed_unlearn.methods.parts.ridge import FEATURE_STEP, RIDGE, RidgeStatistics
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.methods.registry import register


@register("frozen-head")
@dataclass(frozen=True, kw_only=True)
class FrozenHead(Method):
    """Solve the output layer anew over the retained samples; everything below stays as it is.

    The head minimises ``sum ||W z + b - y||^2 + penalty ||W||^2``, with z what the output layer reads and y one-hot. It
    depends on nothing but the retained samples. So the result is what retraining the head gives, bit for bit, whatever
    was learned and forgotten before, and in which order. What the layers below know of the forget samples stays: the
    method is exact where they were never trained on them. No forget sample is read.

    Parameters
    ----------
    ridge : float, default 0.001
        The penalty, as a multiple of the mean over features of the sum of squares.
    step : float, default 2 ** -12
        Features are rounded to whole multiples of it, so that sums are exact; a power of two.
    head : str or None, default None
        Name of the linear layer or 1x1 convolution that outputs the logits. None means the one that does in a traced
        call.
    """

    paper: ClassVar[str] = "Hoerl and Kennard, Ridge Regression, Technometrics 1970; exact deletion by sums"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "retain"
    requires_retain: ClassVar[bool] = True
    is_exact: ClassVar[bool] = True

    ridge: Annotated[float, Gt(0)] = RIDGE
    step: Annotated[float, Gt(0)] = FEATURE_STEP
    head: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head is not None:
            require("head", self.name, self.head, str)
        if math.frexp(self.step)[0] != 0.5:
            raise InvalidParameterError(f"{self.name}: step = {self.step} was given; expected a power of two")

    def stronger(self) -> Self:
        """The same method: nothing forgets more."""
        return self

    def _apply(self, work: Workspace) -> Applied:
        retained = work.retained
        head = find_head(self.name, work.model, retained, self.head)
        check_replaceable(self.name, head)
        work.passes.add(forward=len(retained))
        features = frozen_features(self.name, work.model, head, retained)
        put_head(head.layer, RidgeStatistics.of(features, retained.labels, work.class_count, self.step), self.ridge)
        return Applied(converged=True, steps=1)
