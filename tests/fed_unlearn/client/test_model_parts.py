"""Apps that send a part of their model or keep one of their own are served, and what they keep is audited."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from federation import CLIENTS, digits_of
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from partial_models import (
    HEAD,
    Adapters,
    CarelessHead,
    HeadOnly,
    Kept,
    OwnHead,
    OwnNorm,
    Parts,
    PartTask,
    PrivateHead,
    app_of,
)
from torch import Tensor, nn

from fed_unlearn import ForgetRequest
from fed_unlearn.client import install, retained
from fed_unlearn.client.judged_models import JudgedModels
from fed_unlearn.client.working_model import WorkingModel, frozen_rest
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import Gate, ServerValidation
from fed_unlearn.strategies.outcomes import RequestOutcome

TASKS = [HeadOnly, Adapters, PrivateHead, OwnHead, OwnNorm]


def served(parts: Parts, request: ForgetRequest) -> tuple[RequestOutcome, ArrayRecord]:
    parts.strategy.submit(request)
    result = parts.strategy.start(parts.grid, num_rounds=0)
    return result.requests[-1], result.arrays


@pytest.mark.parametrize("kind", TASKS)
def test_a_class_is_forgotten_by_what_every_client_uses(kind: type[PartTask], tmp_path: Path) -> None:
    parts = Parts(kind(), tmp_path)
    assert np.mean([parts.accuracy(client, parts.result.arrays, 3) for client in range(CLIENTS)]) > 0.6
    outcome, arrays = served(parts, ForgetRequest.for_class(3))
    assert outcome.status == "committed", outcome.reason
    assert set(arrays) == set(parts.task.arrays_of(parts.task.build_model(None)))
    for client in range(CLIENTS):
        assert parts.accuracy(client, arrays, 3) <= 0.05
        assert parts.accuracy(client, arrays, None, without=3) > 0.7


@pytest.mark.parametrize("kind", TASKS)
def test_samples_are_forgotten_by_what_their_client_uses(kind: type[PartTask], tmp_path: Path) -> None:
    parts = Parts(kind(), tmp_path)
    train = digits_of(1).train
    before = parts.used(1, parts.result.arrays)(train.images).argmax(1) == train.labels
    right = [train.ids[index] for index in before.nonzero().flatten()[:4].tolist()]
    outcome, arrays = served(parts, ForgetRequest.for_samples(1, right))
    assert outcome.status == "committed" and outcome.evidence == "measured", outcome.reason
    forgotten = train.only(right)
    assert not bool((parts.used(1, arrays)(forgotten.images).argmax(1) == forgotten.labels).any())


@pytest.mark.parametrize("kind", TASKS)
def test_a_client_leaves(kind: type[PartTask], tmp_path: Path) -> None:
    parts = Parts(kind(), tmp_path)
    outcome, arrays = served(parts, ForgetRequest.for_client(2, method="retrain"))
    assert outcome.status == "committed" and outcome.evidence is not None, outcome.reason
    assert parts.strategy.ledger.departed() == {"2"}
    assert np.mean([parts.accuracy(client, arrays, None) for client in (0, 1, 3)]) > 0.7
    if isinstance(parts.task, Kept):
        assert HEAD not in parts.context(2).state, "what was kept of the client that left is gone"


@pytest.mark.slow
def test_a_head_that_still_recognises_samples_keeps_the_request_from_its_commit(tmp_path: Path) -> None:
    parts = Parts(CarelessHead(), tmp_path)
    train = digits_of(1).train
    before = parts.used(1, parts.result.arrays)(train.images).argmax(1) == train.labels
    right = [train.ids[index] for index in before.nonzero().flatten()[:4].tolist()]
    outcome, _ = served(parts, ForgetRequest.for_samples(1, right))
    assert outcome.status == "failed" and outcome.after is not None and "forget accuracy" in str(outcome.reason)
    assert outcome.after.forget_accuracy is not None and outcome.after.forget_accuracy > 0


class Restored(PrivateHead):
    """A client uses an older model of its own as soon as there is one in its state, as from a backup."""

    def personal(self, model: nn.Module, context: Context) -> nn.Module:
        if "backup" in context.state:
            model.load_state_dict(context.state.array_records["backup"].to_torch_state_dict())
            return model
        return super().personal(model, context)


def test_a_model_that_comes_back_after_the_commit_is_found(tmp_path: Path) -> None:
    parts = Parts(Restored(), tmp_path)
    old = parts.result.arrays
    outcome, arrays = served(parts, ForgetRequest.for_class(3))
    assert outcome.status == "committed" and outcome.after is not None and outcome.after.test_forget_accuracy == 0
    for client in range(CLIENTS):
        assert parts.accuracy(client, arrays, 3) == 0
        parts.context(client).state["backup"] = ArrayRecord(old.to_torch_state_dict())
    again = parts.strategy.start(parts.grid, num_rounds=1)
    figures = [row.test_forget_accuracy["r1"] or 0 for row in again.relapse]
    assert figures and max(figures) > 0.5, again.relapse


class Caching(PartTask):
    """Counts how often each client was told to drop what it has cached."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: list[str] = []

    def forget_cached_state(self, context: Context) -> None:
        self.dropped.append(self.client_id(context))


def test_caches_are_dropped_at_the_commit_and_not_at_the_attempts(tmp_path: Path) -> None:
    parts = Parts(task := Caching(), tmp_path)
    outcome, _ = served(parts, ForgetRequest.for_class(3))
    assert outcome.status == "committed", outcome.reason
    assert sorted(task.dropped) == sorted(map(str, range(CLIENTS)))


def test_the_worse_of_both_models_counts_for_what_is_forgotten() -> None:
    images = torch.eye(4).reshape(4, 1, 2, 2)
    samples = ImageSet(images, torch.tensor([0, 1, 2, 3]), list("abcd"))
    used, shared = nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    for model, right in ((used, [0, 1]), (shared, [1, 2])):
        weights = torch.zeros(4, 4)
        weights[right, right] = 5.0 if model is used else 9.0
        weights[0, [index for index in range(4) if index not in right]] = 1.0
        model[1].weight.data, model[1].bias.data = weights, torch.zeros(4)
    judged = JudgedModels(used, shared)
    own, counted = judged.read(samples)
    surest = counted.logits
    assert (own.argmax(1) == samples.labels).tolist() == [True, True, False, False]
    assert (surest.argmax(1) == samples.labels).tolist() == [True, True, True, False]
    assert judged.passes == 8 and torch.equal(surest[1], shared(images)[1]), "it is surer"
    empty = samples.subset(torch.empty(0, dtype=torch.int64))
    assert all(len(answers) == 0 for answers in judged.read(empty))


def initial(task: PartTask, *, whole: bool) -> ArrayRecord:
    model = task.build_model(None)
    return ArrayRecord(model.state_dict() if whole else dict(task.arrays_of(model)))


def started(task: PartTask, folder: Path, arrays: ArrayRecord) -> None:
    """Start a training, in which no message of training may be sent."""

    class Grid(InProcessGrid):
        def send_and_receive(self, messages, *, timeout=None):  # type: ignore[no-untyped-def]
            messages = list(messages)
            assert all(message.metadata.message_type != "train" for message in messages)
            return super().send_and_receive(messages, timeout=timeout)

    stores = [{"client-dir": str(folder / "clients" / str(client))} for client in range(CLIENTS)]
    parts = Parts.__new__(Parts)
    parts.folder = folder
    parts.new_strategy().start(Grid(app_of(task), CLIENTS, node_configs=stores), arrays, num_rounds=5)


@pytest.mark.parametrize("kind", [HeadOnly, Adapters, OwnNorm])
def test_a_server_with_the_whole_model_is_told_before_the_first_round(kind: type[PartTask], tmp_path: Path) -> None:
    with pytest.raises(FedUnlearnError, match=r"client 0, 1, 2, 3: what its task sends .*lacks '.*arrays_of") as error:
        started(kind(), tmp_path, initial(kind(), whole=True))
    assert "\n" not in str(error.value)


def test_a_task_that_sends_all_where_the_server_has_a_head_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        FedUnlearnError, match=r"has also 'body.1.weight', 'body.1.bias' and .*, beside the model of the server"
    ):
        started(PartTask(), tmp_path, initial(HeadOnly(), whole=False))


def test_another_shape_is_told(tmp_path: Path) -> None:
    arrays = ArrayRecord({**PartTask().build_model(None).state_dict(), "head.bias": torch.zeros(11)})
    with pytest.raises(FedUnlearnError, match=r"has 'head.bias' of shape \(10,\) in place of \(11,\)"):
        started(PartTask(), tmp_path, arrays)


def test_one_client_of_another_shape_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class OneWider(PartTask):
        def build_model(self, context: Context | None) -> nn.Module:
            model = super().build_model(context)
            if context is not None and context.node_config["partition-id"] == 2:
                model.head = nn.Linear(64, 12)  # type: ignore[assignment]
            return model

    stores = [{"client-dir": str(tmp_path / str(client))} for client in range(CLIENTS)]
    apps = [app_of(OneWider()) for _ in range(CLIENTS)]  # each a process of its own, which has one model

    def answered(message: Message, context: Context) -> Message:
        return apps[context.node_id - 1](message, context)

    parts = Parts.__new__(Parts)
    parts.folder = tmp_path
    grid = InProcessGrid(answered, CLIENTS, node_configs=stores)  # type: ignore[arg-type]
    parts.new_strategy().start(grid, initial(PartTask(), whole=True), num_rounds=1)
    assert "client 2 is left out: what its task sends has 'head.weight' of shape (12, 64)" in caplog.text


def test_a_handler_that_sends_another_part_than_came_is_told_in_the_first_round(tmp_path: Path) -> None:
    task, app = PartTask(), ClientApp()
    install(app, task)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        samples = retained(task.load_data(context).train, context)
        head = {name: value for name, value in message.content["arrays"].items() if name.startswith("head")}
        records = {"arrays": ArrayRecord(head), "metrics": MetricRecord({"num-examples": len(samples)})}
        return Message(RecordDict(records), reply_to=message)

    stores = [{"client-dir": str(tmp_path / str(client))} for client in range(CLIENTS)]
    parts = Parts.__new__(Parts)
    parts.folder = tmp_path
    with pytest.raises(FedUnlearnError, match=r"sends back another model than came: it lacks 'body.*Task.arrays_of"):
        parts.new_strategy().start(
            InProcessGrid(app, CLIENTS, node_configs=stores), initial(task, whole=True), num_rounds=3
        )


def test_what_does_not_travel_begins_alike_for_every_client(tmp_path: Path) -> None:
    context = Context(1, 1, {}, None, {})  # type: ignore[arg-type]
    task = OwnNorm()
    working = WorkingModel.build(task, context, torch.device("cpu"))
    first = {name: value.clone() for name, value in working.model.state_dict().items()}
    arrays = {name: value + 1 for name, value in task.arrays_of(working.model).items()}
    working.load(task, arrays)
    working.model.body[2].running_mean.fill_(9)  # type: ignore[union-attr, operator, index]
    loaded = working.load(task, arrays).state_dict()
    for name, value in loaded.items():
        assert torch.equal(value, first[name] if name.startswith("body.2") else first[name] + 1), name
    assert not WorkingModel.build(PartTask(), context, torch.device("cpu")).rest


def test_the_rest_is_frozen_only_while_a_method_unlearns() -> None:
    task, model = OwnNorm(), OwnNorm().build_model(None)
    with frozen_rest(task, model):
        assert all(parameter.requires_grad for parameter in model.parameters()), "it keeps its own"

    class Sends(PartTask):
        arrays_of = HeadOnly.arrays_of

    task, model = Sends(), Sends().build_model(None)  # type: ignore[assignment]
    with frozen_rest(task, model):
        free = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        assert free == ["head.weight", "head.bias"]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_server_reads_its_own_samples_by_a_part(tmp_path: Path) -> None:
    task = HeadOnly()
    validation = ServerValidation(digits_of(0).validation, task.build_model(None), load=task.load_arrays)
    parts = Parts(task, tmp_path, gate=Gate(validation=validation))
    outcome, arrays = served(parts, ForgetRequest.for_class(3))
    assert outcome.status == "committed", outcome.reason
    model, samples = parts.used(0, arrays), digits_of(0).validation
    counted = sum(validation.count({name: array.numpy() for name, array in arrays.items()}).correct)
    assert counted == int((model(samples.images).argmax(1) == samples.labels).sum())


def test_arrays_in_the_state_that_no_audit_sees_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent(PrivateHead):
        personal = PartTask.personal

    with caplog.at_level(logging.WARNING, "fed_unlearn.client"):
        Parts(Silent(), tmp_path, rounds=2)
    named = [record for record in caplog.records if "Task.personal" in record.getMessage()]
    assert len(named) == 1 and "'head'" in named[0].getMessage()


def test_a_task_that_gives_no_arrays_or_no_model_is_told(tmp_path: Path) -> None:
    class Nothing(PartTask):
        def arrays_of(self, model: nn.Module) -> Mapping[str, Tensor]:
            return {}

    with pytest.raises(
        FedUnlearnError, match=r"Nothing.arrays_of gave a dict without arrays; expected tensors by name"
    ):
        started(Nothing(), tmp_path, initial(PartTask(), whole=True))


def test_a_model_of_opacus_is_refused() -> None:
    class GradSampleModule(nn.Linear):
        __module__ = "opacus.grad_sample.grad_sample_module"

    class Private(PartTask):
        def build_model(self, context: Context | None) -> nn.Module:
            return nn.Sequential(GradSampleModule(4, 2))

    with pytest.raises(FedUnlearnError, match=r"GradSampleModule of Opacus.*make it private in Task.train"):
        WorkingModel.build(Private(), Context(1, 1, {}, None, {}), torch.device("cpu"))  # type: ignore[arg-type]
