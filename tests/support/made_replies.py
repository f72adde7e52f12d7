"""Replies of clients, made by hand: models, weights and metrics as wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack
from fed_unlearn.protocol import Stamp
from fed_unlearn.simulations.inprocess import set_task_identity

STAMP = {"tombstones": "", "retained": True, "version": "0", "device": "cpu", "cuda_visible_devices": ""}


def made_reply(
    client: int,
    arrays: Mapping[str, np.ndarray] | ArrayRecord,
    weight: float = 1.0,
    *,
    weight_key: str = "num-examples",
    **metrics: float,
) -> Message:
    """Client ``client``, on node ``client + 1``, sends a model."""
    set_task_identity()
    record = arrays if isinstance(arrays, ArrayRecord) else pack(arrays)
    content = RecordDict({"arrays": record, "metrics": MetricRecord({weight_key: weight, **metrics})})
    reply = Message(content, reply_to=Message(RecordDict(), client + 1, protocol.TRAIN))
    protocol.write_stamp(reply, Stamp(client_id=str(client), **STAMP))
    return reply


def made_error(client: int, reason: str = "ValueError at the client") -> Message:
    """Client ``client`` answers with an error."""
    set_task_identity()
    return Message(Error(2, reason), reply_to=Message(RecordDict(), client + 1, protocol.TRAIN))


def drawn_model(seed: int, size: int = 6, dtype: str = "float32") -> Arrays:
    """A small model: a matrix, a vector, a number without dimensions and a counter."""
    generator = np.random.default_rng(seed)
    return {
        "weight": generator.normal(size=(size, 3)).astype(dtype),
        "bias": generator.normal(size=3).astype(dtype),
        "scale": np.asarray(generator.normal(), dtype=dtype),
        "batches": np.asarray(generator.integers(5, 50), dtype=np.int64),
    }


def moved(base: Arrays, seed: int, step: float = 0.1) -> Arrays:
    """A model some way off another one; its counter has counted on."""
    generator = np.random.default_rng(seed)
    return {
        name: np.asarray(value + 7)
        if np.issubdtype(value.dtype, np.integer)
        else np.asarray(value + step * generator.normal(size=value.shape), dtype=value.dtype)
        for name, value in base.items()
    }


def replies_of(models: Sequence[Arrays], weights: Sequence[float] | None = None, **metrics: float) -> list[Message]:
    """One reply of each of clients 0, 1, ..."""
    weights = weights if weights is not None else [1.0] * len(models)
    return [made_reply(client, *pair, **metrics) for client, pair in enumerate(zip(models, weights, strict=True))]
