"""Models that travel as one array: bit for bit, in few objects of Flower's, and nothing malformed gets in."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fed_unlearn.arrays import pack, same_bits, unpack
from fed_unlearn.errors import ProtocolError
from fed_unlearn.protocol import bundled, is_bundled, unbundled

MODEL = pack(
    {
        "layer.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "layer.bias": np.zeros((0, 2), dtype=np.float64),
        "norm.num_batches_tracked": np.array(7, dtype=np.int64),
        "mask": np.array([True, False]),
        "half, with a name / of \u00e9verything": np.ones((2, 1, 2), dtype=np.float16),
    }
)


def opened(data: bytes, *, stype: str = "fed_unlearn.bundle") -> ArrayRecord:
    record = ArrayRecord({"fed_unlearn.bundle": Array("uint8", (len(data),), stype, data)})
    return unbundled(RecordDict({"arrays": record}))["arrays"]  # type: ignore[return-value]


def laid_out(index: object, data: bytes = b"") -> bytes:
    head = json.dumps(index).encode()
    return len(head).to_bytes(8, "little") + head + data


def test_a_model_comes_out_as_it_went_in() -> None:
    settings = ConfigRecord({"round": 3})
    content = RecordDict({"arrays": MODEL, "config": settings})
    sent = bundled(content)
    assert is_bundled(sent) and not is_bundled(content) and sent["config"] is settings
    back = unbundled(sent)
    assert list(back) == ["arrays", "config"] and list(back["arrays"]) == list(MODEL)
    assert same_bits(unpack(back["arrays"]), unpack(MODEL))  # type: ignore[arg-type]
    for name, array in MODEL.items():
        other = back["arrays"][name]
        assert (other.dtype, tuple(other.shape), other.stype, other.data) == (  # type: ignore[union-attr]
            array.dtype, tuple(array.shape), array.stype, array.data,
        )  # fmt: skip
    assert content["arrays"] is MODEL and len(MODEL) == 5


def test_it_is_one_array_however_many_there_are() -> None:
    many = pack({f"layer.{number}": np.full(3, number) for number in range(200)})
    sent = bundled(RecordDict({"arrays": many}))
    assert len(sent["arrays"]) == 1
    assert len(unbundled(sent)["arrays"]) == 200


@pytest.mark.parametrize("record", [ArrayRecord(), pack({"only": np.ones(2)}), ConfigRecord({"a": 1})])
def test_what_gains_nothing_stays_as_it_is(record: ArrayRecord | ConfigRecord) -> None:
    assert bundled(RecordDict({"it": record}))["it"] is record
    assert unbundled(RecordDict({"it": record}))["it"] is record


def test_an_array_of_that_name_that_is_no_bundle_is_left_alone() -> None:
    record = pack({"fed_unlearn.bundle": np.ones(2)})
    assert unbundled(RecordDict({"arrays": record}))["arrays"] is record


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "index"),
        (b"\xff" * 8, "index"),
        (b"\xff" * 4000, "index"),
        (laid_out([["a", "float32", [2], "numpy.ndarray", 8]]), "sizes"),
        (laid_out([["a", "float32", [2], "numpy.ndarray", 4]], b"12345678"), "sizes"),
        (laid_out([["a", "float32", [2], "numpy.ndarray", -4]], b"12345678"), "index"),
        (laid_out([["a", "float32", [-2], "numpy.ndarray", 8]], b"12345678"), "index"),
        (laid_out([["a", "float32", [2], "numpy.ndarray", 10**30]], b"12345678"), "index|sizes"),
        (laid_out([["a", "float32", [1], "numpy.ndarray", 4]] * 2, b"12345678"), "twice"),
        (laid_out({"a": 1}), "index"),
        (laid_out([[1, 2, 3, 4, 5]]), "index"),
        (b"\x04" + b"\0" * 7 + b"[[[[", "index"),
        (laid_out([])[:8] + b"[" * 100_000, "index"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "index"),
    ],
)
def test_a_malformed_bundle_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ProtocolError, match=problem):
        opened(data)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_be_refused_or_read(data: bytes) -> None:
    try:
        read = opened(data)
    except ProtocolError:
        return
    assert sum(len(array.data) for array in read.values()) <= len(data)
