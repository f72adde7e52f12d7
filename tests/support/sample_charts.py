"""Results of runs that never were, with all that charts show: views, curves, intervals, relapses, and many requests."""

from dataclasses import replace

from sample_results import REQUEST, RESULTS, SAMPLES, figures

from fed_unlearn.audits.base import Figures
from fed_unlearn.simulations.run.results import HistoryPoint, RelapseResult, RequestResult, RunResults
from fed_unlearn.simulations.run.views.view_results import DestinationView, ProjectionView, RequestViews

LABELS = ("cat", "dog", "bird", "fish")


def audited(known: Figures, area: float) -> Figures:
    """Figures with an interval and with a curve of the membership attack."""
    curve = ((0.0, 0.0), (0.125, area / 2), (0.375, area), (1.0, 1.0))
    return replace(
        known, membership_auc=area, intervals={"retain_accuracy": (0.9125, 0.9975)}, curves={"membership_auc": curve}
    )


def views(*, oracle: bool = True) -> RequestViews:
    """Views of a request for the last of four classes, of 24 images."""
    points = [((index * 7 % 24) / 8, (index * 5 % 24) / 4) for index in range(24)]
    moved = [(x + 0.0625, y - 0.03125) for x, y in points]
    return RequestViews(
        destinations=DestinationView(
            labels=LABELS, before=(0, 1, 0, 23), after=(9, 8, 7, 0), oracle=(11, 10, 3, 0) if oracle else None
        ),
        projection=ProjectionView(
            classes=tuple(index % 4 for index in range(24)),
            labels=LABELS,
            explained=0.625,
            before=points,
            after=moved,
            oracle=points[::-1] if oracle else None,
        ),
    )


COMMITTED = replace(
    REQUEST,
    before=audited(figures(1.0, 0.99, 0.97), 0.71),
    after=audited(figures(0.0, 0.98, 0.01), 0.53),
    oracle=audited(figures(0.0, 0.99, 0.0), 0.49),
    passes=205,
    passes_by_part={"unlearn": 101, "repair": 61, "audit": 43},
    labels=("fish",),
    views=views(),
)
FULL = replace(RESULTS, requests=(COMMITTED, replace(SAMPLES, passes=77)))


def many(count: int = 30) -> RunResults:
    """A run of many requests: most are committed, some failed, were rejected or have not ended."""
    requests: list[RequestResult] = []
    history = [HistoryPoint(event="train:1", round=10 * step, test_accuracy=0.9 + step / 100) for step in (1, 2, 3)]
    relapse: list[RelapseResult] = []
    for place in range(count):
        base = replace(COMMITTED if place % 2 else SAMPLES, id=f"r{place + 1}", status="committed", views=None)
        if place % 10 == 4:
            base = replace(base, status="failed", reason="forget accuracy 0.250 is above 0")
        if place % 10 == 7:
            base = replace(base, status="rejected", before=None, unlearned=None, after=None, oracle=None, passes=0)
        if place == count - 1:
            base = replace(base, status="held", before=None, unlearned=None, after=None, oracle=None, passes=0)
        requests.append(base)
        if base.after is not None:
            reached, later = 32 + 2 * place, 0.5 - place / 200
            history.append(HistoryPoint(event=base.id, round=reached, test_accuracy=0.9375, test_forget_accuracy=later))
            kept = [request for request in requests if request.status == "committed"]
            values = {request.id: (index + place) % 16 / 64 for index, request in enumerate(kept)}
            risen = tuple(name for name, value in values.items() if value > 0.2)
            relapse.append(
                RelapseResult(after=base.id, forget_accuracy=values, test_forget_accuracy={}, relapsed=risen)
            )
    return replace(RESULTS, requests=tuple(requests), history=tuple(history), relapse=tuple(relapse), complete=False)
