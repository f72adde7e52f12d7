"""A request that would undo an earlier one is repaired or refused, and never committed as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fault_trials import OPEN, PLAN, Trial, trained
from shared_requests import committed, instead

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, same_bits, unpack
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.server_methods import MethodState, ServerMethod
from fed_unlearn.strategies.server_methods.registry import SERVER_METHODS
from fed_unlearn.strategies.serving.relapse import RelapseWatch, relapse_rows

THREE, LEAVES = ForgetRequest.for_class(3, id="r1"), ForgetRequest.for_client(2, id="r2", method="brings-back")
FORGETTING = Thresholds(max_forget_accuracy=0.05, max_retain_drop=None, max_total_retain_drop=None)
FORGETS = {"boundary-shrink": {"epochs": 10, "learning_rate": 0.02}}
GATE = replace(OPEN, class_thresholds=FORGETTING, max_training_drop=1.0, max_attempts=1)


@dataclass(frozen=True, kw_only=True)
class BringsBack(ServerMethod[MethodState]):
    """Ends with the model from before the class was forgotten."""

    paper, scopes, needs = "none", ("client",), "nothing"
    known: ClassVar[Arrays] = {}

    def begin(self, work: Any) -> MethodState:
        return MethodState(step=0, arrays=dict(self.known), done=True)

    def advance(self, work: Any, state: MethodState) -> MethodState:
        return state

    def stronger(self) -> BringsBack:
        return self


@dataclass(frozen=True, kw_only=True)
class BringsBackAnew(BringsBack):
    """The same, and says that it trained from scratch."""

    is_retraining: ClassVar[bool] = True


@pytest.fixture(autouse=True)
def methods() -> Iterator[None]:
    for name, cls in (("brings-back", BringsBack), ("brings-back-anew", BringsBackAnew)):
        SERVER_METHODS.register(name)(cls)
    yield
    for name in ("brings-back", "brings-back-anew"):
        SERVER_METHODS._classes.pop(name)


def forgotten(folder: Path, gate: Gate, request: ForgetRequest = THREE) -> tuple[Trial, Arrays]:
    """A federation that has forgotten something, with the model that serves."""
    trial = trained(folder, gate=gate, plan=replace(PLAN, parameters=FORGETS, max_holder_steps=12))
    BringsBack.known = unpack(trial.train(6).arrays)
    result = trial.serve(request)
    assert committed(result) == ["r1"], result.requests[0].reason
    return trial, unpack(result.arrays)


@pytest.mark.parametrize("method", ["brings-back", "brings-back-anew"])
def test_a_client_request_that_brings_a_class_back_is_refused(tmp_path: Path, method: str) -> None:
    trial, served = forgotten(tmp_path, replace(GATE, max_repair_rounds=0))
    result = trial.serve(replace(LEAVES, method=method))
    assert result.requests[0].status is Status.FAILED
    reason = result.requests[0].reason or ""
    assert reason.startswith("it would undo request r1: forget accuracy ") and reason.endswith(" is over 0.050")
    assert same_bits(unpack(result.arrays), served) and result.requests[0].repair_rounds == 0


def test_it_is_committed_where_repair_takes_the_class_out_again(tmp_path: Path) -> None:
    trial, served = forgotten(tmp_path, replace(GATE, max_repair_rounds=6))
    told: list[str] = []
    trial.strategy.observer = lambda event: told.append(event.text)
    result = trial.serve(LEAVES)
    assert any(text.startswith("repair more: it would undo request r1: forget accuracy") for text in told)
    assert committed(result) == ["r2"] and result.requests[0].repair_rounds > 0
    row = result.relapse[-1]
    assert row.relapsed == () and (row.forget_accuracy["r1"] or 0.0) <= 0.05
    assert not same_bits(unpack(result.arrays), served)


def test_what_had_come_back_before_is_held_against_nobody(tmp_path: Path) -> None:
    trial, _ = forgotten(tmp_path, replace(GATE, max_repair_rounds=0))
    for client in range(4):
        trial.grid.spoil(instead(BringsBack.known), client, protocol.TRAIN, 1)
    assert trial.train(1).relapse[-1].relapsed == ("r1",)
    BringsBack.known = {name: value * np.float32(1.01) for name, value in BringsBack.known.items()}
    assert committed(trial.serve(LEAVES)) == ["r2"]


class CrashError(Exception):
    pass


def test_what_training_brought_back_before_a_crash_is_held_against_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look that follows the training is cut off, and nobody answers when it is made up for."""
    trial, _ = forgotten(tmp_path, replace(GATE, max_repair_rounds=0))
    for client in range(4):
        trial.grid.spoil(instead(BringsBack.known), client, protocol.TRAIN, 1)

    def crash(*arguments: object, **settings: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched, pytest.raises(CrashError):
        patched.setattr(RelapseWatch, "look", crash)
        trial.train(1)
    trial.restart()
    assert [row.relapsed for row in relapse_rows(trial.strategy.ledger)] == [()]
    for client in range(4):
        trial.do("deaf", client, protocol.AUDIT, 2)  # what is lost is asked once more
    BringsBack.known = {name: value * np.float32(1.01) for name, value in BringsBack.known.items()}
    result = trial.serve(LEAVES)
    assert committed(result) == ["r2"], result.requests[0].reason
