"""How requests are served where they do not say so themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods import create
from fed_unlearn.requests import ForgetRequest, ParameterValue


@dataclass(frozen=True, kw_only=True)
class UnlearningPlan:
    """Defaults of every request, and the shape of repair.

    Attributes
    ----------
    class_method, sample_method : str
        Method of requests that name none.
    parameters : mapping of str to mapping
        Hyper-parameters by method name; a request's own win.
    repair_rounds : int
        Guarded repair rounds of a class request before the gate looks, at least 0.
    alternations : int
        For sample requests: turns of repair and holder's step before the gate looks, after the holder's first step.
    repair_config : mapping of str to value
        What repair rounds change in the training configuration, for instance ``{"learning-rate": 0.01}``.
    guard_weight : int
        How often each guarded sample stands among a holder's repair samples, at least 1.
    guard_margin : float
        How far repair keeps the old class of guarded samples below the others, in logits; 0 for guard labels alone.
    max_holder_steps : int
        At most so many steps of a sample request's holder in one turn, each clipped to the norm below; at least 1.
    max_update_norm : float or None
        Bound on a holder's change in a sample request; the median update norm of the last training round where None.
    retention_days : float
        How long holders may read D_f after the commit, for audits only; 0 for not at all.
    retain_limit : int
        At most so many retained training samples of each client are read in an audit; 0 for all.
    """

    class_method: str = "boundary-shrink"
    sample_method: str = "instance-wise"
    parameters: Mapping[str, Mapping[str, ParameterValue]] = field(default_factory=dict)
    repair_rounds: int = 1
    alternations: int = 0
    repair_config: Mapping[str, ParameterValue] = field(default_factory=dict)
    guard_weight: int = 1
    guard_margin: float = 8.0
    max_holder_steps: int = 12
    max_update_norm: float | None = None
    retention_days: float = 0.0
    retain_limit: int = 0

    def __post_init__(self) -> None:
        bounds = {
            "repair_rounds": self.repair_rounds >= 0,
            "alternations": self.alternations >= 0,
            "guard_weight": self.guard_weight >= 1,
            "guard_margin": self.guard_margin >= 0,
            "max_holder_steps": self.max_holder_steps >= 1,
            "max_update_norm": self.max_update_norm is None or self.max_update_norm > 0,
            "retention_days": self.retention_days >= 0,
            "retain_limit": self.retain_limit >= 0,
        }
        for name, holds in bounds.items():
            if not holds:
                raise InvalidParameterError(f"unlearning: {name} = {getattr(self, name)!r} is out of range")
        for method, parameters in self.parameters.items():
            create(method, **parameters)

    def method_of(self, request: ForgetRequest) -> str:
        """Name of the method that serves a request."""
        return request.method or (self.class_method if request.scope.kind == "class" else self.sample_method)

    def parameters_of(self, request: ForgetRequest) -> dict[str, ParameterValue]:
        """Hyper-parameters of the method that serves a request.

        Raises
        ------
        InvalidParameterError
            If the method or one of them is unknown or out of range.
        """
        method = self.method_of(request)
        parameters = {**self.parameters.get(method, {}), **request.parameters}
        create(method, **parameters)
        return parameters
