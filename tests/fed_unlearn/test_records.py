"""The codec of what is written down between two steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pytest
from flwr.app import ConfigRecord

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.records import StoredArrays, StoredConfig, decode, encode


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Part:
    name: str
    value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    step: int
    arrays: StoredArrays
    colour: Colour = Colour.RED
    parts: tuple[Part, ...] = ()
    momenta: Mapping[str, StoredArrays] = field(default_factory=dict)
    config: StoredConfig = field(default_factory=ConfigRecord)
    scalars: Mapping[str, bool | int | float | str | None] = field(default_factory=dict)


WHOLE = Whole(
    step=3,
    arrays={"b": np.array([1.5, -0.0], dtype=np.float32), "a": np.array(7, dtype=np.int64)},
    parts=(Part("one", 0.1), Part("two")),
    momenta={"m": {"b": np.zeros((2, 0))}, "empty": {}, "n": {"x/y": np.ones(1)}},
    config=ConfigRecord({"key": b"\x00\xff", "rate": 0.1, "names": ["a", "b"]}),
    scalars={"whole": 1, "real": 1.0, "flag": True, "none": None, "text": "1"},
)


def test_a_record_comes_back_from_json_and_arrays_as_it_was() -> None:
    body, arrays = encode(WHOLE)
    shuffled = dict(sorted(arrays.items(), reverse=True))
    read = decode(Whole, json.loads(json.dumps(body)), shuffled)
    assert (read.step, read.colour, read.parts, read.config) == (3, Colour.RED, WHOLE.parts, WHOLE.config)
    assert list(read.arrays) == ["b", "a"] and list(read.momenta) == ["m", "empty", "n"]
    for mine, theirs in ((read.arrays, WHOLE.arrays), *((read.momenta[key], WHOLE.momenta[key]) for key in "mn")):
        assert {name: (item.dtype, item.shape, item.tobytes()) for name, item in mine.items()} == {
            name: (item.dtype, item.shape, item.tobytes()) for name, item in theirs.items()
        }
    assert {name: (type(value), value) for name, value in read.scalars.items()} == {
        name: (type(value), value) for name, value in WHOLE.scalars.items()
    }


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"step": "three"}, "step"),
        ({"arrays": {"group": 9, "names": ["b"]}}, "arrays"),
        ({"parts": [{}]}, "parts.0.name"),
    ],
)
def test_what_is_no_such_record_is_refused_with_its_place(changes: dict[str, object], place: str) -> None:
    body, arrays = encode(WHOLE)
    with pytest.raises(FedUnlearnError, match=f"not a Whole as this version writes it: {place}: .*from a backup"):
        decode(Whole, {**body, **changes}, arrays)
    with pytest.raises(FedUnlearnError, match="not a Whole"):
        decode(Whole, [], arrays)
