"""``[unlearning]`` and ``[gate]``: how requests are served, and what their results must keep."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from fed_unlearn.requests import ScopeKind
from fed_unlearn.simulations.scenario.section_types import (
    FiniteFromZero,
    FromZero,
    Names,
    Parameters,
    Positive,
    Section,
    ShareOrNone,
    Threshold,
    TrainingOverrides,
)


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

    every: Positive = 1
    max_megabytes: Positive = 512


class HoldSection(Section):
    """``hold``: the share that a request may ask for without anyone's approval, None (``"none"``) for any.

    ``data``: of all training samples, summed over requests; ``class``: of the samples of one class; ``client``: of the
    samples of one client. A request that asks for more waits until it is approved.
    """

    data: ShareOrNone = None
    class_: ShareOrNone = None
    client: ShareOrNone = None


class UnlearningSection(Section):
    """``[unlearning]``: what every request uses unless it says otherwise.

    ``method`` serves requests for classes, ``sample-method`` and ``client-method`` those of the other scopes;
    ``share-rounds`` lets requests that are pending together share unlearn rounds where they can; ``reopen-relapsed``
    serves a committed request again whose forgetting wore off.
    """

    method: str = "boundary-shrink"
    sample_method: str = "instance-wise"
    client_method: str = "fedosd"
    parameters: dict[str, Parameters] = Field(default_factory=dict)
    escalation: EscalationSection = EscalationSection()
    repair_rounds: FromZero = 1
    max_repair_rounds: FromZero = 3
    max_attempts: Positive = 2
    retention: Annotated[str | int, BeforeValidator(_retention)] = "none"
    alternations: FromZero = 0
    guard_weight: Positive = 1
    guard_margin: FiniteFromZero = 8.0
    history: HistorySection = HistorySection()
    hold: HoldSection = HoldSection()
    reopen_relapsed: bool = False
    share_rounds: bool = True
    repair: TrainingOverrides = TrainingOverrides()

    def default_method(self, scope: ScopeKind) -> str:
        """Name of the method of a scope's requests that name none."""
        return {"class": self.method, "sample": self.sample_method, "client": self.client_method}[scope]


class GateThresholds(Section):
    """What a request must keep to be accepted; a threshold of None (``"none"`` in a file) is not looked at.

    ``max-forget-excess`` bounds how far the accuracy on the forget set may lie over that on unseen samples of the same
    classes; with ``membership-contains-half`` the 95 % interval of the membership attack's AUC must contain 0.5.
    """

    max_forget_accuracy: Threshold = None
    max_retain_drop: Threshold = None
    max_total_retain_drop: Threshold = None
    max_forget_excess: Threshold = None
    membership_contains_half: bool = False


class ClassGate(GateThresholds):
    """``[gate.class]``."""

    max_forget_accuracy: Threshold = 0.05
    max_retain_drop: Threshold = 0.02
    max_total_retain_drop: Threshold = 0.05


class SampleGate(GateThresholds):
    """``[gate.sample]``."""

    max_forget_accuracy: Threshold = 0.0
    max_retain_drop: Threshold = 0.05
    max_total_retain_drop: Threshold = 0.10


class ClientGate(GateThresholds):
    """``[gate.client]``.

    What others teach stays, so accuracy on the client's samples is held against that on unseen ones. A hundred samples
    scatter by 0.03 around it, and small clients hold no more.
    """

    max_retain_drop: Threshold = 0.05
    max_total_retain_drop: Threshold = 0.10
    max_forget_excess: Threshold = 0.10


class IndistinguishableGate(GateThresholds):
    """``[gate.indistinguishable]``: sample requests with that goal.

    No bound on the excess: eight samples that are all right, where 0.85 of unseen ones are, show nothing. The interval
    of the membership attack takes their number into account.
    """

    max_retain_drop: Threshold = 0.05
    max_total_retain_drop: Threshold = 0.10
    membership_contains_half: bool = True


class GateSection(Section):
    """``[gate]``: thresholds by the scope of the request, and by the goal of a sample request.

    ``max-training-drop`` is how far retained validation accuracy may fall in a training experience whose model is
    served; 1 for any.
    """

    class_: ClassGate = ClassGate()
    sample: SampleGate = SampleGate()
    client: ClientGate = ClientGate()
    indistinguishable: IndistinguishableGate = IndistinguishableGate()
    max_training_drop: Annotated[float, Field(ge=0, le=1)] = 0.2
