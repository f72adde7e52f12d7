"""Sums come back as they were sent, and sums that no samples have are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from fed_unlearn.arrays import pack, unpack
from fed_unlearn.errors import ProtocolError
from fed_unlearn.methods.parts.ridge import FEATURE_STEP, RidgeStatistics
from fed_unlearn.protocol import STATISTICS, STATISTICS_KEY, read_statistics, write_statistics
from fed_unlearn.simulations.inprocess import set_task_identity

Parts = dict[str, NDArray[np.float64]]


def empty() -> Message:
    set_task_identity()
    return Message(RecordDict(), dst_node_id=1, message_type=STATISTICS)


def sent() -> tuple[Message, RidgeStatistics]:
    features = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    statistics = RidgeStatistics.of(features, torch.arange(20) % 2, 3)
    message = empty()
    write_statistics(message, statistics)
    return message, statistics


def test_sums_come_back_as_they_were_sent() -> None:
    message, statistics = sent()
    assert read_statistics(message, step=FEATURE_STEP, most=20).is_same(statistics)


def with_value(name: str, place: int, value: float) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[name].reshape(-1)[place] = value

    return change


def far_apart(parts: Parts) -> None:
    parts["sums"][0, 0] += 2.0**45  # so that the sums of all classes together are as they were
    parts["sums"][1, 0] -= 2.0**45


def indefinite(parts: Parts) -> None:
    parts["products"][:] = [4e9, -3.6e9, -3.6e9, 4e9, -3.6e9, 4e9]  # each two by two of it is possible


def retyped(parts: Parts) -> None:
    parts["sums"] = parts["sums"].astype(np.float32)  # type: ignore[assignment]


def shortened(parts: Parts) -> None:
    parts["products"] = parts["products"][:-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_value("sums", 0, np.nan), "not finite"),
        (with_value("products", 0, np.inf), "not finite"),
        (with_value("sums", 0, 0.5), "not whole numbers"),
        (with_value("counts", 0, -1), "no counts"),
        (with_value("counts", 0, 11), "over 21 samples, and it has 20 at most"),
        (with_value("products", 0, -1.0), "longer than their squares allow"),
        (with_value("products", 1, 1e12), "longer than their squares allow"),
        (with_value("sums", 0, 1e9), "longer than its products allow"),
        (with_value("sums", 8, 1.0), "longer than its products allow"),  # of a class without a sample
        (far_apart, "no sum of squares around the means"),
        (indefinite, "no sum of squares around the means"),
        (retyped, "other types"),
        (shortened, "expected 6"),
    ],
)
def test_sums_that_no_samples_have_are_refused(change: Callable[[Parts], None], said: str) -> None:
    message, _ = sent()
    parts = {name: value.copy() for name, value in unpack(message.content.array_records[STATISTICS_KEY]).items()}
    change(parts)
    message.content[STATISTICS_KEY] = pack(parts)
    with pytest.raises(ProtocolError, match=said):
        read_statistics(message, step=FEATURE_STEP, most=20)


def test_a_reply_without_sums_is_refused() -> None:
    message = empty()
    with pytest.raises(ProtocolError, match="carries no sums"):
        read_statistics(message, step=FEATURE_STEP)
