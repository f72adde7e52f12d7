"""Averages and clipped changes against arithmetic done by hand."""

import numpy as np
import pytest

from fed_unlearn.arrays import add_clipped, all_finite, difference, norm, pack, unpack, weighted_average, with_dtypes_of
from fed_unlearn.errors import FedUnlearnError


def test_weighted_average_by_hand() -> None:
    first = {"w": np.array([1.0, 2.0], dtype=np.float32), "count": np.array(3, dtype=np.int64)}
    second = {"w": np.array([4.0, 8.0], dtype=np.float32), "count": np.array(6, dtype=np.int64)}
    averaged = weighted_average([first, second], [1, 2])
    np.testing.assert_allclose(averaged["w"], [3.0, 6.0])
    assert averaged["w"].dtype == np.float32
    assert averaged["count"] == 5
    assert averaged["count"].dtype == np.int64


def test_average_over_nobody_is_refused() -> None:
    with pytest.raises(FedUnlearnError, match="weight above 0"):
        weighted_average([{"w": np.zeros(1)}], [0])


def test_change_leaves_statistics_out() -> None:
    base = {"w": np.zeros(2, dtype=np.float32), "bn.running_mean": np.zeros(2, dtype=np.float32)}
    model = {"w": np.array([3.0, 4.0], dtype=np.float32), "bn.running_mean": np.full(2, 100, dtype=np.float32)}
    change = difference(model, base)
    assert set(change) == {"w"}
    assert norm(change) == pytest.approx(5.0)


def test_clipped_changes_are_summed() -> None:
    base = {"w": np.array([1.0, 1.0], dtype=np.float32)}
    long = {"w": np.array([6.0, 8.0], dtype=np.float32)}  # norm 10, clipped to 5: (3, 4)
    short = {"w": np.array([0.0, 1.0], dtype=np.float32)}  # norm 1, as it is
    moved = add_clipped(base, [long, short], max_norm=5.0)
    np.testing.assert_allclose(moved["w"], [4.0, 6.0], rtol=1e-6)
    np.testing.assert_array_equal(base["w"], [1.0, 1.0])


def test_integer_buffers_keep_their_dtype_through_flower() -> None:
    reference = {"steps": np.array(7, dtype=np.int64), "w": np.ones(2, dtype=np.float32)}
    aggregated = {"steps": np.array(6.9999), "w": np.ones(2) * 2}
    restored = with_dtypes_of(aggregated, reference)
    assert restored["steps"] == 7
    assert restored["steps"].dtype == np.int64
    assert restored["w"].dtype == np.float32
    np.testing.assert_array_equal(unpack(pack(restored))["steps"], 7)


def test_not_finite_is_seen() -> None:
    assert all_finite({"w": np.ones(2)})
    assert not all_finite({"w": np.array([1.0, np.nan])})
