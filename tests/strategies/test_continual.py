"""The life of a forget request, end to end over real messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from federation import (
    CLOSED_GATE,
    FAST_PLAN,
    OPEN_GATE,
    Federation,
    digits_of,
    initial_arrays,
    make_federation,
    same_bytes,
)
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedProx, Strategy
from stores import stored_requests

from fed_unlearn.arrays import difference, norm, unpack
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import UnlearningPlan

ROUNDS = 8


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return make_federation(tmp_path)


def test_class_request_is_committed_and_forgotten(federation: Federation) -> None:
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays(), num_rounds=ROUNDS)
    strategy.submit(ForgetRequest.for_class(3))
    result = strategy.start(federation.grid, num_rounds=0)
    [outcome] = result.requests
    assert outcome.status is Status.COMMITTED
    assert outcome.before is not None and outcome.after is not None and outcome.unlearned is not None
    assert outcome.before.forget_accuracy is not None and outcome.before.forget_accuracy > 0.9
    assert outcome.before.test_retain_accuracy is not None and outcome.after.test_retain_accuracy is not None
    assert outcome.after.forget_accuracy is not None and outcome.after.forget_accuracy <= 0.05
    assert outcome.after.test_forget_accuracy is not None and outcome.after.test_forget_accuracy <= 0.1
    assert outcome.after.test_retain_accuracy > outcome.before.test_retain_accuracy - 0.05
    assert outcome.traffic.passes > 0 and outcome.traffic.messages > 0 and outcome.seconds > 0
    [row] = result.relapse
    assert row.after == "r1"
    assert row.test_forget_accuracy == {"r1": outcome.after.test_forget_accuracy}


def test_sample_request_is_served_at_its_holder_alone(federation: Federation) -> None:
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays(), num_rounds=ROUNDS)
    strategy.submit(ForgetRequest.for_samples(2, count=2))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED, outcome.reason
    assert outcome.after is not None
    assert outcome.after.forget_accuracy == 0.0
    assert outcome.after.test_forget_accuracy is None
    stores = [federation.folder / "clients" / str(client) / "state.json" for client in range(4)]
    assert ['"r1"' in store.read_text() for store in stores] == [False, False, True, False]


def test_forgotten_samples_are_never_trained_on_again(federation: Federation) -> None:
    plan = UnlearningPlan(parameters=FAST_PLAN.parameters, repair_rounds=1, alternations=1)
    strategy = federation.strategy(plan=plan, gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=3)
    strategy.submit(ForgetRequest.for_class(3))
    first = strategy.start(federation.grid, num_rounds=0)
    of_class = {
        sample_id
        for client in range(4)
        for sample_id, label in zip(
            federation.task._data[client].train.ids, federation.task._data[client].train.labels.tolist(), strict=True
        )
        if label == 3
    }
    federation.task.trained_ids.clear()
    strategy.submit(ForgetRequest.for_samples(1, count=2))
    second = strategy.start(federation.grid, num_rounds=0)
    assert [outcome.status for outcome in (*first.requests, *second.requests)] == [Status.COMMITTED] * 2
    repaired_with = frozenset().union(*federation.task.trained_ids)
    drawn = set(_stored_ids(federation, 1, "r2"))
    assert repaired_with and not repaired_with & of_class
    federation.task.trained_ids.clear()
    strategy.start(federation.grid, num_rounds=2)
    seen = frozenset().union(*federation.task.trained_ids)
    assert len(drawn) == 2
    assert seen and not seen & (of_class | drawn)


def _stored_ids(federation: Federation, client: int, request: str) -> list[str]:
    stored = stored_requests(federation.folder / "clients" / str(client) / "state.json")
    return list(stored.get(request, {}).get("sample_ids", []))


def test_rejected_gate_rolls_back_to_the_same_bytes(federation: Federation) -> None:
    strategy = federation.strategy(
        gate=CLOSED_GATE,
        plan=UnlearningPlan(
            parameters={"boundary-shrink": {"epochs": 1, "learning_rate": 1e-6}}, repair_rounds=0, retention_days=1.0
        ),
    )
    before = strategy.start(federation.grid, initial_arrays(), num_rounds=3).arrays
    strategy.submit(ForgetRequest.for_class(3))
    result = strategy.start(federation.grid, num_rounds=0)
    [outcome] = result.requests
    assert outcome.status is Status.FAILED
    assert outcome.attempts == 2
    assert outcome.reason is not None and "forget accuracy" in outcome.reason
    assert same_bytes(before, result.arrays)
    assert strategy.ledger.entry("r1").status is Status.FAILED
    # A failed request's samples stay in quarantine: failing never means that the data goes on being used.
    held = {sample_id for client in range(4) for sample_id in _stored_ids(federation, client, "r1")}
    federation.task.trained_ids.clear()
    strategy.start(federation.grid, num_rounds=1)
    assert held and not held & frozenset().union(*federation.task.trained_ids)


def test_aggregate_is_over_the_holders_alone(tmp_path: Path) -> None:
    """Class 3 lies at clients 0 and 1; the aggregate is their average by forget samples, by hand."""
    from federation import DigitsTask, digits_of

    def without_three_at_two_and_three(client: int):  # type: ignore[no-untyped-def]
        data = digits_of(client)
        if client < 2:
            return data
        kept = data.train.of_classes(set(range(10)) - {3})
        return type(data)(kept, data.validation, data.test, data.class_count, data.fingerprint)

    federation = make_federation(tmp_path, task=DigitsTask(data_of=without_three_at_two_and_three))
    plan = UnlearningPlan(parameters=FAST_PLAN.parameters, repair_rounds=0, retention_days=1.0)
    strategy = federation.strategy(gate=OPEN_GATE, plan=plan)
    trained = strategy.start(federation.grid, initial_arrays(), num_rounds=3).arrays

    from fed_unlearn.methods import create

    strategy.submit(ForgetRequest.for_class(3))
    result = strategy.start(federation.grid, num_rounds=0)
    from federation import small_model

    from fed_unlearn.seeding import seeded_generator

    models, weights = [], []
    for client in (0, 1):
        model = small_model()
        model.load_state_dict(trained.to_torch_state_dict())
        data = federation.task._data[client].train
        forget = data.of_classes({3})
        retain = data.of_classes(set(range(10)) - {3})
        outcome = create("boundary-shrink", **FAST_PLAN.parameters["boundary-shrink"]).unlearn(
            model,
            forget,
            retain,
            excluded_classes=(3,),
            generator=seeded_generator(0, "unlearn", "r1", 1, 0, str(client)),
        )
        models.append({name: tensor.double().numpy() for name, tensor in outcome.model.state_dict().items()})
        weights.append(len(forget))
    for name, array in result.arrays.items():
        expected = (weights[0] * models[0][name] + weights[1] * models[1][name]) / sum(weights)
        if len(expected) == 10:  # the output layer: the row of a class that is committed is the mean of the others'
            expected[3] = np.delete(expected, 3, axis=0).mean(axis=0)
        np.testing.assert_allclose(array.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_a_holders_change_is_clipped(federation: Federation) -> None:
    plan = UnlearningPlan(
        max_update_norm=0.01, max_holder_steps=1, parameters=FAST_PLAN.parameters, retention_days=1.0, repair_rounds=0
    )
    strategy = federation.strategy(gate=OPEN_GATE, plan=plan)
    before = strategy.start(federation.grid, initial_arrays(), num_rounds=6).arrays
    strategy.submit(ForgetRequest.for_samples(0, count=4))
    after = strategy.start(federation.grid, num_rounds=0).arrays
    assert norm(difference(unpack(after), unpack(before))) == pytest.approx(0.01, rel=1e-3)


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    models = []
    for name in ("first", "second"):
        federation = make_federation(tmp_path / name)
        strategy = federation.strategy(FedAvg(fraction_train=0.5, fraction_evaluate=0.0), gate=OPEN_GATE)
        strategy.start(federation.grid, initial_arrays(), num_rounds=4)
        strategy.submit(ForgetRequest.for_class(5))
        strategy.submit(ForgetRequest.for_samples(1, count=2))
        result = strategy.start(federation.grid, num_rounds=1)
        assert [outcome.status for outcome in result.requests] == [Status.COMMITTED] * 2
        models.append(result.arrays)
    assert same_bytes(*models)


def test_a_reply_without_the_retained_view_is_dropped_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = make_federation(tmp_path, uses_retained=lambda client: client != "2")
    strategy = federation.strategy()
    with caplog.at_level("WARNING", logger="fed_unlearn"):
        result = strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    assert any("client 2 is left out" in record.getMessage() for record in caplog.records)
    without = make_federation(tmp_path / "three", clients=4, uses_retained=lambda client: True)
    everyone = without.strategy(name="all").start(without.grid, initial_arrays(), num_rounds=1)
    assert not same_bytes(result.arrays, everyone.arrays)


@pytest.mark.parametrize(
    "inner",
    [
        FedAvgM(server_momentum=0.5, fraction_evaluate=0.0),
        FedAdam(eta=0.03, fraction_evaluate=0.0),
        FedProx(proximal_mu=0.1, fraction_evaluate=0.0),
    ],
    ids=lambda inner: type(inner).__name__,
)
def test_other_strategies_forget_too(federation: Federation, inner: Strategy) -> None:
    strategy = federation.strategy(inner, gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=6)
    strategy.submit(ForgetRequest.for_class(3))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.after is not None and outcome.after.forget_accuracy is not None
    assert outcome.after.forget_accuracy <= 0.05
    for name in ("m_t", "v_t", "momentum_vector"):
        assert getattr(inner, name, None) is None, "server state still carries the forgotten data"
    accepted = strategy.start(federation.grid, num_rounds=1)
    assert accepted.relapse[0].after == "train:2"


def test_requests_that_cannot_be_served_are_rejected_with_the_reason(federation: Federation) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    strategy.submit(ForgetRequest.for_class(12))
    strategy.submit(ForgetRequest.for_samples(99, count=1))
    strategy.submit(ForgetRequest.for_samples(1, ["no-such-id"]))
    strategy.submit(ForgetRequest.for_class(4))
    strategy.submit(ForgetRequest.for_class(4))
    strategy.submit(ForgetRequest.for_client(1, method="boundary-shrink"))
    outcomes = {item.request.id: item for item in strategy.start(federation.grid, num_rounds=0).requests}
    reasons = {name: outcome.reason or "" for name, outcome in outcomes.items()}
    assert {name: str(outcome.status) for name, outcome in outcomes.items()} == {
        **dict.fromkeys(["r1", "r3", "r5", "r6"], "rejected"),
        "r4": "committed",
    }
    assert "class 12 is not a class of the data (0..9)" in reasons["r1"]
    assert strategy.ledger.entry("r2").status is Status.WAITING, "there may be a client 99 later"
    assert "unknown here" in reasons["r3"]
    assert "forgotten already" in reasons["r5"]
    assert "'boundary-shrink' does not serve client requests" in reasons["r6"]


def test_named_samples_that_are_forgotten_already_count_as_done(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    ids = sorted(digits_of(1).train.ids)[:5]
    requests = [
        ForgetRequest.for_samples(1, ids[:3]),
        ForgetRequest.for_samples(1, ids),
        ForgetRequest.for_samples(1, ids[1:4]),
        ForgetRequest.for_samples(1, [*ids[:1], "no-such-id", "nor-this"]),
    ]
    ended = []
    for request in requests:
        strategy.submit(request)
        ended += strategy.start(federation.grid, num_rounds=0).requests
    assert [str(item.status) for item in ended] == ["committed", "committed", "rejected", "rejected"]
    assert [item.already_forgotten for item in ended] == [0, 3, 0, 0]
    assert ended[0].reason is None and ended[1].reason == "3 of its 5 samples were forgotten already"
    assert "are all forgotten already" in str(ended[2].reason)
    assert "2 of the 3 sample ids of request r4 are unknown here" in str(ended[3].reason)
    assert strategy.outcome("r2") == ended[1]
    assert {record.name for record in caplog.records if "no-such-id" in record.getMessage()} == {"fed_unlearn.client"}
    assert "already_forgotten" not in ended[0].to_json(), "ledgers of other requests stay as they were"


def test_restart_goes_on_from_the_ledgers_model(federation: Federation) -> None:
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    strategy.submit(ForgetRequest.for_class(3))
    served = strategy.start(federation.grid, num_rounds=0).arrays
    strategy.ledger.close()
    again = federation.strategy()
    assert same_bytes(again.start(federation.grid, initial_arrays(), num_rounds=0).arrays, served)
    kept = {path.stem for path in (federation.folder / "server" / "checkpoints").iterdir()}
    assert kept == {again.ledger.served_model(), again.ledger.state("initial")}, "models in between carry the data"


def test_nothing_to_start_from(federation: Federation) -> None:
    with pytest.raises(FedUnlearnError, match="give initial_arrays"):
        federation.strategy().start(federation.grid, num_rounds=1)


def test_oracle_never_saw_the_class(federation: Federation) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=4)
    strategy.submit(ForgetRequest.for_class(3))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    oracle = strategy.retrain_oracle(federation.grid, "r1")
    assert oracle.figures.forget_accuracy == 0.0
    assert oracle.figures.test_forget_accuracy == 0.0
    assert oracle.figures.test_retain_accuracy is not None and oracle.figures.test_retain_accuracy > 0.8
    assert oracle.figures.intervals["forget_accuracy"][0] == 0.0 < oracle.figures.intervals["forget_accuracy"][1]
    for found in (outcome.before, outcome.after, oracle.figures):
        assert found is not None
        for name in ("test_forget_accuracy", "test_retain_accuracy", "membership_auc"):
            low, high = found.intervals[name]
            assert low <= found.named()[name] <= high and 0 < high - low < 0.5, name  # type: ignore[operator]
    # The oracle's cost by hand: rounds x local epochs x retained samples, a backward pass counted as two forward.
    kept = sum(int((federation.task._data[client].train.labels != 3).sum()) for client in range(4))
    assert oracle.traffic.passes == 4 * 2 * kept * 3
    assert outcome.traffic.passes > 0
