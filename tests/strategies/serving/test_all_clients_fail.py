"""Clients that are there and all fail: the call raises with their reasons, and the next one goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation import CLIENTS, OPEN_GATE, initial_arrays, make_federation, same_bytes
from flwr.app import Context, Message
from hostile import Honest, Lie, hostile_federation

from fed_unlearn import protocol
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError


class Failing:
    """Clients whose app raises on some messages until it is mended."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds

    def __call__(self, message: Message, context: Context, honest: Honest) -> Message:
        if message.metadata.message_type in self.kinds:
            raise ModuleNotFoundError("No module named 'scipy'")
        return honest()


def everybody(lie: Lie) -> dict[int, Lie]:
    return dict.fromkeys(range(CLIENTS), lie)


def test_training_in_which_nobody_trains_raises_and_is_done_later(tmp_path: Path) -> None:
    lie = Failing(protocol.TRAIN)
    federation = hostile_federation(tmp_path / "a", everybody(lie))
    strategy = federation.strategy()
    with pytest.raises(
        ClientsFailedError, match="no client has trained: client 0: ModuleNotFoundError: No module named"
    ):
        strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    lie.kinds = ()
    later = strategy.start(federation.grid, num_rounds=2)
    honest = make_federation(tmp_path / "b")
    assert same_bytes(later.arrays, honest.strategy().start(honest.grid, initial_arrays(), num_rounds=2).arrays)


def test_training_that_nobody_can_audit_raises_and_is_served_later(tmp_path: Path) -> None:
    lie = Failing(protocol.AUDIT)
    federation = hostile_federation(tmp_path / "a", everybody(lie))
    strategy = federation.strategy()
    with pytest.raises(ClientsFailedError, match="no client could be audited: client 0: ModuleNotFoundError"):
        strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    lie.kinds = ()
    later = strategy.start(federation.grid, num_rounds=1)
    honest = make_federation(tmp_path / "b")
    assert same_bytes(later.arrays, honest.strategy().start(honest.grid, initial_arrays(), num_rounds=1).arrays)


def test_a_request_that_nobody_can_audit_waits_and_is_served_later(tmp_path: Path) -> None:
    lie = Failing()
    federation = hostile_federation(tmp_path, everybody(lie))
    strategy = federation.strategy(gate=OPEN_GATE)
    served = strategy.start(federation.grid, initial_arrays(), num_rounds=1).arrays
    lie.kinds = (protocol.AUDIT,)
    strategy.submit(ForgetRequest.for_class(3, id="c"))
    with pytest.raises(ClientsFailedError, match="requests c wait: no client could be audited"):
        strategy.start(federation.grid, num_rounds=0)
    assert strategy.ledger.entry("c").status is Status.WAITING
    lie.kinds = ()
    later = strategy.start(federation.grid, num_rounds=0)
    assert strategy.ledger.entry("c").status is Status.COMMITTED
    assert not same_bytes(later.arrays, served)


def test_one_client_that_trains_is_enough(tmp_path: Path) -> None:
    federation = hostile_federation(tmp_path, {client: Failing(protocol.TRAIN) for client in (0, 1, 2)})
    result = federation.strategy().start(federation.grid, initial_arrays(), num_rounds=1)
    assert not same_bytes(result.arrays, initial_arrays())


def test_figures_of_a_training_that_made_nothing_are_not_those_of_the_one_after_it(tmp_path: Path) -> None:
    lie = Failing(protocol.TRAIN)
    federation = hostile_federation(tmp_path / "a", everybody(lie))
    strategy = federation.strategy()
    with pytest.raises(ClientsFailedError):
        strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    lie.kinds = ()
    later = strategy.start(federation.grid, num_rounds=2)
    other = make_federation(tmp_path / "b")
    untroubled = other.strategy()
    expected = untroubled.start(other.grid, initial_arrays(), num_rounds=2)
    assert later.training_traffic == expected.training_traffic
    assert dict(later.train_metrics_clientapp) == dict(expected.train_metrics_clientapp)
    [kept], [wanted] = strategy.state.experiences(), untroubled.state.experiences()
    assert kept.figures is not None
    assert wanted.figures is not None
    assert kept.figures.traffic == wanted.figures.traffic
    assert kept.figures.clients == wanted.figures.clients
