"""Figures of forgetting against plain torch and scikit-learn, under the names and in the loggers of Avalanche."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.deprecated.generators import nc_benchmark
from confidence_audit import install
from digit_stream import (
    REQUESTS,
    TEST,
    TRAIN,
    after_two_experiences,
    digits,
    on_ids,
    on_test,
    push_down,
    rows_of,
    strategy_with,
    stream,
    tell_served,
    train,
)
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.avalanche.metrics import forget_metrics
from fed_unlearn.avalanche.metrics.relapse_matrix import RelapseMatrix
from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.avalanche.streams import ForgetExperience, forget_benchmark
from fed_unlearn.avalanche.streams.order import interleave
from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset, labels_of
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.requests import ClassScope, ForgetRequest

DESTINATIONS = {"Destination_Entropy_Exp", "Destination_Top_Exp"}
OUTPUT_FIGURES = {
    "Recall_Without_Bias_Exp",
    "Logit_AUC_Exp",
    "Recall_At_5_Exp",
    "Confidence_Gap_Exp",
    "Entropy_Gap_Exp",
    *DESTINATIONS,
}
"""Of class requests, by audits that run with every request."""
NEEDING_MORE = {"Reset_Rows_Logit_AUC_Exp", "Reset_Rows_Recall_At_5_Exp", "Above_Reference_Exp"}
"""These need validation samples, or a reference; streams of forget requests have neither here."""
ITERATIONS = 15  # of an experience: three epochs over forty samples in batches of eight


def attack(model: nn.Module, ids: tuple[str, ...]) -> float:
    images, labels = rows_of(TRAIN, ids)
    same = torch.isin(TEST.labels, labels)
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        losses = functional.cross_entropy(
            model(torch.cat([images, TEST.images[same]]).double()),
            torch.cat([labels, TEST.labels[same]]),
            reduction="none",
        )
    members = [1] * len(labels) + [0] * int(same.sum())
    return float(roc_auc_score(members, -losses.numpy()))


def test_every_figure_is_that_of_an_independent_computation() -> None:
    strategy, benchmark = after_two_experiences()
    model, last = strategy.model, strategy.evaluator.get_last_metrics()
    sets = [experience.sample_ids for experience in benchmark.forget_stream]
    assert [len(ids) for ids in sets] == [20, 4, 20]
    for number, ids in enumerate(sets):
        assert last[f"Forget_Acc_Exp/eval_phase/forget_stream/Exp00{number}"] == on_ids(model, ids)
        auc = last[f"Membership_AUC_Exp/eval_phase/forget_stream/Exp00{number}"]
        assert auc == pytest.approx(attack(model, ids), abs=1e-9) and 0 < auc < 1
    assert last["Test_Forget_Acc_Exp/eval_phase/forget_stream/Exp000"] == on_test(model, 1)
    assert last["Test_Forget_Acc_Exp/eval_phase/forget_stream/Exp002"] == on_test(model, 0)
    assert last["Forget_Acc_Stream/eval_phase/forget_stream"] == on_ids(model, sum(sets, ()))
    assert last["Test_Forget_Acc_Stream/eval_phase/forget_stream"] == on_test(model, 0, 1)
    assert last["Retain_Acc_Stream/eval_phase/test_stream"] == on_test(model, 2, 3)
    figures = [value for name, value in last.items() if "Acc_Exp" in name or name.startswith("Retain")]
    assert len(set(figures)) > 3 and min(figures[:1] + figures[-1:]) > 0  # such that a mix-up would show


def test_audits_of_other_packages_are_metrics_too(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    strategy, benchmark = after_two_experiences()
    last = strategy.evaluator.get_last_metrics()
    for number, experience in enumerate(benchmark.forget_stream):
        images, labels = rows_of(TRAIN, experience.sample_ids)
        with torch.no_grad():
            right = strategy.model.eval()(images).double().softmax(1)[range(len(labels)), labels].mean()
        name = f"Mean_Confidence_Exp/eval_phase/forget_stream/Exp00{number}"
        assert last[name] == pytest.approx(float(right), abs=1e-6)


def test_failed_requests_have_figures_of_their_own_but_are_not_pooled() -> None:
    strategy, benchmark = after_two_experiences(a=True, b=False, c=False)
    model, last = strategy.model, strategy.evaluator.get_last_metrics()
    assert last["Forget_Acc_Exp/eval_phase/forget_stream/Exp002"] == on_ids(
        model, benchmark.forget_stream[2].sample_ids
    )
    assert last["Forget_Acc_Stream/eval_phase/forget_stream"] == on_ids(model, benchmark.forget_stream[0].sample_ids)
    assert last["Test_Forget_Acc_Stream/eval_phase/forget_stream"] == on_test(model, 1)
    assert last["Retain_Acc_Stream/eval_phase/test_stream"] == on_test(model, 2, 3)
    nothing_committed = after_two_experiences(a=False, b=False, c=False)[0].evaluator.get_last_metrics()
    assert "Forget_Acc_Stream/eval_phase/forget_stream" not in nothing_committed
    assert nothing_committed["Retain_Acc_Stream/eval_phase/test_stream"] == on_test(model, 2, 3)


def test_names_and_steps_are_those_of_avalanche() -> None:
    strategy, benchmark = after_two_experiences()
    strategy.eval(benchmark.forget_stream)
    metrics = strategy.evaluator.get_all_metrics()
    assert metrics.pop("Top1_Acc_Stream/eval_phase/forget_stream")
    a, b, c = (f"eval_phase/forget_stream/Exp00{number}" for number in range(3))
    once, twice, thrice, always = [30], [30] * 2, [15, 30, 30, 30], [15, 30, 30, 30]
    assert {name: steps for name, (steps, _) in metrics.items()} == {
        f"Forget_Acc_Exp/{a}": always,
        f"Forget_Acc_Exp/{b}": twice,
        f"Forget_Acc_Exp/{c}": once,
        f"Test_Forget_Acc_Exp/{a}": always,
        f"Test_Forget_Acc_Exp/{c}": once,
        f"Membership_AUC_Exp/{a}": always,
        f"Membership_AUC_Exp/{b}": twice,
        f"Membership_AUC_Exp/{c}": once,
        f"Relapse_Exp/{a}": always,
        f"Relapse_Exp/{b}": twice,
        f"Relapse_Exp/{c}": once,
        "Forget_Acc_Stream/eval_phase/forget_stream": thrice,
        "Test_Forget_Acc_Stream/eval_phase/forget_stream": thrice,
        "Retain_Acc_Stream/eval_phase/test_stream": thrice,
        "Relapse_Matrix/eval_phase/forget_stream": always,
        **{f"{name}/{a}": always for name in OUTPUT_FIGURES - DESTINATIONS},
        **{f"{name}/{a}": thrice[1:] for name in DESTINATIONS},  # one class alone stays at first
        **{f"{name}/{c}": once for name in OUTPUT_FIGURES},
    }
    assert strategy.clock.train_iterations == 2 * ITERATIONS


def test_a_benchmark_with_task_labels_has_them_in_the_names() -> None:
    train, test = (as_avalanche_dataset(images) for images in digits())
    benchmark = nc_benchmark(train, test, n_experiences=3, task_labels=True, shuffle=False)
    told = forget_benchmark(benchmark, {2: [ForgetRequest.for_class(3)]})
    strategy = strategy_with()
    tell_served(strategy, told.forget_stream[0])
    names = set(strategy.evaluator.get_last_metrics())
    assert "Forget_Acc_Exp/eval_phase/forget_stream/Task001/Exp000" in names
    assert "Forget_Acc_Stream/eval_phase/forget_stream/Task001" in names
    assert "Retain_Acc_Stream/eval_phase/test_stream/Task000" in names


@pytest.mark.parametrize(
    ("left_out", "gone"),
    [
        ("request", {"Forget_Acc_Exp", "Test_Forget_Acc_Exp", *OUTPUT_FIGURES, *NEEDING_MORE}),
        ("stream", {"Forget_Acc_Stream", "Test_Forget_Acc_Stream", "Retain_Acc_Stream"}),
        ("relapse", {"Relapse_Exp", "Relapse_Matrix"}),
        ("membership", {"Membership_AUC_Exp"}),
    ],
)
def test_metrics_can_be_left_out(left_out: str, gone: set[str]) -> None:
    everything = {str(metric) for metric in forget_metrics()}
    chosen = forget_metrics(**{left_out: False})
    assert everything - {str(metric) for metric in chosen} == gone
    strategy = strategy_with(metrics=chosen)
    tell_served(strategy, stream(REQUESTS).forget_stream[2])
    emitted = {name.split("/")[0] for name in strategy.evaluator.get_last_metrics()}
    assert emitted == everything - gone - NEEDING_MORE


def interleaved() -> tuple[Any, dict[str, nn.Module], dict[str, int]]:
    """Train, a, train, b and c, train, with a copy of the model after every event since the first request."""
    benchmark = stream(REQUESTS)
    strategy = strategy_with()
    models: dict[str, nn.Module] = {}
    for number, experience in enumerate(benchmark.train_stream, start=1):
        train(strategy, experience)
        if models:
            models[f"train:{number}"] = copy.deepcopy(strategy.model)
        for forget in benchmark.forget_stream:
            if forget.after == number:
                push_down(strategy.model, set(forget.request.target().get("classes", [2])), 0.03)
                tell_served(strategy, forget)
                models[forget.request.id] = copy.deepcopy(strategy.model)
    return strategy, models, {forget.request.id: forget for forget in benchmark.forget_stream}


def test_the_relapse_matrix_has_every_request_after_every_event() -> None:
    strategy, models, requests = interleaved()
    matrices = strategy.evaluator.get_all_metrics()["Relapse_Matrix/eval_phase/forget_stream"]
    assert matrices[0] == [15, 30, 30, 30, 45]
    last: RelapseMatrix = matrices[1][-1]
    assert [event.after for event in last.events] == ["a", "train:2", "b", "c", "train:3"] == list(models)
    assert list(last.requests.values()) == ["a", "b", "c"]
    served = {"a": 0, "b": 2, "c": 3}
    expected = [
        [on_ids(model, requests[name].sample_ids) if row >= served[name] else math.nan for name in "abc"]
        for row, model in enumerate(models.values())
    ]
    assert torch.equal(last.tensor.nan_to_num(-1), torch.tensor(expected, dtype=torch.float64).nan_to_num(-1))
    assert len({value for row in expected for value in row if value == value}) > 3
    relapse = strategy.evaluator.get_all_metrics()["Relapse_Exp/eval_phase/forget_stream/Exp000"][1]
    assert relapse == [row[0] - expected[0][0] for row in expected]


def test_the_plug_in_has_them_measured_when_it_has_served_a_request() -> None:
    benchmark = stream({1: [ForgetRequest.for_class(1, id="a")], 2: [ForgetRequest.for_class(3, id="b")]})
    thresholds = Thresholds(max_forget_accuracy=1.0, max_retain_drop=None, max_total_retain_drop=None)
    plugin = UnlearningPlugin("random-label", gate=Gate(class_thresholds=thresholds), retain="seen")
    strategy = strategy_with(plugins=[plugin])
    ended: list[tuple[float, float]] = []
    for experience in interleave(benchmark):
        train(strategy, experience)
        if isinstance(experience, ForgetExperience):
            ended.append((on_ids(strategy.model, experience.sample_ids), on_test(strategy.model, 0, 2)))
    metrics = strategy.evaluator.get_all_metrics()
    assert [(outcome.request.id, outcome.committed) for outcome in plugin.outcomes] == [("a", True), ("b", True)]
    shown = metrics["Forget_Acc_Exp/eval_phase/forget_stream/Exp000"]
    assert shown[0] == [15, 30, 30, 45] and shown[1][0] == ended[0][0]
    assert metrics["Forget_Acc_Exp/eval_phase/forget_stream/Exp001"][1][0] == ended[1][0]
    assert metrics["Retain_Acc_Stream/eval_phase/test_stream"][1][2] == ended[1][1]
    matrix = metrics["Relapse_Matrix/eval_phase/forget_stream"][1][-1]
    assert [event.after for event in matrix.events] == ["a", "train:2", "b", "train:3"]


def test_rows_count_training_experiences_that_were_skipped() -> None:
    """Experience 2 has the classes 2 and 3 alone, and all that has come of both is forgotten before it."""
    train_set, test_set = (as_avalanche_dataset(images) for images in digits())
    parts = [[0, 1, 2, 3], [2, 3], [4, 5]]
    labels = torch.tensor(labels_of(train_set))
    early = torch.zeros(len(labels), dtype=torch.bool)
    early[::2] = True
    chosen = [
        torch.isin(labels, torch.tensor(part)) & when for part, when in zip(parts, (early, ~early, ~early), strict=True)
    ]
    benchmark = benchmark_from_datasets(
        train=[train_set.subset(mask.nonzero().flatten().tolist()) for mask in chosen], test=[test_set]
    )
    told = forget_benchmark(benchmark, {1: ForgetRequest(ClassScope((2, 3)), id="a")})
    thresholds = Thresholds(max_forget_accuracy=1.0, max_retain_drop=None, max_total_retain_drop=None)
    plugin = UnlearningPlugin("random-label", gate=Gate(class_thresholds=thresholds), retain="seen")
    strategy = strategy_with(plugins=[plugin])
    for experience in interleave(told):
        train(strategy, experience)
    matrix = strategy.evaluator.get_last_metrics()["Relapse_Matrix/eval_phase/forget_stream"]
    assert [event.after for event in matrix.events] == ["a", "train:3"] and strategy.clock.train_exp_counter == 3


def test_the_matrix_is_a_figure_a_tensor_and_a_table() -> None:
    matrix = interleaved()[0].evaluator.get_last_metrics()["Relapse_Matrix/eval_phase/forget_stream"]
    assert matrix.best_supported_value(Tensor) is matrix.tensor and matrix.best_supported_value(float) is None
    figure = matrix.best_supported_value(Tensor, Figure)
    assert isinstance(figure, Figure)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert len(axes.texts) == int((~matrix.tensor.isnan()).sum()) == 10
    lines = str(matrix).strip("\n").split("\n")
    assert lines[0].split() == ["a", "b", "c"] and [line.split()[0] for line in lines[1:]] == [
        event.after for event in matrix.events
    ]
    assert float(lines[-1].split()[2]) == pytest.approx(float(matrix.tensor[-1, 1]), abs=1e-4)


def test_measuring_changes_neither_the_model_nor_any_random_state() -> None:
    benchmark, strategy = stream(REQUESTS), strategy_with()
    strategy.model.train()
    before, weights = torch.get_rng_state(), copy.deepcopy(strategy.model.state_dict())
    tell_served(strategy, benchmark.forget_stream[0])
    assert torch.equal(before, torch.get_rng_state())
    assert all(module.training for module in strategy.model.modules())
    assert all(torch.equal(value, weights[name]) for name, value in strategy.model.state_dict().items())


def test_a_model_that_has_diverged_has_no_membership_figure() -> None:
    benchmark, strategy = stream(REQUESTS), strategy_with()
    with torch.no_grad():
        strategy.model[-1].weight.fill_(math.nan)
    tell_served(strategy, benchmark.forget_stream[0])
    assert math.isnan(strategy.evaluator.get_last_metrics()["Membership_AUC_Exp/eval_phase/forget_stream/Exp000"])


def test_results_and_reset() -> None:
    metrics = {str(metric): metric for metric in forget_metrics()}
    benchmark, strategy = stream(REQUESTS), strategy_with(metrics=list(metrics.values()))
    assert metrics["Forget_Acc_Exp"].result() is None
    tell_served(strategy, benchmark.forget_stream[0])
    forget = on_ids(strategy.model, benchmark.forget_stream[0].sample_ids)
    assert metrics["Forget_Acc_Exp"].result() == {0: forget}
    assert metrics["Forget_Acc_Stream"].result() == forget
    metrics["Relapse_Exp"].reset()
    assert metrics["Forget_Acc_Stream"].result() is None and not metrics["Relapse_Matrix"].watch.served
    tell_served(strategy, benchmark.forget_stream[1])
    assert list(metrics["Forget_Acc_Exp"].result()) == [1]
