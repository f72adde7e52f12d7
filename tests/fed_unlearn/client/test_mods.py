"""Mods of an app, Flower's local differential privacy among them, act on what unlearning sends, or are asked for."""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from federation import CLIENTS, FAST_PLAN, DigitsTask, digits_of, initial_arrays, small_model
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, adaptiveclipping_mod, fixedclipping_mod, message_size_mod
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp.strategy import FedAvg

from fed_unlearn import ForgetRequest, protocol
from fed_unlearn.arrays import difference, norm, to_state_dict, unpack
from fed_unlearn.client import current_session, install, retained
from fed_unlearn.client.mods import ThroughMods
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import ContinualUnlearning, UnlearningResult

CLIPPING = 5.0


class CountingDp(LocalDpMod):
    """Flower's mod, which counts the messages that it sees, and the length of each change that leaves it."""

    def __init__(self, clipping_norm: float = CLIPPING, sensitivity: float = 1e-5) -> None:
        super().__init__(clipping_norm, sensitivity, 10.0, 1e-5)
        self.seen: Counter[str] = Counter()
        self.lengths: list[float] = []

    def __call__(self, msg: Message, ctxt: Context, call_next: ClientAppCallable) -> Message:
        self.seen[msg.metadata.message_type] += 1
        before = unpack(msg.content.array_records["arrays"])
        reply = super().__call__(msg, ctxt, call_next)
        self.lengths.append(norm(difference(unpack(reply.content.array_records["arrays"]), before)))
        return reply


def training_of(task: DigitsTask) -> ClientAppCallable:
    """An app's own handler of training messages."""

    def train(message: Message, context: Context) -> Message:
        samples = retained(task.load_data(context).train, context)
        model = current_session().model_with(message.content.array_records["arrays"])
        number = int(str(message.content.config_records["config"]["server-round"]))
        task.train(model, samples, ConfigRecord(), seeded_generator("mods", number, task.client_id(context)))
        records = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(samples)})}
        return Message(RecordDict(records), reply_to=message)

    return train


def app_with(app_mods: list[Mod] | None = None, handler: list[Mod] | None = None, given: list[Mod] | None = None):
    """An app with mods of its own, its handler's, and those that install is given."""
    app, task = ClientApp(mods=app_mods), DigitsTask()
    install(app, task, mods=given or [])
    app.train(mods=handler)(training_of(task))
    return app


class SeenMessages(InProcessGrid):
    """The grid, which keeps every message that it sends."""

    sent: list[Message]

    def send_and_receive(self, messages, *, timeout=None):
        self.sent = [*getattr(self, "sent", []), *(messages := list(messages))]
        return super().send_and_receive(messages, timeout=timeout)


def served(app: ClientApp, folder: Path, request: ForgetRequest) -> tuple[UnlearningResult, SeenMessages]:
    """Train for two rounds, then serve one request."""
    stores = [{"client-dir": str(folder / "clients" / str(client))} for client in range(CLIENTS)]
    grid = SeenMessages(app, CLIENTS, node_configs=stores)
    inner = FedAvg(fraction_evaluate=0.0, min_available_nodes=2)
    strategy = ContinualUnlearning(inner, ledger=folder / "ledger.db", plan=FAST_PLAN)
    strategy.start(grid, initial_arrays(), num_rounds=3)
    strategy.submit(request)
    return strategy.start(grid, num_rounds=0), grid


def class_accuracy(arrays: ArrayRecord, digit: int) -> float:
    """The test's own: of test samples of one class that the model gets right."""
    model = small_model()
    model.load_state_dict(to_state_dict(arrays))
    right, total = 0, 0
    for client in range(CLIENTS):
        test = digits_of(client).test
        chosen = test.labels == digit
        right += int((model(test.images[chosen]).argmax(1) == digit).sum())
        total += int(chosen.sum())
    return right / total


REQUESTS = {
    "class": ForgetRequest.for_class(3),
    "sample": ForgetRequest.for_samples(client="1", count=4),
    "client": ForgetRequest.for_client("2", method="retrain"),
}


@pytest.mark.parametrize("where", ["app", "handler"])
@pytest.mark.parametrize("kind", REQUESTS)
def test_every_model_that_leaves_a_client_passes_its_privacy_mod(tmp_path: Path, where: str, kind: str) -> None:
    mod = CountingDp()
    app = app_with([mod]) if where == "app" else app_with(handler=[mod], given=[mod])
    result, grid = served(app, tmp_path, REQUESTS[kind])
    [outcome] = result.requests
    with_models = Counter(m.metadata.message_type for m in grid.sent if m.content.array_records)
    assert mod.seen == {name: count for name, count in with_models.items() if name.startswith("train")}
    assert max(mod.lengths) <= CLIPPING * 1.01
    assert outcome.status == "committed" and outcome.evidence is not None, outcome.reason
    if kind == "class":
        assert mod.seen["train.unlearn"] and mod.seen["train.repair"]
        assert class_accuracy(result.arrays, 3) <= 0.05
        assert np.mean([class_accuracy(result.arrays, digit) for digit in range(10) if digit != 3]) > 0.8


def test_noise_that_ruins_the_model_ends_as_failed_with_figures(tmp_path: Path) -> None:
    mod = CountingDp()
    result, grid = served(app_with([mod]), tmp_path, ForgetRequest.for_class(5))
    assert result.requests[0].status == "committed"
    before = np.mean([class_accuracy(result.arrays, digit) for digit in range(10) if digit != 5])
    mod.sensitivity = 10.0
    strategy = ContinualUnlearning(FedAvg(fraction_evaluate=0.0), ledger=tmp_path / "ledger.db", plan=FAST_PLAN)
    strategy.submit(REQUESTS["class"])
    result = strategy.start(grid, num_rounds=0)
    [outcome] = result.requests
    assert outcome.status == "failed" and "retain" in str(outcome.reason)
    assert outcome.before is not None and outcome.after is not None
    assert outcome.before.retain_accuracy > 0.8 > outcome.after.retain_accuracy
    assert np.mean([class_accuracy(result.arrays, digit) for digit in range(10) if digit != 5]) == before


def test_a_client_that_changes_nothing_is_noised_too(tmp_path: Path) -> None:
    mod = CountingDp(sensitivity=1e-3)
    message = Message(RecordDict({"arrays": initial_arrays(), "config": ConfigRecord()}), 1, "train.unlearn")

    def unchanged(message: Message, context: Context) -> Message:
        return protocol.reply(message, MetricRecord({"num-examples": 1}), message.content.array_records["arrays"])

    reply = ThroughMods(unchanged, [mod])(message, Context(1, 1, {}, RecordDict(), {}))
    noise = unpack(reply.content.array_records["arrays"])
    sent = unpack(initial_arrays())
    deviations = np.concatenate([(noise[name] - sent[name]).ravel() for name in sent])
    assert np.std(deviations) == pytest.approx(1e-3 * np.sqrt(2 * np.log(1.25 / 1e-5)) / 10, rel=0.05)


def test_every_message_of_the_library_tells_the_round(tmp_path: Path) -> None:
    rounds: Counter[tuple[str, object]] = Counter()

    def reading(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        rounds[message.metadata.message_type, message.content["config"]["server-round"]] += 1
        return call_next(message, context)

    result, grid = served(app_with([reading]), tmp_path, REQUESTS["class"])
    assert result.requests[0].status == "committed"
    told = {(m.metadata.message_type, m.content["config"]["server-round"]) for m in grid.sent}
    assert {kind for kind, _ in told} >= {"query.identify", "train.unlearn", "train.confirm", "evaluate.audit"}
    assert {number for kind, number in told if kind in ("train.unlearn", "train.repair", "train.confirm")} == {3}
    assert {kind for kind, _ in rounds} == {"train", "train.unlearn", "train.repair"}


def test_a_mod_that_reads_the_model_meets_no_message_without_one(tmp_path: Path) -> None:
    def strict(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        [arrays], [config] = message.content.array_records.values(), message.content.config_records.values()
        reply = call_next(message, context)
        [model], [_] = reply.content.array_records.values(), reply.content.metric_records.values()
        assert list(model) == list(arrays) and "server-round" in config and len(reply.content) == 2
        return reply

    result, _ = served(app_with([strict]), tmp_path, REQUESTS["class"])
    assert result.requests[0].status == "committed"


class Wrapped:
    """A mod of an app's own around Flower's."""

    def __init__(self) -> None:
        self.inner = fixedclipping_mod

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        return self.inner(message, context, call_next)


def calling(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    return adaptiveclipping_mod(message, context, call_next)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("mod", "name"),
    [
        (CountingDp(), "LocalDpMod"),
        (fixedclipping_mod, "fixedclipping_mod"),
        (adaptiveclipping_mod, "adaptiveclipping_mod"),
        (partial(fixedclipping_mod), "fixedclipping_mod"),
        (CountingDp().__call__, "LocalDpMod"),
        (Wrapped(), "fixedclipping_mod"),
        (calling, "adaptiveclipping_mod"),
    ],
    ids=["local", "fixed", "adaptive", "partial", "bound", "held", "called"],
)
def test_a_privacy_mod_of_a_handler_alone_is_refused(mod: Mod, name: str, first: bool) -> None:
    app, task = ClientApp(), DigitsTask()
    train = training_of(task)
    with pytest.raises(FedUnlearnError, match=rf"{name} is a mod of the handler train.default alone.*mods=\[...\]"):
        if first:
            app.train(mods=[message_size_mod, mod])(train)
            install(app, task)
        install(app, task)
        app.train(mods=[message_size_mod, mod])(train)
    assert ("train.unlearn" in app._registered_funcs) is not first
    app = ClientApp()
    install(app, task, mods=[mod])
    app.train(mods=[mod])(train)
    assert "train.default" in app._registered_funcs


def test_secure_aggregation_at_a_handler_is_refused() -> None:
    app, task = ClientApp(), DigitsTask()
    app.train(mods=[secaggplus_mod])(training_of(task))
    with pytest.raises(FedUnlearnError, match=r"SecAgg\+ hide"):
        install(app, task)


def test_an_unknown_mod_of_a_handler_is_named(caplog: pytest.LogCaptureFixture) -> None:
    def compressing(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        return call_next(message, context)

    with caplog.at_level(logging.WARNING, "fed_unlearn.client"):
        app_with(handler=[message_size_mod])
        app_with(handler=[compressing], given=[compressing])
        assert not caplog.records
        app_with(handler=[compressing])
    assert "compressing is a mod of the handler train.default alone" in caplog.text


def test_the_list_of_mods_of_the_user_stays_as_it_is() -> None:
    mods: list[Mod] = [message_size_mod]
    app = ClientApp(mods=mods)
    install(app, DigitsTask())
    assert mods == [message_size_mod]


def test_an_app_with_mods_is_copied_to_workers_as_ray_does(tmp_path: Path) -> None:
    copied = cloudpickle.loads(cloudpickle.dumps(app_with([CountingDp()], handler=[message_size_mod])))
    result, _ = served(copied, tmp_path, REQUESTS["class"])
    assert result.requests[0].status == "committed", result.requests[0].reason


def test_clipping_by_a_norm_of_the_configuration_acts_on_unlearning(tmp_path: Path) -> None:
    stores = [{"client-dir": str(tmp_path / "clients" / str(client))} for client in range(CLIENTS)]
    grid = SeenMessages(app_with([fixedclipping_mod]), CLIENTS, node_configs=stores)
    inner = FedAvg(fraction_evaluate=0.0, min_available_nodes=2)
    strategy = ContinualUnlearning(inner, ledger=tmp_path / "ledger.db", plan=FAST_PLAN)
    config = ConfigRecord({"clipping_norm": 4.0})
    strategy.start(grid, initial_arrays(), num_rounds=3, train_config=config)
    strategy.submit(REQUESTS["class"])
    result = strategy.start(grid, num_rounds=0)
    assert result.requests[0].status == "committed", result.requests[0].reason
    assert class_accuracy(result.arrays, 3) <= 0.05


def test_a_mod_that_answers_by_itself_is_named(tmp_path: Path) -> None:
    def deaf(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if message.metadata.message_type == "train":
            return call_next(message, context)
        return Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)

    result, _ = served(app_with([deaf]), tmp_path, REQUESTS["class"])
    assert result.requests[0].status == "failed"
    assert "a mod of the app answered" in str(result.requests[0].reason)
