"""Requests of every scope in a federation with a frozen backbone end with the retrained head, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from federation import CLIENTS, Federation, digits_of, initial_arrays, make_federation, small_model
from flwr.serverapp.strategy import FedAvg

from fed_unlearn.arrays import unpack
from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.evidence import HowKnown
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.methods import create
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, Forget, Train, UnlearningPlan
from fed_unlearn.strategies.inner.frozen_head import FrozenHead

PLAN = UnlearningPlan(
    class_method="frozen-head",
    sample_method="frozen-head",
    client_method="frozen-head",
    repair_rounds=0,
    retention_days=1.0,
    backoff_seconds=0.0,
    retain_limit=8,
    test_limit=8,
    relapse_limit=2,
)
GATE = Gate(class_thresholds=Thresholds(max_forget_accuracy=0.05, max_retain_drop=0.3, max_total_retain_drop=None))


def served(federation: Federation) -> ContinualUnlearning:
    strategy = federation.strategy(FrozenHead(fraction_evaluate=0.0), plan=PLAN, gate=GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    return strategy


def kept(forgotten: set[str], classes: set[int], left: set[int]) -> ImageSet:
    """All clients' retained samples."""
    parts = [digits_of(client).train for client in range(CLIENTS) if client not in left]
    samples = concatenate(*(part.without(forgotten) for part in parts))
    return samples.subset(torch.tensor([i for i, label in enumerate(samples.labels.tolist()) if label not in classes]))


def retrained(forgotten: set[str], classes: set[int], left: set[int]) -> dict[str, np.ndarray]:
    """The head over all clients' retained samples, solved in one place from the model before the first round."""
    model = create("frozen-head").unlearn(small_model(), digits_of(0).train, kept(forgotten, classes, left)).model
    return {name: value.numpy() for name, value in model.state_dict().items()}


def relative(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The difference of two models' output layers, relative to the second one's."""
    first, second = (np.concatenate([each["3.weight"].ravel(), each["3.bias"]]) for each in (found, expected))
    return float(np.linalg.norm(first.astype(float) - second) / np.linalg.norm(second.astype(float)))


def test_one_round_of_training_is_the_head_over_all_samples(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    strategy = served(federation)
    assert strategy.served is not None
    expected = retrained(set(), set(), set())
    assert all(np.array_equal(value, expected[name]) for name, value in strategy.served.arrays.items())
    again = strategy.start(federation.grid, num_rounds=1)  # a second round gives the same bits, and reads nothing
    assert all(np.array_equal(value, expected[name]) for name, value in unpack(again.arrays).items())
    assert again.training_traffic.forward_passes == 0


def test_thirty_mixed_requests_are_the_retrained_head_and_read_no_sample(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    strategy = served(federation)
    generator = torch.Generator().manual_seed(0)
    forgotten, classes, left = set[str](), set[int](), set[int]()
    for turn in range(30):
        if turn in (5, 20):
            request = ForgetRequest.for_class(turn % 9)
            classes.add(turn % 9)
        elif turn == 12:
            request = ForgetRequest.for_client(2)
            left.add(2)
        else:
            client = (0, 1, 3)[turn % 3]
            held = digits_of(client).train.without(forgotten)
            open_ids = [
                name for name, label in zip(held.ids, held.labels.tolist(), strict=True) if label not in classes
            ]
            chosen = torch.randperm(len(open_ids), generator=generator)[:3].tolist()
            ids = [open_ids[place] for place in chosen]
            request = ForgetRequest.for_samples(client, ids)
            forgotten.update(ids)
        strategy.submit(request)
        if turn == 15:  # training in between changes nothing: the head is over what is retained
            strategy.start(federation.grid, num_rounds=1)
        result = strategy.start(federation.grid, num_rounds=0)
        outcomes = strategy.ledger.entries() if not result.requests else result.requests
        assert [str(each.status) for each in outcomes][-1] == "committed"
        found = unpack(result.arrays)
        assert relative(found, retrained(forgotten, classes, left)) == 0.0, turn
        for outcome in result.requests:
            read = {part for part, passes in outcome.traffic.parts.items() if any(passes)}
            assert read <= {"audit"}, outcome.traffic  # nothing but the gate has read a sample
            known = HowKnown.MEASURED, HowKnown.BY_CONSTRUCTION
            assert outcome.evidence in known if outcome.request.scope.kind == "class" else known[1:]
        if turn in (0, 29):  # the oracle reads all that is retained, though clients have kept what they need of it
            oracle = strategy.retrain_oracle(federation.grid, result.requests[0].request.id)
            assert oracle.traffic.passes == len(kept(forgotten, classes, left))


REFUSED = "frozen-head: it needs the strategy FrozenHead, which trains the output layer alone, and FedAvg trains here"


def test_another_strategy_is_refused_beside_a_plan_that_names_the_method(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    for plan in (PLAN, UnlearningPlan(escalation={"class": ("retrain", "frozen-head")})):
        with pytest.raises(InvalidParameterError, match=REFUSED) as caught:
            federation.strategy(FedAvg(), plan=plan)
        assert len(caught.value.problems) == 1
    strategy = federation.strategy(FrozenHead(), plan=PLAN)
    strategy.inner = FedAvg()
    assert strategy.validate() == [f"{REFUSED}; expected another method, or that strategy"]


def test_a_request_for_the_method_is_refused_before_anything_is_trained_by_another_strategy(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy(FedAvg(fraction_evaluate=0.0))
    request = ForgetRequest.for_class(3, method="frozen-head", id="r")
    with pytest.raises(InvalidParameterError, match=REFUSED):
        strategy.submit(request)
    with pytest.raises(InvalidParameterError, match=REFUSED):
        strategy.run(federation.grid, [Train(rounds=1), Forget((request,))], initial_arrays())
    assert strategy.ledger.entries() == [] and strategy.state.experiences() == []


def test_a_request_in_the_ledger_for_a_model_of_another_strategy_fails(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy(FedAvg(fraction_evaluate=0.0))
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    strategy.ledger.receive(ForgetRequest.for_class(3, method="frozen-head"))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert str(outcome.status) == "failed"
    assert REFUSED in (outcome.reason or "")


def test_repair_by_another_method_is_refused_and_the_served_model_stays(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    strategy = served(federation)
    assert strategy.served is not None
    before = dict(strategy.served.arrays)
    strategy.submit(ForgetRequest.for_class(3, method="delete"))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert str(outcome.status) == "failed"
    assert all(np.array_equal(value, before[name]) for name, value in strategy.served.arrays.items())


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="frozen-head: ridge"):
        FrozenHead(ridge=-1.0)
