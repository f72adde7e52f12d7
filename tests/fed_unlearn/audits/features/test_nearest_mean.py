import numpy as np
import pytest
import torch
from audited_digits import FORGOTTEN, OTHERS, readings, seen
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize
from torch import nn

from fed_unlearn.audits.battery import central_observation
from fed_unlearn.audits.features.few_samples import few_samples
from fed_unlearn.audits.features.nearest_mean import NearestMean
from fed_unlearn.audits.features.prototype import Prototype
from fed_unlearn.audits.readings import PartName, Readings, RequestData
from fed_unlearn.data.tensors import TensorSet


def by_scikit_learn(name: str, draws: list[np.ndarray]) -> float:
    """Unit vectors have the same nearest centroid by Euclidean distance as by cosine."""
    answers = readings(name).answers
    forget, retain = (answers(part).features.double().numpy() for part in ("forget", "retain"))
    labels = answers("retain").labels.numpy()
    test = np.concatenate([answers(part).features.double().numpy() for part in ("test_forget", "test_retain")])
    truth = np.concatenate([answers(part).labels.numpy() for part in ("test_forget", "test_retain")]) == FORGOTTEN
    origin, found = retain.mean(0), []
    for positions in draws:
        means = np.stack([forget[positions].mean(0)] + [retain[labels == label].mean(0) for label in OTHERS])
        centroids = NearestCentroid().fit(normalize(means - origin), [FORGOTTEN, *OTHERS])
        found.append(balanced_accuracy_score(truth, centroids.predict(normalize(test - origin)) == FORGOTTEN))
    return float(np.mean(found))


@pytest.mark.filterwarnings("ignore:invalid value")  # of a variance within classes: each has one sample
@pytest.mark.parametrize("name", ["delete", "oracle"])
def test_figures_are_those_of_scikit_learn(name: str) -> None:
    draws = [draw[0].numpy() for draw in few_samples(readings(name).answers("forget").labels, 0)]
    figures = NearestMean.count(seen(name)).figures
    for size in (1, 10, 50):
        expected = by_scikit_learn(name, [positions for positions in draws if len(positions) == size])
        assert figures[f"nearest_mean_{size}"].value == pytest.approx(expected, abs=1e-6)


def test_nothing_that_is_done_to_the_output_layer_changes_it_and_an_oracle_lies_below() -> None:
    original, masked, overwritten, oracle = (
        NearestMean.count(seen(name)) for name in ("original", "mask-output", "overwritten", "oracle")
    )
    assert original == masked == overwritten
    for name, measured in oracle.figures.items():
        above = original.figures[name]
        assert measured.value is not None and above.value is not None and above.value > measured.value + 0.04
        assert measured.interval is not None and measured.interval[0] < measured.value < measured.interval[1]
    assert original.value == original.figures["nearest_mean_10"].value


def test_several_classes_have_a_mean_each_and_stand_together() -> None:
    """Two classes on two sides of the others: the mean of both lies among the others."""
    generator = torch.Generator().manual_seed(0)
    parts: dict[PartName, TensorSet] = {}
    for name in ("forget", "retain", "test_forget", "test_retain"):
        labels = torch.arange(120) % 2 + (0 if name.endswith("forget") else 2)
        places = torch.tensor([[-5.0, 0.0], [5.0, 0.0], [0.0, 5.0], [0.0, -5.0]])
        parts[name] = TensorSet(places[labels] + torch.randn(120, 2, generator=generator), labels)
    network = nn.Sequential(nn.Identity(), nn.Linear(2, 4))
    with torch.no_grad():
        network[1].weight.copy_(places)
    of_model = Readings(network, RequestData(parts=parts, classes=frozenset({0, 1}), class_count=4))
    for audit in (NearestMean, Prototype):
        counted = audit.count(central_observation(of_model, "class"))
        assert counted.value is not None and counted.value > 0.97
    assert Prototype.count(central_observation(of_model, "class")).figures["prototype_accuracy_10"].value > 0.97  # type: ignore[operator]


def test_nothing_counted_is_no_figure() -> None:
    assert {measured.value for measured in NearestMean().figures.values()} == {None}
