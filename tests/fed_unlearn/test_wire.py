"""What goes over the wire is what Flower itself would send."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from federation import same_bytes
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import validate_object_content
from wire import life, over_the_wire, wired

from fed_unlearn import protocol
from fed_unlearn.arrays import pack, unpack
from fed_unlearn.client.actions import ACTIONS


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


def test_arrays_that_arrive_are_read_as_those_that_were_packed() -> None:
    values = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.asarray(7)}
    arrived = over_the_wire(RecordDict({"arrays": pack(values)})).array_records["arrays"]
    assert all(type(array) is Array for array in arrived.values())
    read = unpack(arrived)
    assert {name: (value.dtype, value.tolist()) for name, value in read.items()} == {
        name: (value.dtype, value.tolist()) for name, value in values.items()
    }


def test_every_message_of_a_federation_passes_flowers_validation_and_changes_nothing(tmp_path: Path) -> None:
    """Every nested object of every message and reply; the model is that of a federation without a wire."""
    strategy, grid, _ = wired(tmp_path)
    result = life(strategy, grid)
    grid.send_and_receive([Message(RecordDict(), 1, protocol.REQUESTS)])
    assert sorted(outcome.status.value for outcome in result.requests) == ["committed"] * 3 + ["rejected"]
    of_one_method = {protocol.STATISTICS, protocol.BLOCKS, protocol.RELEARN}  # frozen-head, reset-and-relearn
    expected = {*ACTIONS, protocol.TRAIN, protocol.EVALUATE} - of_one_method
    assert {message.metadata.message_type for message, _ in grid.crossed} == expected
    other, _, plain = wired(tmp_path / "other")
    assert same_bytes(result.arrays, life(other, plain).arrays)
