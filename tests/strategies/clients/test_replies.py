"""Which replies are used, and what is said of those that are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from made_replies import drawn_model, made_error, made_reply, moved

from fed_unlearn.arrays import Arrays, PackedArray, pack
from fed_unlearn.strategies.clients.replies import ReplyFilter, usable_arrays

BASE = drawn_model(0)
GOOD = moved(BASE, 1)


def changed(**arrays: np.ndarray) -> Message:
    return made_reply(0, {**GOOD, **arrays})


def with_bytes(data: bytes) -> Message:
    record = pack(GOOD)
    record["bias"] = PackedArray("float32", (3,), data)
    return made_reply(0, record)


def without(name: str) -> Message:
    return made_reply(0, {key: value for key, value in GOOD.items() if key != name})


def with_nan(dtype: str = "float32") -> np.ndarray:
    return np.array([0.0, np.nan, 1.0], dtype=dtype)


UNUSABLE: dict[str, tuple[Message, str]] = {
    "an error": (made_error(0), "it answered with an error: ValueError at the client"),
    "not a number": (changed(bias=with_nan()), "its array 'bias' is not finite"),
    "infinite": (changed(scale=np.asarray(-np.inf, dtype=np.float32)), "its array 'scale' is not finite"),
    "an array too few": (without("bias"), "its model has 3 arrays, and not the 4 that were sent"),
    "an array too many": (changed(more=np.zeros(2)), "its model has 5 arrays, and not the 4 that were sent"),
    "another name": (
        made_reply(0, {**{k: v for k, v in GOOD.items() if k != "bias"}, "bia": GOOD["bias"]}),
        "its model has 4 arrays, and not the 4 that were sent",
    ),
    "another shape": (
        changed(weight=GOOD["weight"].T.copy()),
        "its array 'weight' is float32[3, 6]; sent float32[6, 3]",
    ),
    "another dtype": (
        changed(bias=GOOD["bias"].astype(np.float64)),
        "its array 'bias' is float64[3]; sent float32[3]",
    ),
    "a counter as a float": (
        changed(batches=np.asarray(3.0)),
        "its array 'batches' is float64[]; sent int64[]",
    ),
    "bytes cut short": (
        with_bytes(pack(GOOD)["bias"].data[:-1]),
        "its array 'bias' cannot be read: ValueError",
    ),
    "a pickle": (with_bytes(b"\x80\x04N."), "its array 'bias' cannot be read: ValueError"),
    "bytes of another array": (
        with_bytes(pack({"x": np.zeros(4, np.float32)})["x"].data),
        "its array 'bias' is not what its description says",
    ),
    "no weight": (made_reply(0, GOOD, 0.0), "its num-examples is not a finite number above 0"),
    "a negative weight": (made_reply(0, GOOD, -3.0), "its num-examples is not a finite number above 0"),
    "an infinite weight": (made_reply(0, GOOD, np.inf), "its num-examples is not a finite number above 0"),
    "a weight that is no number": (made_reply(0, GOOD, np.nan), "its num-examples is not a finite number above 0"),
    "another weight": (made_reply(0, GOOD, weight_key="n"), "its num-examples is not a finite number above 0"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_said(name: str) -> None:
    message, reason = UNUSABLE[name]
    assert usable_arrays(message, BASE) == reason


def test_a_reply_without_a_model_is_not_used() -> None:
    message = made_reply(0, GOOD)
    message.content = RecordDict({"metrics": message.content["metrics"]})
    assert usable_arrays(message, BASE) == "its reply carries no model"


@pytest.mark.parametrize("pack_arrays", [pack, lambda arrays: ArrayRecord({k: Array(v) for k, v in arrays.items()})])
def test_models_like_the_one_sent_are_used(pack_arrays: Callable[[Arrays], ArrayRecord]) -> None:
    assert usable_arrays(made_reply(0, pack_arrays(GOOD)), BASE) is None
    assert usable_arrays(made_reply(0, pack_arrays(GOOD), 5, weight_key="n"), BASE, weight_key="n") is None
    assert usable_arrays(made_reply(0, pack_arrays(GOOD), 0.0), BASE, weight_key=None) is None


def test_each_client_is_named_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    replies = [
        made_reply(0, GOOD, 2.0),
        changed(bias=with_nan()),
        made_reply(1, {**GOOD, "bias": with_nan()}),
        made_reply(2, GOOD, 3.0, loss=0.5),
        made_reply(3, GOOD, 4.0),
        made_reply(7, GOOD),
        made_error(4),
    ]
    chosen, asked = ReplyFilter(), {client + 1: str(client) for client in range(6)}
    with caplog.at_level("WARNING", logger="fed_unlearn.strategies"):
        for _ in range(2):
            kept = chosen.usable(replies, BASE, asked=asked, weight_key="num-examples", keep_arrays=True)
    assert [(reply.client, reply.weight) for reply in kept] == [("0", 2.0), ("3", 4.0)]
    assert all(np.array_equal(reply.arrays["weight"], GOOD["weight"]) for reply in kept)
    assert [record.getMessage() for record in caplog.records] == [
        "client 0 is left out: it answered twice; the first answer counts",
        "client 1 is left out: its array 'bias' is not finite",
        "client of node 8 is left out: it was not asked",
        "client 4 is left out: it answered with an error: ValueError at the client",
        "client 2 is left out: its reply has other records or metrics than those of most clients",
    ]
