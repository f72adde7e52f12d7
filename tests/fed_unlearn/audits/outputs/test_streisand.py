import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from audited_digits import digits, model, readings, seen
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import nn

from fed_unlearn.audits.battery import central_observation, run_audits
from fed_unlearn.audits.outputs.streisand import Streisand, picked_out, sorted_log_probabilities
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.errors import EmptySetError
from fed_unlearn.methods import create
from fed_unlearn.seeding import derive_seed


def by_scikit_learn(forgotten: np.ndarray, others: np.ndarray, seed: int) -> float:
    """The five fits written out."""
    features, truth = np.concatenate([forgotten, others]), np.r_[np.ones(len(forgotten)), np.zeros(len(others))]
    folds = StratifiedKFold(5, shuffle=True, random_state=derive_seed(seed, "streisand", "folds") % 2**32)
    scores = np.empty(len(truth))
    for fitted, judged in folds.split(features, truth):
        mean, scale = features[fitted].mean(0), features[fitted].std(0)
        scale[scale == 0] = 1
        classifier = LogisticRegression(class_weight="balanced", max_iter=500)
        classifier.fit((features[fitted] - mean) / scale, truth[fitted])
        scores[judged] = classifier.decision_function((features[judged] - mean) / scale)
    return float(roc_auc_score(truth, scores))


def test_the_figure_is_that_of_scikit_learn() -> None:
    parts = [sorted_log_probabilities(readings("delete").answers(p).served) for p in ("test_forget", "test_retain")]  # type: ignore[arg-type]
    value, low, high = picked_out(parts[0], parts[1], seed=3)
    assert value == pytest.approx(by_scikit_learn(parts[0].numpy(), parts[1].numpy(), 3), abs=1e-6)
    assert 0 <= low < value < high <= 1


def test_outputs_are_sorted_and_a_mask_is_one_more_constant() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, 5.0]])
    expected = np.sort(np.log(np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)))[:, ::-1]
    assert sorted_log_probabilities(logits).numpy() == pytest.approx(expected, abs=1e-6)
    for mask in (-1e4, -torch.inf):
        masked = sorted_log_probabilities(torch.cat([logits, torch.full((2, 1), mask)], dim=1))
        assert masked[:, :3].numpy() == pytest.approx(expected, abs=1e-6) and masked[:, 3].tolist() == [-30, -30]
    assert sorted_log_probabilities(torch.randn(2, 50)).shape == (2, 20)


def test_a_suppressed_class_stands_out_as_one_that_was_never_seen_does_not() -> None:
    """The class's own output still tells in what DELETE leaves; a mask takes its part away from every sample."""
    figures = {name: Streisand.count(seen(name)).figures for name in ("original", "delete", "mask-output", "oracle")}
    found = {name: of_model["streisand_auc"].value for name, of_model in figures.items()}
    assert found["original"] < found["oracle"] < found["mask-output"]  # type: ignore[operator]
    assert figures["mask-output"]["streisand_staying_auc"] == figures["original"]["streisand_staying_auc"]
    assert found["mask-output"] == pytest.approx(figures["mask-output"]["streisand_staying_auc"].value, abs=0.01)


def test_samples_without_a_difference_are_not_found() -> None:
    noise = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0)).double()
    value, low, high = picked_out(noise[:500], noise[500:], seed=0)
    assert low < 0.5 < high and value == pytest.approx(0.5, abs=0.05)
    apart = picked_out(noise[:6] + 20, noise[6:], seed=0)
    assert apart[0] == 1.0 and apart[1] < 1.0
    assert picked_out(noise[:1], noise[1:], seed=0) == picked_out(noise, noise[:0], seed=0) == ()


def of_samples(changed: nn.Module, forgotten: torch.Tensor) -> Readings:
    kept = torch.ones(len(digits().retain), dtype=torch.bool)
    kept[forgotten] = False
    parts = {
        "forget": digits().retain.subset(forgotten),
        "retain": digits().retain.subset(kept.nonzero().flatten()),
        "test_forget": digits().test_forget.of_classes([]),
        "test_retain": digits().test_retain,
    }
    return Readings(changed, RequestData(parts=parts, classes=frozenset(), class_count=10))  # type: ignore[arg-type]


def test_samples_that_were_made_wrong_are_conspicuous() -> None:
    chosen = torch.arange(0, 320, 20)
    untouched = of_samples(model("original"), chosen)
    retain = untouched.data.parts["retain"]
    method = create("instance-wise", goal="misclassify")
    made = method.unlearn(
        copy.deepcopy(model("original")),
        untouched.data.parts["forget"],
        retain,
        generator=torch.Generator().manual_seed(0),
    )
    counted = {
        name: Streisand.count(central_observation(of_model, "sample")).figures
        for name, of_model in (("untouched", untouched), ("misclassified", of_samples(made.model, chosen)))
    }
    assert set(counted["untouched"]) == {"streisand_auc", "streisand_unseen_auc"}
    assert counted["misclassified"]["streisand_auc"].value > 0.9  # type: ignore[operator]
    assert counted["untouched"]["streisand_auc"].value < 0.6  # type: ignore[operator]


def test_it_draws_by_the_seed_alone_and_needs_all_in_one_place() -> None:
    first, again, other = (run_audits(seen("delete", seed), ["streisand"])["streisand"].figures for seed in (0, 0, 1))
    assert first == again != other
    with pytest.raises(EmptySetError, match="streisand: the samples of a request are not in one place"):
        Streisand.count(replace(seen("original"), central=None))
