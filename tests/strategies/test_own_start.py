"""A strategy whose own ``start()`` runs, with all that it logs and saves, while requests are served in its hooks."""

from __future__ import annotations

import json
import logging
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import own_start
import pytest
from federation import Federation, initial_arrays, make_federation, same_bytes
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result, Strategy
from own_start import Killed, Tracking, accuracy, central_accuracy, five_rounds, saved_model
from staying import FAST

from fed_unlearn.arrays import pack, unpack
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, Event, Train, UnlearningPlan, UnlearningResult
from fed_unlearn.strategies.staying.stopping import order_stop

PLAN = UnlearningPlan(
    max_request_norm=12.0,
    parameters={"boundary-shrink": {"epochs": 10, "learning_rate": 0.02}},
    repair_rounds=1,
    retention_days=1.0,
    backoff_seconds=0.0,
    durable_seconds=0.0,
    client_method="retrain",
)
CONFIG = {"learning-rate": 0.1}
OPEN = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
OPEN_GATE = Gate(class_thresholds=OPEN, sample_thresholds=OPEN, client_thresholds=OPEN)


class Served:
    """A federation, its strategy, and requests that come while a round of ``start()`` is under way."""

    def __init__(self, folder: Path, inner: Strategy, due: dict[int, ForgetRequest], gate: Gate = OPEN_GATE) -> None:
        self.federation: Federation = make_federation(folder)
        self.inner, self.due, self.heard = inner, dict(due), list[Event]()
        self.strategy = ContinualUnlearning(
            inner, ledger=folder / "server" / "ledger.db", gate=gate, plan=PLAN, observer=self._observe
        )

    def _observe(self, event: Event) -> None:
        self.heard.append(event)
        if event.kind == "training-round" and (request := self.due.pop(event.step, None)) is not None:
            self.strategy.submit(request)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    return tmp_path


def test_start_runs_as_it_is_while_requests_are_served_in_its_rounds(folder: Path) -> None:
    inner = Tracking(folder / "app")
    due = {3: ForgetRequest.for_class(3, id="class"), 4: ForgetRequest.for_samples(1, count=2, id="samples")}
    served = Served(folder, inner, due, gate=Gate())
    result = served.strategy.start(
        served.federation.grid, initial_arrays(), 6, train_config=ConfigRecord(CONFIG), evaluate_fn=central_accuracy
    )
    assert {item.request.id: item.status for item in result.requests} == dict.fromkeys(
        ["class", "samples"], Status.COMMITTED
    )
    # The strategy's own: every round, and the model of each as it is after the requests.
    rounds = json.loads((folder / "app" / "results.json").read_text())
    assert [entry["round"] for entry in rounds] == [1, 2, 3, 4, 5, 6]
    assert [number for number, _ in inner.tracked] == [1, 2, 3, 4, 5, 6]
    checkpoints = {int(path.stem.split("-")[1]): saved_model(path) for path in (folder / "app").glob("best-*.bin")}
    assert 1 in checkpoints
    assert accuracy(checkpoints[1], {3}) > 0.0
    assert all(accuracy(model, {3}) <= 0.1 for number, model in checkpoints.items() if number >= 3)
    assert inner.best_accuracy == max(entry["server"]["accuracy"] for entry in rounds), "a commit leaves it alone"
    assert inner.run_name == "run-1"
    final = saved_model(folder / "app" / "final.bin")
    assert same_bytes(final, result.arrays), "what start() ends with is the accepted model"
    assert accuracy(final, {3}) <= 0.1 < 0.5 < accuracy(final)
    # And the library's.
    assert result.inner is not None
    assert sorted(result.train_metrics_clientapp) == [1, 2, 3, 4, 5, 6]
    assert {n: m["accuracy"] for n, m in result.evaluate_metrics_serverapp.items()} == {
        entry["round"]: entry["server"]["accuracy"] for entry in rounds
    }


def test_a_client_request_is_served_in_its_rounds_and_another_request_after_them(folder: Path) -> None:
    inner = Tracking(folder / "app")
    served = Served(folder, inner, {2: ForgetRequest.for_client(2, id="left")})
    grid = served.federation.grid
    result = served.strategy.start(grid, initial_arrays(), 4, train_config=ConfigRecord(CONFIG))
    assert [(item.request.id, item.status) for item in result.requests] == [("left", Status.COMMITTED)], (
        result.requests[0].reason
    )
    assert [entry["round"] for entry in json.loads((folder / "app" / "results.json").read_text())] == [1, 2, 3, 4]
    served.strategy.submit(ForgetRequest.for_class(5, id="class"))
    after = served.strategy.start(grid, num_rounds=0)
    assert [(item.request.id, item.status) for item in after.requests] == [("class", Status.COMMITTED)]
    assert after.inner is None, "start() is not called where nothing is trained"
    assert len(json.loads((folder / "app" / "results.json").read_text())) == 4
    assert [experience.rounds for experience in served.strategy.state.experiences()] == [4]


def test_a_model_that_start_keeps_is_replaced_at_a_commit(folder: Path) -> None:
    inner = Tracking(folder / "app")
    served = Served(folder, inner, {2: ForgetRequest.for_class(3)})
    result = served.strategy.start(served.federation.grid, initial_arrays(), 2, train_config=ConfigRecord(CONFIG))
    assert same_bytes(inner.best_model, result.arrays)


def test_the_same_rounds_give_the_bytes_that_flowers_own_start_gives(folder: Path) -> None:
    results = []
    for name, inner in (("own", Tracking(folder / "app", decay_at=0)), ("plain", FedAvg(fraction_evaluate=0.0))):
        served = Served(folder / name, inner, {2: ForgetRequest.for_class(3)})
        results.append(served.strategy.start(served.federation.grid, initial_arrays(), 4).arrays)
    assert same_bytes(*results)


class KilledError(Exception):
    """The process ends here."""


class Interrupted(Tracking):
    """May end the process after its third round."""

    is_killed = False

    def after_round(self, number: int, arrays: ArrayRecord) -> ArrayRecord:
        if self.is_killed and number == 3:
            raise KilledError
        return arrays


def test_a_start_that_is_killed_goes_on_with_the_rounds_that_are_left(folder: Path) -> None:
    whole = Served(folder / "whole", Tracking(folder / "app"), {2: ForgetRequest.for_class(3)})
    grid, config = whole.federation.grid, ConfigRecord(CONFIG)
    expected = whole.strategy.start(grid, initial_arrays(), 5, train_config=config)
    (folder / "app" / "results.json").unlink()
    killed = Interrupted(folder / "app")
    killed.is_killed = True
    cut = Served(folder / "cut", killed, {2: ForgetRequest.for_class(3)})
    with pytest.raises(KilledError):
        cut.strategy.start(cut.federation.grid, initial_arrays(), 5, train_config=config)
    cut.strategy.ledger.close()
    inner = Interrupted(folder / "app")
    again = Served(folder / "cut", inner, {})
    seen: list[int] = []
    result = again.strategy.start(
        again.federation.grid,
        initial_arrays(),
        total_rounds=5,
        train_config=config,
        evaluate_fn=lambda number, arrays: seen.append(number),  # type: ignore[func-returns-value]
    )
    assert same_bytes(result.arrays, expected.arrays)
    # Round 3 was not written down before the end of the process: it is trained again, and is round 1 of the new call.
    rounds = [entry["round"] for entry in json.loads((folder / "app" / "results.json").read_text())]
    assert rounds == [1, 2, 3, 1, 2, 3]
    assert seen == [3, 4, 5], "evaluate_fn is told the round of the whole training"
    assert [given["server-round"] for given in inner.given] == [3, 4, 5]
    assert {given["learning-rate"] for given in inner.given} == {0.05}, "as it was halved in round 2"
    again.strategy.start(again.federation.grid, total_rounds=5)
    assert len(inner.given) == 3, "all rounds are trained"


class Evaluated(FedAvg):
    """Flower's ``start()``, with an evaluation of every round; the process may end before one of them."""

    killed_in = 0

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        if server_round == self.killed_in:
            raise KilledError
        return super().configure_evaluate(server_round, arrays, config, grid)


@pytest.mark.parametrize("killed_in", [2, 3])
def test_an_evaluation_that_a_killed_process_did_not_come_to_is_made_up_for(folder: Path, killed_in: int) -> None:
    def start(name: str, inner: Evaluated, due: dict[int, ForgetRequest]) -> UnlearningResult:
        served = Served(folder / name, inner, due)
        served.federation.app.evaluate()(counted)
        try:
            return served.strategy.start(
                served.federation.grid, initial_arrays(), total_rounds=3, evaluate_fn=central_accuracy
            )
        finally:
            served.strategy.ledger.close()

    def counted(message: Message, context: Context) -> Message:
        values = MetricRecord({"accuracy": accuracy(message.content.array_records["arrays"]), "num-examples": 1})
        return Message(RecordDict({"metrics": values}), reply_to=message)

    due = {2: ForgetRequest.for_class(3), 3: ForgetRequest.for_class(5)}
    whole = start("whole", Evaluated(min_available_nodes=2), due)
    killed = Evaluated(min_available_nodes=2)
    killed.killed_in = killed_in
    with pytest.raises(KilledError):
        start("cut", killed, due)
    left = {number: request for number, request in due.items() if number > killed_in}
    again = start("cut", Evaluated(min_available_nodes=2), left)
    assert same_bytes(again.arrays, whole.arrays)
    for made, expected in (
        (again.evaluate_metrics_clientapp, whole.evaluate_metrics_clientapp),
        (again.evaluate_metrics_serverapp, whole.evaluate_metrics_serverapp),
    ):
        made = {number: dict(metrics) for number, metrics in made.items() if number}
        assert made == {number: dict(metrics) for number, metrics in expected.items() if number}
        assert sorted(made) == [1, 2, 3]


@pytest.mark.slow
def test_a_process_that_is_killed_in_a_start_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name / "app").mkdir(parents=True)
    script = [sys.executable, own_start.__file__, str(tmp_path / "cut")]
    assert subprocess.run(script, capture_output=True, timeout=120).returncode == -signal.SIGKILL
    inner = Killed(tmp_path / "cut" / "app")
    strategy, result = five_rounds(tmp_path / "cut", inner)
    _, whole = five_rounds(tmp_path / "whole", Killed(tmp_path / "whole" / "app"))
    assert same_bytes(result.arrays, whole.arrays)
    assert [str(entry.status) for entry in strategy.ledger.entries()] == ["committed"]
    assert [given["server-round"] for given in inner.given] == [3, 4, 5]
    assert sorted(result.train_metrics_clientapp) == [1, 2, 3, 4, 5], "what the killed process did is in the result"
    assert strategy.ledger.verify().problem is None


class Scheduled(Tracking):
    """Sets the configuration of each round by itself."""

    def before_round(self, number: int, config: ConfigRecord) -> None:
        config["learning-rate"] = 0.1 / number


def test_what_start_changes_of_the_configuration_is_sent_and_repeated_by_the_oracle(folder: Path) -> None:
    inner = Scheduled(folder / "app", decay_at=0)
    served = Served(folder, inner, {})
    served.strategy.start(served.federation.grid, initial_arrays(), 3, train_config=ConfigRecord(CONFIG))
    sent = [0.1, 0.05, 0.1 / 3]
    assert [given["learning-rate"] for given in inner.given] == sent
    [experience] = served.strategy.state.experiences()
    assert [config["learning-rate"] for config in experience.configs] == sent
    served.strategy.submit(ForgetRequest.for_client(1, id="left"))
    inner.given.clear()
    [outcome] = served.strategy.start(served.federation.grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED, outcome.reason


class Stopping(Tracking):
    """Stops after two rounds."""

    def is_done(self, number: int) -> bool:
        return number == 2


def test_a_start_that_stops_early_ends_the_training_there(folder: Path) -> None:
    served = Served(folder, Stopping(folder / "app"), {})
    result = served.strategy.start(served.federation.grid, initial_arrays(), 5, train_config=ConfigRecord(CONFIG))
    assert [experience.rounds for experience in served.strategy.state.experiences()] == [2]
    assert same_bytes(result.arrays, saved_model(folder / "app" / "final.bin"))
    assert served.strategy.ledger.served_model() != served.strategy.ledger.state("initial")


class Averaging(Tracking):
    """Goes on with the mean of the last two models."""

    last: dict[str, np.ndarray] | None = None

    def after_round(self, number: int, arrays: ArrayRecord) -> ArrayRecord:
        before, self.last = self.last, unpack(arrays)
        if before is None:
            return arrays
        return pack({name: (value + before[name]) / np.float32(2) for name, value in self.last.items()})


def test_a_model_of_starts_own_is_trained_on_until_something_is_forgotten(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(folder / "own", Averaging(folder / "app"), {})
    plain = Served(folder / "plain", Tracking(folder / "app"), {})
    config = ConfigRecord(CONFIG)
    averaged = served.strategy.start(served.federation.grid, initial_arrays(), 3, train_config=config).arrays
    as_given = plain.strategy.start(plain.federation.grid, initial_arrays(), 3, train_config=config).arrays
    assert not same_bytes(averaged, as_given)
    served.strategy.submit(ForgetRequest.for_class(3))
    with caplog.at_level(logging.WARNING, logger="fed_unlearn"):
        result = served.strategy.start(served.federation.grid, initial_arrays(), 3, train_config=config)
    assert any("it may carry what was forgotten" in record.getMessage() for record in caplog.records)
    assert accuracy(result.arrays, {3}) <= 0.1


def test_every_round_is_evaluated_as_flower_does(folder: Path) -> None:
    """Federated evaluation goes through the strategy's hooks too; every second round, and the last."""
    federation = make_federation(folder)

    @federation.app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        assert message.content.config_records["config"]["forgotten-classes"] == []
        metrics = MetricRecord({"num-examples": 1, "one": 1.0})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    inner = Tracking(folder / "app", fraction_evaluate=1.0)
    strategy = ContinualUnlearning(inner, ledger=folder / "server" / "ledger.db", evaluate_every=2, plan=PLAN)
    result = strategy.start(federation.grid, initial_arrays(), 5, train_config=ConfigRecord(CONFIG))
    assert sorted(result.evaluate_metrics_clientapp) == [2, 4, 5]
    [experience] = strategy.state.experiences()
    assert experience.figures is not None and sorted(experience.figures.evaluate_metrics) == [2, 4, 5]


def test_timelines_and_their_trainings_call_start(folder: Path) -> None:
    inner = Tracking(folder / "app", decay_at=0)
    served = Served(folder, inner, {})
    timeline = [Train(rounds=2, train_config=ConfigRecord(CONFIG)), Train(rounds=1)]
    result = served.strategy.run(served.federation.grid, timeline, initial_arrays())
    assert [entry["round"] for entry in json.loads((folder / "app" / "results.json").read_text())] == [1, 2, 1]
    assert [given["server-round"] for given in inner.given] == [1, 2, 3]
    assert result.inner is not None and result.complete


class Careless(Tracking):
    """Goes on after whatever is raised in its rounds, and pickles itself."""

    def start(self, *given: Any, **named: Any) -> Result:
        self.copied = [type(pickle.loads(pickle.dumps(self))).__name__]
        try:
            return super().start(*given, **named)
        except Exception:
            return Result()


def test_a_server_that_stays_is_stopped_in_a_round_and_goes_on(folder: Path) -> None:
    inner = Careless(folder / "app", decay_at=0)
    served = Served(folder, inner, {})
    timeline = [Train(rounds=4, train_config=ConfigRecord(CONFIG))]

    def order() -> None:
        outside = Ledger(served.strategy.ledger.path, create=False)
        order_stop(outside)
        outside.close()

    def stop(event: Event) -> None:
        if event.kind == "training-round" and event.step == 2:
            order()

    served.strategy.observer = stop
    served.strategy.serve(served.federation.grid, timeline, initial_arrays(), settings=FAST)
    assert inner.copied == ["Careless"]
    open_training = served.strategy.state.load_training()
    assert open_training is not None and open_training.done == 1, "it was stopped in the second round"
    served.strategy.observer = None
    result = served.strategy.serve(served.federation.grid, timeline, settings=FAST, on_turn=lambda result: order())
    assert [experience.rounds for experience in served.strategy.state.experiences()] == [4]
    assert [given["server-round"] for given in inner.given] == [1, 2, 2, 3, 4]
    assert same_bytes(result.arrays, saved_model(folder / "app" / "final.bin"))


class BestEvaluated(Tracking):
    """Has the best model so far evaluated, and not the last."""

    sent: tuple[ArrayRecord, ...] = ()

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.sent = (*self.sent, arrays)
        return super().configure_evaluate(server_round, arrays, config, grid)

    def after_round(self, number: int, arrays: ArrayRecord) -> ArrayRecord:
        self.configure_evaluate(number, self.first, ConfigRecord(), self.around)
        return arrays


def test_an_older_model_is_not_sent_to_be_evaluated_once_something_is_forgotten(folder: Path) -> None:
    inner = BestEvaluated(folder / "app", decay_at=0)
    served = Served(folder, inner, {2: ForgetRequest.for_class(3)})
    inner.first, inner.around = initial_arrays(), served.federation.grid
    result = served.strategy.start(served.federation.grid, initial_arrays(), 2)
    older = [same_bytes(record, initial_arrays()) for record in inner.sent]
    assert older == [False, True, False, False]
    assert same_bytes(inner.sent[-1], result.arrays)


def test_what_is_set_between_wrapping_and_starting_is_the_users(folder: Path) -> None:
    first = Served(folder, Tracking(folder / "app", decay_at=0), {})
    first.inner.run_dir = "monday"  # type: ignore[attr-defined]
    first.strategy.start(first.federation.grid, initial_arrays(), 1)
    first.strategy.ledger.close()
    again = Served(folder, Tracking(folder / "app", decay_at=0), {1: ForgetRequest.for_class(3)})
    again.inner.run_dir = "tuesday"  # type: ignore[attr-defined]
    [outcome] = again.strategy.start(again.federation.grid, num_rounds=1).requests
    assert outcome.status is Status.COMMITTED
    assert again.inner.run_dir == "tuesday"  # type: ignore[attr-defined]
