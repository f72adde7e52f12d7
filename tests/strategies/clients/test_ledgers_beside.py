"""Several ledgers over the same clients, and stores that an older version wrote."""

import json
import shutil
from pathlib import Path

import pytest
from federation import OPEN_GATE, Federation, digits_of, initial_arrays, make_federation
from hostile import accuracy
from stores import stored_requests

from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import UnlearningPlan

PLAN = UnlearningPlan(
    parameters={"instance-wise": {"max_steps": 2, "consolidation_steps": 1, "retained_anchors": 4}},
    alternations=1,
    retention_days=1.0,
    backoff_seconds=0.0,
    max_request_norm=100.0,
)


def path_of(federation: Federation, client: int) -> Path:
    return federation.folder / "clients" / str(client) / "state.json"


def make_old(path: Path) -> None:
    """Rewrite a store as version 1 had it."""
    body = json.loads(path.read_text())
    requests = {item["id"]: item for item in body["requests"].values()}
    for item in requests.values():
        for name in ("ledger", "id", "digest"):
            item.pop(name)
    path.write_text(json.dumps({**body, "version": 1, "requests": requests}))


def test_a_second_ledger_over_the_same_stores_forgets_its_own_class(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    for name, number in (("one", 3), ("two", 5)):
        strategy = federation.strategy(name=name)
        strategy.start(federation.grid, initial_arrays(), num_rounds=4)
        assert strategy.submit(ForgetRequest.for_class(number)) == "r1"
        [outcome] = strategy.start(federation.grid, num_rounds=0).requests
        assert outcome.status is Status.COMMITTED, outcome.reason
    federation.task.trained_ids.clear()
    served = strategy.start(federation.grid, num_rounds=2).arrays
    assert accuracy(served, only=[5]) == accuracy(served, only=[3]) == 0.0
    trained = frozenset().union(*federation.task.trained_ids)
    for client in range(4):
        train = digits_of(client).train
        kept = {name for name, label in zip(train.ids, train.labels.tolist(), strict=True) if label not in (3, 5)}
        assert trained & set(train.ids) == kept
    first = federation.strategy(name="one")  # the other's tombstones are neither lost ones nor too many
    first.start(federation.grid, num_rounds=1)
    assert len(first.served.audit.replies) == 4  # type: ignore[union-attr]


def test_the_ledger_of_an_old_store_goes_on_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy(gate=OPEN_GATE, plan=PLAN)
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    strategy.submit(ForgetRequest.for_samples(1, count=3))
    strategy.start(federation.grid, num_rounds=0)
    before = stored_requests(path_of(federation, 1))["r1"]["sample_ids"]
    for client in range(4):
        make_old(path_of(federation, client))
    stranger = federation.strategy(name="stranger")
    stranger.start(federation.grid, initial_arrays(), num_rounds=1)
    assert stored_requests(path_of(federation, 1), "")["r1"]["sample_ids"] == before  # nobody's, and still excluded
    again = federation.strategy(gate=OPEN_GATE, plan=PLAN)
    caplog.clear()
    again.start(federation.grid, num_rounds=1)
    assert "left out" not in caplog.text
    assert stored_requests(path_of(federation, 1), again.ledger.identity)["r1"]["sample_ids"] == before


def test_an_older_copy_of_a_ledger_that_asks_for_something_else_is_refused(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy(gate=OPEN_GATE, plan=PLAN)
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    strategy.ledger.close()
    shutil.copytree(tmp_path / "server", tmp_path / "copy")
    for name, ids in (("server", digits_of(2).train.ids[:2]), ("copy", digits_of(2).train.ids[5:9])):
        strategy = federation.strategy(gate=OPEN_GATE, plan=PLAN, name=name)
        strategy.submit(ForgetRequest.for_samples(2, ids))
        [outcome] = strategy.start(federation.grid, num_rounds=0).requests
        strategy.ledger.close()
    assert outcome.status is Status.REJECTED
    assert outcome.reason is not None and "asked for something else here before" in outcome.reason
    assert stored_requests(path_of(federation, 2))["r1"]["sample_ids"] == list(digits_of(2).train.ids[:2])
