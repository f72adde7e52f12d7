"""A request served on one machine ends with the arrays of a federation of one client, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from federation import SETTINGS, DigitsTask, digits_of, make_federation, small_model
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg

from fed_unlearn.arrays import unpack
from fed_unlearn.data.images import ClientData
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.local import LocalOutcome, LocalPlan, LocalSamples, LocalUnlearning
from fed_unlearn.requests import ClassScope, ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, UnlearningPlan
from fed_unlearn.training import train_locally

PARAMETERS = {
    "boundary-shrink": {"epochs": 4, "learning_rate": 0.02},
    "instance-wise": {"max_steps": 60},
}
SHAPE = {"repair_rounds": 2, "alternations": 1, "guard_margin": 4.0, "guard_weight": 2, "max_update_norm": 0.6}
SEED = 11
IDS = [digits_of(0, clients=1, size=500).train.ids[index] for index in (5, 40, 77, 120)]


def the_client(client: int = 0) -> ClientData:
    return digits_of(0, clients=1, size=500)


def trained() -> torch.nn.Module:
    model = small_model()
    train_locally(model, the_client().train, replace(SETTINGS, local_epochs=15), torch.Generator().manual_seed(0))
    return model


def federated(requests: list[ForgetRequest], gate: Gate, folder: Path) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Status of each request and the arrays that serve after it."""
    strategy = ContinualUnlearning(
        FedAvg(fraction_evaluate=0.0, min_available_nodes=1, min_train_nodes=1),
        ledger=folder / "ledger.db",
        gate=gate,
        plan=UnlearningPlan(
            parameters=PARAMETERS, share_rounds=False, retention_days=1.0, max_request_norm=24.0, **SHAPE
        ),
        seed=SEED,
    )
    federation = make_federation(folder, clients=1, task=DigitsTask(data_of=the_client))
    arrays, ends = ArrayRecord(trained().state_dict()), []
    for request in requests:
        strategy.submit(request)
        result = strategy.start(federation.grid, arrays, num_rounds=0)
        ends.append((str(result.requests[0].status), unpack(result.arrays)))
    return ends


def on_one_machine(requests: list[ForgetRequest], gate: Gate) -> list[LocalOutcome]:
    data, model = the_client(), trained()
    unlearning = LocalUnlearning(LocalPlan(parameters=PARAMETERS, repair=SETTINGS, **SHAPE), gate, SEED)
    forgotten: set[str] = set()
    outcomes = []
    for request in requests:
        retained = data.train.without(forgotten)
        if isinstance(request.scope, ClassScope):
            forget = retained.of_classes(request.scope.classes)
        else:
            forget = retained.only(request.scope.sample_ids)
        forgotten.update(forget.ids)
        samples = LocalSamples(
            forget=forget,
            retained=data.train.without(forgotten),
            validation=data.validation,
            absent_classes=frozenset(range(10)) - set(retained.labels.tolist()),
        )
        outcomes.append(unlearning.serve(model, request, samples))
        model = outcomes[-1].model
    return outcomes


CASES = {
    "a class": ([ForgetRequest.for_class(3, id="a")], Gate()),
    "samples": ([ForgetRequest.for_samples("0", IDS, id="a")], Gate()),
    "samples that are to look unseen": (
        [ForgetRequest.for_samples("0", IDS, id="a", goal="indistinguishable")],
        Gate(),
    ),
    "a sequence": (
        [
            ForgetRequest.for_class(3, id="a"),
            ForgetRequest.for_samples("0", IDS[:2], id="b"),
            ForgetRequest.for_class(7, 8, id="c"),
        ],
        Gate(sample_thresholds=Thresholds(max_forget_accuracy=0.0, max_retain_drop=None, max_total_retain_drop=None)),
    ),
    "more repair, another attempt, and rolled back": (
        [
            ForgetRequest.for_samples("0", IDS, method="finetune", id="a"),
            ForgetRequest.for_class(4, id="b"),
        ],
        Gate(max_repair_rounds=1),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_arrays_are_those_of_a_federation_of_one_client(case: str, tmp_path: Path) -> None:
    requests, gate = CASES[case]
    ends = federated(requests, gate, tmp_path)
    outcomes = on_one_machine(requests, gate)
    assert [status == "committed" for status, _ in ends] == [outcome.committed for outcome in outcomes]
    for (_, arrays), outcome in zip(ends, outcomes, strict=True):
        state = outcome.model.state_dict()
        assert set(arrays) == set(state)
        for name, value in arrays.items():
            assert value.tobytes() == state[name].numpy().tobytes(), name


def test_the_cases_come_to_both_ends() -> None:
    ended = {outcome.committed for requests, gate in CASES.values() for outcome in on_one_machine(requests, gate)}
    assert ended == {True, False}
