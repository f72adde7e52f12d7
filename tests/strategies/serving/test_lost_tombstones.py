"""A client whose store was put back to an older copy: what it confirms later does not stand for what it has lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import (
    CLASS,
    PLAN,
    SAMPLES,
    Trial,
    trained,
)
from faulty_grid import without
from tiny_world import PowerCut

from fed_unlearn import protocol
from fed_unlearn.client.store import ClientStore
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest

EARLIER = replace(SAMPLES, id="earlier")
LATER = replace(CLASS, id="later")
MORE = replace(SAMPLES, id="more")
JUST_BEFORE = {"class": (protocol.CONFIRM, 0, 1), "sample": (protocol.AUDIT, 3, 2)}
"""The answer before client 2 is asked to confirm a request: type of message, who answers it, and for which time."""


def store_of(trial: Trial, client: int) -> Path:
    return trial.folder / "clients" / str(client) / "state.json"


def lose_tombstones(trial: Trial, later: ForgetRequest) -> Callable[[], None]:
    """Commit a request at client 2, and put its store back just before it confirms a later one; how to undo that.

    Had it been put back earlier, any other answer of the client would have shown it.
    """
    copy = store_of(trial, 2).read_bytes()
    trial.serve(EARLIER)
    assert trial.stored(2)["earlier"]["tombstoned"]
    message_type, last, times = JUST_BEFORE[later.scope.kind]
    answered: list[int] = []
    newest: list[bytes] = []

    def put_back(client: int, reply: object) -> None:
        answered.append(client)
        if answered.count(last) == times and client == last:
            newest.append(store_of(trial, 2).read_bytes())
            store_of(trial, 2).write_bytes(copy)

    trial.grid.watch(message_type, put_back)

    def undo() -> None:
        trial.grid.watch(message_type, lambda client, reply: None)
        store_of(trial, 2).write_bytes(*newest)

    return undo


def confirmed_by(trial: Trial, client: int = 2) -> str:
    return trial.strategy.ledger.confirmed_tombstones()[str(client)]


@pytest.mark.parametrize("version", ["this", "older"])
@pytest.mark.parametrize("later", [LATER, MORE], ids=["class", "sample"])
def test_who_lost_tombstones_is_not_let_in_by_confirming_others(
    tmp_path: Path, later: ForgetRequest, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The model has forgotten: the request is committed, and who lost its tombstones owes these too."""
    trial = trained(tmp_path, plan=replace(PLAN, repair_rounds=0))
    undo = lose_tombstones(trial, later)
    before = confirmed_by(trial)
    if version == "older":
        trial.grid.spoil(without("earlier"), 2, protocol.CONFIRM)
    trial.strategy.submit(later)
    trial.trained_on()
    [outcome] = trial.strategy.start(trial.grid, num_rounds=1, timeout=0.2).requests
    assert trial.grid.count(2, protocol.CONFIRM) == 2, "it has confirmed this one as the earlier one"
    assert (outcome.status, trial.owed(later.id)) == (Status.COMMITTED, ("2",))
    assert confirmed_by(trial) == before
    assert "client 2 is left out: it does not show the tombstones that it has confirmed before" in caplog.text
    for restarts in (False, True):
        seen = trial.trained_on()
        assert seen & trial.ids_of(1) and not seen & trial.ids_of(2)
        if restarts:
            trial.restart()
        trial.train(1)
    undo()
    trial.grid.heal()
    trial.trained_on()
    trial.train(1)
    seen, stored = trial.trained_on(), trial.stored(2)
    assert trial.owed(later.id) == () and stored[later.id]["tombstoned"]
    lost = frozenset(name for item in stored.values() for name in item["sample_ids"])  # type: ignore[attr-defined]
    assert len(lost) >= 4
    assert seen & trial.ids_of(2) == trial.ids_of(2) - lost


@pytest.mark.parametrize("kind", ["silent", "late", "twice"])
@pytest.mark.parametrize("version", ["this", "older"])
def test_an_answer_that_was_lost_does_not_bar_who_has_all_its_tombstones(
    tmp_path: Path, kind: str, version: str
) -> None:
    """Asked again, it has written already what it confirms; an older client does not say what it had before."""
    trial = trained(tmp_path)
    trial.serve(EARLIER)
    trial.do(kind, 2, protocol.CONFIRM, times=1)
    if version == "older":
        trial.grid.spoil(without("earlier"), 2, protocol.CONFIRM)
    result = trial.serve(LATER, MORE)
    assert {outcome.status for outcome in result.requests} == {Status.COMMITTED}
    assert (trial.owed("later"), trial.owed("more")) == ((), ())
    trial.restart()
    trial.trained_on()
    trial.train(1)
    assert trial.trained_on() & trial.ids_of(2)


def test_a_request_that_is_tried_again_is_confirmed_again(tmp_path: Path) -> None:
    """Its tombstones are among those that were confirmed before: nothing is missing where nothing is new."""
    trial = trained(tmp_path, plan=replace(PLAN, reopen_relapsed=True))
    trial.serve(EARLIER, LATER)
    ledger = trial.strategy.ledger
    ledger.advance("later", Status.REOPENED, attempt=ledger.entry("later").attempt, reason="by hand")
    before = {client: confirmed_by(trial, client) for client in range(4)}
    [outcome] = trial.serve().requests
    assert (outcome.request.id, outcome.status) == ("later", Status.COMMITTED)
    assert {client: confirmed_by(trial, client) for client in range(4)} == before
    trial.trained_on()
    trial.train(1)
    seen = trial.trained_on()
    assert all(seen & trial.ids_of(client) for client in range(4))


def test_several_requests_that_were_confirmed_by_half_are_confirmed_in_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are cut off between two tombstones of one message: the client shows one that the ledger knows nothing of."""
    trial = trained(tmp_path)
    trial.serve(EARLIER)
    whole = ClientStore.confirm

    def power_cut_at_b(store: ClientStore, request_id: str, *settings: float, **options: bool) -> None:
        if request_id == "b":
            raise PowerCut
        whole(store, request_id, *settings, **options)

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(ClientStore, "confirm", power_cut_at_b)
        trial.serve(*(ForgetRequest.for_samples(2, count=1, id=name) for name in ("a", "b")))
    assert [trial.stored(2)[name]["tombstoned"] for name in ("a", "b")] == [True, False]
    trial.restart()
    assert [str(outcome.status) for outcome in trial.serve().requests] == ["committed"] * 2
    trial.trained_on()
    trial.train(1)
    assert trial.trained_on() & trial.ids_of(2)
