"""Figures of one client beside those of the others, held against scipy's beta-binomial distribution."""

from __future__ import annotations

from math import sqrt

import pytest
from scipy.stats import betabinom

from fed_unlearn.audits.accuracy import ClassCounts, ForgetAccuracy
from fed_unlearn.audits.counts import ClientCounts, RequestCounts
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.bounds.plausibility import (
    SPREAD,
    Deviation,
    deviations,
    doubted_clients,
    implausible_clients,
)


def audit(**validation: tuple[tuple[int, ...], tuple[int, ...]]) -> Audit:
    return Audit({name: ClientCounts({"validation": ClassCounts(*counts)}) for name, counts in validation.items()})


def only(found: list[Deviation], client: str, what: str) -> Deviation:
    [deviation] = [item for item in found if item.client == client and item.what == what]
    return deviation


def test_the_prediction_is_a_beta_binomial_one_for_each_class() -> None:
    """Two classes; the others have 45 of 50 and 10 of 20 right; the client has 10 and 30 samples."""
    seen = audit(a=((40, 8), (44, 14)), b=((5, 2), (6, 6)), c=((9, 20), (10, 30)))
    deviation = only(list(deviations(seen, None)), "c", "right validation samples")
    classes = [betabinom(10, 45.5, 5.5), betabinom(30, 10.5, 10.5)]
    expected = sum(float(item.mean()) for item in classes)
    deviate = sqrt(sum(float(item.var()) for item in classes) + (SPREAD * 40) ** 2 + 0.25)
    assert (deviation.correct, deviation.total) == (29, 40)
    assert deviation.expected == pytest.approx(expected)
    assert deviation.score == pytest.approx((29 - expected) / deviate, rel=0.02)


def test_clients_that_hold_other_labels_are_not_implausible() -> None:
    """One knows the hard class only, and the others have a few samples of it: labels differ, not how well it is known."""
    seen = audit(a=((50, 3), (50, 8)), b=((48, 2), (50, 6)), c=((0, 20), (0, 60)))
    assert not implausible_clients(deviations(seen, None))


def test_a_class_that_nobody_else_has_is_not_compared() -> None:
    seen = audit(a=((50, 0), (50, 0)), b=((48, 0), (50, 0)), c=((5, 0), (5, 60)))
    deviation = only(list(deviations(seen, None)), "c", "right validation samples")
    assert (deviation.correct, deviation.total) == (5, 5)


@pytest.mark.parametrize(("claimed", "score_sign"), [(0, -1), (40, 1)])
def test_one_that_claims_all_right_or_all_wrong_is_implausible(claimed: int, score_sign: int) -> None:
    """The others have three in ten right."""
    seen = audit(a=((12,), (40,)), b=((13,), (40,)), c=((11,), (40,)), d=((claimed,), (40,)))
    found = implausible_clients(deviations(seen, None))
    assert list(found) == ["d"]
    assert found["d"].score * score_sign > 3


def test_a_change_that_nobody_else_sees_is_implausible_where_both_levels_are_plausible() -> None:
    """The others' samples stay as they were; one client's fall from 39 to 30 of 40."""
    before = audit(a=((36,), (40,)), b=((35,), (40,)), c=((36,), (40,)), d=((39,), (40,)))
    after = audit(a=((36,), (40,)), b=((35,), (40,)), c=((36,), (40,)), d=((30,), (40,)))
    found = list(deviations(after, before))
    assert not only(found, "d", "right validation samples").is_implausible
    assert not only(found, "d", "validation samples right before").is_implausible
    assert list(implausible_clients(iter(found))) == ["d"]


def test_forgotten_classes_are_not_compared() -> None:
    seen = audit(a=((36, 0), (40, 20)), b=((35, 0), (40, 20)), c=((35, 20), (40, 20)))
    assert list(implausible_clients(deviations(seen, None))) == ["c"]
    assert not implausible_clients(deviations(seen, None, without={1}))


def test_hits_on_a_request_are_compared_among_its_holders() -> None:
    request = ForgetRequest.for_class(3, id="r1")
    hits = {"a": (0, 30), "b": (1, 40), "c": (0, 25), "d": (30, 30), "e": (0, 0)}
    replies = {
        name: ClientCounts(targets={"r1": RequestCounts(hits=ForgetAccuracy(*counts))}) for name, counts in hits.items()
    }
    assert next(iter(implausible_clients(deviations(Audit(replies), None, [request])))) == "d"
    alone = {name: reply for name, reply in replies.items() if name in ("d", "e")}
    assert not list(deviations(Audit(alone), None, [request]))


def test_the_text_names_the_client_and_puts_its_figures_beside_the_others() -> None:
    seen = audit(a=((36,), (40,)), b=((36,), (40,)), c=((0,), (20,)))
    text = str(implausible_clients(deviations(seen, None))["c"])
    expected = (
        "client c counts 0 of 20 as right validation samples, where the others' figures of the same classes predict 18"
    )
    assert text == expected


def test_who_looks_odd_beside_a_liar_alone_is_not_doubted() -> None:
    """Three with nine in ten right, one of which has a few samples, and one that says that it has none right."""
    seen = audit(a=((29,), (32,)), b=((27,), (32,)), c=((28,), (32,)), d=((0,), (64,)))
    alone = implausible_clients(deviations(seen, None))
    assert set(alone) > {"d"}, "the liar makes others look odd"
    assert list(doubted_clients(seen, lambda rest: deviations(rest, None))) == ["d"]


def test_two_clients_are_both_doubted() -> None:
    seen = audit(a=((32,), (32,)), b=((0,), (32,)))
    assert set(doubted_clients(seen, lambda rest: deviations(rest, None))) == {"a", "b"}
