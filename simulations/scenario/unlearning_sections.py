"""``[unlearning]`` and ``[gate]``: how requests are served, and what their results must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from fed_unlearn.gate import Bound, Gate, Thresholds
from fed_unlearn.plan import MEBIBYTE, Depth, FederatedPlan, History, Holds, OwnerLimits, Repair, RequestBound
from fed_unlearn.requests import ScopeKind
from fed_unlearn.simulations.scenario.section_types import (
    Names,
    NumberOrNone,
    Parameters,
    Positive,
    Scopes,
    Section,
    TrainingOverrides,
    filled_from,
    like,
)

_GATE = Gate()
_ENDS = {"min": "minimum", "max": "maximum"}


def _retention(value: object) -> object:
    if value == "none" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise PydanticCustomError("retention", 'Input should be "none" or a number of days from 0')


class EscalationSection(Section):
    """``escalation``: methods that are tried in turn after a request's own has failed, by scope.

    A list may end in ``retrain``, which trains from scratch without all that was forgotten.
    """

    class_: Names = ()
    sample: Names = ()
    client: Names = ()

    def of(self, scope: ScopeKind) -> tuple[str, ...]:
        """The methods of a scope."""
        return {"class": self.class_, "sample": self.sample, "client": self.client}[scope]


class HistorySection(Section):
    """``history``: what the server keeps of training rounds, for methods of client requests that read it.

    ``every``: of how many rounds one is kept; ``max-megabytes``: size of the store, the oldest rounds go first. Nothing
    is kept where no request of the timeline has such a method.
    """

    every: int = like(History, "every", ge=1)
    max_megabytes: Positive = History.max_bytes // MEBIBYTE


class HoldSection(Section):
    """``hold``: the share that a request may ask for without anyone's approval, None (``"none"``) for any.

    ``data``: of all training samples, summed over requests; ``class``: of the samples of one class; ``client``: of the
    samples of one client. A request that asks for more waits until it is approved.
    """

    data: NumberOrNone = like(Holds, "data", gt=0)
    class_: NumberOrNone = like(Holds, "of_class", gt=0)
    client: NumberOrNone = like(Holds, "of_client", gt=0)


class OwnersSection(Section):
    """``owners``: how much the owner of one client's data may ask for through its node; what is more is refused.

    ``open``: requests that have not ended; ``per-day``: requests within 24 hours.
    """

    open: int = like(OwnerLimits, "open")
    per_day: int = like(OwnerLimits, "per_day")


class UnlearningSection(Section):
    """``[unlearning]``: what every request uses unless it says otherwise.

    ``method`` serves requests for classes, ``sample-method`` and ``client-method`` those of the other scopes;
    with ``depth = "deep"`` a reset of the last blocks takes the place of a class method and of guarded repair, with the
    parameters of ``reset-and-relearn``;
    ``share-rounds`` lets requests that are pending together share unlearn rounds where they can; ``reopen-relapsed``
    serves a committed request again whose forgetting wore off; ``require-measured`` names the scopes whose requests are
    committed only where the forgetting is ``measured``: the audits showed the samples before, and do not after.
    ``max-request-norm`` bounds what a client changes in the model for one sample request, as a multiple of the median
    norm of the clients' changes in the last training round; None (``"none"``) for 1. ``client-budget`` bounds all
    sample requests of a client between two trainings, as a multiple of that. ``max-client-share`` bounds one client's
    part of every average and of what audits count.
    """

    method: str = FederatedPlan.class_method
    sample_method: str = FederatedPlan.sample_method
    client_method: str = FederatedPlan.client_method
    parameters: dict[str, Parameters] = Field(default_factory=dict)
    escalation: EscalationSection = EscalationSection()
    repair_rounds: int = like(Repair, "rounds")
    max_repair_rounds: int = like(Gate, "max_repair_rounds")
    max_attempts: int = like(Gate, "max_attempts")
    retention: Annotated[str | int, BeforeValidator(_retention)] = "none"
    alternations: int = like(Repair, "alternations")
    guard_weight: int = like(Repair, "guard_weight")
    guard_margin: float = like(Repair, "guard_margin", allow_inf_nan=False)
    history: HistorySection = HistorySection()
    hold: HoldSection = HoldSection()
    owners: OwnersSection = OwnersSection()
    max_request_norm: NumberOrNone = like(RequestBound, "max_request_norm")
    client_budget: float = like(RequestBound, "client_budget", allow_inf_nan=False)
    require_measured: Scopes = FederatedPlan.require_measured
    reopen_relapsed: bool = FederatedPlan.reopen_relapsed
    share_rounds: bool = FederatedPlan.share_rounds
    depth: Depth = FederatedPlan.depth
    max_client_share: float = like(FederatedPlan, "max_client_share")
    repair: TrainingOverrides = TrainingOverrides()

    def default_method(self, scope: ScopeKind) -> str:
        """Name of the method of a scope's requests that name none."""
        return {"class": self.method, "sample": self.sample_method, "client": self.client_method}[scope]


class ThresholdsSection(Section):
    """What a request must keep to be accepted; a threshold of None (``"none"`` in a file) is not looked at.

    ``max-forget-excess`` bounds how far the accuracy on the forget set may lie over that on unseen samples of the same
    classes; with ``membership-contains-half`` the 95 % interval of the membership attack's AUC must contain 0.5.

    Further keys are bounds on figures of audits: ``max-`` or ``min-`` and the figure's name, such as
    ``max-logit-auc``. Their value is a number, ``"none"``, or with ``max-`` also ``"reset-rows"``:
    :class:`~fed_unlearn.gate.Bound` says what that is. ``beside = "oracle"`` is refused, since a run trains its oracles
    after the requests.
    """

    model_config = ConfigDict(extra="allow")
    default_figures: ClassVar[Mapping[str, Bound]] = {}

    def thresholds(self) -> Thresholds:
        """The section as the gate takes it.

        Raises
        ------
        InvalidParameterError
            If a further key is no bound on a figure; a scenario that has one is refused when it is read.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Thresholds(**fields, figures=self.figures())

    def figures(self) -> dict[str, Bound]:
        """The bounds on figures of audits, those of the gate included that the section does not replace."""
        found = dict(self.default_figures)
        ends: dict[str, dict[str, Any]] = {}
        for key, value in (self.model_extra or {}).items():
            end, _, name = key.partition("-")
            figure = name.replace("-", "_")
            found.pop(figure, None)
            if value == "none":
                continue
            given = ends.setdefault(figure, {})
            given |= {"beside": value} if isinstance(value, str) else {_ENDS[end]: value}
        return {**found, **{figure: Bound(**given) for figure, given in ends.items()}}


@filled_from(_GATE.class_thresholds, without=("figures",))
class ClassGate(ThresholdsSection):
    """``[gate.class]``.

    Where ``max-forget-accuracy`` is above the default bound on ``recall_without_bias``, that bound is as high: a class
    that may be recognised so often need not be hidden deeper.
    """

    default_figures: ClassVar[Mapping[str, Bound]] = _GATE.class_thresholds.figures

    def thresholds(self) -> Thresholds:
        """The section as the gate takes it, with the default on ``recall_without_bias`` as loose as it has to be."""
        found, name = super().thresholds(), "recall_without_bias"
        allowed, default = found.max_forget_accuracy, self.default_figures[name]
        if found.figures.get(name) != default or (allowed is not None and allowed <= (default.maximum or 0.0)):
            return found
        figures = {figure: bound for figure, bound in found.figures.items() if figure != name}
        if allowed is not None:
            figures[name] = replace(default, maximum=allowed)
        return replace(found, figures=figures)


@filled_from(_GATE.sample_thresholds, without=("figures",))
class SampleGate(ThresholdsSection):
    """``[gate.sample]``."""


@filled_from(_GATE.client_thresholds, without=("figures",))
class ClientGate(ThresholdsSection):
    """``[gate.client]``.

    What others teach stays, so accuracy on the client's samples is held against that on unseen ones. A hundred samples
    scatter by 0.03 around it, and small clients hold no more.
    """


@filled_from(_GATE.indistinguishable_thresholds, without=("figures",))
class IndistinguishableGate(ThresholdsSection):
    """``[gate.indistinguishable]``: sample requests with that goal.

    No bound on the excess: eight samples that are all right, where 0.85 of unseen ones are, show nothing. The interval
    of the membership attack takes their number into account.
    """

    default_figures: ClassVar[Mapping[str, Bound]] = _GATE.indistinguishable_thresholds.figures


class GateSection(Section):
    """``[gate]``: thresholds by the scope of the request, and by the goal of a sample request.

    ``max-training-drop`` is how far retained validation accuracy may fall in a training experience whose model is
    served; 1 for any.
    """

    class_: ClassGate = ClassGate()
    sample: SampleGate = SampleGate()
    client: ClientGate = ClientGate()
    indistinguishable: IndistinguishableGate = IndistinguishableGate()
    max_training_drop: float = like(Gate, "max_training_drop")
