"""Requests to strategies whose models have a head for each task, and to models that share one head among tasks."""

from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.models import IncrementalClassifier, MTSimpleMLP, MultiTaskModule
from avalanche.training import EWC, LwF, Naive, Replay
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from torch import Tensor, nn
from watched_strategies import made_benchmark

from fed_unlearn.avalanche import UnlearningPlugin, forget_benchmark, forget_metrics, interleave
from fed_unlearn.avalanche.streams.samples import labels_of, sample_ids, task_labels_of
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sources import load_source
from fed_unlearn.errors import InvalidParameterError, InvalidRequestError
from fed_unlearn.local import LocalOutcome
from fed_unlearn.requests import ForgetRequest, SampleScope

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]

CLASSES = range(6)


class Pairs(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Digits 0 to 5 as users have them: images in [0, 1] with targets."""

    def __init__(self, images: ImageSet) -> None:
        chosen = images.of_classes(CLASSES)
        self._images, labels = chosen.batch()
        self.targets = labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._images[index], self.targets[index]


class Gated(MultiTaskModule):
    """A module of a user's own: one output layer, and features that the task switches on and off."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        self.gates = nn.Embedding(3, 64)
        self.out = nn.Linear(64, 2)

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        return self.out(self.body(x) * self.gates(task_labels))


class OneHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        self.classifier = IncrementalClassifier(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def benchmark_of(*, repeated: bool, task_labels: bool = True, train_transform: Any = None) -> Any:
    """Tasks 0 to 2 with digits (0, 1), (2, 3) and (4, 5); named 0 and 1 in every task if ``repeated``."""
    digits = load_source("digits")
    return nc_benchmark(
        Pairs(digits.train),
        Pairs(digits.test),
        n_experiences=3,
        task_labels=task_labels,
        fixed_class_order=list(CLASSES),
        class_ids_from_zero_in_each_exp=repeated,
        train_transform=train_transform,
    )


def strategy_of(kind: Any, model: nn.Module, plugin: UnlearningPlugin, metrics: Any = (), **settings: Any) -> Any:
    return kind(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=2,
        plugins=[plugin],
        evaluator=EvaluationPlugin(*metrics, loggers=[]),
        **settings,
    )


def trained(
    scenario: Any, model: nn.Module, kind: Any = Naive, metrics: Any = (), **settings: Any
) -> tuple[Any, list[LocalOutcome]]:
    plugin = UnlearningPlugin(retain="seen")
    strategy = strategy_of(kind, model, plugin, metrics, **settings)
    for experience in interleave(scenario):
        strategy.train(experience)
    return strategy, plugin.outcomes


def accuracies_of(model: nn.Module, scenario: Any) -> dict[tuple[int, int], float]:
    """Share of test samples that the model itself gets right, by task and class, as Avalanche's evaluation has it."""
    model.eval()
    found: dict[tuple[int, int], list[bool]] = {}
    for experience in scenario.test_stream:
        for image, label, task in experience.dataset:
            given = (image[None], torch.tensor([task])) if isinstance(model, MultiTaskModule) else (image[None],)
            found.setdefault((task, label), []).append(int(model(*given).argmax()) == label)
    return {pair: sum(hits) / len(hits) for pair, hits in found.items()}


def ranking_within_the_head(model: nn.Module, scenario: Any, pair: tuple[int, int]) -> float:
    """How often a test sample of a class has a higher log-odds of it than one of the other class of its task has."""
    gaps: dict[bool, list[Tensor]] = {True: [], False: []}
    for image, label, task in scenario.test_stream[pair[0]].dataset:
        logits = model(image[None], torch.tensor([task]))[0].detach()
        gaps[label == pair[1]].append(logits[pair[1]] - logits[1 - pair[1]])
    own, other = (torch.stack(gaps[side]) for side in (True, False))
    return float((own[:, None] > other[None]).float().mean())


def mlp() -> nn.Module:
    return MTSimpleMLP(input_size=64, hidden_size=64)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [(EWC, {"ewc_lambda": 0.4}), (LwF, {"alpha": 1, "temperature": 2}), (Replay, {"mem_size": 60})],
)
def test_classes_in_the_middle_and_at_the_end_are_forgotten(kind: Any, settings: Any, repeated: bool) -> None:
    middle, last = ((0, 1), (2, 0)) if repeated else ((0, 1), (2, 4))
    requests = {2: ForgetRequest.for_class(middle), 3: ForgetRequest.for_class(last)}
    scenario = forget_benchmark(benchmark_of(repeated=repeated), requests)
    forget = [item.dataset for item in scenario.forget_stream]
    assert [(set(task_labels_of(part)), set(labels_of(part))) for part in forget] == [
        ({pair[0]}, {pair[1]}) for pair in (middle, last)
    ]

    strategy, outcomes = trained(scenario, mlp(), kind, **settings)

    assert [outcome.committed for outcome in outcomes] == [True, True]
    assert [outcome.request for outcome in outcomes] == [item.request for item in scenario.forget_stream]
    assert outcomes[0].before.forget_accuracy == pytest.approx(1.0, abs=0.1), "there is something to forget"
    accuracies = accuracies_of(strategy.model, scenario)
    assert accuracies.pop(middle) <= 0.05 and accuracies.pop(last) <= 0.05
    assert len(accuracies) == 4 and min(accuracies.values()) > 0.9, "the other class of each head, and other heads"


def test_a_class_is_forgotten_in_every_task_that_has_it_also_in_later_ones() -> None:
    scenario = forget_benchmark(benchmark_of(repeated=True), {2: ForgetRequest.for_class(1)})
    assert set(task_labels_of(scenario.forget_stream[0].dataset)) == {0, 1}
    strategy, outcomes = trained(scenario, mlp())
    assert outcomes[0].committed
    accuracies = accuracies_of(strategy.model, scenario)
    assert [accuracies[task, 1] <= 0.05 for task in range(3)] == [True] * 3, "task 2 never trained on it"
    assert all(accuracies[task, 0] > 0.9 for task in range(3))
    assert set(strategy.model.classifier.classifiers) == {"0", "1", "2"}


def test_a_submitted_class_of_a_task_waits_for_the_task_and_another_is_unlearned_at_once() -> None:
    benchmark, model = benchmark_of(repeated=True), mlp()
    plugin = UnlearningPlugin(retain="seen")
    strategy = strategy_of(Naive, model, plugin)
    plugin.submit(ForgetRequest.for_class((1, 0), id="waits"))
    strategy.train(benchmark.train_stream[0])
    assert plugin.outcomes == []
    assert strategy.unlearn(ForgetRequest.for_class((0, 1), id="at once")).committed
    strategy.train(benchmark.train_stream[1])
    strategy.train(benchmark.train_stream[2])
    assert [(item.request.id, item.committed) for item in plugin.outcomes] == [("at once", True), ("waits", True)]
    accuracies = accuracies_of(model, benchmark)
    assert accuracies[0, 1] <= 0.05 and accuracies[1, 0] <= 0.05
    assert accuracies[0, 0] > 0.9 and accuracies[1, 1] > 0.9


def test_a_class_of_one_task_is_kept_out_of_later_experiences_of_this_task_alone() -> None:
    scenario = forget_benchmark(benchmark_of(repeated=True), {1: ForgetRequest.for_class((0, 1))})
    experience = scenario.forget_stream[0]
    assert experience.names([1, 1, 0], ["a", "b", "c"], [0, 2, 0]) == [True, False, False]
    assert experience.names([1, 1, 0], ["a", "b", "c"]) == [False] * 3, "samples without tasks are of no task"


@pytest.mark.parametrize("wanted", [(1, 3), (4, 1)])
def test_a_class_that_no_task_has_is_refused(wanted: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequestError, match=f"class {wanted[1]} of task {wanted[0]}, of which the training"):
        forget_benchmark(benchmark_of(repeated=True), {1: ForgetRequest.for_class(wanted)})


def test_a_benchmark_without_tasks_refuses_a_class_of_a_task() -> None:
    stream = benchmark_of(repeated=False, task_labels=False)
    with pytest.raises(InvalidRequestError, match="class 3 of task 1, of which"):
        forget_benchmark(stream, {3: ForgetRequest.for_class((1, 3))})  # every sample is of task 0
    with pytest.raises(InvalidRequestError, match="class 1 of task 0, and the samples have no task labels"):
        forget_benchmark(made_benchmark("ci"), {1: ForgetRequest.for_class((0, 1))})


def test_a_module_of_ones_own_forgets_and_keeps_the_same_output_for_other_tasks() -> None:
    scenario = forget_benchmark(benchmark_of(repeated=True), {3: ForgetRequest.for_class((1, 0))})
    strategy, outcomes = trained(scenario, Gated(), Replay, mem_size=100)
    assert outcomes[0].committed
    accuracies = accuracies_of(strategy.model, scenario)
    assert accuracies.pop((1, 0)) <= 0.05 and min(accuracies.values()) > 0.9


def test_single_samples_and_samples_of_several_tasks_are_forgotten() -> None:
    scenario = forget_benchmark(benchmark_of(repeated=True), {3: ForgetRequest.for_samples("0", count=6)})
    assert len(set(task_labels_of(scenario.forget_stream[0].dataset))) > 1
    strategy, outcomes = trained(scenario, mlp())
    assert outcomes[0].committed and outcomes[0].method == "instance-wise"
    assert outcomes[0].after.forget_accuracy == 0.0
    assert min(accuracies_of(strategy.model, scenario).values()) > 0.75
    assert "model_adaptation" not in vars(strategy)


class Keeps(SupervisedPlugin):
    """Keeps the last batch with its labels."""

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.x, self.y = strategy.mb_x.clone(), strategy.mb_y.clone()


def test_labels_beside_augmented_inputs_are_not_taken_for_those_of_other_heads() -> None:
    scenario = forget_benchmark(
        benchmark_of(repeated=True, train_transform=lambda image: image * (1 - torch.rand(()) / 10)),
        {2: ForgetRequest.for_class((0, 1))},
    )
    plugin = UnlearningPlugin()
    strategy = strategy_of(Naive, mlp(), plugin)
    strategy.plugins.append(Keeps())
    strategy.train(scenario.train_stream[:2])
    with pytest.warns(UserWarning, match="Keeps.x may hold inputs of forgotten samples"):
        strategy.train(scenario.forget_stream[0])  # the batch is of class 1 of task 1
    assert plugin.outcomes[0].committed


def test_a_head_of_which_no_class_is_left_gives_one_answer() -> None:
    requests = {3: [ForgetRequest.for_class((1, 0)), ForgetRequest.for_class((1, 1))]}
    scenario = forget_benchmark(benchmark_of(repeated=True), requests)
    strategy, outcomes = trained(scenario, mlp())
    assert [outcome.committed for outcome in outcomes] == [True, True]
    accuracies = accuracies_of(strategy.model, scenario)
    assert accuracies.pop((1, 0)) + accuracies.pop((1, 1)) == pytest.approx(1.0, abs=0.1), (
        "no class is told from others"
    )
    assert min(accuracies.values()) > 0.9


def test_metrics_measure_every_sample_by_its_own_head() -> None:
    requests = {2: ForgetRequest.for_class((0, 1)), 3: ForgetRequest.for_class((2, 0))}
    scenario = forget_benchmark(benchmark_of(repeated=True), requests)
    strategy, _ = trained(scenario, mlp(), metrics=(forget_metrics(),))
    accuracies = accuracies_of(strategy.model, scenario)
    sizes = {
        pair: sum(1 for item in scenario.test_stream for _, label, task in item.dataset if (task, label) == pair)
        for pair in accuracies
    }
    kept = [pair for pair in accuracies if pair not in ((0, 1), (2, 0))]
    expected = sum(accuracies[pair] * sizes[pair] for pair in kept) / sum(sizes[pair] for pair in kept)
    figures = strategy.evaluator.get_last_metrics()
    named = {name.split("/")[0]: value for name, value in figures.items() if "Exp001" in name or "_Stream" in name}
    assert named["Forget_Acc_Exp"] == 0.0
    assert named["Test_Forget_Acc_Exp"] == pytest.approx(accuracies[2, 0])
    assert named["Retain_Acc_Stream"] == pytest.approx(expected)
    assert named["Logit_AUC_Exp"] == pytest.approx(ranking_within_the_head(strategy.model, scenario, (2, 0)), abs=0.03)


# ---------------------------------------------------------------------- models with one head


def test_a_class_that_one_task_alone_has_is_a_class_of_the_one_head() -> None:
    scenario = forget_benchmark(benchmark_of(repeated=False), {3: ForgetRequest.for_class((1, 3))})
    strategy, outcomes = trained(scenario, OneHead(), Replay, mem_size=100)
    assert outcomes[0].committed and outcomes[0].method == "boundary-shrink"
    accuracies = accuracies_of(strategy.model, scenario)
    assert accuracies.pop((1, 3)) <= 0.05 and min(accuracies.values()) > 0.8


def test_a_class_of_one_task_under_an_output_of_several_is_forgotten_as_samples() -> None:
    scenario = forget_benchmark(benchmark_of(repeated=True), {2: ForgetRequest.for_class((0, 1), id="one")})
    experience = scenario.forget_stream[0]
    strategy, outcomes = trained(scenario, OneHead(), Replay, mem_size=100)
    assert outcomes[0].request == experience.request and outcomes[0].method == "instance-wise"
    assert experience.asked.scope == SampleScope("0", experience.sample_ids)
    held = strategy.plugins[0].forgotten
    assert held == set(experience.sample_ids) and outcomes[0].committed
    accuracies = accuracies_of(strategy.model, scenario)
    assert accuracies[1, 1] > 0.8 and accuracies[2, 1] > 0.8, "other tasks keep the output"


def test_a_class_of_all_tasks_of_one_head_is_that_class() -> None:
    every = ForgetRequest.for_class((0, 1), (1, 1), (2, 1))
    scenario = forget_benchmark(benchmark_of(repeated=True), {3: every})
    strategy, outcomes = trained(scenario, OneHead(), Replay, mem_size=100)
    assert outcomes[0].committed and outcomes[0].method == "boundary-shrink"
    assert all(value <= 0.05 for (_, label), value in accuracies_of(strategy.model, scenario).items() if label == 1)


def test_one_head_refuses_a_shared_output_beside_a_whole_class_and_a_method_for_classes_alone() -> None:
    mixed, alone = ForgetRequest.for_class(0, (1, 1)), ForgetRequest.for_class((2, 1), method="mask-output")
    scenario = forget_benchmark(benchmark_of(repeated=True), {3: [mixed, alone]})
    plugin = UnlearningPlugin()
    strategy = strategy_of(Naive, OneHead(), plugin)
    strategy.train(scenario.train_stream)
    with pytest.raises(InvalidRequestError, match="one output for class 1 of task 1 and of other tasks"):
        strategy.train(scenario.forget_stream[0])
    with pytest.raises(InvalidParameterError, match="'mask-output' does not serve sample requests"):
        strategy.train(scenario.forget_stream[1])
    assert plugin.outcomes == [] and plugin.forgotten == frozenset()
    assert len(sample_ids(scenario.forget_stream[1].dataset)) > 0
