import subprocess
import sys
from collections.abc import Callable
from typing import Any

import avalanche.training as training
import avalanche.training.supervised as supervised
import pytest
import torch
from avalanche.evaluation import metrics
from avalanche.models import IncrementalClassifier, MTSimpleMLP
from avalanche.training import plugins
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from avalanche.training.templates import SupervisedMetaLearningTemplate
from torch import nn
from watched_strategies import (
    OTHERS,
    OTHERS_WITH_TASKS,
    REPLAYING,
    REPLAYING_WITH_TASKS,
    made,
    made_benchmark,
    naive_with,
    watched_model,
)

from fed_unlearn.avalanche import UnlearningPlugin, forget_benchmark
from fed_unlearn.avalanche.compat import UnsupportedStrategyError, check_supported, mend_synaptic_intelligence
from fed_unlearn.avalanche.compat import with_one_task as one_task
from fed_unlearn.avalanche.compat.support import HANDLED_PLUGINS, REFUSED_PLUGINS
from fed_unlearn.avalanche.streams.samples import sample_ids
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]

WITHOUT_TASKS = {**OTHERS, **REPLAYING}
WITH_TASKS = {**OTHERS_WITH_TASKS, **REPLAYING_WITH_TASKS}


def watching(given: Any) -> Any:
    return made(training.Naive, evaluator=EvaluationPlugin(given, loggers=[]))


def runs(strategy: Any, benchmark: Any) -> None:
    """Train on the whole stream and evaluate: all experiences count, and the weights follow the samples.

    Samples of the first were in a batch; selection by features leaves a model in evaluation mode after that, where it
    notes none.
    """
    before = [parameter.detach().clone() for parameter in strategy.model.parameters()]
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.test_stream)
    assert strategy.clock.train_exp_counter == len(benchmark.train_stream)
    assert any(not torch.equal(new, old) for new, old in zip(strategy.model.parameters(), before, strict=True))
    if hasattr(strategy.model, "trained_on"):
        assert strategy.model.trained_on.intersection(map(int, sample_ids(benchmark.train_stream[0].dataset)))


NEEDING_TASKS: dict[str, Callable[[], Any]] = {
    **WITH_TASKS,
    "class accuracy": lambda: watching(metrics.class_accuracy_metrics(experience=True, stream=True)),
    "average mean class accuracy": lambda: watching(metrics.amca_metrics()),
    "top-k": lambda: watching(metrics.topk_acc_metrics(experience=True, stream=True)),
    "labels": lambda: watching(metrics.labels_repartition_metrics(on_train=True)),
}


@pytest.mark.parametrize("name", [*WITHOUT_TASKS, *WITH_TASKS])
def test_strategies_run_on_classic_benchmarks_and_are_let_through(name: str) -> None:
    strategy = {**WITHOUT_TASKS, **WITH_TASKS}[name]()
    check_supported(strategy)
    runs(strategy, made_benchmark("nc"))
    check_supported(strategy)


@pytest.mark.parametrize("name", WITHOUT_TASKS)
def test_strategies_run_without_task_labels_and_are_let_through(name: str) -> None:
    strategy = WITHOUT_TASKS[name]()
    check_supported(strategy)
    runs(strategy, made_benchmark("ci"))


@pytest.mark.parametrize("name", NEEDING_TASKS)
def test_what_needs_task_labels_fails_in_avalanche_and_runs_with_one_task(name: str) -> None:
    benchmark = made_benchmark("ci")
    with pytest.raises((AssertionError, AttributeError, RuntimeError, ValueError)):
        runs(NEEDING_TASKS[name](), benchmark)
    strategy = NEEDING_TASKS[name]()
    runs(strategy, one_task(benchmark))
    check_supported(strategy)


def test_one_task_changes_nothing_but_the_task_labels() -> None:
    given = made_benchmark("ci")
    single = one_task(given)
    assert list(single.streams) == list(given.streams)
    for stream, original in zip(single.streams.values(), given.streams.values(), strict=True):
        assert stream.name == original.name
        assert len(stream) == len(original)
        for experience, before in zip(stream, original, strict=True):
            assert experience.current_experience == before.current_experience
            assert experience.origin_stream.benchmark is single
            assert list(experience.dataset.sample_id) == list(before.dataset.sample_id)
            assert list(experience.dataset.targets) == list(before.dataset.targets)
            assert experience.task_labels == [0]
            assert experience.classes_in_this_experience == before.classes_in_this_experience
            assert len(before.dataset[0]) == 2
            image, label, task = experience.dataset[3]
            assert (torch.equal(image, before.dataset[3][0]), label, task) == (True, before.dataset[3][1], 0)
    assert given.train_stream[0].origin_stream is given.train_stream
    classic = made_benchmark("nc")
    assert one_task(classic) is classic


def test_metrics_in_common_use_are_let_through() -> None:
    given = [
        *metrics.accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        *metrics.loss_metrics(epoch=True, stream=True),
        *metrics.forgetting_metrics(experience=True, stream=True),
        *metrics.bwt_metrics(experience=True, stream=True),
        metrics.confusion_matrix_metrics(num_classes=6, stream=True, save_image=False),
        *metrics.timing_metrics(epoch=True),
    ]
    for kind in ("nc", "ci"):
        strategy = made(training.Naive, evaluator=EvaluationPlugin(*given, loggers=[]))
        check_supported(strategy)
        runs(strategy, made_benchmark(kind))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "BiCPlugin": (lambda: naive_with(plugins.BiCPlugin(18)), "MultiStepLR.*ReplayPlugin"),
    "CWRStarPlugin": (lambda: naive_with(plugins.CWRStarPlugin(watched_model())), "puts the weights.*EWCPlugin"),
    "CoPEPlugin": (lambda: naive_with(plugins.CoPEPlugin(18, 6, 6)), "prototypes"),
    "GEMPlugin": (lambda: naive_with(plugins.GEMPlugin(6, 0.5)), "without their ids.*AGEMPlugin"),
    "GSS_greedyPlugin": (lambda: naive_with(plugins.GSS_greedyPlugin(12, 2, [1, 8, 8])), "without their ids"),
    "GenerativeReplayPlugin": (lambda: naive_with(plugins.GenerativeReplayPlugin()), "generator"),
    "RWalkPlugin": (lambda: naive_with(plugins.RWalkPlugin()), "SynapticIntelligencePlugin"),
    "MemoryNCMUpdate": (lambda: naive_with(plugins.MemoryNCMUpdate()), "class means"),
    "FeCAMOracle": (lambda: naive_with(plugins.FeCAMOracle()), "class means"),
    "VAETraining": (lambda: supervised.VAETraining.__new__(supervised.VAETraining), "no classifier"),
    "ImagesSamplePlugin": (lambda: watching(metrics.images_samples_metrics()), "leave it out"),
    "WeightCheckpoint": (lambda: watching(metrics.WeightCheckpoint()), "fed_unlearn.checkpoints"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_forget_is_named_with_the_reason_and_what_to_use(name: str) -> None:
    build, reason = REFUSED[name]
    with pytest.raises(UnsupportedStrategyError, match=f"{name} .*{reason}") as raised:
        check_supported(build())
    assert isinstance(raised.value, FedUnlearnError)


def test_every_plug_in_of_avalanche_is_decided_on() -> None:
    ours = {plugins.SupervisedPlugin}
    everything = {
        kind
        for kind in vars(plugins).values()
        if isinstance(kind, type) and issubclass(kind, plugins.SupervisedPlugin) and kind not in ours
    }
    decided = {*HANDLED_PLUGINS, *REFUSED_PLUGINS}
    assert len(everything) > 25
    assert everything <= decided
    assert not set(HANDLED_PLUGINS) & set(REFUSED_PLUGINS)


def test_an_unknown_plug_in_of_avalanche_is_refused_until_it_can_forget() -> None:
    kind = type("Novel", (plugins.SupervisedPlugin,), {"__module__": "avalanche.training.plugins.novel"})
    with pytest.raises(UnsupportedStrategyError, match="Novel may keep something"):
        check_supported(naive_with(kind()))

    class Forgetful(plugins.RWalkPlugin):
        def forget(self, strategy: Any, sample_ids: frozenset[str]) -> None:
            pass

    check_supported(naive_with(Forgetful()))


def test_strategies_that_are_no_supervised_template_are_refused() -> None:
    meta = SupervisedMetaLearningTemplate.__new__(supervised.MER)
    with pytest.raises(UnsupportedStrategyError, match=r"a MER was given.*Naive"):
        check_supported(meta)
    with pytest.raises(UnsupportedStrategyError, match="Linear"):
        check_supported(nn.Linear(1, 1))


def test_models_with_heads_and_growing_heads_are_served() -> None:
    check_supported(made(training.Naive, MTSimpleMLP(input_size=64)))
    growing = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), IncrementalClassifier(8, 6))
    check_supported(made(training.Naive, growing))


@pytest.mark.parametrize("name", ["GEMPlugin", "CWRStarPlugin", "CoPEPlugin", "FeCAMOracle"])
def test_a_refusal_names_the_request_and_changes_nothing(name: str) -> None:
    scenario = forget_benchmark(made_benchmark("nc"), {1: ForgetRequest.for_class(0, id="zero")})
    strategy = REFUSED[name][0]()
    order, state = list(strategy.plugins), {key: value.clone() for key, value in strategy.model.state_dict().items()}
    held = [dict(vars(plugin)) for plugin in order]
    with pytest.raises(UnsupportedStrategyError, match=f"^request zero: {name} "):
        check_supported(strategy, scenario.forget_stream[0])
    assert strategy.plugins == order
    assert all(torch.equal(value, state[key]) for key, value in strategy.model.state_dict().items())
    for plugin, before in zip(order, held, strict=True):
        assert list(vars(plugin)) == list(before)
        assert all(vars(plugin)[key] is value for key, value in before.items())


@pytest.mark.parametrize("name", ["GEMPlugin", "CWRStarPlugin", "RWalkPlugin"])
def test_what_cannot_forget_trains_with_the_plug_in_until_a_request_comes(name: str) -> None:
    scenario = forget_benchmark(made_benchmark("nc"), {1: ForgetRequest.for_class(0, id="zero")})
    strategy = REFUSED[name][0]()
    unlearning = UnlearningPlugin()
    strategy.plugins.append(unlearning)
    strategy.train(scenario.train_stream[0])
    trained = {key: value.clone() for key, value in strategy.model.state_dict().items()}
    with pytest.raises(UnsupportedStrategyError, match=f"request zero: {name} "):
        unlearning.unlearn(strategy, scenario.forget_stream[0])
    assert all(torch.equal(value, trained[key]) for key, value in strategy.model.state_dict().items())
    assert not unlearning.forgotten
    strategy.train(scenario.train_stream[2])
    assert strategy.clock.train_exp_counter == 2


def test_gem_would_keep_samples_where_no_id_tells_them() -> None:
    strategy = naive_with(plugins.GEMPlugin(6, 0.5))
    strategy.train(made_benchmark("nc").train_stream[0])
    memory = strategy.plugins[0].memory_x
    assert isinstance(memory[0], torch.Tensor)


def test_synaptic_intelligence_gathers_importances_on_the_cpu() -> None:
    """One step of gradient descent: path integral and importance by hand.

    With theta' = theta - l g, the path integral is g (theta' - theta) = -l g^2, and the importance the smaller of 0.001
    and l g^2 / (l^2 g^2 + eps).
    """
    rate, eps = 0.5, 1e-3
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6))
    mend_synaptic_intelligence()
    plugin = plugins.SynapticIntelligencePlugin(1.0, eps=eps)
    strategy = made(training.Naive, model, plugins=[plugin], optimizer=torch.optim.SGD(model.parameters(), lr=rate))
    strategy.train_mb_size = 20
    experience = made_benchmark("nc").train_stream[0]
    images = torch.stack([experience.dataset[index][0] for index in range(20)])
    labels = torch.tensor([int(experience.dataset[index][1]) for index in range(20)])
    loss = nn.functional.cross_entropy(model(images), labels)
    gradient = torch.autograd.grad(loss, model[1].weight)[0].flatten()
    strategy.train(experience)
    assert float(gradient.abs().max()) > 0.01
    expected = (rate * gradient**2 / (rate**2 * gradient**2 + eps)).clamp(max=0.001)
    torch.testing.assert_close(plugin.ewc_data[1]["1.weight"].data, expected, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(
        plugin.syn_data["trajectory"]["1.weight"].data, -rate * gradient**2, rtol=1e-3, atol=1e-8
    )


def test_importing_avalanche_warns_of_nothing_and_leaves_the_generators_alone() -> None:
    script = """
import random, warnings
import numpy, torch
before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
warnings.simplefilter("error")
import avalanche.benchmarks, avalanche.training, avalanche.evaluation.metrics, avalanche.logging
after = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
assert before == after
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_class_balanced_buffer_is_the_reason_why_replay_by_class_needs_tasks() -> None:
    benchmark = made_benchmark("ci")
    policy = ClassBalancedBuffer(12)
    policy.update_from_dataset(benchmark.train_stream[0].dataset)
    assert len(policy.buffer[0]) == 3
    assert len(benchmark.train_stream[0].dataset[0]) == 2
