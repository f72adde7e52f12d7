"""What goes over the wire is what Flower itself would send."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import validate_object_content

from fed_unlearn.arrays import pack


def test_packed_arrays_are_flowers_own_on_the_wire() -> None:
    values = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.asarray(7)}
    packed = get_all_nested_objects(RecordDict({"arrays": pack(values)}))
    plain = get_all_nested_objects(
        RecordDict({"arrays": ArrayRecord({name: Array(value) for name, value in values.items()})})
    )

    for item in packed.values():
        validate_object_content(item.deflate())
    assert [(name, item.deflate()) for name, item in packed.items()] == [
        (name, item.deflate()) for name, item in plain.items()
    ]
