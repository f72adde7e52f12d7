"""Requests to strategies whose models read normalised images, or inputs that are no images."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark, tensors_benchmark
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.models import SimpleMLP
from avalanche.training import Naive, Replay
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import Compose, Normalize, RandomCrop

from fed_unlearn.avalanche.metrics import forget_metrics
from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.avalanche.plugin.memory.buffers import buffered
from fed_unlearn.avalanche.streams import forget_benchmark
from fed_unlearn.avalanche.streams.order import interleave
from fed_unlearn.avalanche.streams.reading import as_samples
from fed_unlearn.avalanche.streams.samples import sample_ids
from fed_unlearn.data.domain import VALUES, InputDomain
from fed_unlearn.data.sources import load_source
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError, UnsuitableInputsError
from fed_unlearn.local import LocalPlan, LocalUnlearning
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_globals

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]

DIGITS = load_source("digits")
NORMALISED = InputDomain.normalized(0.3, 0.4)
REQUESTS = {1: ForgetRequest.for_class(1, id="one")}


class Digits(Dataset[tuple[Tensor, int]]):
    def __init__(self, images: Any, transform: Any = None) -> None:
        self.pixels, self.targets, self.transform = images.batch()[0], images.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.pixels[index]
        return (image if self.transform is None else self.transform(image)), self.targets[index]


def normalised_benchmark(own: Any = None) -> Any:
    """Two experiences of five classes each, under transforms as SplitMNIST's."""
    plain = Normalize((0.3,), (0.4,))
    with isolated_globals(0):
        return nc_benchmark(
            Digits(DIGITS.train, own),
            Digits(DIGITS.test),
            2,
            task_labels=False,
            fixed_class_order=list(range(10)),
            train_transform=Compose([RandomCrop(8, padding=1), plain]),
            eval_transform=plain,
        )


def trainer(plugin: UnlearningPlugin | None, kind: Any = Replay, metrics: Any = (), **options: Any) -> Any:
    with isolated_globals(0):
        model = SimpleMLP(num_classes=10, input_size=64, drop_rate=0.0)
    return kind(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=3,
        plugins=[] if plugin is None else [plugin],
        evaluator=EvaluationPlugin(accuracy_metrics(stream=True), *metrics, loggers=[]),
        **options,
    )


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The samples that requests are served with."""
    given: list[Any] = []
    serve = LocalUnlearning.serve

    def watch(self: Any, model: Any, request: Any, samples: Any, **options: Any) -> Any:
        given.append(samples)
        return serve(self, model, request, samples, **options)

    monkeypatch.setattr(LocalUnlearning, "serve", watch)
    return given


def test_a_class_is_forgotten_where_images_are_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    given = watched(monkeypatch)
    scenario = forget_benchmark(normalised_benchmark(), REQUESTS)
    plugin = UnlearningPlugin()
    strategy = trainer(plugin, metrics=[forget_metrics()], mem_size=200)
    for experience in interleave(scenario):
        strategy.train(experience)
    assert [outcome.committed for outcome in plugin.outcomes] == [True]
    assert [given[0].forget.domain, given[0].retained.domain] == [NORMALISED, NORMALISED]
    forget = scenario.forget_stream[0].dataset.eval()
    logits = strategy.model(torch.stack([forget[index][0] for index in range(len(forget))]))
    assert float((logits.argmax(1) == 1).float().mean()) < 0.05
    last = strategy.evaluator.get_last_metrics()
    test = Digits(DIGITS.test, Normalize((0.3,), (0.4,)))
    kept = [index for index, label in enumerate(test.targets) if label != 1]
    right = strategy.model(torch.stack([test[index][0] for index in kept])).argmax(1)
    accuracy = (right == torch.tensor([test.targets[index] for index in kept])).float().mean()
    assert last["Retain_Acc_Stream/eval_phase/test_stream/Task000"] == pytest.approx(float(accuracy), abs=1e-6)


def test_vectors_of_features_are_forgotten() -> None:
    pixels, labels = DIGITS.train.batch()
    first = labels < 5
    parts = [(pixels.flatten(1)[mask] * 2 - 1, labels[mask]) for mask in (first, ~first)]
    tests, test_labels = DIGITS.test.batch()
    benchmark = tensors_benchmark(
        parts, [(tests.flatten(1) * 2 - 1, test_labels)], task_labels=[0, 0], complete_test_set_only=True
    )
    scenario = forget_benchmark(benchmark, REQUESTS)
    plugin = UnlearningPlugin("reset-and-relearn")
    strategy = trainer(plugin, Naive)
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.forget_stream[0])
    forget = as_samples(scenario.forget_stream[0].dataset)
    assert forget.domain == VALUES
    assert [outcome.committed for outcome in plugin.outcomes] == [True]
    assert float((predict_logits(strategy.model, forget).argmax(1) == 1).float().mean()) < 0.05


def test_an_idle_plug_in_leaves_weights_as_they_are_where_images_are_cropped_at_random() -> None:
    def weights(plugin: UnlearningPlugin | None) -> list[Tensor]:
        benchmark = normalised_benchmark(RandomCrop(8, padding=1))
        scenario = benchmark if plugin is None else forget_benchmark(benchmark, {})
        strategy = trainer(plugin, mem_size=60)
        with isolated_globals(1):
            for experience in scenario.train_stream:
                strategy.train(experience)
        return list(strategy.model.state_dict().values())

    expected, found = weights(None), weights(UnlearningPlugin())
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def unnormalised(factor: float) -> Any:
    images = DIGITS.train
    data = Digits(images)
    data.pixels = data.pixels * factor
    with isolated_globals(0):
        return nc_benchmark(data, data, 2, task_labels=False, fixed_class_order=list(range(10)))


def test_images_of_another_range_are_refused_at_the_askedand_served_when_their_domain_is_given() -> None:
    scenario = forget_benchmark(unnormalised(16.0), REQUESTS)
    plugin = UnlearningPlugin()
    strategy = trainer(plugin, mem_size=60)
    strategy.train(scenario.train_stream[0])
    held = [sample_ids(dataset) for dataset in buffered(strategy)]
    before = [value.clone() for value in strategy.model.state_dict().values()]
    with pytest.raises(InvalidDataError, match=r'0 to 16 were read.*domain=InputDomain\("values"\)'):
        strategy.train(scenario.forget_stream[0])
    assert all(torch.equal(*pair) for pair in zip(before, strategy.model.state_dict().values(), strict=True))
    assert plugin.forgotten == frozenset()
    assert [sample_ids(dataset) for dataset in buffered(strategy)] == held and held

    told = UnlearningPlugin("reset-and-relearn", domain=VALUES)
    strategy = trainer(told, mem_size=200)
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.forget_stream[0])
    assert [outcome.committed for outcome in told.outcomes] == [True]


def test_validation_samples_of_another_domain_are_refused_before_anything_is_changed() -> None:
    scenario = forget_benchmark(normalised_benchmark(), REQUESTS)
    plugin = UnlearningPlugin(validation=DIGITS.test)
    strategy = trainer(plugin, Naive)
    strategy.train(scenario.train_stream[0])
    with pytest.raises(InvalidDataError, match=r"the samples of a request differ .*forget 1.*validation 1"):
        strategy.train(scenario.forget_stream[0])
    assert plugin.forgotten == frozenset()


def test_a_domain_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="domain = 'values' was given; expected an InputDomain"):
        UnlearningPlugin(domain="values")  # type: ignore[arg-type]


def features_benchmark(factor: float) -> Any:
    """Digits as vectors of features in [0, factor]: first the classes below 5, then the others."""
    (inputs, labels), (tests, test_labels) = DIGITS.train.batch(), DIGITS.test.batch()
    first = labels < 5
    parts = [(inputs.flatten(1)[mask] * factor, labels[mask]) for mask in (first, ~first)]
    test = (tests.flatten(1) * factor, test_labels)
    return tensors_benchmark(parts, [test], task_labels=[0, 0], complete_test_set_only=True)


def trained_on_features(plugin: UnlearningPlugin, factor: float = 16.0) -> Any:
    """A strategy after the first experience."""
    benchmark, strategy = features_benchmark(factor), trainer(plugin, Naive)
    for group in strategy.optimizer.param_groups:
        group["lr"] /= 2 * factor
    with isolated_globals(0):
        strategy.train(benchmark.train_stream[0])
    return strategy


@pytest.mark.parametrize("asked", [ForgetRequest.for_class(1), ForgetRequest.for_samples("0", ["0", "1", "2"])])
def test_vectors_of_features_are_forgotten_by_default_whatever_their_scale(asked: ForgetRequest) -> None:
    plugin = UnlearningPlugin()
    strategy = trained_on_features(plugin)
    inputs, labels = DIGITS.test.of_classes({0, 2, 3, 4}).batch()
    test = TensorSet(inputs.flatten(1) * 16, labels, domain=VALUES)

    def right() -> float:
        return float((predict_logits(strategy.model, test).argmax(1) == labels).float().mean())

    before = right()
    assert before > 0.9
    outcome = strategy.unlearn(asked)
    assert outcome.committed
    assert outcome.after.forget_accuracy == 0.0
    assert right() >= before - 0.03
    is_class = asked.scope.kind == "class"
    served = (outcome.method, outcome.escalated_from)
    assert served == (("reset-and-relearn", ("boundary-shrink",)) if is_class else ("instance-wise", ()))
    assert outcome.attempts == 1, "a method that cannot work on the inputs is not tried"


@pytest.mark.parametrize("named_by", ["plug-in", "request", "plan without another"])
def test_a_method_that_is_named_and_needs_images_is_refused_before_anything_is_changed(named_by: str) -> None:
    plan = LocalPlan(escalation={}) if named_by == "plan without another" else None
    plugin = UnlearningPlugin("boundary-shrink" if named_by == "plug-in" else None, plan=plan)
    strategy = trained_on_features(plugin)
    weights = copy.deepcopy(strategy.model.state_dict())
    request = ForgetRequest.for_class(1, id="a", method="boundary-shrink" if named_by == "request" else None)
    with pytest.raises(UnsuitableInputsError, match=r"needs images to attack, not values; use .*reset-and-relearn"):
        strategy.unlearn(request)
    assert plugin.forgotten == frozenset() and plugin.outcomes == []
    assert all(torch.equal(value, weights[name]) for name, value in strategy.model.state_dict().items())
    again = strategy.unlearn(ForgetRequest.for_class(1, id="a", method="reset-and-relearn"))
    assert again.committed, "the id is free, and the samples are still there"
