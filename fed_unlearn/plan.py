"""What plans are made of: the groups of settings, their bounds and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Annotated, Literal, get_args

from annotated_types import Ge, Interval

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.requests import SCOPES, ParameterValue, ScopeKind
from fed_unlearn.settings import AboveZero, Flat, Fraction, FromOne, FromZero, NotNegative, Settings
from fed_unlearn.text import quoted

MEBIBYTE = 2**20

Depth = Literal["shallow", "deep"]
"""What repairs a class that was unlearned: guarded rounds of the whole model, or a reset of its last blocks."""


@dataclass(frozen=True, kw_only=True)
class Repair(Settings, prefix="unlearning: repair."):
    """Guarded training on retained samples after a method has unlearned.

    Attributes
    ----------
    rounds : int
        Repair rounds of a class request before the gate looks at the model.
    alternations : int
        Turns of repair and unlearning of any other request before the gate looks, after the first turn of unlearning.
    config : mapping of str to value
        What repair changes in the training configuration, for instance ``{"learning-rate": 0.01}``. A
        ``TrainingSettings`` is taken too; it changes all of it.
    guard_weight : int
        How often each guarded sample stands among the samples of repair.
    guard_margin : float
        How far repair keeps the old class of guarded samples below the others, in logits; 0 for guard labels alone.
    """

    rounds: Annotated[FromZero, Flat("repair_rounds")] = 1
    alternations: Annotated[FromZero, Flat("alternations")] = 0
    config: Annotated[Mapping[str, ParameterValue], Flat("repair_config", "repair")] = field(default_factory=dict)
    guard_weight: Annotated[FromOne, Flat("guard_weight")] = 1
    guard_margin: Annotated[NotNegative, Flat("guard_margin")] = 8.0

    def __post_init__(self) -> None:
        if is_dataclass(self.config) and not isinstance(self.config, type):
            config = {name.replace("_", "-"): value for name, value in asdict(self.config).items()}
            object.__setattr__(self, "config", config)
        if not isinstance(self.config, Mapping):
            raise InvalidParameterError(f"{self._prefix}config = {self.config!r}; expected a mapping of settings")
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class HolderTurn(Settings, prefix="unlearning: holder_turn."):
    """One turn of unlearning single samples.

    Attributes
    ----------
    max_steps : int
        Maximum number of steps in a row, each clipped to ``max_norm``.
    max_norm : float or None
        Bound on what one step changes in the model. None: in a federation the median update norm of the last training
        round, on one machine no bound.
    """

    max_steps: Annotated[FromOne, Flat("max_holder_steps", "max_steps")] = 12
    max_norm: Annotated[AboveZero | None, Flat("max_update_norm")] = None


_OF_CLIENT = 4.0


@dataclass(frozen=True, kw_only=True)
class RequestBound(Settings, prefix="unlearning: request_bound."):
    """How far the sample requests of a client may move the model; a deletion request must not be a way to plant one.

    The clip norm is the median norm of the clients' changes in the last training round, or ``max_norm`` of
    :class:`HolderTurn`.

    Attributes
    ----------
    max_request_norm : float or None
        Bound on the norm of all that a holder changes for one request, over all its turns, as a multiple of the clip
        norm. None: 1, the clip norm itself. A larger one is the plan's consent to requests that need more, as those to
        misclassify samples often do. It also bounds the steps that ``fedosd`` has a leaving client take; None: 4.
    client_budget : float
        Bound on what all sample requests of one client change between two trainings, as a multiple of what one of them
        may; at least 1. A request that would need more waits for the next training.
    """

    max_request_norm: Annotated[AboveZero | None, Flat("max_request_norm")] = None
    client_budget: Annotated[float, Ge(1), Flat("client_budget")] = 1.0

    @property
    def of_request(self) -> float:
        """Bound on one request, as a multiple of the clip norm."""
        return self.max_request_norm if self.max_request_norm is not None else 1.0

    @property
    def of_client(self) -> float:
        """Bound on the steps of a client that leaves, where a method has it take some, as a multiple of the clip norm.

        A client has more samples than one request of its own names: 4 without consent.
        """
        return self.max_request_norm if self.max_request_norm is not None else _OF_CLIENT

    @property
    def between_trainings(self) -> float:
        """Bound on all requests of one client between two trainings, as a multiple of the clip norm."""
        return self.client_budget * self.of_request


@dataclass(frozen=True, kw_only=True)
class Retry(Settings, prefix="unlearning: retry."):
    """How a client that answered with an error, or went away, is asked again.

    Attributes
    ----------
    count : int
        How often a client that answered with an error is asked again.
    backoff_seconds : float
        Time waited before that; twice as long every further time.
    return_seconds : float
        How long a client whose node went away in the middle of an exchange, or that owes its tombstones at the end of
        a run, is waited for; 0 for not at all. A node that is restarted needs about a minute.
    """

    count: Annotated[FromZero, Flat("retries")] = 2
    backoff_seconds: Annotated[NotNegative, Flat("backoff_seconds")] = 0.5
    return_seconds: Annotated[NotNegative, Flat("return_seconds")] = 90.0


@dataclass(frozen=True, kw_only=True)
class History(Settings, prefix="unlearning: history."):
    """Training rounds that the server keeps for methods that replay them.

    Attributes
    ----------
    every : int
        Interval in rounds: 1 keeps every round, 2 every second one. 0 keeps none.
    max_bytes : int
        Bound on their size on disk, in bytes. Where it is exceeded, every second kept round is deleted.
    """

    every: Annotated[FromZero, Flat("history_every")] = 1
    max_bytes: Annotated[FromZero, Flat("history_bytes")] = 512 * MEBIBYTE


@dataclass(frozen=True, kw_only=True)
class Holds(Settings, prefix="unlearning: holds."):
    """Shares above which a request waits for a person's approval; None for never.

    Attributes
    ----------
    data : float or None
        Share of all training samples that were or would be forgotten, by this request and all before it.
    of_class, of_client : float or None
        Share of a class, or of a client, that one request asks for.
    """

    data: Fraction | None = None
    of_class: Fraction | None = None
    of_client: Fraction | None = None


@dataclass(frozen=True, kw_only=True)
class OwnerLimits(Settings, prefix="unlearning: owners."):
    """How much the owner of one client's data may ask for through its node; what is more is refused, and it is told.

    Attributes
    ----------
    open : int
        Requests that have not ended.
    per_day : int
        Requests within 24 hours, refused ones included.
    """

    open: Annotated[FromZero, Flat("owner_open")] = 8
    per_day: Annotated[FromZero, Flat("owner_per_day")] = 24


@dataclass(frozen=True, kw_only=True)
class Plan(Settings, prefix="unlearning: "):
    """How requests are served wherever it is, in a federation or on one machine.

    Attributes
    ----------
    class_method, sample_method, client_method : str
        Method of requests that name none, by scope.
    parameters : mapping of str to mapping
        Hyper-parameters by method name; a request's own win.
    repair : Repair
        Training after unlearning.
    holder_turn : HolderTurn
        One turn of unlearning single samples.
    require_measured : tuple of str
        Scopes whose requests are committed only where the forgetting is ``measured``.
    """

    class_method: str = "boundary-shrink"
    sample_method: str = "instance-wise"
    client_method: str = "fedosd"
    parameters: Mapping[str, Mapping[str, ParameterValue]] = field(default_factory=dict)
    repair: Repair = field(default_factory=Repair)
    holder_turn: HolderTurn = field(default_factory=HolderTurn)
    require_measured: tuple[ScopeKind, ...] = ()

    def _out_of_bounds(self) -> list[str]:
        problems = super()._out_of_bounds()
        if isinstance(self.require_measured, str) or not set(self.require_measured) <= set(SCOPES):
            given = quoted(self.require_measured)
            problems.append(f"{self._prefix}require_measured = {given}; expected some of {', '.join(SCOPES)}")
        return problems

    def default_method(self, scope: ScopeKind) -> str:
        """Name of the method that serves the requests of a scope that name none."""
        return {"class": self.class_method, "sample": self.sample_method, "client": self.client_method}[scope]


@dataclass(frozen=True, kw_only=True)
class FederatedPlan(Plan):
    """What a plan for a federation adds; see :class:`fed_unlearn.strategies.UnlearningPlan`."""

    escalation: Mapping[ScopeKind, tuple[str, ...]] = field(default_factory=dict)
    max_norm_factor: Annotated[float, Ge(1)] = 10.0
    request_bound: RequestBound = field(default_factory=RequestBound)
    max_client_share: Annotated[float, Interval(gt=0, le=1)] = 0.5
    share_rounds: bool = True
    depth: Depth = "shallow"
    holds: Holds = field(default_factory=Holds)
    owners: OwnerLimits = field(default_factory=OwnerLimits)
    reopen_relapsed: bool = False
    history: History = field(default_factory=lambda: History(every=0))
    retry: Retry = field(default_factory=Retry)
    durable_seconds: NotNegative = 5.0
    retention_days: NotNegative = 0.0
    retain_limit: FromZero = 1000
    test_limit: FromZero = 1000
    relapse_limit: FromZero = 100
    unlearned_limit: FromZero = 100

    def _out_of_bounds(self) -> list[str]:
        problems = super()._out_of_bounds()
        if self.depth not in get_args(Depth):
            problems.append(f"{self._prefix}depth = {self.depth!r}; expected 'shallow' or 'deep'")
        return problems


@dataclass(frozen=True, kw_only=True)
class ServeSettings(Settings, prefix="serve: "):
    """How often a server that stays looks for work, and where it says how it is.

    Attributes
    ----------
    ledger_seconds : float
        Seconds between two looks at the ledger and the order to stop. A look costs no message.
    node_seconds : float
        Seconds between two questions to the runtime which nodes are connected. A question costs no message.
    owner_seconds : float
        Seconds between two questions to every client whether its owner has queued a request. A question is one message
        to each client.
    retry_seconds : float
        Seconds until what could not be done is tried again. They double each further time, up to an hour.
    metrics_port : int or None
        The port on 127.0.0.1 where Prometheus reads figures. It needs the package prometheus-client. None for no
        endpoint.

    Examples
    --------
    >>> ServeSettings(owner_seconds=60.0).owner_seconds
    60.0
    """

    ledger_seconds: AboveZero = 0.5
    node_seconds: AboveZero = 5.0
    owner_seconds: AboveZero = 300.0
    retry_seconds: AboveZero = 60.0
    metrics_port: Annotated[int, Interval(ge=1, le=65535)] | None = None
