"""Figures of audits in Avalanche: those that come with every request, and all of them where they are asked for."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from digit_stream import (
    DRAWN,
    REQUESTS,
    TEST,
    TRAIN,
    after_two_experiences,
    rows_of,
    strategy_with,
    stream,
    tell_served,
    train,
)
from sklearn.metrics import roc_auc_score
from torch import nn

from fed_unlearn.audits.battery import audits_of
from fed_unlearn.avalanche.metrics import forget_metrics
from fed_unlearn.avalanche.metrics.full_audits import retained_of
from fed_unlearn.avalanche.streams.reading import SampleReader
from fed_unlearn.errors import InvalidParameterError

EXP = "eval_phase/forget_stream/Exp00"


def own_logits(model: nn.Module, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    layer = copy.deepcopy(model).eval()[-1].double()
    with torch.no_grad():
        own = images.flatten(1).double() @ layer.weight.T
        return own.numpy(), (own + layer.bias).numpy()


def scores(model: nn.Module, images: torch.Tensor, label: int) -> np.ndarray:
    own, logits = own_logits(model, images)
    return np.asarray(own[:, label] - np.log(np.exp(np.delete(logits, label, axis=1)).sum(1)))


def test_the_logit_auc_compares_with_classes_that_have_arrived_and_stay() -> None:
    strategy, _ = after_two_experiences()
    last = strategy.evaluator.get_last_metrics()
    for number, label in ((0, 1), (2, 0)):
        sides = [TEST.images[torch.isin(TEST.labels, torch.tensor(chosen))] for chosen in ([label], [2, 3])]
        exact = roc_auc_score(
            [1] * 10 + [0] * 20, np.concatenate([scores(strategy.model, side, label) for side in sides])
        )
        assert last[f"Logit_AUC_Exp/{EXP}{number}"] == pytest.approx(exact, abs=0.02)
    assert f"Logit_AUC_Exp/{EXP}1" not in last, "single samples have no class of their own"


def test_a_constant_on_the_bias_hides_nothing() -> None:
    figures: list[Mapping[str, float]] = []
    for bias in (0.0, 100.0):
        benchmark = stream(REQUESTS)
        strategy = strategy_with()
        for experience in benchmark.train_stream[:2]:
            train(strategy, experience)
        with torch.no_grad():
            strategy.model[-1].bias[0] -= bias
        tell_served(strategy, benchmark.forget_stream[2])
        figures.append(strategy.evaluator.get_last_metrics())
    plain, hidden = figures
    assert hidden[f"Forget_Acc_Exp/{EXP}2"] == 0 < plain[f"Forget_Acc_Exp/{EXP}2"]
    for name in ("Logit_AUC_Exp", "Recall_At_5_Exp", "Confidence_Gap_Exp", "Destination_Top_Exp"):
        assert hidden[f"{name}/{EXP}2"] == pytest.approx(plain[f"{name}/{EXP}2"], abs=1e-9)


def test_full_audits_are_emitted_once_after_each_request() -> None:
    benchmark = stream(REQUESTS)
    strategy = strategy_with(metrics=forget_metrics(audit="full"))
    for experience in benchmark.train_stream[:2]:
        train(strategy, experience)
    for experience in benchmark.forget_stream[1:]:
        tell_served(strategy, experience)
    steps = {name: found for name, (found, _) in strategy.evaluator.get_all_metrics().items()}
    assert steps[f"Membership_Confidence_AUC_Exp/{EXP}1"] == [30] == steps[f"Membership_Confidence_AUC_Exp/{EXP}2"]
    train(strategy, benchmark.train_stream[2])
    metrics = strategy.evaluator.get_all_metrics()
    assert metrics[f"Membership_Confidence_AUC_Exp/{EXP}2"][0] == [30], "not again after training"
    assert not {"Js_Divergence_Exp", "Tug_Of_War_Exp"} & {name.split("/")[0] for name in metrics}, "there is no oracle"
    model = strategy_with().model
    assert "population_attack" in audits_of("full", "sample") and model is not strategy.model


def test_the_attack_without_labels_and_the_retained_accuracy_are_those_of_scikit_learn() -> None:
    benchmark = stream(REQUESTS)
    strategy = strategy_with(metrics=forget_metrics(audit="full"))
    for experience in benchmark.train_stream[:2]:
        train(strategy, experience)
    tell_served(strategy, benchmark.forget_stream[1])
    tell_served(strategy, benchmark.forget_stream[2])
    last = strategy.evaluator.get_last_metrics()
    members, outsiders = TRAIN.of_classes({0}).images, TEST.of_classes({0}).images
    sure = [torch.tensor(own_logits(strategy.model, side)[1]).log_softmax(1).amax(1) for side in (members, outsiders)]
    labels = [1] * len(members) + [0] * len(outsiders)
    assert last[f"Membership_Confidence_AUC_Exp/{EXP}2"] == pytest.approx(
        roc_auc_score(labels, torch.cat(sure)), abs=1e-6
    )
    kept = [name for name, label in zip(TRAIN.ids, TRAIN.labels.tolist(), strict=True) if label in (1, 2, 3)]
    images, true = rows_of(TRAIN, [name for name in kept if name not in DRAWN])
    right = (torch.tensor(own_logits(strategy.model, images)[1]).argmax(1) == true).double().mean()
    assert last[f"Retain_Accuracy_Exp/{EXP}2"] == pytest.approx(float(right), abs=1e-9)


def test_retained_samples_are_none_of_those_that_were_forgotten() -> None:
    benchmark = stream(REQUESTS)
    datasets = [item.dataset for item in benchmark.train_stream[:2]]
    found = retained_of(datasets, TRAIN, staying={1, 2}, without=DRAWN, seed="b", reader=SampleReader())
    assert set(found.labels.tolist()) == {1, 2} and not set(found.ids) & set(DRAWN)
    assert len(found) == 40 - sum(label in (1, 2) for label in rows_of(TRAIN, DRAWN)[1].tolist())
    assert len(retained_of([], TRAIN, staying={1}, without=(), seed="b", reader=SampleReader())) == 0


def test_another_level_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="'all' was given; expected one of default, full"):
        forget_metrics(audit="all")  # type: ignore[arg-type]
