"""Results of runs that never were: with views and curves, failed and held requests, hostile names, or very many requests."""

from __future__ import annotations

import math
from dataclasses import replace

from sample_results import RESULTS, figures

from fed_unlearn.gate import GateCheck
from fed_unlearn.simulations.run.ledger_facts import LedgerFacts
from fed_unlearn.simulations.run.results import HistoryPoint, RelapseResult, RequestResult, RunResults
from fed_unlearn.simulations.run.training_results import RoundResult, TrainingResult
from fed_unlearn.simulations.run.views.view_results import DestinationView, ProjectionView, RequestViews

LABELS = tuple(str(index) for index in range(10))
HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&\u202e{{ 7*7 }}"
)


def views(points: int = 60, labels: tuple[str, ...] = LABELS) -> RequestViews:
    """Views with a projection of that many points."""
    cloud = [
        tuple((round(math.cos(place * turn), 4), round(math.sin(place * 1.7), 4)) for place in range(points))
        for turn in (1.0, 1.3, 1.6)
    ]
    return RequestViews(
        destinations=DestinationView(
            labels=labels, before=(0, 1, 36, *[0] * 7), after=(4, 0, 0, 20, *[1] * 6), oracle=(5, 3, 0, 20, *[1] * 6)
        ),
        projection=ProjectionView(
            classes=tuple(place % 10 for place in range(points)),
            labels=labels,
            explained=0.625,
            before=cloud[0],
            after=cloud[1],
            oracle=cloud[2],
        ),
    )


def measured(forget: float, retain: float, test_forget: float | None = None) -> object:
    """Figures with intervals, figures of audits, and the curve of the membership attack."""
    corners = tuple((place / 40, (place / 40) ** 0.8) for place in range(41))
    return replace(
        figures(forget, retain, test_forget),
        extra={"recall_at_5": 0.75, "logit_auc": 0.9},
        intervals={"retain_accuracy": (retain - 0.02, retain), "recall_at_5": (0.5, 0.875)},
        curves={"membership_auc": corners},
    )


def request(name: str, index: int, status: str = "committed", **changes: object) -> RequestResult:
    """A request for a class, with everything that a report can show."""
    made = RequestResult(
        id=name,
        scope="class",
        target={"classes": [index]},
        labels=(LABELS[index],),
        method="boundary-shrink",
        status=status,
        attempts=1,
        before=measured(1.0, 0.99, 0.97),
        unlearned=measured(0.0, 0.93, 0.0),
        after=measured(0.0, 0.98, 0.01),
        oracle=measured(0.0, 0.99, 0.0),
        seconds=0.5,
        oracle_seconds=10.0,
        passes=4_400,
        oracle_passes=50_000,
        passes_by_part={"unlearn": 1_000, "audit": 1_600, "repair": 1_800},
        messages=31,
        bytes_sent=1_234_567,
        bytes_received=7_654_321,
        witnesses=8,
        evidence="measured" if status == "committed" else None,
        submitted=1_700_000_000.0,
        ended=1_700_000_009.5,
        model_before="ab" * 32,
        model_after="cd" * 32,
        checks=(
            GateCheck(figure="forget_accuracy", value=0.0, maximum=0.05, passed=True),
            GateCheck(figure="recall_at_5", value=0.75, interval=(0.5, 0.875), maximum=0.4, passed=False),
            GateCheck(figure="retain_drop", value=0.01, maximum=0.02, passed=True),
        ),
        views=views(),
    )
    return replace(made, **changes)


def many(count: int) -> RunResults:
    """A run of that many requests, each with views."""
    names = [f"r{number + 1}" for number in range(count)]
    requests = tuple(request(name, number % 10, views=views(120)) for number, name in enumerate(names))
    rows = tuple(
        RelapseResult(
            after=name,
            forget_accuracy=dict.fromkeys(names[: number + 1], 0.0),
            test_forget_accuracy=dict.fromkeys(names[: number + 1], 0.01),
        )
        for number, name in enumerate(names)
    )
    points = tuple(
        HistoryPoint(event=name, round=30 + 2 * number, test_accuracy=0.97, test_forget_accuracy=0.01)
        for number, name in enumerate(names)
    )
    return replace(RESULTS, requests=requests, relapse=rows, history=(*RESULTS.history[:1], *points))


def not_all_committed() -> RunResults:
    """A run with a committed, a failed, a rejected and a held request, which is not complete."""
    failed = request(
        "r2", 4, "failed", attempts=2, reason="forget accuracy 0.250 is over 0.050", after=measured(0.25, 0.97, 0.2)
    )
    rejected = RequestResult(
        id="r3",
        scope="client",
        target={"client": "7"},
        method="fedosd",
        status="rejected",
        reason="client 7 is not known",
    )
    held = RequestResult(
        id="r4",
        scope="sample",
        target={"client": "4", "samples": 40},
        method="instance-wise",
        status="held",
        reason="it asks for 0.8 of the samples of client 4, and 0.5 needs approval",
    )
    training = TrainingResult(
        rounds=30,
        seconds=9.1,
        test_accuracy=0.97,
        clients=(RoundResult(round=1, trained=2, failed={"7": "KeyError"}), RoundResult(round=2, trained=3)),
        trained_clients=("0", "4", "7"),
        never_trained={"9": "no tombstones"},
    )
    return replace(
        RESULTS,
        requests=(replace(request("r1", 3), owed=("7",), left_out=("0",)), failed, rejected, held),
        training=training,
        relapse=(RelapseResult(after="r1", forget_accuracy={}, test_forget_accuracy={"r1": 0.5}, relapsed=("r1",)),),
        relapse_due=("train:2",),
        complete=False,
        ledger=LedgerFacts(identity="0a" * 16, events=103, head="ef" * 32),
        served_model="ab" * 32,
    )


def nearly() -> RunResults:
    """A run whose figures are almost 0 and almost 1, or halfway between two roundings."""
    almost = request(
        "r1", 3, before=measured(0.9996, 0.0625, 0.99999999), after=measured(0.0004, 0.9996, 0.00049), passes=3_000_000
    )
    return replace(
        RESULTS,
        requests=(almost,),
        history=(
            HistoryPoint(event="train:1", round=30, test_accuracy=0.9996),
            HistoryPoint(event="r1", round=32, test_accuracy=0.1875, test_forget_accuracy=0.0004),
        ),
        relapse=(RelapseResult(after="r1", forget_accuracy={}, test_forget_accuracy={"r1": 0.0004}),),
    )


def hostile() -> RunResults:
    """A run in which everything that others name is an attempt to become markup or script."""
    labels = (HOSTILE, *LABELS[1:])
    asked = request(HOSTILE, 0, labels=(HOSTILE,), views=views(labels=labels), method=HOSTILE)
    of_client = RequestResult(
        id=f"2{HOSTILE}", scope="client", target={"client": HOSTILE}, method=HOSTILE, status="failed", reason=HOSTILE,
        before=measured(1.0, 0.9), after=replace(measured(1.0, 0.9), extra={HOSTILE: 0.5}),
    )  # fmt: skip
    return replace(
        RESULTS,
        scenario=HOSTILE,
        engine=HOSTILE,
        requests=(asked, of_client),
        relapse=(RelapseResult(after=HOSTILE, forget_accuracy={}, test_forget_accuracy={HOSTILE: 0.5}),),
        history=(HistoryPoint(event=HOSTILE, round=3, test_accuracy=0.5, test_forget_accuracy=0.25),),
        training=TrainingResult(rounds=1, trained_clients=(HOSTILE,), never_trained={f"{HOSTILE}2": HOSTILE}),
        versions={HOSTILE: HOSTILE},
        relapse_due=(HOSTILE,),
    )
