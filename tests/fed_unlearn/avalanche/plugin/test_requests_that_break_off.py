"""Requests that cannot be served, or that break off: what becomes of them and of those behind them."""

from __future__ import annotations

import pytest
from avalanche.training import Naive
from plugged_strategies import CLASS_0, CLOSED_GATE, new_instances, plugged, scenario_of
from watched_strategies import made, made_benchmark

from fed_unlearn.avalanche.plugin import RequestFailedError
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]
ask = ForgetRequest.for_class


def test_a_client_that_nobody_knows_is_refused_in_sight() -> None:
    scenario = scenario_of("ci", {}, clients={"a": ["0", "1"], "b": ["6"]})
    strategy, plugin, _ = plugged(made(Naive))
    plugin.submit(ForgetRequest.for_client("c", id="whole"))
    plugin.submit(ForgetRequest.for_samples("c", count=1, id="some"))
    strategy.train(scenario.train_stream[0])
    assert [request.id for request, _ in plugin.refused] == ["whole", "some"]
    assert all("client c, who is unknown" in str(error) for _, error in plugin.refused)
    assert plugin.waiting == ()


def test_a_number_of_samples_of_a_class_waits_for_the_class() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    plugin.submit(ForgetRequest.for_samples("me", count=2, of_class=3, id="threes"))
    benchmark = made_benchmark("ci", named=False)
    strategy.train(benchmark.train_stream[0])
    assert ([each.id for each in plugin.waiting], plugin.refused) == (["threes"], [])
    strategy.train(benchmark.train_stream[1])
    assert len(plugin.forgotten) == 2 and all(int(name) % 6 == 3 for name in plugin.forgotten)


def test_requests_after_one_that_raises_still_wait() -> None:
    strategy, plugin, _ = plugged(made(Naive), strict=True)
    for label in (9, 0, 1):
        plugin.submit(ask(label, id=f"class {label}"))
    benchmark = new_instances()
    with pytest.raises(InvalidRequestError, match="class 9"):
        strategy.train(benchmark.train_stream[0])
    assert [each.id for each in plugin.waiting] == ["class 0", "class 1"]
    plugin.submit(ask(2, id="class 2"))
    strategy.train(benchmark.train_stream[1])
    assert [outcome.request.id for outcome in plugin.outcomes] == ["class 0", "class 1", "class 2"]


def test_an_id_stays_taken_when_the_benchmark_is_made_anew_and_no_made_id_takes_it() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(new_instances().train_stream[0])
    strategy.unlearn(ask(0, id="one"))
    strategy.train(new_instances().train_stream[1])
    with pytest.raises(InvalidRequestError, match="'one' was given before"):
        plugin.submit(ask(1, id="one"))
    plugin.submit(ask(1, id="submitted-1"), after=3)
    assert plugin.submit(ask(2), after=3) == "submitted-2"


def test_samples_of_a_request_that_broke_off_may_be_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(made_benchmark("ci", named=False).train_stream[0])
    with monkeypatch.context() as patched, pytest.raises(OSError):
        patched.setattr(plugin._service.unlearning, "serve", lambda *_, **__: (_ for _ in ()).throw(OSError))
        strategy.unlearn(ForgetRequest.for_samples("me", ["0"]))
    assert strategy.unlearn(ForgetRequest.for_samples("me", ["0"])).committed


def test_after_a_train_call_that_raised_for_a_request_others_are_served_at_once() -> None:
    scenario = scenario_of("ni", {1: CLASS_0})
    strategy, plugin, _ = plugged(made(Naive), gate=CLOSED_GATE, strict=True)
    strategy.train(scenario.train_stream[0])
    with pytest.raises(RequestFailedError, match="not accepted"):
        strategy.train(scenario.forget_stream[0])
    with pytest.raises(RequestFailedError, match="not accepted"):
        strategy.unlearn(CLASS_0)
    assert len(plugin.outcomes) == 2
