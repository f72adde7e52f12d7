"""Every strategy of Flower, wrapped: what it trains, what it carries along, and what it makes of repair."""

from __future__ import annotations

import copy
import gc
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from federation import OPEN_GATE, Federation, initial_arrays, make_federation
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from made_replies import drawn_model, made_reply, moved, replies_of
from safetensors.numpy import load, save

from fed_unlearn.arrays import Arrays, pack, unpack
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.grid import EligibleGrid
from fed_unlearn.strategies.inner import (
    AggregationFailedError,
    TooFewRepliesError,
    aggregate_through,
    aggregates_repair,
    check_supported,
    fresh_copy,
    reset_server_state,
    restore_server_state,
    server_state,
)
from fed_unlearn.strategies.training import Trainer

SEED = 3
HANDLER = "train.default"
QUIET = {"fraction_evaluate": 0.0}


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> Iterator[None]:
    """q-FedAvg and Bulyan collect garbage for every reply: not all that pytest holds, then."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def fixed(inner: Strategy | None = None, noise: float = 0.02, norm: float = 2.0, clients: int = 4) -> Strategy:
    wrapped = inner or flower.FedAvg(**QUIET)
    return flower.DifferentialPrivacyServerSideFixedClipping(wrapped, noise, norm, clients)


def adaptive(inner: Strategy | None = None, noise: float = 0.02, norm: float = 2.0, clients: int = 4) -> Strategy:
    wrapped = inner or flower.FedAvg(**QUIET)
    return flower.DifferentialPrivacyServerSideAdaptiveClipping(wrapped, noise, clients, initial_clipping_norm=norm)


MAKE: dict[str, Callable[[], Strategy]] = {
    "FedAvg": lambda: flower.FedAvg(**QUIET),
    "FedProx": lambda: flower.FedProx(proximal_mu=0.1, **QUIET),
    "FedAvgM": lambda: flower.FedAvgM(server_momentum=0.5, **QUIET),
    "FedAdagrad": lambda: flower.FedAdagrad(eta=0.03, **QUIET),
    "FedAdam": lambda: flower.FedAdam(eta=0.03, **QUIET),
    "FedYogi": lambda: flower.FedYogi(eta=0.03, **QUIET),
    "QFedAvg": lambda: flower.QFedAvg(client_learning_rate=0.1, **QUIET),
    "FedMedian": lambda: flower.FedMedian(**QUIET),
    "FedTrimmedAvg": lambda: flower.FedTrimmedAvg(beta=0.3, **QUIET),
    "Krum": lambda: flower.Krum(**QUIET),
    "MultiKrum": lambda: flower.MultiKrum(num_nodes_to_select=3, **QUIET),
    "Bulyan": lambda: flower.Bulyan(**QUIET),
    "DifferentialPrivacyServerSideFixedClipping": fixed,
    "DifferentialPrivacyServerSideAdaptiveClipping": adaptive,
}
ROBUST = ("FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan")
PRIVATE = ("DifferentialPrivacyServerSideFixedClipping", "DifferentialPrivacyServerSideAdaptiveClipping")
REFUSED = {
    "FedXgbBagging": lambda: flower.FedXgbBagging(),
    "FedXgbCyclic": lambda: flower.FedXgbCyclic(),
    "DifferentialPrivacyClientSideFixedClipping": lambda: flower.DifferentialPrivacyClientSideFixedClipping(
        flower.FedAvg(), 1.0, 1.0, 4
    ),
    "DifferentialPrivacyClientSideAdaptiveClipping": lambda: flower.DifferentialPrivacyClientSideAdaptiveClipping(
        flower.FedAvg(), 0.1, 4
    ),
}


def said_by_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("fed_unlearn")]


class HeavyBall(Strategy):
    """A strategy of the user's own: averages without weights, and goes on as before; its momentum begins at zeros."""

    def __init__(self, momentum: float = 0.9) -> None:
        self.momentum = momentum
        self.rounds = 0
        self.velocity: dict[str, np.ndarray] = {}
        self.last: list[np.ndarray] | None = None
        self.base: ArrayRecord | None = None
        self.callback = print

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.base = arrays
        return []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        assert self.base is not None
        models = [unpack(message.content.array_records["arrays"]) for message in replies]
        base = unpack(self.base)
        change = {name: np.mean([model[name] - base[name] for model in models], axis=0) for name in base}
        self.velocity = {
            name: change[name] + self.momentum * self.velocity.get(name, np.zeros_like(change[name])) for name in change
        }
        self.rounds += 1
        self.last = list(change.values())
        self.momentum *= 0.99
        moved_by = {name: base[name] + self.velocity[name] / self.rounds for name in base}
        return pack({name: np.asarray(value) for name, value in moved_by.items()}), None

    def configure_evaluate(self, *_: object) -> Iterable[Message]:  # type: ignore[override]
        return []

    def aggregate_evaluate(self, *_: object) -> MetricRecord | None:  # type: ignore[override]
        return None

    def summary(self) -> None:
        pass


# ---------------------------------------------------------------------- in full


@pytest.mark.parametrize(
    "name",
    ["FedAvg", "FedAdam", "FedProx", "FedMedian", "MultiKrum", "DifferentialPrivacyServerSideFixedClipping"],
)
def test_a_timeline_of_training_and_requests(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy(MAKE[name](), gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=6)
    strategy.submit(ForgetRequest.for_class(3))
    first = strategy.start(federation.grid, num_rounds=2)
    strategy.submit(ForgetRequest.for_samples(2, count=2))
    second = strategy.start(federation.grid, num_rounds=1)
    of_class, of_samples = *first.requests, *second.requests
    assert of_class.status is Status.COMMITTED, of_class.reason
    before, after = of_class.before, of_class.after
    assert before is not None and before.forget_accuracy is not None and before.forget_accuracy > 0.8
    assert after is not None and after.forget_accuracy is not None and after.forget_accuracy <= 0.05
    assert before.test_retain_accuracy is not None and after.test_retain_accuracy is not None
    assert after.test_retain_accuracy > before.test_retain_accuracy - 0.05
    if of_samples.status is Status.COMMITTED:
        assert of_samples.after is not None and of_samples.after.forget_accuracy == 0.0
    else:
        # Its user does not trust single clients, and these samples have one holder.
        assert name in ROBUST and of_samples.reason is not None and "1 usable replies came" in of_samples.reason
    last = second.relapse[-1]
    assert last.after == "train:3"
    assert last.forget_accuracy["r1"] is not None and last.forget_accuracy["r1"] <= 0.05
    assert last.test_forget_accuracy["r1"] is not None and last.test_forget_accuracy["r1"] <= 0.1


@pytest.mark.parametrize("name", ["FedMedian", "MultiKrum", "DifferentialPrivacyServerSideFixedClipping"])
def test_unlearn_and_repair_rounds_go_through_it(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = MAKE[name]()
    federation = make_federation(tmp_path)
    strategy = federation.strategy(inner, gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=3)
    strategy.submit(ForgetRequest.for_class(3))
    counts: list[int] = []
    own = inner.aggregate_train

    def counted(number: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        counts.append(len(replies := list(replies)))
        return own(number, replies)

    monkeypatch.setattr(inner, "aggregate_train", counted)
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED, outcome.reason
    assert len(counts) >= 2 and set(counts) == {4}, "an unlearn round and a repair round at least, of four clients"


# ---------------------------------------------------------------------- training


def with_training_loss(federation: Federation) -> Federation:
    """Clients that report the loss that q-FedAvg asks for."""
    handler = federation.app._registered_funcs[HANDLER]

    def reporting(message: Message, context: Context) -> Message:
        reply = handler(message, context)
        reply.content.metric_records["metrics"]["train_loss"] = 1.0 + int(context.node_config["partition-id"])
        return reply

    federation.app._registered_funcs[HANDLER] = reporting
    return federation


def trainer_of(inner: Strategy, federation: Federation, **settings: object) -> Trainer:
    grid = EligibleGrid(federation.grid)
    grid.identify(4, 10.0, {})
    return Trainer(inner, grid, 10.0, SEED, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in MAKE if name not in PRIVATE])
def test_training_is_flowers_own(tmp_path: Path, name: str) -> None:
    """Two rounds give what the strategy alone gives on the same clients, but for the order of sums."""
    federation = with_training_loss(make_federation(tmp_path))
    inner = MAKE[name]()
    check_supported(inner)
    trainer, arrays = trainer_of(inner, federation), unpack(initial_arrays())
    for number in (1, 2):
        trained = trainer.train(arrays, number, ConfigRecord())
        assert any(not np.array_equal(trained.arrays[key], arrays[key]) for key in arrays), "nothing was trained"
        arrays = trained.arrays
    expected = MAKE[name]().start(federation.grid, initial_arrays(), num_rounds=2).arrays
    assert list(arrays) == list(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(arrays[key], value.numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", PRIVATE)
def test_private_training_without_noise_is_the_mean_of_clipped_updates(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    inner = (fixed if "Fixed" in name else adaptive)(noise=0.0, norm=0.5)
    told: dict[str, tuple[Arrays, float]] = {}
    trainer = trainer_of(inner, federation, record=lambda number, base, local: told.update(local))
    base = unpack(initial_arrays())
    trained = trainer.train(base, 1, ConfigRecord(), measure_norms=True)
    assert len(told) == 4 and min(trained.update_norms) > 0.5, "every update is clipped"
    for key, value in trained.arrays.items():
        changes = [
            (local[key] - base[key]) * 0.5 / length
            for (local, _), length in zip(told.values(), trained.update_norms, strict=True)
        ]
        np.testing.assert_allclose(value, base[key] + np.mean(changes, axis=0), rtol=1e-4, atol=1e-6)


def test_a_round_is_recorded_as_it_was(tmp_path: Path) -> None:
    """What is recorded gives, averaged by hand, what came of the round."""
    federation = make_federation(tmp_path)
    told: list[tuple[int, Arrays, dict[str, tuple[Arrays, float]]]] = []
    trainer = trainer_of(
        flower.FedAvg(**QUIET), federation, record=lambda number, base, local: told.append((number, base, dict(local)))
    )
    base = unpack(initial_arrays())
    trained = trainer.train(base, 5, ConfigRecord()).arrays
    [(number, recorded, local)] = told
    assert number == 5 and list(local) == ["0", "1", "2", "3"]
    total = sum(weight for _, weight in local.values())
    assert total == sum(len(federation.task._data[client].train) for client in range(4))
    for key, value in trained.items():
        assert np.array_equal(recorded[key], base[key])
        by_hand = sum(arrays[key].astype(np.float64) * weight / total for arrays, weight in local.values())
        np.testing.assert_allclose(value, by_hand, rtol=1e-5, atol=1e-6)


def spoil(federation: Federation, changes: dict[int, Callable[[Message], Message]]) -> None:
    """Change the training replies of some clients."""
    handler = federation.app._registered_funcs[HANDLER]

    def spoiled(message: Message, context: Context) -> Message:
        reply = handler(message, context)
        return changes.get(int(context.node_config["partition-id"]), lambda good: good)(reply)

    federation.app._registered_funcs[HANDLER] = spoiled


def with_nan(reply: Message) -> Message:
    record = reply.content.array_records["arrays"]
    name = next(iter(record))
    reply.content["arrays"] = pack({**unpack(record), name: np.full_like(record[name].numpy(), np.nan)})
    return reply


def with_weight(weight: float) -> Callable[[Message], Message]:
    def weighted(reply: Message) -> Message:
        reply.content.metric_records["metrics"]["num-examples"] = weight
        return reply

    return weighted


@pytest.mark.parametrize("name", ["FedAvg", "FedAdam", "FedMedian", *PRIVATE])
def test_what_cannot_be_used_is_left_out_and_named(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    told: dict[str, tuple[Arrays, float]] = {}
    spoiled = make_federation(tmp_path)
    spoil(spoiled, {0: with_nan, 3: with_weight(-1.0)})
    trainer = trainer_of(MAKE[name](), spoiled, record=lambda number, base, local: told.update(local))
    arrays = unpack(initial_arrays())
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        for number in (1, 2):
            before, arrays = arrays, trainer.train(arrays, number, ConfigRecord()).arrays
            assert any(not np.array_equal(arrays[key], before[key]) for key in arrays)
    assert list(told) == ["1", "2"]
    assert all(np.isfinite(value).all() for value in arrays.values())
    assert said_by_us(caplog) == [
        "client 0 is left out: its array '1.weight' is not finite",
        "client 3 is left out: its num-examples is not a finite number above 0",
    ]


@pytest.mark.parametrize("name", [*MAKE])
def test_a_round_without_a_usable_reply_leaves_the_model_as_it_was(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    spoil(federation, dict.fromkeys(range(4), with_nan))
    arrays = unpack(initial_arrays())
    trained = trainer_of(MAKE[name](), federation).train(arrays, 1, ConfigRecord(), measure_norms=True)
    assert all(np.array_equal(trained.arrays[key], arrays[key]) for key in arrays)
    assert trained.update_norms == ()


def test_a_strategy_that_raises_leaves_model_and_state_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FedAdam raises between its first and its second moment."""
    federation = make_federation(tmp_path)
    inner = flower.FedAdam(eta=0.03, **QUIET)
    trainer = trainer_of(inner, federation)
    arrays = trainer.train(unpack(initial_arrays()), 1, ConfigRecord()).arrays
    kept = copy.deepcopy((inner.m_t, inner.v_t))

    def raising(*_: object) -> None:
        raise ZeroDivisionError("float division by zero")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        patch.setattr(np, "power", raising)
        after = trainer.train(arrays, 2, ConfigRecord()).arrays
    assert all(np.array_equal(after[key], arrays[key]) for key in arrays)
    for now, then in zip((inner.m_t, inner.v_t), kept, strict=True):
        assert now is not None and then is not None
        assert all(np.array_equal(now[key], then[key]) for key in then)
    [said] = said_by_us(caplog)
    assert "training round 2: FedAdam made nothing of 4 replies, and the model stays as it was" in said
    assert "ZeroDivisionError: float division by zero" in said


def test_too_few_for_flower_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bulyan wants 4 f + 3 replies, and q-FedAvg a loss that these clients do not report."""
    federation = make_federation(tmp_path)
    arrays = unpack(initial_arrays())
    for inner in (flower.Bulyan(num_malicious_nodes=1, **QUIET), MAKE["QFedAvg"]()):
        with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
            after = trainer_of(inner, federation).train(arrays, 1, ConfigRecord()).arrays
        assert all(np.array_equal(after[key], arrays[key]) for key in arrays)
    said = said_by_us(caplog)
    assert said[0] == "training round 1: no model came of 4 usable replies; the model stays as it was"
    assert said[1].startswith("training round 1: QFedAvg made nothing of 4 replies") and "train_loss" in said[1]


# ---------------------------------------------------------------------- what can be wrapped


@pytest.mark.parametrize("name", MAKE)
def test_what_makes_sense_is_accepted(name: str) -> None:
    inner = MAKE[name]()
    check_supported(inner)
    assert aggregates_repair(inner) is (name in ROBUST or name in PRIVATE)
    of_the_users_own = type("Own", (type(inner),), {})
    inner.__class__ = of_the_users_own
    check_supported(inner)
    assert aggregates_repair(inner) is (name in ROBUST or name in PRIVATE)


def test_every_strategy_of_flower_is_either_accepted_or_refused() -> None:
    strategies = {
        name
        for name, value in vars(flower).items()
        if isinstance(value, type) and issubclass(value, Strategy) and value is not Strategy
    }
    assert strategies == set(MAKE) | set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_checked_is_refused(name: str) -> None:
    reason = "boosted trees" if "Xgb" in name else f"use {name.replace('Client', 'Server')}"
    with pytest.raises(InvalidParameterError, match=rf"^strategy {name} cannot be wrapped: .*{reason}"):
        check_supported(REFUSED[name]())


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (fixed(MAKE["FedMedian"]()), "FedMedian makes something else of them"),
        (fixed(MAKE["FedAdam"]()), "FedAdam makes something else of them"),
        (adaptive(MAKE["FedAvgM"]()), "FedAvgM makes something else of them"),
        (adaptive(REFUSED["FedXgbBagging"]()), "FedXgbBagging makes something else of them"),
        (fixed(fixed()), "DifferentialPrivacyServerSideFixedClipping makes something else"),
        (flower.MultiKrum(num_nodes_to_select=0), "num_nodes_to_select = 0 was given; expected 1 or more"),
        (flower.Bulyan(num_malicious_nodes=-1), "num_malicious_nodes = -1 was given; expected 0 or more"),
        (flower.QFedAvg(client_learning_rate=0.0), "client_learning_rate = 0.0 was given; expected a number above 0"),
        (flower.FedAvg, "FedAvg was given as the strategy; expected an instance"),
        (None, "NoneType was given as the strategy; expected an instance"),
    ],
)
def test_what_is_meaningless_says_why(inner: Strategy, reason: str) -> None:
    with pytest.raises(InvalidParameterError) as error:
        check_supported(inner)
    assert reason in str(error.value)


def test_a_strategy_is_wrapped_once(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    with pytest.raises(InvalidParameterError, match="serves forget requests already"):
        check_supported(federation.strategy())


def test_of_a_strategy_of_ones_own_the_log_says_how_it_is_treated(caplog: pytest.LogCaptureFixture) -> None:
    own, robust = HeavyBall(), HeavyBall()
    robust.aggregates_repair = True  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        check_supported(own)
        check_supported(robust)
    said = said_by_us(caplog)
    assert "HeavyBall is not one of Flower's" in said[0] and "are averaged by the server" in said[0]
    assert "go through its own aggregate_train" in said[1]
    assert [aggregates_repair(own), aggregates_repair(robust)] == [False, True]


# ---------------------------------------------------------------------- server state

STATEFUL: dict[str, Callable[[], Strategy]] = {
    **{name: make for name, make in MAKE.items() if name not in ROBUST},
    "HeavyBall": HeavyBall,
    "Bulyan": MAKE["Bulyan"],
}


def a_round(inner: Strategy, arrays: Arrays, number: int, federation: Federation) -> Arrays:
    """One round of aggregation, of four made replies."""
    from fed_unlearn.strategies.inner import aggregate_replies

    for layer in (inner, getattr(inner, "strategy", inner)):
        if hasattr(layer, "current_arrays") or isinstance(layer, HeavyBall):
            layer.configure_train(number, pack(arrays), ConfigRecord(), federation.grid)
    models = [moved(arrays, 100 * number + client) for client in range(4)]
    replies = replies_of(models, [1.0, 2.0, 3.0, 4.0], train_loss=0.5 + number)
    aggregate, _ = aggregate_replies(inner, arrays, replies, number, seed=SEED, purpose="train")
    assert aggregate is not None
    return aggregate


def through_files(state: tuple[dict[str, Arrays], dict[str, object]], folder: Path) -> tuple[dict[str, Arrays], dict]:
    """The state as it comes back from safetensors and JSON, in another order."""
    arrays, scalars = state
    for name, group in arrays.items():
        (folder / name).write_bytes(save(dict(reversed(group.items()))))
    back = {name: dict(sorted(load((folder / name).read_bytes()).items())) for name in reversed(arrays)}
    return back, json.loads(json.dumps(dict(reversed(scalars.items()))))


@pytest.mark.parametrize("name", STATEFUL)
def test_a_run_that_is_cut_in_two_is_the_same_run(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    base = drawn_model(0)
    whole, first = STATEFUL[name](), STATEFUL[name]()
    check_supported(whole)
    check_supported(first)
    at_once, cut = base, base
    for number in (1, 2, 3, 4):
        at_once = a_round(whole, at_once, number, federation)
        if number == 3:
            state = through_files(server_state(first), tmp_path)
            first = STATEFUL[name]()
            check_supported(first)
            restore_server_state(first, *state)
        cut = a_round(first, cut, number, federation)
        for key in base:
            assert cut[key].tobytes() == at_once[key].tobytes(), (number, key)
            assert cut[key].dtype == base[key].dtype and cut[key].shape == base[key].shape


@pytest.mark.parametrize("name", STATEFUL)
def test_reset_forgets_and_a_copy_is_fresh(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    inner, untouched = STATEFUL[name](), STATEFUL[name]()
    check_supported(inner)
    check_supported(untouched)
    none = server_state(untouched)
    assert none == ({}, {"class": none[1]["class"]})
    base = drawn_model(0)
    for number in (1, 2):
        a_round(inner, base, number, federation)
    kept = server_state(inner)
    assert server_state(fresh_copy(inner)) == none
    same_again = server_state(inner)
    assert same_again[1] == kept[1] and list(same_again[0]) == list(kept[0])
    reset_server_state(inner)
    arrays, scalars = server_state(inner)
    assert arrays == {}
    left = {"clipping_norm"} if "Adaptive" in name else {"momentum"} if name == "HeavyBall" else set()
    assert set(scalars) == {"class", *left}
    restore_server_state(inner, *kept)
    again = server_state(inner)
    assert again[1] == kept[1]
    assert all(np.array_equal(again[0][path][key], kept[0][path][key]) for path in kept[0] for key in kept[0][path])


def test_what_is_state() -> None:
    """By name, for each of Flower's that has some; q-FedAvg and the wrappers keep the round's model."""
    expected = {
        "FedAvgM": {"current_arrays", "momentum_vector"},
        "FedAdam": {"current_arrays", "m_t", "v_t"},
        "FedYogi": {"current_arrays", "m_t", "v_t"},
        "FedAdagrad": {"current_arrays", "m_t", "v_t"},
        "HeavyBall": {"base", "velocity", "last"},
    }
    for name, paths in expected.items():
        inner = STATEFUL[name]()
        check_supported(inner)
        base = drawn_model(0)
        inner.current_arrays = pack(base) if name == "FedAvgM" else base  # type: ignore[attr-defined]
        if name == "HeavyBall":
            del inner.current_arrays  # type: ignore[attr-defined]
            inner.base = pack(base)  # type: ignore[attr-defined]
        inner.aggregate_train(1, replies_of([moved(base, 1), moved(base, 2)]))
        assert set(server_state(inner)[0]) == paths


def test_a_strategy_used_before_it_was_wrapped_is_reset_all_the_same() -> None:
    inner = flower.FedAdam(**QUIET)
    inner.current_arrays = drawn_model(0)
    inner.aggregate_train(1, replies_of([moved(inner.current_arrays, 1)]))
    check_supported(inner)
    reset_server_state(inner)
    assert (inner.current_arrays, inner.m_t, inner.v_t) == (None, None, None)


def test_the_state_of_another_strategy_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    inner = flower.FedAdam(**QUIET)
    check_supported(inner)
    inner.m_t = drawn_model(0)
    other = flower.FedAvg(**QUIET)
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        restore_server_state(other, *server_state(inner))
    assert not hasattr(other, "m_t")
    assert "the stored state is of strategy FedAdam; FedAvg begins anew" in caplog.text


# ---------------------------------------------------------------------- repair through a robust aggregator


def by_numpy(name: str, models: Sequence[Arrays], weights: Sequence[float], key: str) -> np.ndarray:
    """What the papers say, by hand: the median, the mean without the extremes, the model nearest to its neighbours."""
    values = np.stack([model[key].astype(np.float64) for model in models])
    if name == "FedMedian":
        return np.median(values, axis=0)
    if name == "FedTrimmedAvg":
        cut = int(0.3 * len(models))
        return np.sort(values, axis=0)[cut : len(models) - cut].mean(axis=0)
    flat = np.stack([np.concatenate([model[k].astype(np.float64).ravel() for k in model]) for model in models])
    distances = ((flat[:, None] - flat[None]) ** 2).sum(axis=2)
    scores = np.sort(distances, axis=1)[:, 1 : len(models) - 2 + 1].sum(axis=1)
    chosen = np.argsort(scores)[: 1 if name == "Krum" else 3]
    return np.average(values[chosen], axis=0, weights=np.asarray(weights)[chosen])


@pytest.mark.parametrize("name", ["FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum"])
def test_repair_through_a_robust_aggregator_by_hand(name: str) -> None:
    base = drawn_model(0)
    models = [moved(base, client, step=0.1 * (1 + client)) for client in range(6)]
    models[5] = moved(base, 9, step=50.0)
    weights = [3.0, 1.0, 4.0, 1.0, 5.0, 900.0]
    replies = replies_of(models, weights)
    through = aggregate_through(MAKE[name](), base, replies, 1)
    assert list(through) == list(base)
    for key, value in through.items():
        assert value.dtype == base[key].dtype and value.shape == base[key].shape
        np.testing.assert_allclose(value, by_numpy(name, models, weights, key), rtol=1e-5, atol=1e-6)
        far = np.abs(models[5]["weight"] - base["weight"]).max()
    assert np.abs(through["weight"] - base["weight"]).max() < far / 10, "the outlier is left out"


@pytest.mark.parametrize("name", ROBUST)
def test_repair_through_a_robust_aggregator_is_flowers_own(name: str) -> None:
    base = drawn_model(0)
    models = [moved(base, client) for client in range(5)]
    weights = [3.0, 1.0, 4.0, 1.0, 5.0]
    inner = MAKE[name]()
    check_supported(inner)
    replies = replies_of(models, weights, loss=1.0)
    bytes_before = [message.content.array_records["arrays"]["weight"].data for message in replies]
    through = aggregate_through(inner, base, replies, 1)
    expected, _ = MAKE[name]().aggregate_train(1, replies_of(models, weights))
    assert expected is not None
    for key, value in expected.items():
        assert np.array_equal(through[key], np.asarray(value.numpy()).astype(base[key].dtype))
    # FedMedian takes arrays out of what it is given: the service needs its messages afterwards.
    assert [message.content.array_records["arrays"]["weight"].data for message in replies] == bytes_before
    assert server_state(inner)[0] == {}


def test_the_weight_goes_under_the_strategys_own_key() -> None:
    base = drawn_model(0)
    models = [moved(base, client) for client in range(3)]
    inner = flower.MultiKrum(num_nodes_to_select=3, weighted_by_key="samples", **QUIET)
    through = aggregate_through(inner, base, replies_of(models, [1.0, 1.0, 8.0]), 1)
    expected = np.average([model["weight"] for model in models], axis=0, weights=[1, 1, 8])
    np.testing.assert_allclose(through["weight"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("inner", "needed"),
    [
        (flower.FedMedian(**QUIET), 3),
        (flower.FedTrimmedAvg(**QUIET), 3),
        (flower.Krum(num_malicious_nodes=1, **QUIET), 5),
        (flower.MultiKrum(num_malicious_nodes=2, **QUIET), 7),
        (flower.Bulyan(num_malicious_nodes=1, **QUIET), 7),
    ],
)
def test_too_few_replies_for_a_robust_aggregator(inner: Strategy, needed: int) -> None:
    base = drawn_model(0)
    replies = replies_of([moved(base, client) for client in range(needed)])
    with pytest.raises(TooFewRepliesError, match=rf"{needed - 1} usable replies came, and \w+ needs {needed}"):
        aggregate_through(inner, base, replies[:-1], 1)
    assert list(aggregate_through(inner, base, replies, 1)) == list(base)


def test_what_a_strategy_makes_nothing_of_is_one_error() -> None:
    base = drawn_model(0)
    replies = [made_reply(client, {"weight": base["weight"]}) for client in range(3)]
    with pytest.raises(AggregationFailedError, match="FedMedian made nothing of 3 replies: InvalidModelError"):
        aggregate_through(flower.FedMedian(**QUIET), base, replies, 1)
