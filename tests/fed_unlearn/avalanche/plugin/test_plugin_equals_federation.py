"""A request served by the plug-in ends with the arrays of a federation of one client, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from federation import SETTINGS, DigitsTask, digits_of, make_federation, small_model
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg
from torch import nn

from fed_unlearn.arrays import unpack
from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.avalanche.streams import forget_benchmark
from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset
from fed_unlearn.data.images import ClientData, concatenate
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.local import LocalOutcome, LocalPlan
from fed_unlearn.requests import ForgetRequest, ScopeKind
from fed_unlearn.strategies import ContinualUnlearning, UnlearningPlan

PARAMETERS = {"boundary-shrink": {"epochs": 4, "learning_rate": 0.02}, "instance-wise": {"max_steps": 60}}
SHAPE = {"repair_rounds": 2, "alternations": 1, "guard_margin": 4.0, "guard_weight": 2, "max_update_norm": 0.6}
SEED = 11


def the_client(client: int = 0) -> ClientData:
    """Digits 0 to 4 first, the others then: the order in which they arrive."""
    data = digits_of(0, clients=1, size=500)
    first, second = data.train.of_classes(range(5)), data.train.of_classes(range(5, 10))
    return ClientData(
        train=concatenate(first, second),
        validation=data.validation,
        test=data.test,
        class_count=10,
        fingerprint=data.fingerprint,
    )


LEFT = the_client().train.of_classes([0, 1, 7, 8])
IDS = [LEFT.ids[index] for index in (5, 40, -20, -1)]
LENIENT = Gate(sample_thresholds=Thresholds(max_forget_accuracy=0.0, max_retain_drop=None, max_total_retain_drop=None))
Escalation = Mapping[ScopeKind, tuple[str, ...]]
CASES: dict[str, tuple[list[ForgetRequest], Gate, Escalation, list[bool]]] = {
    "a class and samples": (
        [ForgetRequest.for_class(3, id="a"), ForgetRequest.for_samples("0", IDS, id="b")],
        LENIENT,
        {},
        [True, True],
    ),
    "a class after samples that were rolled back": (
        [ForgetRequest.for_samples("0", IDS, method="finetune", id="a"), ForgetRequest.for_class(3, id="b")],
        Gate(max_repair_rounds=1),
        {},
        [False, True],
    ),
    "a class and samples that other methods forget": (
        [
            ForgetRequest.for_class(3, method="random-label", id="a", max_steps=1, learning_rate=1e-9),
            ForgetRequest.for_samples("0", IDS, method="finetune", id="b"),
        ],
        Gate(max_repair_rounds=1, max_attempts=2, sample_thresholds=LENIENT.sample_thresholds),
        {"class": ("boundary-shrink",), "sample": ("instance-wise",)},
        [True, True],
    ),
}


def by_the_plug_in(
    requests: list[ForgetRequest], gate: Gate, escalation: Escalation
) -> tuple[nn.Module, list[LocalOutcome], list[dict[str, bytes]]]:
    """The model before the requests, how each ended, and the strategy's arrays after each."""
    data = the_client()
    halves = [as_avalanche_dataset(data.train.of_classes(range(low, low + 5))) for low in (0, 5)]
    benchmark = benchmark_from_datasets(train=halves, test=[as_avalanche_dataset(data.test)])
    scenario = forget_benchmark(benchmark, requests, seed=SEED)
    plugin = UnlearningPlugin(
        plan=LocalPlan(parameters=PARAMETERS, repair=SETTINGS, escalation=escalation, **SHAPE),
        gate=gate,
        retain="seen",
        validation=data.validation,
        seed=SEED,
    )
    model = small_model()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5),
        train_mb_size=32,
        train_epochs=6,
        plugins=[plugin],
        evaluator=EvaluationPlugin(loggers=[]),
    )
    strategy.train(scenario.train_stream)
    trained, arrays = copy.deepcopy(model), []
    for experience in scenario.forget_stream:
        strategy.train(experience)
        arrays.append({name: value.numpy().tobytes() for name, value in model.state_dict().items()})
    return trained, plugin.outcomes, arrays


def by_a_federation(
    model: nn.Module, requests: list[ForgetRequest], gate: Gate, escalation: Escalation, folder: Path
) -> list[tuple[tuple[str, str | None, int], dict[str, np.ndarray]]]:
    """Status, method and attempts of each request, and the arrays that serve after it."""
    strategy = ContinualUnlearning(
        FedAvg(fraction_evaluate=0.0, min_available_nodes=1, min_train_nodes=1),
        ledger=folder / "ledger.db",
        gate=gate,
        plan=UnlearningPlan(
            parameters=PARAMETERS,
            escalation=escalation,
            share_rounds=False,
            retention_days=1.0,
            max_request_norm=24.0,
            **SHAPE,
        ),
        seed=SEED,
    )
    federation = make_federation(folder, clients=1, task=DigitsTask(data_of=the_client))
    arrays, ends = ArrayRecord(model.state_dict()), []
    for request in requests:
        strategy.submit(request)
        result = strategy.start(federation.grid, arrays, num_rounds=0)
        ended = result.requests[0]
        ends.append(((str(ended.status), ended.method, ended.attempts), unpack(result.arrays)))
    return ends


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("seeded")  # with some models a round of repair costs too much, and is made again
@pytest.mark.parametrize("case", CASES)
def test_arrays_are_those_of_a_federation_of_one_client(case: str, tmp_path: Path) -> None:
    requests, gate, escalation, expected = CASES[case]
    trained, outcomes, states = by_the_plug_in(requests, gate, escalation)
    ends = by_a_federation(trained, requests, gate, escalation, tmp_path)
    assert [outcome.committed for outcome in outcomes] == expected
    assert [status == "committed" for (status, *_), _ in ends] == expected
    assert [(method, attempts) for (_, method, attempts), _ in ends] == [
        (outcome.method, outcome.attempts) for outcome in outcomes
    ]
    for (_, arrays), state in zip(ends, states, strict=True):
        assert {name: value.tobytes() for name, value in arrays.items()} == state
    weights = [trained.state_dict()["1.weight"].numpy().tobytes(), *(state["1.weight"] for state in states)]
    assert [after != before for before, after in pairwise(weights)] == expected
