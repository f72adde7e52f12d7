"""The attack's ROC curve: its area is the AUC, and its corners are those of scikit-learn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from fed_unlearn.audits.attack import MembershipAttack
from fed_unlearn.audits.counted_figures import figures_of
from fed_unlearn.audits.counts import RequestCounts
from fed_unlearn.audits.membership import BIN_COUNT, membership_auc
from fed_unlearn.audits.roc import DECIMALS, Corner, roc_corners
from fed_unlearn.errors import EmptySetError


def histogram(generator: np.random.Generator, count: int, centre: float, spread: float) -> list[int]:
    bins = np.clip(generator.normal(centre, spread, count).round().astype(int), 0, BIN_COUNT - 1)
    return np.bincount(bins, minlength=BIN_COUNT).tolist()


def area(corners: tuple[Corner, ...]) -> float:
    return sum((second[0] - first[0]) * (first[1] + second[1]) / 2 for first, second in pairwise(corners))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("centre", "spread"), [(100, 1), (110, 20), (60, 40), (300, 5), (-100, 5)])
def test_the_area_is_the_auc_and_the_corners_are_scikit_learns(seed: int, centre: float, spread: float) -> None:
    generator = np.random.default_rng(seed)
    members = histogram(generator, int(generator.integers(1, 90)), centre, spread)
    outsiders = histogram(generator, int(generator.integers(1, 300)), 100, 20)
    corners = roc_corners(members, outsiders)
    assert area(corners) == pytest.approx(membership_auc(members, outsiders), abs=1e-12)
    assert (corners[0], corners[-1]) == ((0.0, 0.0), (1.0, 1.0))
    truth = np.repeat([1, 0], [sum(members), sum(outsiders)])
    scores = np.concatenate([np.repeat(np.arange(BIN_COUNT), side) for side in (members, outsiders)])
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    points = list(zip(false.tolist(), true.tolist(), strict=True))
    for corner in corners:
        assert min(distance(corner, point) for point in points) < 1e-12
    for point in points:
        assert any(is_between(first, point, second) for first, second in pairwise(corners))
    assert not any(is_between(*three) for three in zip(corners, corners[1:], corners[2:], strict=False))


def distance(first: Corner, second: Corner) -> float:
    return abs(first[0] - second[0]) + abs(first[1] - second[1])


def is_between(first: Corner, middle: Corner, last: Corner) -> bool:
    """Whether a point lies on the straight line between two others."""
    return distance(first, middle) + distance(middle, last) <= distance(first, last) + 1e-12 and (
        abs((middle[0] - first[0]) * (last[1] - first[1]) - (middle[1] - first[1]) * (last[0] - first[0])) < 1e-12
    )


def test_ties_are_counted_half_and_points_on_a_line_are_left_out() -> None:
    """Most certain last: 2 members, then both sides in one bin, then two outsiders in two bins."""
    assert roc_corners([0, 0, 1, 2], [1, 1, 2, 0]) == ((0, 0), (0, 2 / 3), (0.5, 1), (1, 1))
    assert membership_auc([0, 0, 1, 2], [1, 1, 2, 0]) == pytest.approx(0.5 * (2 / 3 + 1) / 2 + 0.5)
    assert roc_corners([3, 3, 3], [5, 5, 5]) == ((0, 0), (1, 1))
    assert roc_corners([0, 4], [7, 0]) == ((0, 0), (0, 1), (1, 1))
    assert roc_corners([4, 0], [0, 7]) == ((0, 0), (1, 0), (1, 1))


@pytest.mark.parametrize(("members", "outsiders"), [([0, 0], [1, 0]), ([1, 0], [0, 0])])
def test_an_empty_side_is_refused(members: list[int], outsiders: list[int]) -> None:
    with pytest.raises(EmptySetError, match="both need one at least"):
        roc_corners(members, outsiders)


def test_figures_have_the_curve_where_they_have_the_auc() -> None:
    generator = np.random.default_rng(5)
    members, outsiders = histogram(generator, 37, 120, 15), histogram(generator, 311, 100, 20)
    attack = MembershipAttack(tuple(members), tuple(outsiders))
    figures = figures_of(RequestCounts(membership=attack), (3,), left_out=(), retain=None, test=None)
    [curve] = figures.curves.values()
    assert figures.membership_auc == pytest.approx(area(tuple(curve)), abs=10**-DECIMALS)
    assert all(round(rate, DECIMALS) == rate for corner in curve for rate in corner)
    without = figures_of(RequestCounts(), (3,), left_out=(), retain=None, test=None)
    assert (without.membership_auc, without.curves, "curves" in without.to_json()) == (None, {}, False)
