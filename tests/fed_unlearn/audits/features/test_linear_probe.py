import numpy as np
import pytest
import torch
from audited_digits import FORGOTTEN, data, readings, seen
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline

from fed_unlearn.audits.battery import audits_of, run_audits
from fed_unlearn.audits.features import linear_probe
from fed_unlearn.audits.features.linear_probe import LinearProbe, fitted_probe
from fed_unlearn.audits.probe import probe
from fed_unlearn.data.images import concatenate


def test_the_figure_is_that_of_scikit_learn_on_standardised_features() -> None:
    of_model = readings("delete")
    train, test = (
        np.concatenate([of_model.answers(part).features.double().numpy() for part in parts])
        for parts in (("forget", "retain"), ("test_forget", "test_retain"))
    )
    labels = [
        np.r_[np.ones(len(data().parts[forgotten])), np.zeros(len(data().parts[retained]))]
        for forgotten, retained in (("forget", "retain"), ("test_forget", "test_retain"))
    ]
    mean, scale = train.mean(0), train.std(0)
    scale[scale == 0] = 1
    classifier = LogisticRegression(class_weight="balanced", max_iter=1000).fit((train - mean) / scale, labels[0])
    expected = balanced_accuracy_score(labels[1], classifier.predict((test - mean) / scale))
    assert LinearProbe.count(seen("delete")).value == pytest.approx(expected, abs=1e-6)


def test_it_agrees_with_the_function_that_reads_a_model_itself() -> None:
    parts = data().parts
    sets = [
        concatenate(parts[one], parts[other]) for one, other in (("forget", "retain"), ("test_forget", "test_retain"))
    ]
    result = probe(readings("oracle").model, *sets, [FORGOTTEN], seed=0)
    counted = LinearProbe.count(seen("oracle"))
    assert counted.value == pytest.approx(result.balanced_accuracy, abs=1e-6)
    assert (counted.forgotten, counted.retained) == (result.class_samples, result.other_samples)


def test_nothing_that_is_done_to_the_output_layer_changes_it_and_an_oracle_lies_below() -> None:
    values = {
        name: LinearProbe.count(seen(name)).value for name in ("original", "mask-output", "overwritten", "oracle")
    }
    assert values["original"] == values["mask-output"] == values["overwritten"]
    assert values["original"] is not None and values["oracle"] is not None
    assert values["original"] > values["oracle"] + 0.02


def test_training_samples_are_bounded_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[torch.Tensor] = []

    def noted(features: torch.Tensor, truth: torch.Tensor) -> Pipeline:
        fitted.append(features)
        return fitted_probe(features, truth)

    monkeypatch.setattr(linear_probe, "MOST_FORGOTTEN", 20)
    monkeypatch.setattr(linear_probe, "MOST_RETAINED", 50)
    monkeypatch.setattr(linear_probe, "fitted_probe", noted)
    for seed in (0, 0, 1):
        LinearProbe.count(seen("original", seed))
    assert [len(features) for features in fitted] == [70, 70, 70]
    assert torch.equal(fitted[0], fitted[1]) and not torch.equal(fitted[0], fitted[2])


def test_it_runs_with_the_full_battery_of_class_requests_alone() -> None:
    assert "probe_accuracy" in audits_of("full", "class")
    assert "probe_accuracy" not in audits_of("default", "class") + audits_of("full", "sample")
    run = run_audits(seen("original"), ["probe_accuracy"])["probe_accuracy"]
    measured = run.figures["probe_accuracy"]
    assert measured.interval is not None and measured.interval[0] < measured.value < measured.interval[1]
