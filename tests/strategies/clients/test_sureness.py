"""How sure a model is of samples, as one client tells it: bounded by what it holds, and beside what others tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import initial_arrays
from hostile import Metrics, hostile_federation, on_audits

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.confidence import LARGEST, UNIT, ClientConfidence
from fed_unlearn.audits.counts import ClientCounts, RequestCounts
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.errors import ProtocolError
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.bounds.plausibility import implausible_clients
from fed_unlearn.strategies.clients.bounds.sureness import check_sums, fewer_sums, sure_deviations

REQUEST = ForgetRequest.for_client(1, id="r1")


def sums_of(values: list[float]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Sums of log-odds of one class, computed apart."""
    steps = [round((value + LARGEST) * UNIT) for value in values]
    return (len(steps),), (sum(steps),), (sum(step * step for step in steps),)


def told(unseen: list[float], staying: list[float]) -> ClientCounts:
    """A reply with these log-odds."""
    sums = ClientConfidence((), (), (), *sums_of(unseen), *sums_of(staying))
    return ClientCounts({}, {"r1": RequestCounts(confidence=sums)})


def drawn(mean: float, seed: int, count: int = 50) -> list[float]:
    return list(np.random.default_rng(seed).normal(mean, 3, count))


def test_honest_clients_are_plausible_and_one_that_tells_of_other_log_odds_is_named() -> None:
    honest = {str(client): told(drawn(2, client), drawn(4, 10 + client)) for client in range(4)}
    assert not implausible_clients(sure_deviations(Audit(honest), [REQUEST]))
    for unseen, staying, what in ((-20.0, 4.0, "unseen"), (20.0, 4.0, "unseen"), (2.0, 20.0, "retained")):
        lied = told(
            [unseen] * 50 if what == "unseen" else drawn(2, 7), [staying] * 50 if what == "retained" else drawn(4, 8)
        )
        [(client, deviation)] = implausible_clients(sure_deviations(Audit({**honest, "2": lied}), [REQUEST])).items()
        assert client == "2"
        mean = unseen if what == "unseen" else staying
        others = [value for name in (0, 1, 3) for value in drawn(2, name)]
        if what == "retained":
            others = [value for name in (0, 1, 3) for value in drawn(4, 10 + name)]
        predicted = f"{np.mean(others):.1f}"
        assert str(deviation) == (
            f"client 2 gives {mean:.1f} as mean log-odds of its 50 {what} samples, where the others' figures of the same"
            f" classes predict {predicted}"
        )


def test_sums_are_of_the_samples_that_the_reply_counts() -> None:
    sums = ClientConfidence((3,), (9,), (27,), (2,), (4,), (8,), (1,), (1,), (1,))
    parts = {"validation": ClassCounts((1,), (2,)), "retain": ClassCounts((1,), (1,))}
    check_sums(sums, ClientCounts(parts, {}), (3,), "r1")  # type: ignore[arg-type]
    for name, what in (("own_total", "of the request"), ("unseen_total", "unseen"), ("staying_total", "retained")):
        with pytest.raises(ProtocolError, match=f"not of the {what} samples"):
            check_sums(replace(sums, **{name: (10**9,)}), ClientCounts(parts, {}), (3,), "r1")  # type: ignore[arg-type]


def test_sums_of_fewer_samples_have_the_same_means() -> None:
    sums = ClientConfidence((), (), (), *sums_of([1.0] * 40), *sums_of([2.0] * 60))
    fewer = fewer_sums(sums, 10, 100)
    assert fewer.unseen_total == (10,)
    assert fewer.unseen_sum == sums_of([1.0] * 10)[1]
    assert fewer.unseen_squares == sums_of([1.0] * 10)[2]
    assert fewer.staying_total == (60,)


def low(metrics: Metrics) -> Metrics:
    """The model is as unsure of its validation samples as can be, it says."""
    zeros = {f"target/unseen_{name}/r1": [0] * 10 for name in ("sum", "squares")}
    return {**metrics, **zeros} if "target/unseen_total/r1" in metrics else metrics


def own_of_another(metrics: Metrics) -> Metrics:
    """It speaks for the samples of the client that is forgotten."""
    names = {"own_total": 10**5, "own_sum": 0, "own_squares": 0}
    asked = any(name.endswith("/r1") for name in metrics)
    return {**metrics, **{f"target/{name}/r1": [value] * 10 for name, value in names.items()}} if asked else metrics


@pytest.mark.parametrize(
    ("lie", "status", "word"),
    [(low, Status.HELD, "client 2 gives -20.0 as mean log-odds"), (own_of_another, Status.COMMITTED, "holds none")],
)
def test_one_client_does_not_decide_on_the_request_of_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lie: Callable[[Metrics], Metrics], status: Status, word: str
) -> None:
    federation = hostile_federation(tmp_path, {2: on_audits(lie)})
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays=initial_arrays(), num_rounds=8)
    strategy.submit(ForgetRequest.for_client(1, method="projected-ascent"))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.status is status
    assert outcome.evidence is None or str(outcome.evidence) == "not measurable"
    assert any("client 2 " in text and word in text for text in [outcome.reason or "", *caplog.messages])
