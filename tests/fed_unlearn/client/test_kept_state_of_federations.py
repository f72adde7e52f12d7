"""Whole requests leave what clients keep for themselves as it was where they fail, and without a trace of it else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from federation import CLIENTS, FAST_PLAN, digits_of
from flwr.app import ArrayRecord
from keeping_node import holds_bytes, put_by, seen
from partial_models import HEAD, Kept, OwnHead, OwnNorm, Parts, PrivateHead

from fed_unlearn import ForgetRequest
from fed_unlearn.data.images import ClientData
from fed_unlearn.gate import Decision, Gate, Thresholds, Verdict
from fed_unlearn.strategies import Repair, RequestBound
from fed_unlearn.strategies.outcomes import RequestOutcome

CLASS = 3
WITHOUT = 3
"""A client that has no sample of the class."""

NO_LOSS = Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.0, max_total_retain_drop=0.0)
IMPOSSIBLE = Gate(class_thresholds=NO_LOSS, sample_thresholds=NO_LOSS, max_repair_rounds=0, max_attempts=2)
TOO_LONG_OR_SHORT = replace(
    FAST_PLAN,
    repair=Repair(rounds=1, alternations=1),
    parameters={"boundary-shrink": {"epochs": 10, "learning_rate": 5.0}},
    request_bound=RequestBound(max_request_norm=1e-3),
)
"""For a class, steps that ruin the model, so that what may be lost is too little; for samples, none of any length."""


class Refusing(Gate):
    """Gives up whatever it is shown."""

    def decide(self, *given: Any, **facts: Any) -> Decision:
        return Decision(Verdict.ROLL_BACK, ("refused",))


class Dying(Refusing):
    """The server's process ends at the first look."""

    looks: ClassVar[int] = 0

    def decide(self, *given: Any, **facts: Any) -> Decision:
        type(self).looks += 1
        if type(self).looks == 1:
            raise KeyboardInterrupt
        return super().decide(*given, **facts)


def data_of(client: int) -> ClientData:
    data = digits_of(client)
    if client != WITHOUT:
        return data
    return replace(data, train=data.train.subset((data.train.labels != CLASS).nonzero().flatten()))


def heads(parts: Parts) -> list[dict[str, object]]:
    return [seen(parts.context(client).state) for client in range(CLIENTS)]


def served(parts: Parts, request: ForgetRequest, rounds: int = 0) -> RequestOutcome:
    parts.strategy.submit(request)
    return parts.strategy.start(parts.grid, num_rounds=rounds).requests[-1]


def requests() -> dict[str, ForgetRequest]:
    return {
        "class": ForgetRequest.for_class(CLASS),
        "samples": ForgetRequest.for_samples(1, digits_of(1).train.ids[:4]),
        "class, retrained": ForgetRequest.for_class(CLASS, method="retrain"),
        "client": ForgetRequest.for_client(2, method="retrain"),
    }


@pytest.mark.parametrize("scope", ["class", "samples"])
@pytest.mark.parametrize("kind", [PrivateHead, OwnHead, OwnNorm])
def test_a_request_that_fails_leaves_every_clients_own_part_as_it_was(
    kind: type[Kept], scope: str, tmp_path: Path
) -> None:
    parts = Parts(kind(data_of=data_of), tmp_path, gate=IMPOSSIBLE, plan=TOO_LONG_OR_SHORT)
    before = heads(parts)
    assert all(HEAD in head for head in before)
    outcome = served(parts, requests()[scope])
    assert outcome.status == "failed" and outcome.attempts == 2, outcome.reason
    assert heads(parts) == before
    assert not any(put_by(parts.context(client).state) for client in range(CLIENTS))


@pytest.mark.parametrize("scope", ["class", "samples"])
@pytest.mark.parametrize("kind", [PrivateHead, OwnHead, OwnNorm])
def test_a_request_that_is_committed_leaves_no_byte_of_an_earlier_part(
    kind: type[Kept], scope: str, tmp_path: Path
) -> None:
    parts = Parts(kind(data_of=data_of), tmp_path)
    old = [parts.context(client).state.array_records[HEAD] for client in range(CLIENTS)]
    outcome = served(parts, requests()[scope])
    assert outcome.status == "committed", outcome.reason
    for client in range(CLIENTS):
        state = parts.context(client).state
        assert not put_by(state)
        changed = ArrayRecord({name: array for name, array in old[client].items() if "num_batches" not in name})
        if scope == "class" or client == 1:
            assert not holds_bytes(state, changed)


@pytest.mark.parametrize("scope", ["class, retrained", "client"])
@pytest.mark.parametrize("kind", [PrivateHead, OwnHead])
def test_so_does_a_retraining_that_is_refused(kind: type[Kept], scope: str, tmp_path: Path) -> None:
    """The app's own training messages have changed every client's part."""
    parts = Parts(kind(data_of=data_of), tmp_path, rounds=3, gate=Refusing())
    before = heads(parts)
    outcome = served(parts, requests()[scope])
    assert outcome.status == "failed" and outcome.reason == "refused"
    assert heads(parts) == before


def test_a_server_that_dies_in_an_attempt_and_gives_it_up_later_leaves_all_as_it_was(tmp_path: Path) -> None:
    parts = Parts(PrivateHead(data_of=data_of), tmp_path, rounds=3, gate=Dying())
    before = heads(parts)
    with pytest.raises(KeyboardInterrupt):
        served(parts, requests()["class"])
    assert all(put_by(parts.context(client).state) for client in range(CLIENTS))
    parts.strategy.ledger.close()
    parts.strategy = parts.new_strategy(gate=Dying())
    outcome = parts.strategy.start(parts.grid, num_rounds=0).requests[-1]
    assert outcome.status == "failed" and heads(parts) == before


def test_requests_that_share_an_attempt_are_undone_together(tmp_path: Path) -> None:
    parts = Parts(PrivateHead(data_of=data_of), tmp_path, rounds=3, gate=Refusing())
    before = heads(parts)
    parts.strategy.submit(requests()["samples"])
    outcome = served(parts, ForgetRequest.for_samples(2, digits_of(2).train.ids[:4]))
    assert outcome.status == "failed" and heads(parts) == before
    assert not any(put_by(parts.context(client).state) for client in range(CLIENTS))
