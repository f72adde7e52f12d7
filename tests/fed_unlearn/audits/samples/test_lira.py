"""Offline LiRA of one model, and U-LiRA of shadow models, on planted failures with known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from fed_unlearn.audits.base import AUDITS, Measured, Observation
from fed_unlearn.audits.battery import audits_of, central_observation, run_audits
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.audits.samples.lira import offline_distances, standing_out
from fed_unlearn.audits.samples.ratios import LEAST_SPREAD
from fed_unlearn.audits.samples.shadows import Shadows
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import InvalidParameterError

SHADOWS, RANDOM, MEMORISED, TEST = 16, 16, 8, 60
IS_MEMORISED = torch.arange(RANDOM + MEMORISED) >= RANDOM
MEANS = torch.where(IS_MEMORISED, -3.0, 7.0).double()
"""Log-odds of retrained models: sure of samples drawn at random, and not of memorised ones."""


class Given(nn.Module):
    """A model whose answer to each sample is given: log-odds of class 0, which the sample's input holds."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[1.0], [0.0]]))

    def forward(self, inputs: Tensor) -> Tensor:
        answers: Tensor = self.head(inputs)
        return answers


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def answers(seed: int, lift: Tensor | float = 0.0) -> Tensor:
    """Confidences of one model in the forget set, as of a retrained model and then lifted."""
    return MEANS + noise(seed, RANDOM + MEMORISED) + lift


def shadows(unlearned: Tensor | None = None) -> Shadows:
    return Shadows(
        retrained=MEANS + noise(1, SHADOWS, RANDOM + MEMORISED),
        retrained_test=5 + noise(2, SHADOWS, TEST),
        unlearned=unlearned,
        memorised=IS_MEMORISED,
    )


def observed(own: Tensor, given: Shadows | None) -> Observation:
    def part(values: Tensor) -> TensorSet:
        return TensorSet(values.float().unsqueeze(1), torch.zeros(len(values), dtype=torch.int64))

    parts = {
        "forget": part(own),
        "retain": part(torch.zeros(1)),
        "test_forget": part(torch.empty(0)),
        "test_retain": part(5 + noise(3, TEST)),
    }
    readings = Readings(Given(), RequestData(parts=parts, classes=frozenset(), class_count=2))
    return central_observation(readings, "sample", shadows=given, seed=5)


def figures(own: Tensor, unlearned: Tensor | None = None) -> dict[str, Measured]:
    runs = run_audits(observed(own, shadows(unlearned)), ["lira", "ulira"])
    assert all(run.error is None for run in runs.values())
    return {name: measured for run in runs.values() for name, measured in run.figures.items()}


def value(found: dict[str, Measured], name: str) -> float:
    measured = found[name].value
    assert measured is not None
    return measured


ALL_BUT_ONE = torch.zeros(RANDOM + MEMORISED)
ALL_BUT_ONE[-1] = 12.0
UNTOUCHED = torch.where(IS_MEMORISED, 12.0, 1.0)


def test_distances_are_students_t_of_one_more_model() -> None:
    retrained, own = noise(4, 9, 5), noise(5, 5)
    found = offline_distances(own, retrained)
    for sample in range(5):
        column = retrained[:, sample].numpy()
        spread = math.sqrt(float(np.var(column, ddof=1)) + LEAST_SPREAD**2)
        expected = (float(own[sample]) - float(column.mean())) / spread / math.sqrt(1 + 1 / 9)
        assert float(found[sample]) == pytest.approx(expected, abs=1e-9)


def test_samples_stand_out_by_students_t_and_bonferroni() -> None:
    threshold = float(student.isf(0.05 / 24, 15))
    distances = torch.full((24,), -9.0, dtype=torch.float64)
    distances[3], distances[7] = threshold + 1e-6, threshold - 1e-6
    assert standing_out(distances, 16) == 1


def test_retrained_models_seldom_leave_a_sample() -> None:
    given = shadows().retrained
    fresh = [offline_distances(answers(100 + seed), MEANS + noise(500 + seed, *given.shape)) for seed in range(300)]
    alarms = sum(standing_out(each, SHADOWS) > 0 for each in fresh)
    assert alarms / 300 < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)


def test_a_retrained_model_is_like_the_others() -> None:
    found = figures(answers(7), MEANS + noise(8, SHADOWS, RANDOM + MEMORISED))
    assert value(found, "lira_left") == value(found, "lira_overdone") == 0
    for name in ("ulira_auc_random", "ulira_auc_memorised", "ulira_accuracy_random", "ulira_accuracy_memorised"):
        low, high = found[name].interval or (math.nan, math.nan)
        assert 0.25 < low < value(found, name) < high < 0.75 and low < 0.5 < high
    assert value(found, "ulira_worst") < 0.85 and value(found, "ulira_tpr_memorised") < 0.06
    assert value(found, "lira_distance_random") == pytest.approx(0.83, abs=0.3)


def test_an_untouched_model_is_caught_on_memorised_samples_where_the_loss_alone_sees_nothing() -> None:
    own = answers(7, UNTOUCHED)
    found = figures(own, MEANS + UNTOUCHED + noise(8, SHADOWS, RANDOM + MEMORISED))
    assert value(found, "ulira_auc_memorised") > 0.95 and value(found, "ulira_tpr_memorised") > 0.9
    assert value(found, "ulira_auc_random") < 0.75
    assert value(found, "lira_left") >= 3 and value(found, "lira_auc_memorised") > 0.95
    assert value(found, "lira_distance_memorised") > 3 > 1.5 > value(found, "lira_distance_random")
    outside, distances = 5 + noise(3, TEST), offline_distances(own, shadows().retrained)
    unseen = offline_distances(outside, shadows().retrained_test)
    for name, inside, others in (("lira_auc", distances, unseen), ("loss_auc", own, outside)):
        scores = torch.cat([inside[IS_MEMORISED], others]).tolist()
        expected = roc_auc_score([1] * MEMORISED + [0] * TEST, scores)
        assert value(found, f"{name}_memorised") == pytest.approx(expected, abs=1e-6)


def test_one_memorised_sample_that_was_left_is_caught_where_means_see_little() -> None:
    left = MEANS + ALL_BUT_ONE + noise(8, SHADOWS, RANDOM + MEMORISED)
    found, retrained = figures(answers(7, ALL_BUT_ONE), left), figures(answers(7))
    assert value(found, "lira_left") == 1 and value(retrained, "lira_left") == 0
    assert value(found, "ulira_worst") > 0.98
    assert value(found, "ulira_auc_memorised") < 0.65


def test_samples_that_a_model_calls_wrong_are_caught_too() -> None:
    found = figures(answers(7, -25.0), MEANS - 25 + noise(8, SHADOWS, RANDOM + MEMORISED))
    assert value(found, "lira_overdone") == RANDOM + MEMORISED and value(found, "lira_left") == 0
    assert value(found, "lira_auc_random") < 0.05 and value(found, "ulira_auc_random") > 0.99


def test_without_shadow_models_there_are_no_figures() -> None:
    runs = run_audits(observed(answers(7), None), ["lira", "ulira"])
    assert all(run.error is None and run.figures == {} for run in runs.values())
    alone = run_audits(observed(answers(7), shadows()), ["lira", "ulira"])
    assert alone["ulira"].figures == {} and "lira_left" in alone["lira"].figures
    assert AUDITS.find("ulira").count(observed(answers(7), shadows())).value is None


def test_they_run_in_one_place_with_all_audits_of_class_and_sample_requests() -> None:
    for name in ("lira", "ulira"):
        assert name in audits_of("full", "sample") and name in audits_of("full", "class")
        assert name not in audits_of("default", "sample") and name not in audits_of("full", "client")
        counted = AUDITS.find(name).count(observed(answers(7), shadows()))
        with pytest.raises(InvalidParameterError, match="needs the model and all samples in one place"):
            counted + counted


def test_a_gate_sees_no_figure_of_test_samples() -> None:
    counted = AUDITS.find("lira").count(observed(answers(7), shadows()))
    assert set(counted.gate_figures) == {
        "lira_distance_random",
        "lira_distance_memorised",
        "lira_left",
        "lira_overdone",
    }
    assert counted.value == 0
