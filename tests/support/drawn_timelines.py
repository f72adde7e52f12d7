"""Timelines at random: what is trained and asked for, by which plan, who fails, and where the power goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, Strategy
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from tiny_world import Cut, Fault

from fed_unlearn import protocol
from fed_unlearn.gate import Evidence, Gate, Thresholds
from fed_unlearn.requests import ForgetRequest, ScopeKind
from fed_unlearn.seeding import derive_seed
from fed_unlearn.strategies import Forget, Holds, Train, UnlearningPlan

T = TypeVar("T")

OPEN = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
STRICT = Thresholds(max_forget_accuracy=0.1, max_retain_drop=0.5, max_total_retain_drop=0.8)
PARAMETERS = {
    "boundary-shrink": {"epochs": 2, "learning_rate": 0.5},
    "boundary-expanding": {"epochs": 2, "learning_rate": 0.5},
    "instance-wise": {"max_steps": 6, "consolidation_steps": 1, "joint_learning_rate": 0.5, "joint_batch_size": 16},
    "fedosd": {"unlearn_rounds": 1, "recovery_rounds": 1},
    "federaser": {"recovery_rounds": 1},
    "projected-ascent": {"epochs": 1, "recovery_rounds": 1},
}


@dataclass(frozen=True, kw_only=True)
class DrawnGate(Gate):
    """A gate with a mind of its own: it may accept nothing, or fail a candidate by the figures' own dice."""

    mood: Literal["thresholds", "closed", "dice"] = "thresholds"

    def forgot_too_little(self, scope: ScopeKind, evidence: Evidence, goal: str | None = None) -> tuple[str, ...]:
        """The thresholds' reasons, and one more where the dice say so."""
        reasons = super().forgot_too_little(scope, evidence, goal)
        thrown = self.mood == "dice" and derive_seed("dice", repr(evidence)) % 2
        return (*reasons, "drawn to fail") if thrown or self.mood == "closed" else reasons


@dataclass(frozen=True)
class Deed:
    """What somebody else does: withdraw or approve a request, or lose a client's disk.

    Attributes
    ----------
    kind : {"withdraw", "approve", "lose"}
    target : str or int
        A request's id, or a client.
    when : int
        After so many entries of the timeline; from 1000 on, at so many points of the run less 1000.
    """

    kind: Literal["withdraw", "approve", "lose"]
    target: str | int
    when: int


@dataclass(frozen=True, repr=False)
class Drawn:
    """One case."""

    clients: int
    classes: int
    inner: str
    gate: DrawnGate
    plan: UnlearningPlan
    timeline: tuple[Train | Forget, ...]
    faults: tuple[Fault, ...] = ()
    cuts: tuple[Cut, ...] = ()
    deeds: tuple[Deed, ...] = ()
    one_process: bool = True

    def __repr__(self) -> str:
        """In few lines: what is not as usual."""
        return "\n".join(
            [
                f"{self.clients} clients, {self.classes} classes, {self.inner}, one process: {self.one_process}",
                f"gate: {_unusual(self.gate, DrawnGate())}",
                f"plan: {_unusual(self.plan, UnlearningPlan())}",
                *(f"{number}: {_said(entry)}" for number, entry in enumerate(self.timeline, 1)),
                *map(repr, (*self.faults, *self.deeds, *self.cuts)),
            ]
        )

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        printer.text(repr(self))

    def new_inner(self) -> Strategy:
        """A strategy as the user constructs it at every start."""
        match self.inner:
            case "FedAdam":
                return FedAdam(eta=0.1, fraction_evaluate=0.0)
            case "FedMedian":
                return FedMedian(fraction_evaluate=0.0)
        return FedAvg(fraction_evaluate=0.5)


def _unusual(settings: Gate | UnlearningPlan, usual: Gate | UnlearningPlan) -> dict[str, object]:
    named = [item.name for item in fields(settings) if item.name != "parameters"]
    return {name: value for name in named if (value := getattr(settings, name)) != getattr(usual, name)}


def _said(entry: Train | Forget) -> str:
    if isinstance(entry, Train):
        return f"train {entry.rounds} rounds"
    return "; ".join(
        f"{item.id}: forget {item.scope.kind} {item.target()}, {item.method}, {item.priority}"
        for item in entry.requests
    )


def _mostly(draw: st.DrawFn, usual: Sequence[T], unusual: Sequence[T]) -> T:
    """One of the usual, and of the others once in a while."""
    return draw(st.sampled_from(unusual if draw(st.sampled_from([False] * 11 + [True])) else usual))


def _requests(draw: st.DrawFn, clients: int, classes: int) -> list[ForgetRequest]:
    made: list[ForgetRequest] = []
    for number in range(draw(st.sampled_from([1, 2, 1, 2, 3, 4, 5]), label="requests")):
        name, client = f"q{number}", _mostly(draw, range(clients), [clients + 7])
        named = {"id": name, "priority": draw(st.sampled_from([0, 0, 0, 5]))}
        match draw(st.sampled_from(["samples", "class", "ids", "client", "samples", "class", "of-class"])):
            case "class":
                asked = _mostly(draw, [(0,), (1,), (classes - 1,)], [(0, 1), (classes,)])
                method = _mostly(draw, [None, None, "boundary-expanding", "retrain"], ["fedosd"])
                made.append(ForgetRequest.for_class(*asked, method=method, **named))
            case "samples":
                count = _mostly(draw, [1, 2, 3], [999])
                method = _mostly(draw, [None, None, "boundary-shrink", "retrain"], ["damp"])
                made.append(ForgetRequest.for_samples(client, count=count, method=method, **named))
            case "of-class":
                of_class = draw(st.integers(1, classes))
                made.append(ForgetRequest.for_samples(client, count=2, of_class=of_class, **named))
            case "ids":
                first = draw(st.integers(2, 20))
                ids = [f"{client}-train-{first}", f"{client}-train-{first + 1}"]
                ids += _mostly(draw, [[]], [["no-such-sample"]])
                made.append(ForgetRequest.for_samples(client, ids, **named))
            case _:
                method = _mostly(draw, [None, None, None, "retrain"], ["boundary-shrink"])
                made.append(ForgetRequest.for_client(client, method=method, **named))
    return made


def _timeline(draw: st.DrawFn, requests: list[ForgetRequest]) -> tuple[Train | Forget, ...]:
    rounds = draw(st.lists(st.sampled_from([1, 1, 2]), min_size=1, max_size=3), label="experiences")
    places = [draw(st.sampled_from([1, 1, *range(len(rounds) + 1)])) for _ in requests]
    together = draw(st.booleans(), label="together")
    entries: list[Train | Forget] = []
    for place in range(len(rounds) + 1):
        due = [request for request, asked in zip(requests, places, strict=True) if asked == place]
        if due:
            entries += [Forget(tuple(due))] if together else [Forget((request,)) for request in due]
        if place < len(rounds):
            entries.append(Train(rounds=rounds[place]))
    if draw(st.sampled_from([False, False, False, True]), label="asked again"):
        entries.append(Forget((requests[0],)))
    return tuple(entries)


def _plan(draw: st.DrawFn) -> UnlearningPlan:
    escalates, reopens = draw(st.booleans(), label="escalates"), draw(st.booleans(), label="reopens")
    retrain = ("retrain",)
    return UnlearningPlan(
        max_request_norm=12.0,
        parameters=PARAMETERS,
        client_method=draw(st.sampled_from(["retrain", "fedosd", "federaser", "projected-ascent"])),
        escalation={"class": retrain, "sample": retrain, "client": retrain} if escalates else {},
        repair_rounds=draw(st.integers(0, 1)),
        alternations=draw(st.integers(0, 1)),
        max_holder_steps=2,
        share_rounds=draw(st.sampled_from([True, True, False])),
        reopen_relapsed=reopens,
        retention_days=1.0 if reopens else draw(st.sampled_from([1.0, 0.0])),
        holds=draw(st.sampled_from([Holds()] * 5 + [Holds(of_class=0.5), Holds(of_client=0.05)])),
        history_every=draw(st.sampled_from([0, 1])),
        retries=draw(st.integers(0, 2)),
        backoff_seconds=0.0,
        durable_seconds=draw(st.sampled_from([0.0, 1000.0])),
    )


def _gate(draw: st.DrawFn) -> DrawnGate:
    bounds = draw(st.sampled_from([STRICT, OPEN, STRICT]))
    return DrawnGate(
        class_thresholds=bounds,
        sample_thresholds=bounds,
        client_thresholds=OPEN,
        max_repair_rounds=draw(st.integers(0, 1)),
        max_attempts=draw(st.integers(1, 2)),
        max_training_drop=draw(st.sampled_from([1.0, 1.0, 0.0])),
        mood=draw(st.sampled_from(["thresholds", "thresholds", "thresholds", "closed", "dice", "dice"])),
    )


_CUTS = [*(Cut(after) for after in range(1, 151)), *(Cut(after, "committed") for after in range(1, 31))]
_ONCE, _ALWAYS = 1, 10**6
_KINDS = ("raises", "raises-late", "silent", "deaf", "late", "twice", "nan", "shape", "dtype", "huge", "weightless")
_MESSAGES = (
    protocol.TRAIN,
    protocol.UNLEARN,
    protocol.REPAIR,
    protocol.CONFIRM,
    protocol.DISCARD,
    protocol.AUDIT,
    "evaluate",
)


def _faults(draw: st.DrawFn, clients: int) -> tuple[Fault, ...]:
    found: list[Fault] = []
    troubled = draw(st.integers(0, clients - 1))
    for _ in range(draw(st.integers(1, 3), label="faults")):
        times = draw(st.sampled_from([_ONCE, 2, 5, _ALWAYS]))
        match draw(st.sampled_from(["message", "message", "offline", "identify", "everybody"])):
            case "offline":
                away = draw(st.sampled_from([3, 10, 40, _ALWAYS]))
                found.append(Fault("offline", "", troubled, draw(st.integers(0, 60)), away))
            case "identify":
                kind = draw(st.sampled_from(["raises", "silent", "deaf", "late", "twice"]))
                found.append(Fault(kind, protocol.IDENTIFY, troubled, draw(st.integers(0, 1)), times))
            case "message":
                client, kind = draw(st.integers(0, clients - 1)), draw(st.sampled_from(_KINDS))
                found.append(Fault(kind, draw(st.sampled_from(_MESSAGES)), client, draw(st.integers(0, 5)), times))
            case _:
                kind, message = draw(st.sampled_from(_KINDS)), draw(st.sampled_from(_MESSAGES))
                found.append(Fault(kind, message, None, draw(st.integers(0, 5)), times))
    return tuple(found)


def _deeds(draw: st.DrawFn, clients: int, requests: int, entries: int) -> tuple[Deed, ...]:
    found: list[Deed] = []
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]), label="deeds")):
        kind = draw(st.sampled_from(["withdraw", "approve", "withdraw", "approve", "lose"]))
        beside = kind != "lose" and draw(st.booleans())
        when = 1000 + draw(st.integers(1, 200)) if beside else draw(st.integers(1, entries))
        target = draw(st.integers(0, clients - 1)) if kind == "lose" else f"q{draw(st.integers(0, requests - 1))}"
        found.append(Deed(kind, target, when))  # type: ignore[arg-type]
    return tuple(found)


@st.composite
def drawn_cases(draw: st.DrawFn) -> Drawn:
    """Cases of everything: about half of them without a client's fault."""
    clients, classes = draw(st.sampled_from([3, 3, 4]), label="clients"), draw(st.integers(3, 5), label="classes")
    requests = _requests(draw, clients, classes)
    timeline = _timeline(draw, requests)
    return Drawn(
        clients=clients,
        classes=classes,
        inner=draw(st.sampled_from(["FedAvg", "FedAdam", "FedMedian"])),
        gate=_gate(draw),
        plan=_plan(draw),
        timeline=timeline,
        faults=_faults(draw, clients) if draw(st.booleans(), label="client faults") else (),
        cuts=tuple(draw(st.sampled_from(_CUTS)) for _ in range(draw(st.sampled_from([1, 0, 1, 2, 3]), label="cuts"))),
        deeds=_deeds(draw, clients, len(requests), len(timeline)),
        one_process=draw(st.booleans(), label="one process"),
    )
