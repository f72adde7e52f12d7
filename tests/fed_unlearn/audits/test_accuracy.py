import functools
import operator

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix

from fed_unlearn.audits.accuracy import ClassCounts

CLASSES = 7


@pytest.fixture
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits that are right more often than chance; class 5 has no sample."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (400,), generator=generator)
    labels[labels == 5] = 2
    logits = torch.randn(400, CLASSES, generator=generator) + torch.nn.functional.one_hot(labels, CLASSES)
    return logits, labels


def sklearn_accuracy(logits: torch.Tensor, labels: torch.Tensor, classes: set[int]) -> float:
    chosen = np.isin(labels.numpy(), list(classes))
    return float(accuracy_score(labels.numpy()[chosen], logits.numpy().argmax(1)[chosen]))


def test_counts_are_those_of_the_confusion_matrix(sample: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = sample
    matrix = confusion_matrix(labels.numpy(), logits.numpy().argmax(1), labels=range(CLASSES))
    counts = ClassCounts.of(logits, labels, CLASSES)
    assert counts.correct == tuple(matrix.diagonal())
    assert counts.total == tuple(matrix.sum(axis=1))
    assert all(type(item) is int for item in (*counts.correct, *counts.total))


@pytest.mark.parametrize(
    ("only", "without", "classes"),
    [
        (None, (), {0, 1, 2, 3, 4, 6}),
        ([3], (), {3}),
        ({0, 3, 5}, (), {0, 3}),
        (None, [2], {0, 1, 3, 4, 6}),
        (None, {2, 6, 99}, {0, 1, 3, 4}),
        ([1, 2, 3], [2], {1, 3}),
    ],
)
def test_accuracy_is_that_of_scikit_learn(
    sample: tuple[torch.Tensor, torch.Tensor],
    only: list[int] | set[int] | None,
    without: list[int] | set[int],
    classes: set[int],
) -> None:
    found = ClassCounts.of(*sample, CLASSES).accuracy(only=only, without=without)
    assert found == pytest.approx(sklearn_accuracy(*sample, classes), abs=1e-12)


def test_no_sample_has_no_accuracy(sample: tuple[torch.Tensor, torch.Tensor]) -> None:
    counts = ClassCounts.of(*sample, CLASSES)
    assert counts.accuracy(only=[5]) is None
    assert counts.accuracy(only=[]) is None
    assert counts.accuracy(only=[3], without=[3]) is None
    assert ClassCounts.zero(CLASSES).accuracy() is None
    assert ClassCounts.of(torch.zeros(0, CLASSES), torch.zeros(0, dtype=torch.int64), CLASSES) == ClassCounts(
        (0,) * CLASSES, (0,) * CLASSES
    )


def test_clients_pool_exactly(sample: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = sample
    parts = [ClassCounts.of(logits[rows], labels[rows], CLASSES) for rows in torch.arange(400).split([7, 0, 93, 300])]
    pooled = functools.reduce(operator.add, parts, ClassCounts.zero(CLASSES))
    assert pooled == ClassCounts.of(logits, labels, CLASSES)
    assert pooled.accuracy() == sklearn_accuracy(logits, labels, set(range(CLASSES)))


def test_counts_of_different_tasks_do_not_add() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ClassCounts.zero(3) + ClassCounts.zero(2)
