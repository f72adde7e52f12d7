"""Our packing of models against Flower's own."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from fed_unlearn.arrays import decode, pack, to_state_dict, unpack

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
