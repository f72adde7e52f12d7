"""A fresh output layer, and what those that stay are told and make of it in every round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord
from leaving import STAYING, Departure, bytes_of, states_of, trainable, trained_by_hand, weighted_mean

from fed_unlearn import protocol
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.strategies.server_methods import create


def test_a_fresh_head_by_hand(departure: Departure) -> None:
    work, method = departure.work(), create("fresh-head", rounds=2)
    states = states_of(method, work)
    assert [state.done for state in states] == [False, False, True]
    for name, value in states[0].arrays.items():
        assert np.array_equal(value, departure.served[name]) == (name not in ("4.weight", "4.bias"))
    assert 0.09 / np.sqrt(32) < np.abs(states[0].arrays["4.weight"]).max() <= 0.1 / np.sqrt(32)
    whole = create("fresh-head", scale=1.0).begin(departure.work()).arrays
    np.testing.assert_allclose(states[0].arrays["4.weight"], 0.1 * whole["4.weight"], rtol=1e-6)
    fresh = [trained_by_hand(client, states[0].arrays, 0) for client in STAYING]
    averaged = weighted_mean([trainable(arrays) for arrays, _ in fresh], [weight for _, weight in fresh])
    np.testing.assert_allclose(trainable(states[1].arrays), averaged, rtol=0, atol=2e-6)
    assert not np.array_equal(states[1].arrays["1.weight"], departure.served["1.weight"]), "all layers are trained"
    again = states_of(method, departure.work())
    assert bytes_of(again[-1].arrays) == bytes_of(states[-1].arrays)


def test_rounds_are_short_and_the_learning_rate_falls(departure: Departure) -> None:
    work = departure.work()
    told: list[dict[str, Any]] = []
    ask = work.grid.ask

    def asked(kind: str, content: Any, *rest: Any) -> Any:
        if kind == protocol.REPAIR:
            [config] = [record for record in content.config_records.values() if "learning-rate" in record]
            told.append(dict(config))
        return ask(kind, content, *rest)

    work.grid.ask = asked  # type: ignore[method-assign]
    states_of(create("fresh-head", rounds=3, learning_rate=0.06, final_learning_rate=0.02), work)
    assert [config["learning-rate"] for config in told] == pytest.approx([0.06, 0.04, 0.02])
    assert {(config["fraction"], config["batch-size"], config["local-epochs"]) for config in told} == {(0.16, 8, 1)}
    assert work.train_config == ConfigRecord(), "what others train with stays as it is"


def test_a_stronger_one_has_twice_the_rounds_and_settings_out_of_range_are_refused() -> None:
    assert create("fresh-head").stronger() == create("fresh-head", rounds=28)
    for name, value in (("fraction", 0.0), ("fraction", 1.5), ("rounds", 0), ("learning_rate", 0.0), ("layers", 0)):
        with pytest.raises(InvalidParameterError, match=f"fresh-head: {name} = {value}"):
            create("fresh-head", **{name: value})
