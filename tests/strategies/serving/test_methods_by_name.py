"""Every method serves class requests in a federation, by its name alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation import OPEN_GATE, DigitsTask, digits_of, initial_arrays, make_federation

from fed_unlearn.data.images import ClientData
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.methods import available
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import UnlearningPlan
from fed_unlearn.strategies.methods_by_name import is_server_method

PLAN = UnlearningPlan(repair_rounds=1, retention_days=1.0)
# Of methods with a name of the server's too, the server's is meant: they have tests of their own.
METHODS = [
    name
    for name, cls in available().items()
    if "class" in cls.scopes and not cls.is_control and not is_server_method(name)
]


@pytest.mark.parametrize("name", METHODS)
def test_a_class_is_forgotten_by_a_method_named_in_the_request(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy(gate=OPEN_GATE, plan=PLAN)
    strategy.start(federation.grid, initial_arrays(), num_rounds=8)
    strategy.submit(ForgetRequest.for_class(3, method=name))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED, outcome.reason
    assert outcome.before is not None and outcome.after is not None
    assert outcome.before.forget_accuracy is not None and outcome.before.forget_accuracy > 0.9
    # After guarded repair, which is a part of every request.
    assert outcome.after.forget_accuracy is not None and outcome.after.forget_accuracy <= 0.05
    assert outcome.before.test_retain_accuracy is not None and outcome.after.test_retain_accuracy is not None
    assert outcome.after.test_retain_accuracy > outcome.before.test_retain_accuracy - 0.06


@pytest.mark.parametrize("name", [name for name in METHODS if available()[name].requires_retain])
def test_a_client_that_holds_the_forgotten_class_alone_stops_no_request(tmp_path: Path, name: str) -> None:
    def threes_at_client_0(client: int) -> ClientData:
        data = digits_of(client)
        kept = data.train.of_classes({3} if client == 0 else set(range(10)))
        return ClientData(kept, data.validation, data.test, data.class_count, data.fingerprint)

    federation = make_federation(tmp_path, task=DigitsTask(data_of=threes_at_client_0))
    strategy = federation.strategy(gate=OPEN_GATE, plan=PLAN)
    strategy.start(federation.grid, initial_arrays(), num_rounds=8)
    strategy.submit(ForgetRequest.for_class(3, method=name))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED, outcome.reason
    assert outcome.after is not None and outcome.after.forget_accuracy is not None
    assert outcome.after.forget_accuracy <= 0.05
