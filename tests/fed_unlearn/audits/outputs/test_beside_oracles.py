"""Figures beside oracles and by split, against scipy and scikit-learn, and on models that forgot wrongly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from sklearn.metrics import accuracy_score, roc_auc_score

from fed_unlearn.audits.battery import REPLACED, AuditRun, audits_of, central_observation, run_audits
from fed_unlearn.audits.observation import Observation
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.errors import InvalidParameterError

Seen = Callable[..., Observation]
ORACLES = ("oracle", "other oracle")


def figures(seen: Observation, audit: str) -> dict[str, float]:
    run: AuditRun = run_audits(seen, [audit])[audit]
    assert run.error is None
    for measured in run.figures.values():
        if measured.value is not None:
            assert measured.interval is not None
            assert measured.interval[0] <= measured.value <= measured.interval[1] or audit == "destination_distance"
    return {name: measured.value for name, measured in run.figures.items() if measured.value is not None}


def softmax(seen: Observation) -> np.ndarray:
    return np.asarray(seen.forget.logits.double().softmax(1))


def test_distances_of_outputs_are_those_of_scipy(seen: Seen) -> None:
    found = figures(seen("masked", *ORACLES), "oracle_distance")
    own, others = softmax(seen("masked")), [softmax(seen(name)) for name in ORACLES]
    js = np.mean([scipy.spatial.distance.jensenshannon(own, other, axis=1) ** 2 for other in others])
    assert found["js_divergence"] == pytest.approx(js, abs=1e-6)
    l2 = np.mean([np.linalg.norm(own - other, axis=1) for other in others])
    assert found["activation_distance"] == pytest.approx(l2, abs=1e-9)


@pytest.mark.parametrize("name", ["original", "masked", "over-forgotten"])
def test_what_forgot_wrongly_is_further_from_an_oracle_than_another_oracle(seen: Seen, name: str) -> None:
    wrong, right = (run_audits(seen(item, "oracle"), ["oracle_distance"]) for item in (name, "other oracle"))
    for figure in ("js_divergence", "activation_distance"):
        far, near = (run["oracle_distance"].figures[figure].interval for run in (wrong, right))
        assert far is not None and near is not None and far[0] > near[1]


def test_destination_distance_is_the_total_variation_to_the_mean_of_the_oracles(seen: Seen) -> None:
    def shares(name: str) -> np.ndarray:
        observation = seen(name)
        assert observation.outsiders is not None
        logits = observation.outsiders.logits.clone()
        logits[:, 3] = -torch.inf
        return np.bincount(logits.argmax(1), minlength=10) / len(logits)

    mean = np.mean([shares(name) for name in ORACLES], axis=0)
    found = figures(seen("over-forgotten", *ORACLES), "destination_distance")["destination_distance"]
    assert found == pytest.approx(np.abs(shares("over-forgotten") - mean).sum() / 2, abs=1e-12)
    assert found > 2 * figures(seen("oracle", "other oracle"), "destination_distance")["destination_distance"]


def test_tug_of_war_is_the_mean_product_and_a_mask_fools_it(seen: Seen, data: RequestData) -> None:
    def accuracies(name: str) -> list[float]:
        central = seen(name).central
        assert central is not None
        answers = {part: central.readings.answers(part) for part in data.parts}
        hits = {part: (item.served.argmax(1) == item.labels).tolist() for part, item in answers.items()}
        sets = (hits["forget"], hits["retain"], hits["test_forget"] + hits["test_retain"])
        return [sum(item) / len(item) for item in sets]

    for name in ("original", "masked", "over-forgotten"):
        own = accuracies(name)
        expected = np.mean(
            [np.prod([1 - abs(a - b) for a, b in zip(own, accuracies(oracle), strict=True)]) for oracle in ORACLES]
        )
        found = figures(seen(name, *ORACLES), "tug_of_war")["tug_of_war"]
        assert found == pytest.approx(expected, abs=1e-12)
        assert (found > 0.98) is (name != "original"), "it sees accuracies alone"


def test_accuracies_by_split_and_attacks_are_those_of_scikit_learn(seen: Seen) -> None:
    observation = seen("row overwritten")
    central, outside = observation.central, observation.outsiders
    assert central is not None and outside is not None
    found = figures(observation, "splits")
    for part in ("forget", "retain", "test_forget", "test_retain"):
        answers = central.readings.answers(part)  # type: ignore[arg-type]
        assert found[f"{part}_accuracy"] == accuracy_score(answers.labels, answers.served.argmax(1))
    attack = figures(observation, "population_attack")
    members = np.concatenate([np.ones(len(observation.forget)), np.zeros(len(outside))])
    logits = torch.cat([observation.forget.logits, outside.logits]).double()
    labels = torch.cat([observation.forget.labels, outside.labels])
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert attack["membership_auc"] == pytest.approx(roc_auc_score(members, -losses), abs=1e-6)
    largest = logits.log_softmax(1).amax(1)
    assert attack["membership_confidence_auc"] == pytest.approx(roc_auc_score(members, largest), abs=1e-6)


def test_without_an_oracle_there_are_no_distances_and_the_same_seed_gives_the_same_intervals(seen: Seen) -> None:
    names = ("oracle_distance", "tug_of_war", "destination_distance")
    alone = run_audits(seen("masked"), names)
    assert all(run.error is None for run in alone.values())
    assert all(measured.value is None for run in alone.values() for measured in run.figures.values())
    first, same, other = (run_audits(seen("masked", *ORACLES, seed=seed), names) for seed in (1, 1, 2))
    for name in names:
        assert first[name].figures == same[name].figures
    assert first["oracle_distance"].figures != other["oracle_distance"].figures


def test_in_one_place_each_figure_has_one_audit(seen: Seen) -> None:
    names = audits_of("full", "class")
    assert not set(REPLACED) & set(names) and set(REPLACED.values()) <= set(names)
    own = [name for name in names if name in {*REPLACED.values(), "logit_ranking", "sureness", "destinations"}]
    shown = [figure for run in run_audits(seen("oracle"), own).values() for figure in run.figures]
    assert len(shown) == len(set(shown))
    with pytest.raises(InvalidParameterError):
        run_audits(seen("oracle"), ["nobody"])


def test_for_single_samples_test_samples_of_their_classes_are_outside(seen: Seen, data: RequestData) -> None:
    central = seen("original").central
    assert central is not None
    some = data.parts["retain"].subset(torch.arange(8))
    parts = {**data.parts, "forget": some, "test_forget": some.subset(torch.arange(0))}
    readings = Readings(central.readings.model, RequestData(parts=parts, classes=frozenset(), class_count=10))
    observation = central_observation(readings, "sample")
    assert observation.outsiders is not None
    assert set(observation.outsiders.labels.tolist()) == set(some.labels.tolist())
    assert "membership_auc" in figures(observation, "population_attack")
    assert set(figures(observation, "splits")) == {"forget_accuracy", "retain_accuracy", "test_retain_accuracy"}
    assert not {"logit_ranking", "sureness", "destinations", "destination_distance"} & set(audits_of("full", "sample"))
