"""How the plug-in serves a request: what it may read, what the gate makes of it, and what is put back."""

import copy
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.training import Naive, Replay
from avalanche.training.plugins import FeatureDistillationPlugin, SupervisedPlugin
from digit_stream import digits, network
from plugged_strategies import (
    CLASS_0,
    CLOSED_GATE,
    FORGETTING,
    OPEN_GATE,
    QUICK,
    plugged,
    scenario_of,
    state_of,
)
from torch import nn
from watched_strategies import made, made_benchmark, made_dataset, naive_with, watched_model

from fed_unlearn.avalanche.plugin import RequestFailedError, UnlearningPlugin
from fed_unlearn.avalanche.plugin.optimizers import clear_momenta
from fed_unlearn.avalanche.plugin.request_samples import RequestSamples
from fed_unlearn.avalanche.streams import forget_benchmark
from fed_unlearn.avalanche.streams.reading import as_samples
from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset, sample_ids
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError, InvalidRequestError
from fed_unlearn.gate import Decision, Evidence, Gate, Thresholds
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_globals

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]


@dataclass(frozen=True, kw_only=True)
class Recording(Gate):
    """Accepts everything, and remembers what it saw."""

    seen: list[Evidence] = field(default_factory=list)

    def decide(self, scope: Any, evidence: Evidence, goal: str | None = None, **how: Any) -> Decision:
        self.seen.append(evidence)
        return OPEN_GATE.decide(scope, evidence, goal, **how)


def read_by(plugin: UnlearningPlugin, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The samples that requests are served with from here on."""
    given: list[Any] = []
    serve = plugin._service.unlearning.serve

    def watched(model: nn.Module, request: ForgetRequest, samples: Any, **how: Any) -> Any:
        given.append(samples)
        return serve(model, request, samples, **how)

    monkeypatch.setattr(plugin._service.unlearning, "serve", watched)
    return given


# ---------------------------------------------------------------------- not accepted


@pytest.mark.parametrize("kind", [Naive, Replay])
@pytest.mark.parametrize("strict", [False, True])
def test_a_request_that_is_not_accepted_changes_nothing_but_what_is_trained_on(
    kind: Any, strict: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scenario = scenario_of("ni", {1: CLASS_0})
    options = {"mem_size": 18} if kind is Replay else {}
    model = watched_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    strategy, plugin, watcher = plugged(
        made(kind, model, optimizer=optimizer, train_epochs=15, **options), gate=CLOSED_GATE, strict=strict
    )
    strategy.train(scenario.train_stream[0])
    before, order = state_of(strategy.model), list(strategy.plugins)
    momenta = copy.deepcopy(optimizer.state_dict()["state"])
    with caplog.at_level(logging.WARNING, "fed_unlearn.avalanche"):
        if strict:
            with pytest.raises(RequestFailedError, match=r"forget-1: not accepted, .* forget accuracy"):
                strategy.train(scenario.forget_stream[0])
        else:
            strategy.train(scenario.forget_stream[0])
    assert ("not accepted" in caplog.text) is not strict

    assert state_of(strategy.model) == before
    assert strategy.model.training
    assert strategy.plugins == order
    assert strategy.experience is None
    for index, state in optimizer.state_dict()["state"].items():
        assert torch.equal(state["momentum_buffer"], momenta[index]["momentum_buffer"])
    assert [outcome.committed for outcome in plugin.outcomes] == [False]
    assert "forget accuracy" in plugin.outcomes[0].reason
    assert plugin.served == [scenario.forget_stream[0]]
    assert plugin.forgotten == {"0", "6", "12"}

    strategy.model.trained_on.clear()
    strategy.train(scenario.train_stream)
    assert {index for index in strategy.model.trained_on if index % 6 == 0} == set()
    assert strategy.clock.train_exp_counter == 4
    assert not watcher.leaks
    assert plugin.outcomes[0].model is None, "no earlier model is kept"


def test_strict_by_an_explicit_call_puts_the_experience_back() -> None:
    scenario = scenario_of("ni", {1: CLASS_0})
    strategy, plugin, _ = plugged(made(Naive, train_epochs=30), gate=CLOSED_GATE, strict=True)
    strategy.train(scenario.train_stream[0])
    with pytest.raises(RequestFailedError):
        plugin.unlearn(strategy, scenario.forget_stream[0])
    assert strategy.experience is None


def test_what_may_be_lost_in_total_counts_from_the_last_training() -> None:
    scenario = scenario_of("ni", {1: [CLASS_0, ForgetRequest.for_class(1)], 2: ForgetRequest.for_class(2)})
    validation = as_samples(scenario.train_stream[2].dataset)
    gate = Recording()
    strategy, _, _ = plugged(made(Naive, train_epochs=30), plan=FORGETTING, gate=gate, validation=validation)
    strategy.train(scenario.train_stream[0])
    trained = copy.deepcopy(strategy.model)
    strategy.train(scenario.forget_stream[0])
    between = copy.deepcopy(strategy.model)
    strategy.train(scenario.forget_stream[1])
    strategy.train(scenario.train_stream[1])
    again = copy.deepcopy(strategy.model)
    strategy.train(scenario.forget_stream[2])

    def accuracy(model: nn.Module, *classes: int) -> float:
        kept = validation.of_classes(classes)
        with torch.no_grad():
            return float((model.eval()(kept.images).argmax(1) == kept.labels).float().mean())

    first, second, third = gate.seen[1::2]  # each is judged as it was trained, and as it is committed
    assert first.first_retain_accuracy == pytest.approx(accuracy(trained, 1, 2, 3, 4, 5))
    assert second.first_retain_accuracy == pytest.approx(accuracy(trained, 2, 3, 4, 5))
    assert second.accepted_retain_accuracy == pytest.approx(accuracy(between, 2, 3, 4, 5))
    assert third.first_retain_accuracy == third.accepted_retain_accuracy == pytest.approx(accuracy(again, 3, 4, 5))
    assert not torch.equal(trained.head.weight, between.head.weight)


# ---------------------------------------------------------------------- what is read


def test_memory_is_the_buffers_and_the_last_experience(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = scenario_of("ni", {1: CLASS_0, 2: ForgetRequest.for_samples("0", ["19", "20"])})
    strategy, plugin, _ = plugged(made(Replay, mem_size=10), retain="memory")
    given = read_by(plugin, monkeypatch)
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.forget_stream[0])
    strategy.train(scenario.train_stream[1])
    policy = next(item for item in strategy.plugins if hasattr(item, "storage_policy")).storage_policy
    kept = set(sample_ids(policy.buffer)) - {"19", "20"}
    assert any(int(name) < 18 for name in kept)
    strategy.train(scenario.forget_stream[1])
    first, second = given
    assert set(first.retained.ids) == {str(index) for index in range(18) if index % 6}
    assert set(second.retained.ids) == kept | {str(i) for i in range(18, 36) if i % 6} - {"19", "20"}
    assert len(set(second.retained.ids)) == len(second.retained), "each once"
    assert second.forget.ids == ("19", "20")


def test_naive_remembers_the_last_experience_only(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = scenario_of("ni", {2: CLASS_0})
    strategy, plugin, _ = plugged(naive_with(), retain="memory")
    given = read_by(plugin, monkeypatch)
    strategy.train(scenario.train_stream[:2])
    strategy.train(scenario.forget_stream)
    assert given[0].retained.ids == tuple(str(index) for index in range(18, 36) if index % 6)
    assert set(given[0].forget.ids) == {str(index) for index in range(0, 36, 6)}


def test_seen_is_every_experience_in_order_without_what_was_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = {1: CLASS_0, 2: [ForgetRequest.for_samples("0", ["1", "20"]), ForgetRequest.for_class(5)]}
    scenario = scenario_of("ni", requests)
    strategy, plugin, _ = plugged(naive_with(), retain="seen")
    given = read_by(plugin, monkeypatch)
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.forget_stream[0])
    strategy.train(scenario.train_stream[1])
    strategy.train(scenario.forget_stream[1:])
    expected = [
        [i for i in range(18) if i % 6],
        [i for i in range(36) if i % 6 and i not in (1, 20)],
        [i for i in range(36) if i % 6 not in (0, 5) and i not in (1, 20)],
    ]
    assert [samples.retained.ids for samples in given] == [tuple(map(str, ids)) for ids in expected]
    assert [set(samples.forget.labels.tolist()) for samples in given] == [{0}, {1, 2}, {5}]
    assert [samples.absent_classes for samples in given] == [{0}, {0}, {0, 5}]


@pytest.mark.parametrize("form", ["avalanche", "images"])
def test_retained_samples_of_a_users(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = made_dataset(30, first=12)
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy, plugin, _ = plugged(naive_with(), retain=mine if form == "avalanche" else as_samples(mine))
    given = read_by(plugin, monkeypatch)
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.forget_stream[0])
    assert given[0].retained.ids == tuple(str(i) for i in range(12, 42) if str(i) not in plugin.forgotten)
    assert given[0].absent_classes == {0, 2, 3, 4, 5}, "classes of a user's samples have not all arrived"
    torch.testing.assert_close(given[0].retained.images, as_samples(mine).without(plugin.forgotten).images)


def validation_cases() -> dict[str, Any]:
    scenario = scenario_of("ci", {1: CLASS_0})
    return {
        "a stream": (scenario.test_stream, [f"test:{60 + i}" for k in range(3) for i in range(12) if i % 6 // 2 == k]),
        "a generator": (iter(scenario.test_stream[:1]), ["test:60", "test:61", "test:66", "test:67"]),
        "a data set": (scenario.test_stream[0].dataset, ["test:60", "test:61", "test:66", "test:67"]),
        "images": (as_samples(scenario.test_stream[0].dataset), ["test:60", "test:61", "test:66", "test:67"]),
        "nothing": (None, []),
    }


@pytest.mark.parametrize("case", ["a stream", "a generator", "a data set", "images", "nothing"])
def test_validation_samples(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    validation, expected = validation_cases()[case]
    scenario = scenario_of("ci", {2: [CLASS_0, ForgetRequest.for_class(1)]})
    strategy, plugin, _ = plugged(naive_with(), validation=validation)
    given = read_by(plugin, monkeypatch)
    strategy.train(scenario.train_stream[:2])
    strategy.train(scenario.forget_stream)
    assert [sorted(samples.validation.ids) for samples in given] == [sorted(expected)] * 2
    assert given[0].validation.image_shape == (1, 8, 8)


def test_the_benchmarks_own_valid_stream_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    train = made_dataset()
    valid = made_dataset(12, 80, "mine:")
    benchmark = benchmark_from_datasets(train=[train], test=[made_dataset(12, 60, "t:")], valid=[valid])
    scenario = forget_benchmark(benchmark, [CLASS_0])
    strategy, plugin, _ = plugged(naive_with())
    given = read_by(plugin, monkeypatch)
    strategy.train(scenario.train_stream)
    strategy.train(scenario.forget_stream)
    assert given[0].validation.ids == sample_ids(valid)


def test_without_validation_the_gate_judges_by_retained_samples() -> None:
    scenario = scenario_of("ci", {2: CLASS_0})
    gate = Recording()
    strategy, plugin, _ = plugged(made(Naive, train_epochs=20), gate=gate, retain="seen")
    strategy.train(scenario.train_stream[:2])
    strategy.train(scenario.forget_stream)
    retained = RequestSamples("seen", None).retained(strategy, scenario.forget_stream[0], plugin._history.views())
    with torch.no_grad():
        hits = (strategy.model.eval()(retained.images).argmax(1) == retained.labels).float().mean()
    assert gate.seen[-1].retain_accuracy == pytest.approx(float(hits))


@pytest.mark.parametrize("method", ["finetune", "boundary-shrink"])
def test_no_sample_is_left_to_retain(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = scenario_of("ci", {1: ForgetRequest.for_class(0, method=method)})
    strategy, plugin, _ = plugged(naive_with(), retain=made_dataset(1), plan=replace(QUICK, repair_rounds=0))
    given = read_by(plugin, monkeypatch)
    strategy.train(scenario.train_stream[0])
    before = state_of(strategy.model)
    strategy.train(scenario.forget_stream[0])
    assert (len(given[0].retained), given[0].retained.image_shape) == (0, (1, 8, 8))
    # Where a method needs retained samples and has none, it is for guarded repair to forget.
    assert (state_of(strategy.model) == before) is (method == "finetune")
    empty = RequestSamples("seen", None).validation(scenario.forget_stream[0])
    assert (len(empty), empty.image_shape) == (0, (1, 8, 8))


def test_a_model_that_was_trained_elsewhere_forgets_by_a_users_samples() -> None:
    train, _ = digits()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(train.images), train.labels).backward()
        optimizer.step()
    benchmark = forget_benchmark(one_experience(train), [CLASS_0])
    plugin = UnlearningPlugin(retain=train, plan=FORGETTING, gate=OPEN_GATE)
    strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin])
    outcome = plugin.unlearn(strategy, benchmark.forget_stream[0])
    assert outcome.before.forget_accuracy > 0.9
    assert outcome.after.forget_accuracy < 0.1
    assert outcome.after.retain_accuracy > 0.8


def one_experience(train: ImageSet) -> Any:
    dataset = as_avalanche_dataset(train)
    return benchmark_from_datasets(train=[dataset], test=[dataset])


# ---------------------------------------------------------------------- scopes, methods, relapse


def test_each_scope_by_its_method(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = {"a": [str(i) for i in range(0, 60, 2)], "b": [str(i) for i in range(1, 60, 2)]}
    requests = {
        1: [
            ForgetRequest.for_class(0, id="class"),
            ForgetRequest.for_samples("b", ["1", "3"], id="samples"),
            ForgetRequest.for_client("a", id="client"),
        ]
    }
    scenario = scenario_of("ni", requests, clients=clients)
    strategy, plugin, _ = plugged(naive_with(), validation=scenario.test_stream)
    given = read_by(plugin, monkeypatch)
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.forget_stream)
    assert [outcome.method for outcome in plugin.outcomes] == ["boundary-shrink", "instance-wise", "instance-wise"]
    assert [set(samples.forget.ids) for samples in given] == [
        {"0", "6", "12"},
        {"1", "3"},
        {str(i) for i in range(0, 18, 2) if i % 6},
    ]
    strategy.model.trained_on.clear()
    strategy.train(scenario.train_stream[1:])
    assert strategy.model.trained_on == set(range(19, 60, 2))


def test_one_method_for_all_scopes_that_it_serves_and_the_plan_for_the_others() -> None:
    given = replace(QUICK, sample_method="finetune")
    plan = UnlearningPlugin("delete", parameters={"epochs": 7}, plan=given)._service.unlearning.plan
    assert (plan.class_method, plan.sample_method, plan.client_method) == (
        "delete",
        "finetune",
        "instance-wise",
    )
    assert plan.parameters == {**QUICK.parameters, "delete": {"epochs": 7}}
    assert (plan.holder_turn, plan.repair) == (QUICK.holder_turn, QUICK.repair)
    plan = UnlearningPlugin("finetune", plan=QUICK)._service.unlearning.plan
    assert (plan.class_method, plan.sample_method, plan.client_method) == ("finetune",) * 3
    assert plan.parameters == QUICK.parameters
    assert UnlearningPlugin(plan=QUICK)._service.unlearning.plan is QUICK


class Relapsing(SupervisedPlugin):
    """Puts the weights of before the request back when training ends."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: Any = None

    def before_unlearning_exp(self, strategy: Any) -> None:
        self.weights = self.weights or copy.deepcopy(strategy.model.state_dict())

    def after_training_exp(self, strategy: Any, **options: Any) -> None:
        if self.weights is not None:
            strategy.model.load_state_dict(self.weights)

    def forget(self, strategy: Any, ids: Any) -> None: ...


@pytest.mark.parametrize("reopen", [False, True])
def test_a_relapsed_request_is_served_again_where_wanted(reopen: bool) -> None:
    thresholds = Thresholds(max_forget_accuracy=0.0, max_retain_drop=None, max_total_retain_drop=None)
    scenario = scenario_of("ni", {1: CLASS_0})
    strategy, plugin, watcher = plugged(
        made(Naive, train_epochs=20, plugins=[Relapsing()]),
        plan=FORGETTING,
        gate=Gate(class_thresholds=thresholds),
        reopen_relapsed=reopen,
    )
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.forget_stream[0])
    assert [outcome.committed for outcome in plugin.outcomes] == [True]
    for number in (1, 2):
        strategy.train(scenario.train_stream[number])
        forget = as_samples(scenario.forget_stream[0].dataset)
        with torch.no_grad():
            hits = (strategy.model(forget.images).argmax(1) == forget.labels).float().mean()
        assert bool(hits == 0) is reopen
        assert [item.request.id for item in plugin.outcomes] == ["forget-1"] * (1 + number * reopen)
    assert plugin.served == [scenario.forget_stream[0]] * (3 if reopen else 1)
    assert not watcher.leaks


# ---------------------------------------------------------------------- optimizers, devices, models


OPTIMIZERS = {
    "sgd": lambda given: torch.optim.SGD(given, lr=0.1, momentum=0.9, dampening=0.5),
    "adam": lambda given: torch.optim.Adam(given, lr=0.01),
    "adamw": lambda given: torch.optim.AdamW(given, lr=0.01, amsgrad=True),
    "adagrad": lambda given: torch.optim.Adagrad(given, lr=0.1, initial_accumulator_value=0.5),
    "rmsprop": lambda given: torch.optim.RMSprop(given, lr=0.01, momentum=0.9),
    "rprop": lambda given: torch.optim.Rprop(given, lr=0.01),
    "asgd": lambda given: torch.optim.ASGD(given, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_as_a_new_one_would(name: str) -> None:
    scenario = scenario_of("ci", {1: CLASS_0})
    model = watched_model()
    strategy, _, _ = plugged(made(Naive, model, optimizer=OPTIMIZERS[name](model.parameters()), train_epochs=2))
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.forget_stream[0])

    twin_model = copy.deepcopy(model)
    twin = made(Naive, twin_model, optimizer=OPTIMIZERS[name](twin_model.parameters()), train_epochs=2)
    before = state_of(model)
    for given in (strategy, twin):
        with isolated_globals(3):
            given.train(scenario.train_stream[1])
    assert state_of(model) != before
    assert state_of(model) == state_of(twin_model)


def test_learning_rates_and_groups_stay() -> None:
    model = watched_model()
    optimizer = torch.optim.Adam(
        [{"params": model.head.parameters(), "lr": 0.5}, {"params": model.features_of.parameters()}], lr=0.1
    )
    model(torch.rand(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    clear_momenta(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]
    assert not optimizer.state


def test_model_is_the_same_object_with_its_modes_gradients_and_device() -> None:
    class Normalised(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 6))

    model = Normalised()
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy, plugin, _ = plugged(made(Naive, model))
    strategy.train(scenario.train_stream[0])
    model.train()
    model[2].eval()
    model[1].weight.requires_grad_(False)
    parameters = {name: id(parameter) for name, parameter in model.named_parameters()}
    plugin.unlearn(strategy, scenario.forget_stream[0])
    assert strategy.model is model
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == parameters
    assert [module.training for module in model] == [True, True, False, True, True]
    assert not model[1].weight.requires_grad
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_a_model_that_keeps_its_features_is_unlearned_right_after_training() -> None:
    class Featured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh()), nn.Linear(8, 6)
            self.features: Any = None

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.features = self.body(images)
            return self.head(self.features)

    scenario = scenario_of("nc", {1: CLASS_0})
    strategy, plugin, _ = plugged(made(Naive, Featured(), plugins=[FeatureDistillationPlugin(alpha=0.5)]))
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.forget_stream[0])
    assert plugin.outcomes[0].committed
    strategy.train(scenario.train_stream[1])


# ---------------------------------------------------------------------- misuse


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "boundary-shrnk"}, "boundary-shrnk"),
        ({"method": "boundary-shrink", "parameters": {"epoch": 1}}, "epoch"),
        ({"parameters": {"epochs": 1}}, "without a method"),
        ({"retain": "memories"}, "memories"),
        ({"retain": 5}, "retain = 5"),
        ({"validation": 5}, "validation = 5.0 was given; expected a share"),
        ({"validation": [1, 2]}, "validation = list"),
    ],
)
def test_wrong_settings(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidParameterError, match=match):
        UnlearningPlugin(**options)


@pytest.mark.parametrize(
    "request_", [ForgetRequest.for_class(0, method="nonsense"), ForgetRequest.for_class(0, nonsense=1)]
)
def test_a_request_that_cannot_be_served_as_it_was_put_is_refused_before_anything_is_trained(
    request_: ForgetRequest,
) -> None:
    scenario = scenario_of("ci", {1: request_})
    strategy, plugin, _ = plugged(made(Replay, mem_size=10))
    before = state_of(strategy.model)
    with pytest.raises(InvalidParameterError, match="nonsense"):
        strategy.train(scenario.train_stream[0])
    assert state_of(strategy.model) == before
    assert (plugin.forgotten, plugin.served, plugin.outcomes) == (frozenset(), [], [])


def test_a_strategy_without_the_plugin_refuses_to_train_on_what_is_to_be_forgotten() -> None:
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy = made(Naive)
    strategy.train(scenario.train_stream[0])
    before = state_of(strategy.model)
    with pytest.raises(InvalidRequestError, match="without an UnlearningPlugin"):
        strategy.train(scenario.forget_stream[0])
    assert state_of(strategy.model) == before
    assert strategy.eval(scenario.forget_stream) is not None, "to look at them is no training"


def test_nothing_was_trained_yet() -> None:
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy, _, _ = plugged(made(Naive))
    with pytest.raises(InvalidParameterError, match="has trained nothing yet"):
        strategy.train(scenario.forget_stream[0])


def test_a_method_that_lacks_samples_leaves_those_of_the_request_out() -> None:
    # No unseen sample is there to compare a client's with.
    scenario = scenario_of("ni", {1: ForgetRequest.for_client("a")}, clients={"a": ["0", "20"], "b": others("0", "20")})
    strategy, plugin, watcher = plugged(naive_with())
    strategy.train(scenario.train_stream[0])
    before = state_of(strategy.model)
    with pytest.raises(InvalidDataError, match="unseen"):
        strategy.train(scenario.forget_stream[0])
    assert state_of(strategy.model) == before
    assert plugin.outcomes == []
    strategy.model.trained_on.clear()
    strategy.train(scenario.train_stream[1])
    assert 20 not in strategy.model.trained_on
    assert not watcher.leaks


def others(*ids: str) -> list[str]:
    return [str(index) for index in range(60) if str(index) not in ids]


def test_a_plain_benchmark_gets_ids_as_it_is_trained_on() -> None:
    strategy, plugin, _ = plugged(made(Replay, mem_size=10), gate=OPEN_GATE)
    benchmark = made_benchmark("ci", named=False)
    strategy.plugins.pop()  # the watcher reads the ids of a forget_benchmark
    strategy.train(benchmark.train_stream[0])
    outcome = strategy.unlearn(CLASS_0)
    named = forget_benchmark(benchmark, {1: CLASS_0}).forget_stream[0]
    assert outcome.committed
    assert plugin.forgotten == frozenset(named.sample_ids)


def test_images_outside_of_0_to_1_are_refused_at_the_request_before_anything_is_changed() -> None:
    images = as_samples(made_dataset())
    shifted = ImageSet(images.batch()[0] * 2 - 1, images.labels, images.ids)
    data = as_avalanche_dataset(shifted)
    scenario = forget_benchmark(benchmark_from_datasets(train=[data], test=[data]), {1: CLASS_0})
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(scenario.train_stream[0])
    before = state_of(strategy.model)
    with pytest.raises(InvalidDataError, match=r"-1 to 1 were read.*expected \[0, 1\].*domain=InputDomain"):
        strategy.train(scenario.forget_stream[0])
    assert state_of(strategy.model) == before
    assert plugin.forgotten == frozenset()


def test_one_plugin_is_for_one_benchmark() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(scenario_of("ci", {1: CLASS_0}).train_stream[0])
    strategy.train(scenario_of("ni", {1: CLASS_0}).train_stream[1])  # an idle plug-in refuses nothing
    with pytest.raises(InvalidParameterError, match="another benchmark"):
        strategy.unlearn(CLASS_0)
    assert plugin.forgotten == frozenset()


def test_one_plugin_is_for_one_strategy() -> None:
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(scenario.train_stream[0])
    other = made(Naive)
    other.plugins.insert(0, plugin)
    with pytest.raises(InvalidParameterError, match="another strategy"):
        plugin.unlearn(other, CLASS_0)
    other.train(scenario.train_stream[1])
    with pytest.raises(InvalidParameterError, match="another strategy"):
        strategy.unlearn(CLASS_0)
    assert plugin.forgotten == frozenset()


def test_the_same_benchmark_made_anew_is_recognised() -> None:
    strategy, plugin, _ = plugged(made(Naive), gate=OPEN_GATE)
    strategy.train(scenario_of("ci", {1: CLASS_0}).train_stream[0])
    strategy.train(scenario_of("ci", {1: CLASS_0}).forget_stream[0])
    assert plugin.outcomes[-1].committed


def test_a_request_that_comes_before_its_place_is_refused() -> None:
    scenario = scenario_of("ci", {2: CLASS_0})
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(scenario.train_stream[0])
    with pytest.raises(InvalidParameterError, match=r"after 2 training experiences, and 1 were trained"):
        strategy.train(scenario.forget_stream[0])
    assert plugin.forgotten == frozenset()


def test_a_users_samples_under_other_ids_are_refused() -> None:
    scenario = scenario_of("ci", {1: CLASS_0})
    images = as_samples(scenario.train_stream[0].dataset)
    foreign = ImageSet(images.images, images.labels, [f"mine-{name}" for name in images.ids])
    strategy, _, _ = plugged(made(Naive), retain=foreign)
    strategy.train(scenario.train_stream[0])
    with pytest.raises(InvalidDataError, match=r"retain: sample 'mine-.*the benchmark's own sample ids"):
        strategy.train(scenario.forget_stream[0])
