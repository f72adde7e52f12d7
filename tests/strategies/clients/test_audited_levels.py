"""What one client counts for audits, beside what the others count: a lie stands out, and honest counts do not."""

from __future__ import annotations

from itertools import chain
from math import sqrt

import pytest
import torch
from scipy.stats import betabinom

from fed_unlearn.audits.accuracy import ForgetAccuracy
from fed_unlearn.audits.base import RequestAudit
from fed_unlearn.audits.counts import ClientCounts, RequestCounts
from fed_unlearn.audits.outputs.logit_ranking import LogitRanking
from fed_unlearn.audits.outputs.recall_without_bias import RecallWithoutBias
from fed_unlearn.audits.outputs.reset_rows import BIN_COUNT, ResetRows
from fed_unlearn.audits.outputs.score_histograms import score_histogram
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.bounds.audited_levels import audited_deviations
from fed_unlearn.strategies.clients.bounds.plausibility import SPREAD, Deviation, implausible_clients

REQUEST = ForgetRequest.for_class(3, id="c")
CLIENTS = "abd"
CLASSES = 9


def audit(audits: dict[str, RequestAudit]) -> Audit:
    """A client for each audit, with ten samples of the request."""
    return Audit(
        {
            client: ClientCounts({}, {"c": RequestCounts(ForgetAccuracy(0, 10), extra={type(own).name: own})})
            for client, own in audits.items()
        }
    )


def deviations_of(honest: list[RequestAudit], liar: RequestAudit) -> list[Deviation]:
    return list(audited_deviations(audit({**dict(zip(CLIENTS, honest, strict=True)), "liar": liar}), [REQUEST]))


def ranking(seed: int) -> LogitRanking:
    """40 samples of the class, a standard deviation above 200 that stay."""
    drawn = torch.Generator().manual_seed(seed)
    high, low = torch.randn(40, generator=drawn) + 1, torch.randn(200, generator=drawn)
    return LogitRanking(held_out_class=score_histogram(high), held_out_staying=score_histogram(low))


def rows(seed: int) -> ResetRows:
    """The same of nine classes, in the bins of reset rows."""
    drawn = torch.Generator().manual_seed(seed)

    def histogram(mean: float, count: int) -> list[int]:
        bins = (torch.randn(count, generator=drawn) * 8 + mean).long().clamp(0, BIN_COUNT - 1)
        return torch.bincount(bins, minlength=BIN_COUNT).tolist()

    own, rest = (
        tuple(chain.from_iterable(histogram(mean, count) for _ in range(CLASSES)))
        for mean, count in ((72, 20), (64, 180))
    )
    return ResetRows(own, rest)


def at(place: int, count: int, bins: int) -> tuple[int, ...]:
    return tuple(count if index == place % bins else 0 for index in range(bins))


def test_the_prediction_of_recall_is_a_beta_binomial_one() -> None:
    """The others recognise 3 of 30, and the client all of 10."""
    found = deviations_of([RecallWithoutBias(1, 10)] * 3, RecallWithoutBias(10, 10))
    [deviation] = [item for item in found if item.client == "liar"]
    expected = betabinom(10, 3.5, 27.5)
    assert deviation.expected == pytest.approx(float(expected.mean()))
    deviate = sqrt(float(expected.var()) + (SPREAD * 10) ** 2 + 0.25)
    assert deviation.score == pytest.approx((10 - float(expected.mean())) / deviate, rel=0.02)
    assert str(deviation).startswith("client liar counts 10 of 10 as samples recognised without biases, for request c")
    assert list(implausible_clients(iter(found))) == ["liar"]


@pytest.mark.parametrize(
    "lie",
    [
        {"held_out_staying": at(-1, 200, 1024)},
        {"held_out_class": at(0, 40, 1024)},
        {"held_out_class": at(-1, 40, 1024)},
    ],
    ids=["rest above", "class below", "class above"],
)
def test_a_ranking_that_nobody_else_has_is_implausible(lie: dict[str, tuple[int, ...]]) -> None:
    """A quarter of the rest on top makes recall at 5 % nothing, whatever the others count."""
    assert "liar" in implausible_clients(
        iter(deviations_of([ranking(seed) for seed in range(3)], LogitRanking(**{**vars(ranking(3)), **lie})))
    )


def test_classes_that_scatter_at_one_client_alone_are_implausible() -> None:
    """Every other class is ranked first, the rest last: the interval of the reference holds everything then."""
    honest = [rows(seed) for seed in range(3)]
    own = tuple(chain.from_iterable(at(-1 if index % 2 else 0, 20, BIN_COUNT) for index in range(CLASSES)))
    rest = tuple(chain.from_iterable(at(0 if index % 2 else -1, 180, BIN_COUNT) for index in range(CLASSES)))
    liar = ResetRows(own, rest)
    true, pooled = sum(honest[1:], start=honest[0]), sum([*honest[1:], liar], start=honest[0])
    ends = [found.figures["reset_rows_recall_at_5"].interval for found in (true, pooled)]
    assert ends[0] is not None and ends[1] is not None and ends[0][1] < 0.5 < 0.9 < ends[1][1], "what the lie is for"
    assert next(iter(implausible_clients(iter(deviations_of(honest, liar))))) == "liar"


def test_honest_counts_are_plausible() -> None:
    for make in (ranking, rows):
        for first in range(0, 40, 4):
            found = deviations_of([make(seed) for seed in range(first, first + 3)], make(first + 3))  # type: ignore[operator]
            assert found
            assert not implausible_clients(iter(found))


def test_what_one_client_alone_counts_is_not_compared() -> None:
    assert not list(audited_deviations(audit({"a": RecallWithoutBias(10, 10)}), [REQUEST]))
    assert not [
        item for item in deviations_of([LogitRanking(), ResetRows(), RecallWithoutBias()], ranking(0)) if item.score
    ]
