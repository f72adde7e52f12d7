"""How it is known that a request is forgotten; what changes nothing is not committed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federation import FAST_PLAN, Federation, initial_arrays, make_federation

from fed_unlearn.arrays import same_bits
from fed_unlearn.client import current_session
from fed_unlearn.gate import HowKnown
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.methods.base import Method, Outcome
from fed_unlearn.methods.registry import METHODS
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, UnlearningPlan
from fed_unlearn.strategies.outcomes import RequestOutcome
from fed_unlearn.strategies.server_methods import MethodState, ServerMethod
from fed_unlearn.strategies.server_methods.registry import SERVER_METHODS


@dataclass(frozen=True, kw_only=True)
class ServedModelAgain(ServerMethod[MethodState]):
    """Gives the served model back."""

    paper, scopes, needs = "none", ("client",), "nothing"

    def begin(self, work: Any) -> MethodState:
        return MethodState(step=0, arrays=work.served, done=True)

    def advance(self, work: Any, state: MethodState) -> MethodState:
        return state

    def stronger(self) -> ServedModelAgain:
        return self


@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    """Does nothing at holders."""

    paper, scopes, needs = "none", ("class", "sample"), "nothing"

    def unlearn(self, model: Any, *args: Any, **kwargs: Any) -> Outcome:
        return Outcome(model, True, 0, 0.0, 0, 0, None)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def stronger(self) -> Nothing:
        return self


@dataclass(frozen=True, kw_only=True)
class ServedModelRounded(ServedModelAgain):
    """Changes one number of the served model by as little as there is."""

    def begin(self, work: Any) -> MethodState:
        return MethodState(step=0, arrays=nearly(work.served), done=True)


@dataclass(frozen=True, kw_only=True)
class ServedModelShifted(ServedModelAgain):
    """Adds a little to one bias of the served model."""

    def begin(self, work: Any) -> MethodState:
        arrays = dict(work.served)
        last = list(arrays)[-1]
        arrays[last] = arrays[last] + np.linspace(-0.01, 0.01, 10, dtype=np.float32)
        return MethodState(step=0, arrays=arrays, done=True)


@dataclass(frozen=True, kw_only=True)
class Rounding(Nothing):
    """Changes one number of the model by as little as there is."""

    def unlearn(self, model: Any, *args: Any, **kwargs: Any) -> Outcome:
        changed = copy.deepcopy(model)
        arrays = {name: value.numpy() for name, value in model.state_dict().items()}
        changed.load_state_dict({name: torch.from_numpy(value) for name, value in nearly(arrays).items()})
        return Outcome(changed, True, 0, 0.0, 0, 0, None)


@dataclass(frozen=True, kw_only=True)
class ThereAndBack(Nothing):
    """Moves the model one way at half of the holders, and back at the others, so that their average is where it was."""

    def unlearn(self, model: Any, forget: Any, *args: Any, **kwargs: Any) -> Outcome:
        changed = copy.deepcopy(model)
        sign = 1 if int(current_session().client_id) % 2 else -1
        with torch.no_grad():
            for value in changed.parameters():
                value += sign * 0.1 / len(forget)
        return Outcome(changed, True, 0, 0.0, 0, 0, None)


def nearly(arrays: dict[str, Any]) -> dict[str, Any]:
    first = next(iter(arrays))
    changed = arrays[first].copy()
    changed.flat[0] = np.nextafter(changed.flat[0], np.float32(9))
    return {**arrays, first: changed}


@pytest.fixture(scope="module", autouse=True)
def methods_that_do_nothing() -> Iterator[None]:
    made: dict[str, type] = {"nothing": Nothing, "rounding": Rounding, "there-and-back": ThereAndBack}
    at_server = {
        "served-again": ServedModelAgain,
        "served-rounded": ServedModelRounded,
        "served-shifted": ServedModelShifted,
    }
    with ExitStack() as stack:
        for name, cls in made.items():
            stack.enter_context(registered(METHODS, name, cls))
        for name, cls in at_server.items():
            stack.enter_context(registered(SERVER_METHODS, name, cls))
        yield


@contextmanager
def registered(registry: Any, name: str, cls: type) -> Iterator[None]:
    registry.register(name)(cls)
    try:
        yield
    finally:
        registry._classes.pop(name, None)


def trained(folder: Path, plan: UnlearningPlan = FAST_PLAN) -> tuple[Federation, ContinualUnlearning]:
    federation = make_federation(folder)
    strategy = federation.strategy(plan=plan)
    strategy.start(federation.grid, initial_arrays=initial_arrays(), num_rounds=4)
    return federation, strategy


def served(folder: Path, request: ForgetRequest, plan: UnlearningPlan = FAST_PLAN) -> RequestOutcome:
    """The outcome of a request that leaves the served model as it is."""
    federation, strategy = trained(folder, plan)
    before = strategy.served.arrays
    strategy.submit(request)
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert same_bits(before, strategy.served.arrays) or outcome.status is Status.COMMITTED
    return outcome


@pytest.mark.parametrize(
    "request_",
    [
        ForgetRequest.for_client(1, method="served-again"),
        ForgetRequest.for_client(1, method="served-rounded"),
        ForgetRequest.for_class(3, method="nothing"),
        ForgetRequest.for_class(3, method="rounding"),
        ForgetRequest.for_samples(1, count=4, method="nothing"),
        ForgetRequest.for_samples(1, count=4, method="rounding"),
        ForgetRequest.for_class(3, method="there-and-back"),
    ],
    ids=["client", "client-rounded", "class", "class-rounded", "sample", "sample-rounded", "class-cancelling"],
)
def test_a_method_that_changes_nothing_commits_nothing(tmp_path: Path, request_: ForgetRequest) -> None:
    outcome = served(tmp_path, request_)
    assert (outcome.status, outcome.evidence) == (Status.FAILED, None)
    assert outcome.reason is not None
    assert outcome.reason.endswith("no step of the method has changed the model")


def test_a_class_that_was_known_is_measured_and_the_ledger_says_so(tmp_path: Path) -> None:
    federation, strategy = trained(tmp_path)
    strategy.submit(ForgetRequest.for_class(3))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert (outcome.status, outcome.evidence, outcome.goal) == (Status.COMMITTED, HowKnown.MEASURED, None)
    facts = [event.facts for event in strategy.ledger.events() if "evidence" in event.facts]
    assert [item["evidence"] for item in facts] == ["measured"]
    body = json.loads(json.dumps(outcome.to_json()))
    assert RequestOutcome.from_json(outcome.request, body) == outcome
    for name in ("evidence", "goal"):
        del body[name]
    assert RequestOutcome.from_json(outcome.request, body).evidence is None


def test_samples_that_look_unseen_are_committed_as_not_measurable_unless_the_plan_demands_more(tmp_path: Path) -> None:
    request = ForgetRequest.for_samples(1, count=4, method="nothing")
    plan = replace(FAST_PLAN, holder_turn=FAST_PLAN.holder_turn)
    federation = make_federation(tmp_path)
    outcomes = []
    for name, demanded in (("some", ()), ("strict", ("sample",))):
        strategy = federation.strategy(plan=replace(plan, require_measured=demanded), name=name)
        # An untrained model gets few samples right; a gate that allows as many finds nothing to do.
        strategy.gate = replace(
            strategy.gate, sample_thresholds=replace(strategy.gate.sample_thresholds, max_forget_accuracy=1.0)
        )
        strategy.submit(request)
        outcomes += strategy.start(federation.grid, initial_arrays=initial_arrays(), num_rounds=1).requests
        federation = make_federation(tmp_path / "again")
    assert [outcome.status for outcome in outcomes] == [Status.COMMITTED, Status.FAILED]
    assert [outcome.evidence for outcome in outcomes] == [HowKnown.NOT_MEASURABLE, None]
    assert outcomes[0].reason == "its samples looked unseen before, and no holder's step has changed the model"
    assert outcomes[1].reason == "its forgetting is not measurable, and the plan demands measured"


@pytest.mark.parametrize("rounds", [4, 15])
def test_a_step_of_hardly_any_length_is_never_measured(tmp_path: Path, rounds: int) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays=initial_arrays(), num_rounds=rounds)
    strategy.submit(ForgetRequest.for_client(1, method="served-shifted"))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.evidence in (None, HowKnown.NOT_MEASURABLE)


def test_a_client_that_is_retrained_without_is_known_by_construction_or_measured(tmp_path: Path) -> None:
    federation, strategy = trained(tmp_path)
    strategy.submit(ForgetRequest.for_client(1, method="retrain"))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED
    assert outcome.evidence in (HowKnown.BY_CONSTRUCTION, HowKnown.MEASURED)
    assert outcome.before is not None
    assert outcome.before.client_confidence is not None


def test_a_client_whose_request_has_failed_can_be_asked_for_once_more(tmp_path: Path) -> None:
    federation, strategy = trained(tmp_path)
    found = []
    for method in ("federaser", "retrain", "retrain"):
        strategy.submit(ForgetRequest.for_client(1, method=method))
        found += strategy.start(federation.grid, num_rounds=1).requests
    assert [outcome.status for outcome in found] == [Status.FAILED, Status.COMMITTED, Status.REJECTED]
    assert found[0].reason == "federaser: no history is kept, so there is no training to replay"
    assert found[1].evidence in (HowKnown.BY_CONSTRUCTION, HowKnown.MEASURED)
    assert found[2].reason == "client 1 is forgotten already"
