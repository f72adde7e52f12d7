"""Rows of an output layer that become the mean of others: exact values, and what cannot be an output layer."""

from __future__ import annotations

import numpy as np
import pytest

from fed_unlearn.arrays import Arrays, same_bits
from fed_unlearn.output_rows import OutputRows, fitting_weights, with_mean_rows

ROWS = OutputRows("fc.weight", "fc.bias")
SHAPES = {"fc.weight": (4, 2), "fc.bias": (4,), "conv.weight": (4, 1, 3), "body.weight": (3, 2), "scale": ()}


def made() -> Arrays:
    return {
        "body.weight": np.ones((3, 2), dtype=np.float32),
        "fc.weight": np.array([[1, 10], [2, 20], [4, 60], [9, 90]], dtype=np.float32),
        "fc.bias": np.array([0.5, 1.5, 3.5, 7.0], dtype=np.float32),
    }


def test_a_forgotten_class_gets_the_mean_row_and_bias_of_the_retained_ones() -> None:
    model = made()
    changed = with_mean_rows(model, ROWS, {1: (0, 3), 2: (0, 3)})
    assert changed["fc.weight"].tolist() == [[1, 10], [5, 50], [5, 50], [9, 90]]
    assert changed["fc.bias"].tolist() == [0.5, 3.75, 3.75, 7.0]
    assert changed["fc.weight"].dtype == np.float32 and changed["body.weight"] is model["body.weight"]
    assert same_bits(model, made())


def test_its_logit_is_the_mean_of_theirs_and_never_the_largest() -> None:
    generator = np.random.default_rng(0)
    model = {"w": generator.normal(size=(10, 6)), "b": generator.normal(size=10)}
    changed = with_mean_rows(model, OutputRows("w", "b"), {3: [0, 1, 2, 4, 5, 6, 7, 8, 9]})
    logits = generator.normal(size=(200, 6)) @ changed["w"].T + changed["b"]
    assert np.allclose(logits[:, 3], np.delete(logits, 3, axis=1).mean(axis=1), atol=1e-12)
    assert 3 not in logits.argmax(axis=1)


def test_means_are_taken_in_double_precision() -> None:
    rows = np.array([[0.0], [1.0], [2.0**24], [1.0]], dtype=np.float32)
    changed = with_mean_rows({"w": rows}, OutputRows("w"), {0: (1, 2, 3)})
    assert changed["w"][0, 0] == np.float32((2**24 + 2) / 3)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (ROWS, None),
        (OutputRows("fc.weight"), None),
        (OutputRows("fc.wieght"), "names 'fc.wieght' as part of its output layer, and the model has no such array"),
        (
            OutputRows("body.weight"),
            "names 'body.weight' of shape (3, 2) as part of its output layer; expected one row",
        ),
        (OutputRows("fc.bias"), "names 'fc.bias' of shape (4,)"),
        (OutputRows("conv.weight"), "names 'conv.weight' of shape (4, 1, 3)"),
        (OutputRows("fc.weight", "scale"), "names 'scale' of shape ()"),
    ],
)
def test_arrays_that_cannot_be_an_output_layer_are_told(rows: OutputRows, told: str | None) -> None:
    problem = rows.misfit(SHAPES, 4)
    assert problem is None if told is None else problem is not None and problem.startswith(told)


def test_the_weights_of_an_output_layer_are_told_by_name_and_size() -> None:
    model = {
        "head.weight": np.ones((4, 2)),
        "conv.weight": np.ones((4, 2, 1, 1)),
        "wide.weight": np.ones((4, 2, 3, 3)),
        "turned.weight": np.ones((2, 4)),
        "head.scale": np.ones((4, 2)),
    }
    assert fitting_weights(model, 4, 2, model) == ["head.weight", "conv.weight"]
    assert fitting_weights(model, 4, 2, ["conv.weight", "head.scale"]) == ["conv.weight"]
