"""What an attempt changed of a strategy is undone where it fails: the same objects, which hold the same."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from kept_models import FORMS, Best, Box, Broken, FrozenScore, Scored, SmallModule, keeper, state_dict
from made_replies import drawn_model, moved

from fed_unlearn.arrays import pack, same_bits, unpack
from fed_unlearn.strategies.inner.rollback import StrategyBefore

INITIAL = drawn_model(0)
ROUND = moved(INITIAL, 1)


def test_every_object_holds_again_what_it_held() -> None:
    module, record, array, tensor = SmallModule(INITIAL), pack(INITIAL), np.arange(3.0), torch.arange(3.0)
    inner = keeper(
        INITIAL,
        module=module,
        record=record,
        best=(0.5, state_dict(INITIAL)),
        ranking=[Best(0.5, 1), [array]],
        last=deque([tensor], maxlen=1),
        box=Box(0.5, Scored(0.25, FrozenScore(0.5, {"a": 1}))),
        text="before",
    )
    held = {name: getattr(inner, name) for name in ("module", "record", "best", "ranking", "last", "box")}
    before = StrategyBefore(inner, whole=True)

    module.load_state_dict(state_dict(ROUND))
    record.clear()
    inner.best[1]["bias"].zero_()
    array[:], tensor[:] = 0.0, 0.0
    inner.ranking[1].append(2)
    inner.ranking.clear()
    inner.last.append("newer")
    inner.box.model.model.model["a"] = 2
    inner.box.model.accuracy, inner.box.more = 0.9, "more"
    inner.best, inner.text, inner.added = None, "after", 1
    before.put_back()

    assert all(getattr(inner, name) is value for name, value in held.items())
    assert same_bits(FORMS["module"][1](module), INITIAL)
    assert same_bits(unpack(inner.record), INITIAL) and list(record) == list(INITIAL)
    assert same_bits(FORMS["state dict"][1](inner.best[1]), INITIAL)
    assert inner.ranking[0] == Best(0.5, 1) and len(inner.ranking) == 2
    assert inner.ranking[1][0] is array and array.tolist() == [0.0, 1.0, 2.0] and len(inner.ranking[1]) == 1
    assert inner.last[0] is tensor and tensor.tolist() == [0.0, 1.0, 2.0]
    assert vars(inner.box) == {"accuracy": 0.5, "model": Scored(0.25, FrozenScore(0.5, {"a": 1}))}
    assert inner.text == "before" and not hasattr(inner, "added")


def test_state_that_nothing_has_changed_stays_the_same_object() -> None:
    """Where no hook of the strategy is called, nothing but its state is looked at."""
    held: dict[str, Any] = {
        "accuracies": [np.float64(0.5)],
        "best": Best(np.float64(0.5), np.arange(2)),
        "by_name": OrderedDict(a=np.arange(3)),
        "record": pack(ROUND),
    }
    inner = keeper(INITIAL, **held)
    before = StrategyBefore(inner, whole=False)
    inner.record, inner.added = ArrayRecord(), np.zeros(3)
    before.put_back()
    assert all(getattr(inner, name) is held[name] for name in ("accuracies", "best", "by_name"))
    assert same_bits(unpack(inner.record), ROUND) and not hasattr(inner, "added")


def test_what_cannot_be_put_back_is_named(caplog: pytest.LogCaptureFixture) -> None:
    inner = keeper(INITIAL, broken=[Broken()], module=SmallModule(INITIAL), numbers=[1, 2])
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        before = StrategyBefore(inner, whole=True)
        inner.numbers.append(3)
        del inner.module.bias
        before.put_back()
    assert inner.numbers == [1, 2]
    said = [record.getMessage() for record in caplog.records if record.module == "rollback"]
    assert said == [
        "Keeper.broken was not wholly looked through; what an attempt changes in it stays changed: RuntimeError",
        "Keeper.module is not as it was before the attempt: RuntimeError",
    ]
