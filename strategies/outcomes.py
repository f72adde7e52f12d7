"""What a run hands over besides the model: how every request went, and whether it lasted."""

from __future__ import annotations

from dataclasses import dataclass, field

from flwr.serverapp.strategy import Result

from fed_unlearn.audits.figures import Figures
from fed_unlearn.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.roster import Traffic


@dataclass(frozen=True, kw_only=True)
class RequestOutcome:
    """How one request went.

    Attributes
    ----------
    request : ForgetRequest
        With its id.
    method : str
    status : Status
        Final.
    attempts, repair_rounds : int
        Attempts made, and repair rounds of the last one.
    reason : str or None
        Why it was rejected or failed.
    before, unlearned, after : Figures or None
        Of the model that served, of the candidate after the first unlearn round, and of the model that serves
        afterwards (the last candidate where the request failed); None where it was rejected before.
    seconds : float
        Wall time of the request, audits included.
    traffic : Traffic
        Messages, bytes and sample passes of the request, audits included.
    """

    request: ForgetRequest
    method: str
    status: Status
    attempts: int
    repair_rounds: int
    reason: str | None
    before: Figures | None
    unlearned: Figures | None
    after: Figures | None
    seconds: float
    traffic: Traffic


@dataclass(frozen=True)
class RelapseRow:
    """Accuracy of every earlier committed request after one event, on raw outputs.

    Attributes
    ----------
    after : str
        A request's id, or for instance ``"train:2"``.
    forget_accuracy : dict of str to (float or None)
        On D_f by request, while the holders may read it.
    test_forget_accuracy : dict of str to (float or None)
        On D_ft by request; None for sample requests.
    """

    after: str
    forget_accuracy: dict[str, float | None]
    test_forget_accuracy: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class OracleOutcome:
    """The same training from scratch without what was forgotten so far.

    Attributes
    ----------
    figures : Figures
        For the request that it is held against.
    seconds : float
        Wall time of the training alone.
    traffic : Traffic
        Of the training alone.
    """

    figures: Figures
    seconds: float
    traffic: Traffic


@dataclass
class UnlearningResult(Result):
    """Flower's Result, with the requests served in this call.

    Attributes
    ----------
    arrays : ArrayRecord
        The last accepted model.
    requests : list of RequestOutcome
    relapse : list of RelapseRow
    training_traffic : Traffic
        Of the training rounds.
    training_seconds : float
    """

    requests: list[RequestOutcome] = field(default_factory=list)
    relapse: list[RelapseRow] = field(default_factory=list)
    training_traffic: Traffic = field(default_factory=Traffic)
    training_seconds: float = 0.0
