"""What a run hands over besides the model: how every request went, and whether it lasted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flwr.serverapp.strategy import Result

from fed_unlearn.arrays import Arrays
from fed_unlearn.audits.base import Figures
from fed_unlearn.gate import Evidence, GateCheck, HowKnown
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.messages.exchange import Traffic

_FIGURES = ("before", "unlearned", "after", "as_trained")
_ADDED = ("already_forgotten", "as_trained", "checks", "left_out")  # by later versions: there where not empty


@dataclass(frozen=True, kw_only=True)
class RequestOutcome:
    """How one request went.

    Attributes
    ----------
    request : ForgetRequest
        The request, with its id.
    method : str
        Name of the last method that was tried.
    status : Status
        Final status, or ``HELD`` where implausible figures of one client would have turned the verdict.
    attempts, repair_rounds : int
        Number of attempts, and of repair rounds of the last one.
    reason : str or None
        Why it was rejected or failed.
    before, unlearned, after : Figures or None
        Figures of the model that served, of the candidate after the first unlearn round, and of the model that serves
        afterwards (the last candidate where the request failed); None where it was rejected before.
    seconds : float
        Wall time of the request, audits included.
    traffic : Traffic
        Messages, bytes and sample passes of the request, audits included.
    witnesses : int or None
        Number of clients on whose figures of the forget set the verdict rests; 1 where a single holder alone says that
        the samples are forgotten. None where the request was never judged.
    evidence : HowKnown or None
        How the forgetting is known; None where the request was not committed, or an earlier version committed it.
    goal : str or None
        What a sample request wants of its samples: ``"misclassify"`` or ``"indistinguishable"``. None for other scopes,
        and where the method has no such choice.
    already_forgotten : int
        How many of the samples that it names were forgotten before it came; nothing was done for these.
    as_trained : Figures or None
        Figures of the candidate before its output rows were set, where they were, for a class request. ``after`` shows
        the model with these rows, in which nothing is called by the class.
    checks : tuple of GateCheck
        What the gate looked at in the last candidate.
    left_out : tuple of str
        Clients whose figures were left out when it was judged: it was held for them, and approved since.
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
    witnesses: int | None = None
    evidence: HowKnown | None = None
    goal: str | None = None
    already_forgotten: int = 0
    as_trained: Figures | None = None
    checks: tuple[GateCheck, ...] = ()
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """All but the request itself, as JSON; :meth:`from_json` reads it back."""
        left_out = {"request", *(name for name in _ADDED if not getattr(self, name))}
        body = {name: value for name, value in vars(self).items() if name not in left_out}
        figures = {name: body[name].to_json() if body[name] is not None else None for name in _FIGURES if name in body}
        if self.checks:
            body["checks"] = [asdict(check) for check in self.checks]
        return {**body, **figures, "status": str(self.status), "traffic": asdict(self.traffic)}

    @classmethod
    def from_json(cls, request: ForgetRequest, body: Mapping[str, Any]) -> RequestOutcome:
        """Read what :meth:`to_json` wrote."""
        figures = {name: Figures(**body[name]) if body.get(name) is not None else None for name in _FIGURES}
        known = body.get("evidence")
        parts = {
            "evidence": HowKnown(known) if known else None,
            "status": Status(body["status"]),
            "traffic": Traffic(**body["traffic"]),
            "checks": tuple(GateCheck.from_json(check) for check in body.get("checks", ())),
            "left_out": tuple(body.get("left_out", ())),
            **figures,
        }
        return cls(**{**body, "request": request, **parts})


@dataclass
class RequestProgress:
    """What is known of a request between its attempts: figures and cost so far, and how it is tried next.

    Attributes
    ----------
    method_index : int
        Index of the method in use, among those that may be tried.
    tries : int
        Number of attempts by that method so far.
    alone : bool
        Whether the request is served by itself, since too much was lost when it shared its rounds.
    before, unlearned, after : Figures or None
        Figures so far, as in :class:`RequestOutcome`.
    repair_rounds : int
        Number of repair rounds of the last attempt.
    seconds : float
        Wall time so far.
    traffic : Traffic
        Messages, bytes and sample passes so far.
    witnesses : int or None
        Number of witnesses, as in :class:`RequestOutcome`.
    evidence : HowKnown or None
    goal : str or None
    already_forgotten : int
        Number of samples that were forgotten before, as in :class:`RequestOutcome`.
    evidence_before : Evidence or None
        What the model before the request shows of its samples.
    left_out : tuple of str
        Clients whose figures are left out when the request is judged: it was held for them, and approved since.
    needs : float
        How far it has to move the model at least, as a multiple of the clip norm, where its client's budget was short.
    as_trained : Figures or None
        Figures before output rows were set, as in :class:`RequestOutcome`.
    keeps_rows : bool
        Whether output rows stay as they were trained, since no plain ones are agreed on.
    checks : tuple of GateCheck
        What the gate looked at in the last candidate.
    """

    method_index: int = 0
    tries: int = 0
    alone: bool = False
    before: Figures | None = None
    unlearned: Figures | None = None
    after: Figures | None = None
    repair_rounds: int = 0
    seconds: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)
    witnesses: int | None = None
    evidence: HowKnown | None = None
    goal: str | None = None
    evidence_before: Evidence | None = None
    left_out: tuple[str, ...] = ()
    needs: float = 0.0
    already_forgotten: int = 0
    as_trained: Figures | None = None
    keeps_rows: bool = False
    checks: tuple[GateCheck, ...] = ()

    def try_again(self, *, another_method: bool) -> None:
        """Prepare the next attempt: by the next method, or by the same one with a stronger setting."""
        if another_method:
            self.method_index, self.tries = self.method_index + 1, 0
        else:
            self.tries += 1

    def outcome(
        self, request: ForgetRequest, status: Status, *, method: str, attempts: int, reason: str | None = None
    ) -> RequestOutcome:
        """The outcome of the request, with the figures and the cost so far."""
        return RequestOutcome(
            request=request,
            method=method,
            status=status,
            attempts=attempts,
            repair_rounds=self.repair_rounds,
            reason=reason,
            before=self.before,
            unlearned=self.unlearned,
            after=self.after,
            seconds=self.seconds,
            traffic=self.traffic,
            witnesses=self.witnesses,
            evidence=self.evidence if status is Status.COMMITTED else None,
            goal=self.goal,
            already_forgotten=self.already_forgotten,
            as_trained=self.as_trained,
            checks=self.checks,
            left_out=self.left_out,
        )


@dataclass(frozen=True)
class RelapseRow:
    """Accuracy of every earlier committed request after one event, on raw outputs.

    Attributes
    ----------
    after : str
        A request's id, or for instance ``"train:2"``.
    forget_accuracy : dict of str to (float or None)
        Accuracy on D_f by request, while the holders may read it.
    test_forget_accuracy : dict of str to (float or None)
        Accuracy on D_ft by request; None for sample requests.
    relapsed : tuple of str
        Requests that the gate would not accept any more.
    """

    after: str
    forget_accuracy: dict[str, float | None]
    test_forget_accuracy: dict[str, float | None]
    relapsed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OracleOutcome:
    """The same training from scratch without what was forgotten so far.

    Attributes
    ----------
    figures : Figures
        Figures for the request that the oracle is held against.
    seconds : float
        Wall time of the training alone.
    traffic : Traffic
        Messages, bytes and sample passes of the training alone.
    arrays : dict of ndarray or None
        The oracle's model, the same for all requests that it is held against.
    """

    figures: Figures
    seconds: float
    traffic: Traffic
    arrays: Arrays | None = field(default=None, repr=False, compare=False)


@dataclass(repr=False)  # Flower's own, which does not print the model
class UnlearningResult(Result):
    """Flower's Result, with the requests served in this call.

    Attributes
    ----------
    arrays : ArrayRecord
        The last accepted model.
    requests : list of RequestOutcome
        Outcomes of the requests that ended, and of those that were tried and are held.
    relapse : list of RelapseRow
    relapse_due : list of str
        Events after which nobody could audit the committed requests; each audit is made up for as soon as a client
        answers.
    training_traffic : Traffic
        Messages, bytes and sample passes of the training rounds.
    training_seconds : float
    complete : bool
        Whether a timeline came to its end; False where it stopped since no client was there any more.
    inner : object
        What the wrapped strategy's own ``start()`` returned, of the last training; None where nothing was trained.
    """

    requests: list[RequestOutcome] = field(default_factory=list)
    relapse: list[RelapseRow] = field(default_factory=list)
    relapse_due: list[str] = field(default_factory=list)
    training_traffic: Traffic = field(default_factory=Traffic)
    training_seconds: float = 0.0
    complete: bool = True
    inner: object = field(default=None, repr=False)

    def include(self, more: UnlearningResult) -> None:
        """Add what a later call gave; its model takes the place of this one's."""
        self.arrays = more.arrays
        self.inner = self.inner if more.inner is None else more.inner
        self.requests.extend(more.requests)
        self.relapse.extend(more.relapse)
        made_up = {row.after for row in more.relapse}
        self.relapse_due = [
            after for after in dict.fromkeys((*self.relapse_due, *more.relapse_due)) if after not in made_up
        ]
        self.training_traffic.add(more.training_traffic)
        self.training_seconds += more.training_seconds
        done = max((*self.train_metrics_clientapp, *self.evaluate_metrics_clientapp), default=0)
        for name in ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp"):
            known = getattr(self, name)
            added = {done + number: value for number, value in getattr(more, name).items()}
            known.update({number: value for number, value in added.items() if number > done or number not in known})
