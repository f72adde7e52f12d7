"""Our packing of models against Flower's own; averages and clipped changes against arithmetic done by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from fed_unlearn.array_types import check_array_types
from fed_unlearn.arrays import (
    add_clipped,
    all_finite,
    decode,
    difference,
    hardly_differs,
    norm,
    pack,
    to_state_dict,
    unpack,
    weighted_average,
    with_dtypes_of,
)
from fed_unlearn.errors import FedUnlearnError, InvalidModelError

VALUES = {
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "scalar": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 3), dtype=np.float64),
    "half": np.ones(3, dtype=np.float16),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_bytes_are_flowers(name: str) -> None:
    ours = pack({name: VALUES[name]})[name]
    flowers = Array(np.ascontiguousarray(VALUES[name]) if VALUES[name].ndim else VALUES[name])
    assert (ours.dtype, ours.shape, ours.stype, ours.data) == (
        flowers.dtype,
        flowers.shape,
        flowers.stype,
        flowers.data,
    )


@pytest.mark.parametrize("name", VALUES)
def test_decodes_what_flower_packed(name: str) -> None:
    packed = Array(VALUES[name])  # in Fortran order for the transposed one
    decoded = decode(packed)
    np.testing.assert_array_equal(decoded, VALUES[name])
    assert decoded.dtype == VALUES[name].dtype
    assert decoded.flags.writeable


def test_state_dicts_come_back() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    record = pack(model.state_dict())
    assert {name: array.data for name, array in record.items()} == {
        name: array.data for name, array in ArrayRecord(model.state_dict()).items()
    }
    for name, tensor in to_state_dict(record).items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert unpack(record)["1.num_batches_tracked"].dtype == np.int64


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


@pytest.mark.parametrize(
    ("length", "is_same"), [(0.0, True), (0.9e-6, True), (1.1e-6, False), (1.0, False), (float("nan"), False)]
)
def test_a_change_that_is_no_longer_than_rounding_is_none(length: float, is_same: bool) -> None:
    base = {"w": np.array([3.0, 4.0]), "bn.running_mean": np.zeros(1), "counter": np.array(3)}  # of length 5
    assert hardly_differs({**base, "w": np.array([3.0, 4.0 + 5 * length])}, base) is is_same
    assert hardly_differs({**base, "bn.running_mean": np.array([5 * length])}, base) is is_same
    assert hardly_differs({**base, "counter": np.array(4)}, base)


def test_bfloat16_travels_as_float32_and_comes_back_without_loss() -> None:
    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    record = pack({"weight": values, "scalar": torch.tensor(2.5, dtype=torch.bfloat16)})
    assert unpack(record)["weight"].dtype == np.float32 and unpack(record)["scalar"].shape == ()
    model = torch.nn.Linear(5, 3, bias=False).bfloat16()
    model.load_state_dict({"weight": to_state_dict(record)["weight"]})
    assert torch.equal(model.weight, values)


def test_truth_values_are_averaged_by_majority() -> None:
    models = [{"mask": np.array([True, True, False])}, {"mask": np.array([True, False, False])}]
    assert weighted_average(models, [1, 3])["mask"].tolist() == [True, False, False]
    assert weighted_average(models, [3, 1])["mask"].tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.ones(2, dtype=np.complex64), "array 'x' of the model is of complex64; .*torch.view_as_real"),
        (np.array(["a"]), "array 'x' of the model is of str.*: convert it to float32"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), r"is of datetime64\[D\]"),
    ],
)
def test_arrays_that_cannot_be_averaged_are_refused(values: NDArray[Any], reason: str) -> None:
    with pytest.raises(InvalidModelError, match=reason):
        check_array_types(pack({"fine": np.ones(2, dtype=np.float16), "x": values}))
    check_array_types(pack({"a": np.zeros(0), "b": np.array(True), "c": np.uint8(3), "d": np.float16(1)}))


def test_arrays_of_another_library_are_refused_too() -> None:
    record = ArrayRecord()
    record["x"] = Array("bfloat16", (1,), "numpy.ndarray", b"")
    with pytest.raises(InvalidModelError, match="array 'x' of the model is of bfloat16"):
        check_array_types(record)
