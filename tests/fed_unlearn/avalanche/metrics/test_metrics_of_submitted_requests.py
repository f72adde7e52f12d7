"""Metrics of requests that were submitted to a benchmark without a forget stream."""

import io
import pickle
from typing import Any

import pytest
from avalanche.logging import TextLogger
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from plugged_strategies import plugged
from watched_strategies import made, made_benchmark

from fed_unlearn.avalanche.metrics.plugin_metrics import forget_metrics
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_globals

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]

FORGET = "Forget_Acc_Exp/eval_phase/forget_stream/"
RETAIN = "Retain_Acc_Stream/eval_phase/test_stream"
ATTACK = "Membership_AUC_Exp/eval_phase/forget_stream/"


def served(kind: str, evaluated: bool, file: Any = None) -> tuple[Any, Any, dict[str, Any]]:
    """A strategy after two experiences and a request, and the values of its metrics by the beginning of their names."""
    loggers = [] if file is None else [TextLogger(file)]
    strategy, plugin, _ = plugged(made(Naive, evaluator=EvaluationPlugin(forget_metrics(), loggers=loggers)))
    benchmark = made_benchmark(kind, named=False)
    plugin.submit(ForgetRequest.for_class(0))
    strategy.train(benchmark.train_stream[0])
    if evaluated:
        strategy.eval(benchmark.test_stream)
    strategy.train(benchmark.train_stream[1])
    return strategy, benchmark, strategy.evaluator.get_all_metrics()


def steps_of(found: dict[str, Any], name: str) -> list[int]:
    [(steps, _)] = [value for key, value in found.items() if key.startswith(name)] or [([], [])]
    return list(steps)


@pytest.mark.parametrize(
    ("kind", "evaluated", "retained"), [("nc", False, 2), ("ci", False, 0), ("ci", True, 1), ("nc", True, 2)]
)
def test_figures_of_test_samples_come_as_soon_as_test_samples_are_known(
    kind: str, evaluated: bool, retained: int
) -> None:
    _, _, found = served(kind, evaluated)
    assert len(steps_of(found, FORGET)) == 2  # after the request, and after the experience behind it
    assert len(steps_of(found, RETAIN)) == retained
    assert len(steps_of(found, ATTACK)) == retained


def test_samples_that_were_evaluated_give_the_figures_of_the_benchmarks_own() -> None:
    values = []
    for kind, evaluated in (("nc", False), ("ci", True)):
        with isolated_globals(3):
            _, _, found = served(kind, evaluated)
        values.append({key.split("/")[0]: given[1][-1] for key, given in found.items() if "Acc" in key or "AUC" in key})
    assert values[0] == pytest.approx(values[1])
    assert "Retain_Acc_Stream" in values[0]


def test_loggers_show_what_there_is() -> None:
    file = io.StringIO()
    strategy, benchmark, _ = served("ci", False, file)
    strategy.eval(benchmark.test_stream)
    text = file.getvalue()
    assert "Forget_Acc_Exp/eval_phase/forget_stream" in text
    assert RETAIN not in text
    strategy.train(benchmark.train_stream[2])
    strategy.eval(benchmark.test_stream)
    assert RETAIN in file.getvalue()


def test_a_part_of_the_test_stream_is_enough_and_grows() -> None:
    strategy, benchmark, _ = served("ci", False)
    watch = next(metric.watch for metric in strategy.evaluator.metrics if hasattr(metric, "watch"))
    sizes = []
    for count in (1, 3):
        strategy.eval(benchmark.test_stream[:count])
        strategy.train(benchmark.train_stream[count - 1])
        sizes.append(len(watch._test))
    assert sizes == [4, 12]


def test_a_strategy_with_these_metrics_can_be_pickled() -> None:
    strategy, benchmark, _ = served("nc", True)
    strategy.eval(benchmark.test_stream)
    loaded = pickle.loads(pickle.dumps(strategy))
    loaded.train(made_benchmark("nc", named=False).train_stream[2])
    assert len(steps_of(loaded.evaluator.get_all_metrics(), RETAIN)) == 3
    watch = next(metric.watch for metric in loaded.evaluator.metrics if hasattr(metric, "watch"))
    assert [event.after for event in watch.events] == ["submitted-1", "train:2", "train:3"]
