"""How requests are served where they do not say so themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods import create, method_class
from fed_unlearn.requests import ForgetRequest, ParameterValue, ScopeKind
from fed_unlearn.strategies import server_methods


@dataclass(frozen=True, kw_only=True)
class UnlearningPlan:
    """Defaults of every request, and the shape of repair.

    Attributes
    ----------
    class_method, sample_method, client_method : str
        Method of requests that name none.
    escalation : mapping of str to tuple of str
        By scope (``"class"``, ``"sample"``, ``"client"``): methods tried after the request's own has failed, in order;
        ``"retrain"`` may be the last.
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
    max_norm_factor : float
        A client's change in any other round of a request is scaled down to so many times that median; at least 1.
    share_rounds : bool
        Whether requests that are served alike share their rounds.
    holds : Holds
        Which requests wait for approval.
    reopen_relapsed : bool
        Whether a request that has relapsed is tried again, once after every training, while its samples are retained.
    history_every : int
        Every so many training rounds are kept for methods that replay them; 0 for none.
    history_bytes : int
        Bound on their size on disk.
    retries : int
        How often a client that answered with an error is asked again.
    backoff_seconds : float
        Waited before that; twice as long every further time.
    durable_seconds : float
        Training is written to disk at least so often; what was trained since is repeated after a crash.
    retention_days : float
        How long holders may read D_f after the commit, for audits only; 0 for not at all.
    retain_limit : int
        At most so many retained training samples of each client are read in an audit; 0 for all.
    """

    class_method: str = "boundary-shrink"
    sample_method: str = "instance-wise"
    client_method: str = "fedosd"
    escalation: Mapping[ScopeKind, tuple[str, ...]] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, ParameterValue]] = field(default_factory=dict)
    repair_rounds: int = 1
    alternations: int = 0
    repair_config: Mapping[str, ParameterValue] = field(default_factory=dict)
    guard_weight: int = 1
    guard_margin: float = 8.0
    max_holder_steps: int = 12
    max_update_norm: float | None = None
    max_norm_factor: float = 10.0
    share_rounds: bool = True
    holds: Holds = field(default_factory=lambda: Holds())
    reopen_relapsed: bool = False
    history_every: int = 0
    history_bytes: int = 512 * 2**20
    retries: int = 2
    backoff_seconds: float = 0.5
    durable_seconds: float = 5.0
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
            "max_norm_factor": self.max_norm_factor >= 1,
            "history_every": self.history_every >= 0,
            "history_bytes": self.history_bytes >= 0,
            "retries": self.retries >= 0,
            "backoff_seconds": self.backoff_seconds >= 0,
            "durable_seconds": self.durable_seconds >= 0,
        }
        for name, holds in bounds.items():
            if not holds:
                raise InvalidParameterError(f"unlearning: {name} = {getattr(self, name)!r} is out of range")
        for method, parameters in self.parameters.items():
            new_method(method, parameters)
        for scope, methods in self.escalation.items():
            for method in methods:
                check_serves(method, scope)

    def methods_of(self, request: ForgetRequest) -> tuple[str, ...]:
        """Names of the methods that serve a request, each tried when those before it have failed."""
        scope = request.scope.kind
        own = {"class": self.class_method, "sample": self.sample_method, "client": self.client_method}[scope]
        return tuple(dict.fromkeys((request.method or own, *self.escalation.get(scope, ()))))

    def method_of(self, request: ForgetRequest) -> str:
        """Name of the method that serves a request first."""
        return self.methods_of(request)[0]

    def parameters_of(self, request: ForgetRequest, method: str | None = None) -> dict[str, ParameterValue]:
        """Hyper-parameters of a method for a request; the request's own are those of its own method.

        Raises
        ------
        InvalidParameterError
            If the method or one of them is unknown or out of range, or the method does not serve the request's scope.
        """
        first = self.method_of(request)
        method = method or first
        check_serves(method, request.scope.kind)
        parameters = {**self.parameters.get(method, {}), **(request.parameters if method == first else {})}
        new_method(method, parameters)
        return parameters


@dataclass(frozen=True, kw_only=True)
class Holds:
    """Shares above which a request waits for a person's approval; None for never.

    Attributes
    ----------
    data : float or None
        Share of all training samples that were or would be forgotten, this request and all before it included.
    of_class, of_client : float or None
        Share of a class, or of a client, that one request asks for.
    """

    data: float | None = None
    of_class: float | None = None
    of_client: float | None = None

    def __post_init__(self) -> None:
        for name in ("data", "of_class", "of_client"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidParameterError(f"holds: {name} = {value!r}; expected a fraction in [0, 1]")


def is_server_method(name: str) -> bool:
    """Whether a method is run by the server over rounds, and not by the holders alone."""
    return name in server_methods.available()


def new_method(name: str, parameters: Mapping[str, object]) -> object:
    """A method of either kind, by name.

    Raises
    ------
    InvalidParameterError
        If it or one of its parameters is unknown or out of range.
    """
    return server_methods.create(name, **parameters) if is_server_method(name) else create(name, **parameters)


def check_serves(name: str, scope: ScopeKind) -> None:
    """Refuse a method that does not serve a scope.

    Raises
    ------
    InvalidParameterError
        Naming the scopes that it serves.
    """
    scopes = (server_methods.method_class(name) if is_server_method(name) else method_class(name)).scopes
    if scope not in scopes or (scope == "client" and not is_server_method(name)):
        raise InvalidParameterError(
            f"{name!r} does not serve {scope} requests; it serves {' and '.join(scopes)} requests"
        )
