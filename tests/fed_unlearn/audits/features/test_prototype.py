import copy

import numpy as np
import pytest
import torch
from audited_digits import FORGOTTEN, data, model, readings, seen
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from fed_unlearn.audits.features.few_samples import DRAWS, few_samples
from fed_unlearn.audits.features.frozen import frozen
from fed_unlearn.audits.features.prototype import STRENGTHS, Attacker, Prototype
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.data.tensors import TensorSet


def lower_median(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


def rebuilt_by_hand(
    few: np.ndarray, retained: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, float]:
    """Sample by sample, length by length."""
    common, origin = weight.mean(0), retained.mean(0)
    unit = np.mean([np.linalg.norm(row - common) for row in weight])
    direction = (few.mean(0) - origin) / np.linalg.norm(few.mean(0) - origin)
    best: tuple[float, np.ndarray, float] | None = None
    for strength in STRENGTHS:
        needed: tuple[list[float], list[float]] = ([], [])
        for index, sample in enumerate(few):
            others = np.delete(few, index, axis=0) if len(few) > 1 else few
            theirs = others.mean(0) - origin
            row = common + strength * unit * theirs / np.linalg.norm(theirs)
            needed[0].append(float((weight @ sample + bias).max() - row @ sample))
        row = common + strength * unit * direction
        for sample in retained:
            needed[1].append(float((weight @ sample + bias).max() - row @ sample))
        middle = (lower_median(needed[0]) + lower_median(needed[1])) / 2
        shares = [float(np.mean([one < middle for one in side])) for side in needed]
        if best is None or shares[0] - shares[1] > best[0]:
            best = (shares[0] - shares[1], row, middle)
    assert best is not None
    return best[1], best[2]


@pytest.mark.parametrize("size", [1, 10])
def test_the_row_is_that_of_a_search_by_hand(size: int) -> None:
    attacker = Attacker.of(readings("delete"), frozen("prototype", readings("delete"), "retain").at(torch.arange(120)))
    few = frozen("prototype", readings("delete"), "forget").features[3 : 3 + size]
    arrays = [part.numpy() for part in (few, attacker.retained, attacker.weight, attacker.bias)]
    expected = rebuilt_by_hand(*arrays)
    row, bias = attacker.rebuilt(few)
    assert row.numpy() == pytest.approx(expected[0], abs=1e-9) and float(bias) == pytest.approx(expected[1], abs=1e-9)


def test_figures_are_those_of_a_model_with_the_rebuilt_row() -> None:
    retained = frozen("prototype", readings("oracle"), "retain")
    attacker = Attacker.of(readings("oracle"), retained)
    forget = frozen("prototype", readings("oracle"), "forget")
    draws = [draw[0] for draw in few_samples(forget.labels, 0)]
    test = [data().parts[part] for part in ("test_forget", "test_retain")]
    images, labels = (torch.cat([part.batch()[index] for part in test]) for index in (0, 1))
    found = []
    for positions in draws[DRAWS : 2 * DRAWS]:
        attacked = copy.deepcopy(model("oracle")).double().eval()
        row, bias = attacker.rebuilt(forget.features[positions])
        with torch.no_grad():
            attacked[-1].weight[FORGOTTEN], attacked[-1].bias[FORGOTTEN] = row, bias
            found.append((attacked(images.double()).argmax(1) == FORGOTTEN).numpy())
    truth = (labels == FORGOTTEN).numpy()
    figures = Prototype.count(seen("oracle")).figures
    recalls, balanced = (
        np.mean([score(called) for called in found])
        for score in (lambda called: called[truth].mean(), lambda called: balanced_accuracy_score(truth, called))
    )
    assert figures["prototype_recall_10"].value == pytest.approx(recalls, abs=1e-6)
    assert figures["prototype_accuracy_10"].value == pytest.approx(balanced, abs=1e-6)


def test_the_class_s_own_row_is_never_read_and_an_oracle_lies_below() -> None:
    original, masked, overwritten, oracle = (
        Prototype.count(seen(name)) for name in ("original", "mask-output", "overwritten", "oracle")
    )
    assert original == masked == overwritten
    for size in (1, 10, 50):
        above, below = (counts.figures[f"prototype_accuracy_{size}"].value for counts in (original, oracle))
        assert above is not None and below is not None and above > below + 0.03


def test_a_class_that_features_do_not_hold_does_not_come_back() -> None:
    """Features of class 2 are drawn as those of class 1 are: a row takes both, or none."""
    generator = torch.Generator().manual_seed(0)

    def part(label: int, place: float, count: int) -> TensorSet:
        values = torch.randn(count, 2, generator=generator) + torch.tensor([place, 1.0])
        return TensorSet(values, torch.full((count,), label))

    retain = part(1, 3.0, 200)
    both = TensorSet(torch.cat([retain.batch()[0], part(0, -3.0, 200).batch()[0]]), torch.arange(400) // 200)
    parts = {
        "forget": part(2, 3.0, 60),
        "retain": both,
        "test_forget": part(2, 3.0, 200),
        "test_retain": part(1, 3.0, 200),
    }
    network = nn.Sequential(nn.Identity(), nn.Linear(2, 3))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    of_model = Readings(network, RequestData(parts=parts, classes=frozenset({2}), class_count=3))
    attacker = Attacker.of(of_model, frozen("prototype", of_model, "retain"))
    row, bias = attacker.rebuilt(of_model.answers("forget").features[:50].double())
    shares = []
    for name in ("test_forget", "test_retain"):
        features = of_model.answers(name).features.double()  # type: ignore[arg-type]
        shares.append(float((features @ row + bias > attacker.best_other(features)).double().mean()))
    assert shares[0] == pytest.approx(shares[1], abs=0.1)


def test_one_class_that_stays_is_enough() -> None:
    attacker = Attacker(torch.tensor([[2.0, 0.0]]).double(), torch.zeros(1).double(), torch.eye(2).double() * 0.1)
    row, bias = attacker.rebuilt(torch.tensor([[0.0, 5.0], [0.5, 4.0]]).double())
    few = torch.tensor([[0.0, 5.0]]).double()
    assert float(few @ row + bias) > float(attacker.best_other(few))
