"""Federations of four clients whose samples are texts or rows of a table, beside models retrained without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from federation import CLIENTS, SETTINGS, DigitsTask, Federation, make_federation
from flwr.app import ArrayRecord
from other_inputs import share_of, table, table_model, text_model, texts
from torch import nn

from fed_unlearn.arrays import to_state_dict
from fed_unlearn.data.images import ClientData
from fed_unlearn.data.lazy import LazySet
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import UnlearningPlan

PLAN = UnlearningPlan(class_method="delete", backoff_seconds=0.0)
FORGOTTEN, LEAVING = 2, 1


@dataclass(frozen=True)
class Kind:
    """Samples, their model, and the rounds that it takes to learn them."""

    samples: Callable[[], SampleSet]
    model: Callable[[], nn.Module]
    rounds: int


KINDS = {"texts": Kind(texts, text_model, 8), "rows": Kind(table, table_model, 6)}
every_kind = pytest.mark.parametrize("kind", [pytest.param("texts", marks=pytest.mark.slow), "rows"])


def data_of(kind: Kind, client: int) -> ClientData:
    return share_of(kind.samples(), client, CLIENTS, "other inputs")


def federation_of(folder: Path, kind: Kind, data: Callable[[int], ClientData] | None = None) -> Federation:
    return make_federation(folder, task=DigitsTask(data or partial(data_of, kind), kind.model, SETTINGS))


def trained(federation: Federation, kind: Kind) -> ArrayRecord:
    """The arrays of a federation after its rounds."""
    strategy = federation.strategy(plan=PLAN)
    return strategy.start(federation.grid, ArrayRecord(kind.model().state_dict()), num_rounds=kind.rounds).arrays


def right_by_class(kind: Kind, arrays: ArrayRecord) -> list[float]:
    """Share of each class's test samples, of all clients, that the model has right."""
    model = kind.model()
    model.load_state_dict(to_state_dict(arrays))
    right, count = torch.zeros(10), torch.zeros(10)
    for client in range(CLIENTS):
        test = data_of(kind, client).test
        hit = predict_logits(model, test).argmax(1) == test.labels
        right += torch.bincount(test.labels[hit], minlength=10)
        count += torch.bincount(test.labels, minlength=10)
    return [float(share) for share in (right / count)[count > 0]]


def without_class(kind: Kind, client: int) -> ClientData:
    data = data_of(kind, client)
    kept = [label for label in range(data.class_count) if label != FORGOTTEN]
    return ClientData(data.train.of_classes(kept), data.validation, data.test, data.class_count, data.fingerprint)


@every_kind
def test_a_class_is_forgotten_as_a_retrained_model_never_knew_it(kind: str, tmp_path: Path) -> None:
    inputs = KINDS[kind]
    federation = federation_of(tmp_path, inputs)
    strategy = federation.strategy(plan=PLAN)
    before = strategy.start(federation.grid, ArrayRecord(inputs.model().state_dict()), num_rounds=inputs.rounds).arrays
    assert min(right_by_class(inputs, before)) > 0.9
    strategy.submit(ForgetRequest.for_class(FORGOTTEN))
    result = strategy.start(federation.grid, num_rounds=0)
    [outcome] = result.requests
    assert outcome.status is Status.COMMITTED, outcome.reason
    after = right_by_class(inputs, result.arrays)
    oracle_federation = federation_of(tmp_path / "oracle", inputs, partial(without_class, inputs))
    oracle = right_by_class(inputs, trained(oracle_federation, inputs))
    assert after.pop(FORGOTTEN) == oracle.pop(FORGOTTEN) == 0.0
    assert all(ours >= retrained - 0.1 for ours, retrained in zip(after, oracle, strict=True)), (after, oracle)


@every_kind
def test_a_client_leaves_and_the_others_keep_what_a_retrained_model_knows(kind: str, tmp_path: Path) -> None:
    inputs = KINDS[kind]
    federation = federation_of(tmp_path, inputs)
    strategy = federation.strategy(plan=PLAN)
    strategy.start(federation.grid, ArrayRecord(inputs.model().state_dict()), num_rounds=inputs.rounds)
    strategy.submit(ForgetRequest.for_client(LEAVING))
    result = strategy.start(federation.grid, num_rounds=0)
    [outcome] = result.requests
    assert outcome.status is Status.COMMITTED, outcome.reason
    # The last client moves up to where the leaving one was.
    staying = [client for client in range(CLIENTS) if client != LEAVING]
    oracle_federation = make_federation(
        tmp_path / "oracle",
        clients=len(staying),
        task=DigitsTask(lambda client: data_of(inputs, staying[client]), inputs.model, SETTINGS),
    )
    after, oracle = (right_by_class(inputs, arrays) for arrays in (result.arrays, trained(oracle_federation, inputs)))
    assert all(ours >= retrained - 0.1 for ours, retrained in zip(after, oracle, strict=True)), (after, oracle)
    own_ids = set(data_of(inputs, LEAVING).train.ids)
    federation.task.trained_ids.clear()
    strategy.start(federation.grid, num_rounds=1)
    assert federation.task.trained_ids and not own_ids & frozenset().union(*federation.task.trained_ids)


@pytest.mark.slow
def test_single_texts_that_are_read_when_needed_are_forgotten(tmp_path: Path) -> None:
    inputs = KINDS["texts"]

    def lazily(client: int) -> ClientData:
        data = data_of(inputs, client)
        parts = [
            LazySet([(text, 0) for text in part.batch()[0]], part.labels, part.ids, domain=part.domain)  # type: ignore[arg-type]
            for part in (data.train, data.validation, data.test)
        ]
        return ClientData(*parts, data.class_count, data.fingerprint)

    federation = federation_of(tmp_path, inputs, lazily)
    strategy = federation.strategy(plan=PLAN)
    strategy.start(federation.grid, ArrayRecord(inputs.model().state_dict()), num_rounds=inputs.rounds)
    ids = data_of(inputs, 0).train.ids[:2]
    strategy.submit(ForgetRequest.for_samples(0, ids))
    result = strategy.start(federation.grid, num_rounds=0)
    [outcome] = result.requests
    assert outcome.status is Status.COMMITTED, outcome.reason
    model = inputs.model()
    model.load_state_dict(to_state_dict(result.arrays))
    forgotten = data_of(inputs, 0).train.only(ids)
    assert not bool((predict_logits(model, forgotten).argmax(1) == forgotten.labels).any())
    assert sum(right_by_class(inputs, result.arrays)) / 5 > 0.85


def test_a_method_that_attacks_images_is_refused_and_the_server_reads_which_work(tmp_path: Path) -> None:
    inputs = KINDS["rows"]
    federation = federation_of(tmp_path, inputs)
    strategy = federation.strategy(plan=PLAN)
    start = ArrayRecord(inputs.model().state_dict())
    before = strategy.start(federation.grid, start, num_rounds=1).arrays
    strategy.submit(ForgetRequest.for_class(FORGOTTEN, method="boundary-shrink"))
    result = strategy.start(federation.grid, num_rounds=0)
    [outcome] = result.requests
    assert outcome.status is Status.FAILED
    assert outcome.reason is not None
    assert "boundary-shrink: needs images to attack, not values" in outcome.reason
    assert "finetune" in outcome.reason and "random-label" in outcome.reason
    assert right_by_class(inputs, result.arrays) == right_by_class(inputs, before)
