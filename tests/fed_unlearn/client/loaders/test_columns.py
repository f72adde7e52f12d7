"""Ids, labels and names of classes that a data set has beside its items."""

from __future__ import annotations

import logging
from typing import Any

import datasets
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from fed_unlearn.client.loaders.columns import check_positions, class_names_of, ids_of, label_column
from fed_unlearn.errors import InvalidDataError


class Vision(Dataset[Any]):
    """A data set with what those of torchvision have."""

    def __init__(self, **columns: Any) -> None:
        for name, values in columns.items():
            setattr(self, name, values)


def hub(labels: list[int], names: list[str]) -> datasets.Dataset:
    features = datasets.Features({"label": datasets.ClassLabel(names=names), "count": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"label": labels, "count": [7] * len(labels)}, features=features)


def test_ids_are_texts_and_follow_parts() -> None:
    named = Vision(ids=[5, 6, 7])
    assert ids_of(named) == ("5", "6", "7")
    assert ids_of(Subset(Subset(named, [2, 0]), [1])) == ("5",)
    assert ids_of(TensorDataset(torch.zeros(2))) is None and ids_of(Subset(TensorDataset(torch.zeros(2)), [0])) is None


def test_ids_of_tensors_are_numbers_and_a_method_is_none() -> None:
    assert ids_of(Vision(ids=torch.tensor([30, 7]))) == ("30", "7")
    assert ids_of(Vision(ids=lambda: ["a"])) is None


def test_a_sample_without_an_id_is_in_a_part_once() -> None:
    check_positions(Subset(Vision(), [2, 0, 1]))
    with pytest.raises(InvalidDataError, match="names 2 samples more than once"):
        check_positions(Subset(Vision(), [2, 0, 2, 0]))


def test_labels_are_whole_numbers_of_the_column_or_targets() -> None:
    assert label_column(hub([1, 0, 1], ["a", "b"]), "label") == [1, 0, 1]
    assert label_column(Subset(Vision(targets=torch.tensor([4, 5, 6])), [2, 1]), 1) == [6, 5]
    assert label_column(Vision(targets=["cat"]), 1) is None
    assert label_column(Vision(targets=[0.5]), 1) is None
    assert label_column(Vision(), 1) is None


@pytest.mark.parametrize(
    "dataset, key, names",
    [
        (hub([0, 1], ["cat", "deer"]), "label", ("cat", "deer")),
        (hub([0, 1], ["cat", "deer"]), "count", None),
        (Subset(Subset(Vision(classes=["cat", "deer"]), [0]), [0]), 1, ("cat", "deer")),
        (Vision(classes=("cat", "deer")), 1, ("cat", "deer")),
        (Vision(classes=2), 1, None),
        (Vision(classes=[1, 2]), 1, None),
        (Vision(), 1, None),
    ],
)
def test_names_of_classes(dataset: Any, key: int | str, names: tuple[str, ...] | None) -> None:
    assert class_names_of(dataset, key, 2) == names


def test_names_that_do_not_fit_are_not_used_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fed_unlearn.client"):
        assert class_names_of(Vision(classes=["cat", "deer"]), 1, 3) is None
    assert "the names of the classes that Vision has are not used: 2 names for 3 classes" in caplog.text
