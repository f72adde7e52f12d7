"""What serving many requests together costs: 32 sample requests at 8 clients against one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from federation import DigitsTask, Federation, digits_of, make_federation, small_model
from flwr.app import ArrayRecord

from fed_unlearn.data.images import ClientData, ImageSet, concatenate
from fed_unlearn.gate import Gate
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.strategies import UnlearningPlan, UnlearningResult
from fed_unlearn.training import TrainingSettings, train_locally

CLIENTS, EACH = 8, 4
PLAN = UnlearningPlan(
    max_request_norm=12.0,
    parameters={
        "instance-wise": {
            "retained": "anchors",
            "anchor_weight": 1.0,
            "anchor_batch_size": 8,
            "blends": 4,
            "learning_rate": 0.01,
            "margin": 0.5,
            "max_steps": 60,
            "consolidation_steps": 4,
        }
    },
    max_update_norm=3.0,
    retention_days=1.0,
    backoff_seconds=0.0,
)


def with_odd_samples(client: int) -> ClientData:
    """A share of the digits, of which the first four are two bright pixels of their own, under a label of chance.

    What a model says of them it can only have learned from them: they can be forgotten without any digit.
    """
    data = digits_of(client, CLIENTS, 640)
    pixels = torch.randperm(64, generator=seeded_generator("pixels")).view(CLIENTS, EACH, 2)[client]
    images, labels = data.train.images.clone(), data.train.labels.clone()
    images[:EACH] = 0
    for odd, bright in zip(images[:EACH], pixels, strict=True):
        odd.view(-1)[bright] = 255 if images.dtype == torch.uint8 else 1.0
    labels[:EACH] = torch.randint(10, (EACH,), generator=seeded_generator("labels", client))
    return replace(data, train=ImageSet(images, labels, data.train.ids))


@pytest.fixture(scope="module")
def trained() -> ArrayRecord:
    """A model that knows all samples, the odd ones too."""
    model = small_model()
    everything = concatenate(*(with_odd_samples(client).train for client in range(CLIENTS)))
    settings = TrainingSettings(local_epochs=20, learning_rate=0.1, momentum=0.9, batch_size=32)
    train_locally(model, everything, settings, seeded_generator("all of it"))
    return ArrayRecord(model.state_dict())


def serve(folder: Path, trained: ArrayRecord, *clients: int, each: int) -> tuple[UnlearningResult, Federation]:
    """Serve requests for one sample each, so many at each of some clients."""
    federation = make_federation(folder, clients=CLIENTS, task=DigitsTask(data_of=with_odd_samples))
    strategy = federation.strategy(plan=PLAN, gate=Gate())
    for client in clients:
        for sample_id in with_odd_samples(client).train.ids[:each]:
            strategy.submit(ForgetRequest.for_samples(client, [sample_id]))
    return strategy.start(federation.grid, trained, num_rounds=0), federation


def cost(result: UnlearningResult) -> tuple[int, int]:
    """Sample passes and messages of all requests."""
    traffic = [outcome.traffic for outcome in result.requests]
    return sum(part.passes for part in traffic), sum(part.messages for part in traffic)


def test_32_requests_at_8_clients_cost_at_most_6_times_the_passes_and_4_times_the_messages_of_one(
    tmp_path: Path, trained: ArrayRecord
) -> None:
    singles = []
    for client in (0, 6):
        one, _ = serve(tmp_path / str(client), trained, client, each=1)
        assert [outcome.status for outcome in one.requests] == [Status.COMMITTED]
        assert one.requests[0].before is not None and one.requests[0].before.forget_accuracy == 1.0
        singles.append(cost(one))
        shutil.rmtree(tmp_path / str(client))
    many, federation = serve(tmp_path / "many", trained, *range(CLIENTS), each=EACH)
    outcomes = many.requests
    assert [outcome.status for outcome in outcomes] == [Status.COMMITTED] * CLIENTS * EACH
    assert {outcome.attempts for outcome in outcomes} == {1}
    assert {outcome.after.forget_accuracy for outcome in outcomes if outcome.after} == {0.0}
    assert sum(outcome.before.forget_accuracy or 0.0 for outcome in outcomes if outcome.before) >= 28
    # What the gate saw, on samples that it did not see.
    before, after = outcomes[0].before, outcomes[0].after
    assert before is not None and after is not None
    assert before.test_retain_accuracy is not None and after.test_retain_accuracy is not None
    assert after.test_retain_accuracy > before.test_retain_accuracy - 0.05
    passes, messages = cost(many)
    assert passes <= 6 * min(one[0] for one in singles), (passes, singles)
    assert messages <= 4 * min(one[1] for one in singles), (messages, singles)
    for client in range(CLIENTS):
        stored = (federation.folder / "clients" / str(client) / "state.json").read_text()
        assert all(name in stored for name in with_odd_samples(client).train.ids[:EACH])
