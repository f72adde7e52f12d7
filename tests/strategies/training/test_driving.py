"""A ``start()`` that does not do what Flower's does: refused at construction, or named when it runs."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from federation import FAST_PLAN, initial_arrays, make_federation, same_bytes
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg, Result, Strategy

from fed_unlearn.errors import FedUnlearnError, InvalidModelError, InvalidParameterError
from fed_unlearn.strategies import ContinualUnlearning, UnlearningResult

QUIET = {"fraction_evaluate": 0.0}


def started(folder: Path, inner: Strategy, **settings: object) -> UnlearningResult:
    federation = make_federation(folder)
    strategy = ContinualUnlearning(inner, ledger=folder / "server" / "ledger.db", plan=FAST_PLAN)
    return strategy.start(federation.grid, initial_arrays(), 2, **settings)  # type: ignore[arg-type]


class Alone(FedAvg):
    """Trains nothing."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, **settings: object) -> Result:  # type: ignore[override]
        return Result()


class Asks(Alone):
    """Asks clients, and aggregates by itself."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, **settings: object) -> Result:  # type: ignore[override]
        grid.send_and_receive(self.configure_train(1, initial_arrays, ConfigRecord(), grid))
        return Result()


class Sends(Alone):
    """Makes its training messages by itself."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, **settings: object) -> Result:  # type: ignore[override]
        content = RecordDict({"arrays": initial_arrays, "config": ConfigRecord({"server-round": 1})})
        grid.send_and_receive([Message(content, node, "train") for node in grid.get_node_ids()])
        return Result()


class Pushes(Alone):
    """Does not wait for the answers."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, **settings: object) -> Result:  # type: ignore[override]
        list(grid.push_messages(self.configure_train(1, initial_arrays, ConfigRecord(), grid)))
        return Result()


class Aggregates(Alone):
    """Gives replies that nobody was asked for."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, **settings: object) -> Result:  # type: ignore[override]
        self.aggregate_train(1, [])
        return Result()


class OtherModel(Alone):
    """Gives a model of another shape."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, **settings: object) -> Result:  # type: ignore[override]
        half = ArrayRecord({name: initial_arrays[name] for name in list(initial_arrays)[:2]})
        grid.send_and_receive(self.configure_train(1, half, ConfigRecord(), grid))
        return Result()


class Swallows(Sends):
    """Goes on after every error."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, **settings: object) -> Result:  # type: ignore[override]
        for _ in range(num_rounds):
            try:
                super().start(grid, initial_arrays)
            except Exception as error:
                self.said = str(error)
        return Result()


@pytest.mark.parametrize(
    ("inner", "error", "said"),
    [
        (Alone, InvalidParameterError, "start.. of Alone has ended and never called self.aggregate_train"),
        (Asks, InvalidParameterError, "start.. of Asks has ended and never called self.aggregate_train"),
        (Sends, FedUnlearnError, "sends training messages that self.configure_train did not make"),
        (Pushes, FedUnlearnError, "use grid.send_and_receive"),
        (Aggregates, InvalidParameterError, "no configure_train came before it"),
        (OtherModel, InvalidModelError, "gave a hook 2 arrays that are not those of the model"),
        (Swallows, FedUnlearnError, "sends training messages that self.configure_train did not make"),
    ],
)
def test_a_start_whose_rounds_cannot_be_followed_is_named(
    tmp_path: Path, inner: type[FedAvg], error: type[FedUnlearnError], said: str
) -> None:
    with pytest.raises(error, match=said):
        started(tmp_path, inner(**QUIET))  # type: ignore[arg-type]


def test_what_was_refused_can_be_mended_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError):
        started(tmp_path, Alone(**QUIET))  # type: ignore[arg-type]
    mended = started(tmp_path, FedAvg(**QUIET)).arrays  # type: ignore[arg-type]
    assert same_bytes(mended, started(tmp_path / "new", FedAvg(**QUIET)).arrays)  # type: ignore[arg-type]


class Late(FedAvg):
    async def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3) -> Result:  # type: ignore[override]
        return Result()


class Yields(FedAvg):
    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3) -> Iterator[Result]:  # type: ignore[override]
        yield Result()


class Named(FedAvg):
    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int, run_name: str) -> Result:  # type: ignore[override]
        return Result()


class Endless(FedAvg):
    def start(self, grid: Grid, initial_arrays: ArrayRecord) -> Result:  # type: ignore[override]
        return Result()


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (Late, "start is no plain method"),
        (Yields, "start is no plain method"),
        (Named, "its parameter 'run_name' has no default"),
        (Endless, "it has no parameter 'num_rounds'"),
    ],
)
def test_a_start_that_cannot_be_called_is_refused_at_construction(
    tmp_path: Path, inner: type[FedAvg], said: str
) -> None:
    with pytest.raises(InvalidParameterError, match=f"{inner.__name__} cannot be wrapped: .*{said}") as refusal:
        ContinualUnlearning(inner(**QUIET), ledger=tmp_path / "ledger.db")  # type: ignore[arg-type]
    assert "its start() would not run, nor what it logs and saves" in str(refusal.value)


def test_a_function_in_the_place_of_start_is_refused(tmp_path: Path) -> None:
    inner = FedAvg(**QUIET)  # type: ignore[arg-type]
    inner.start = lambda *given, **named: Result()  # type: ignore[method-assign]
    with pytest.raises(InvalidParameterError, match="a function was put in the place of start"):
        ContinualUnlearning(inner, ledger=tmp_path / "ledger.db")


class Short(FedAvg):
    """Has fewer parameters than Flower's, and counts what it does on itself."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int) -> list[int]:  # type: ignore[override]
        arrays, self.rounds = initial_arrays, 0
        for number in range(1, num_rounds + 1):
            replies = grid.send_and_receive(self.configure_train(number, arrays, ConfigRecord(), grid), timeout=60)
            aggregated, _ = self.aggregate_train(number, replies)
            arrays = aggregated if aggregated is not None else arrays
            self.rounds += 1
        return [self.rounds, *map(int, grid.get_node_ids())]


def test_a_start_with_fewer_parameters_gets_those_that_it_has(tmp_path: Path) -> None:
    inner = Short(**QUIET)  # type: ignore[arg-type]
    result = started(tmp_path, inner)
    assert isinstance(result.inner, list) and result.inner[0] == 2 and len(result.inner) == 5
    assert inner.rounds == 2, "what it sets on itself is set on the strategy"
    with pytest.raises(InvalidParameterError, match=r"train_config was given, and start\(\) of Short does not take it"):
        started(tmp_path / "other", Short(**QUIET), train_config=ConfigRecord({"rate": 1.0}))  # type: ignore[arg-type]


def test_a_method_that_is_bound_to_the_instance_is_driven_too(tmp_path: Path) -> None:
    inner = FedAvg(**QUIET)  # type: ignore[arg-type]
    inner.start = types.MethodType(Short.start, inner)  # type: ignore[method-assign]
    result = started(tmp_path, inner)
    assert isinstance(result.inner, list) and result.inner[0] == 2


class OwnHooks(Short):
    """Has hooks of its own that call Flower's."""

    seen: tuple[int, ...] = ()

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        self.seen = (*self.seen, server_round)
        return super().aggregate_train(server_round, replies)


def test_the_strategys_own_hooks_are_called_with_the_number_over_all_trainings(tmp_path: Path) -> None:
    inner, federation = OwnHooks(**QUIET), make_federation(tmp_path)  # type: ignore[arg-type]
    strategy = ContinualUnlearning(inner, ledger=tmp_path / "server" / "ledger.db", plan=FAST_PLAN)
    strategy.start(federation.grid, initial_arrays(), 2)
    strategy.start(federation.grid, num_rounds=1)
    assert inner.seen == (1, 2, 3)
    assert type(inner) is OwnHooks


class Unchecked(Short):
    """Sends through another grid than it is given."""

    around: Grid

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int) -> list[int]:  # type: ignore[override]
        messages = self.configure_train(1, initial_arrays, ConfigRecord(), grid)
        self.aggregate_train(1, self.around.send_and_receive(messages, timeout=60))
        return []


def test_replies_that_came_another_way_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    federation, inner = make_federation(tmp_path), Unchecked(**QUIET)  # type: ignore[arg-type]
    inner.around = federation.grid
    strategy = ContinualUnlearning(inner, ledger=tmp_path / "server" / "ledger.db", plan=FAST_PLAN)
    result = strategy.start(federation.grid, initial_arrays(), 1)
    assert same_bytes(result.arrays, initial_arrays())
    assert any("4 replies that did not come through its grid" in record.getMessage() for record in caplog.records)


class Last(FedAvg):
    """Forbids classes below it."""

    def __init_subclass__(cls) -> None:
        raise TypeError("Last is final")


def test_a_class_that_cannot_be_derived_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="no class can be derived from its class: TypeError: Last is final"):
        ContinualUnlearning(Last(**QUIET), ledger=tmp_path / "ledger.db")  # type: ignore[arg-type]


def test_a_start_below_a_privacy_wrapper_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inner = DifferentialPrivacyServerSideFixedClipping(Short(**QUIET), 0.1, 1.0, 4)  # type: ignore[arg-type]
    ContinualUnlearning(inner, ledger=tmp_path / "ledger.db")
    assert any("start() of Short does not run: Diff" in record.getMessage() for record in caplog.records)
