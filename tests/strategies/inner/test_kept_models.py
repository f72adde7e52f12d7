"""Models that a strategy keeps become the model that serves; what only looks like one does not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from flwr.serverapp import strategy as flower
from inner_strategies import QUIET, HeavyBall
from kept_models import FORMS, PLACES, Box, Broken, Keeper, Scored, SmallModule, keeper, state_dict
from made_replies import drawn_model, moved, replies_of

from fed_unlearn.arrays import Arrays, pack, same_bits, unpack
from fed_unlearn.strategies.inner.contents import MOST_LEVELS
from fed_unlearn.strategies.inner.kept_models import replace_kept_models, reset_to
from fed_unlearn.strategies.inner.kinds import check_supported

INITIAL = drawn_model(0)
ROUND, SERVED, OTHER = moved(INITIAL, 1), moved(INITIAL, 2), moved(INITIAL, 3)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """What was said of kept models at a level."""
    caplog.set_level(logging.INFO, logger="fed_unlearn.strategies")
    return lambda level: [
        record.getMessage() for record in caplog.records if record.levelno == level and record.module == "kept_models"
    ]


@pytest.mark.parametrize("old", [INITIAL, ROUND], ids=["initial", "of a round"])
@pytest.mark.parametrize("form", FORMS)
def test_a_kept_model_becomes_the_one_that_serves_in_its_form(form: str, old: Arrays, said: Any) -> None:
    make, read = FORMS[form]
    kept = make(old)
    inner = keeper(INITIAL, ROUND, best=kept)
    replace_kept_models(inner, SERVED)
    assert type(inner.best) is type(kept)
    assert same_bits(read(inner.best), SERVED)
    assert (inner.best is kept) is (form == "module"), "others may hold the old one"
    assert said(logging.INFO) == ["Keeper.best was replaced by the model that serves"]
    assert said(logging.WARNING) == []
    replace_kept_models(inner, SERVED)
    assert len(said(logging.INFO)) == 1, "it is the one that serves already"


@pytest.mark.parametrize("form", ["state dict", "record", "module"])
@pytest.mark.parametrize("place", PLACES)
def test_a_kept_model_is_replaced_where_it_lies(place: str, form: str) -> None:
    (put, get), (make, read) = PLACES[place], FORMS[form]
    kept = put(0.75, make(ROUND))
    inner = keeper(INITIAL, ROUND, best=kept)
    replace_kept_models(inner, SERVED)
    assert type(inner.best) is type(kept)
    accuracy, model = get(inner.best)
    assert accuracy == 0.75 and same_bits(read(model), SERVED)
    is_new = place in ("tuple", "NamedTuple", "read-only mapping", "object that refuses") or place.startswith("frozen")
    assert (inner.best is not kept) is (is_new and form != "module")


def test_tensors_keep_their_dtype_and_what_learns_of_them() -> None:
    """Flower's averages of integers are floats, and a strategy may keep them so."""
    raw = {name: value.astype(np.float64) if name == "batches" else value for name, value in ROUND.items()}
    kept = state_dict(raw)
    kept["weight"].requires_grad_()
    inner = keeper(INITIAL, raw, best=(1, kept))
    replace_kept_models(inner, SERVED)
    _, made = inner.best
    assert {name: value.dtype for name, value in made.items()} == {name: value.dtype for name, value in kept.items()}
    assert [name for name, value in made.items() if value.requires_grad] == ["weight"]
    assert all(np.array_equal(made[name].detach().numpy(), SERVED[name]) for name in SERVED)
    made["bias"].zero_()
    assert SERVED["bias"].any(), "it is a copy"


def test_what_is_kept_in_two_places_or_within_itself_is_replaced_in_all() -> None:
    model, around = state_dict(ROUND), Box(0.5, None)
    around.model = [around, model]
    inner = keeper(INITIAL, ROUND, best=model, around=around, all={1: state_dict(ROUND), 2: state_dict(INITIAL)})
    replace_kept_models(inner, SERVED)
    assert inner.around.model[0] is around
    assert inner.around.model[1] is inner.best
    for made in (inner.best, *inner.all.values()):
        assert same_bits(FORMS["state dict"][1](made), SERVED)


def test_a_model_of_a_wrapped_strategy_is_replaced() -> None:
    wrapped = Keeper(**QUIET)
    around = flower.DifferentialPrivacyServerSideFixedClipping(wrapped, 0.1, 1.0, 4)
    inner = keeper(INITIAL, ROUND, inner=around)
    wrapped.best, around.current_arrays = (0.5, state_dict(ROUND)), pack(ROUND)
    replace_kept_models(inner, SERVED)
    assert same_bits(FORMS["state dict"][1](wrapped.best[1]), SERVED)
    assert around.current_arrays == ArrayRecord(), "Flower's own state begins anew"


class Templates(Keeper):
    """Is given models at its construction."""

    def __init__(self, module: SmallModule, record: ArrayRecord, more: dict[str, Any]) -> None:
        super().__init__(**QUIET)
        self.module, self.record, self.more = module, record, more


def test_models_that_the_user_gave_are_left_alone_while_they_are_as_they_were() -> None:
    module, record, more = SmallModule(INITIAL), pack(INITIAL), {"state": state_dict(INITIAL)}
    inner = keeper(INITIAL, ROUND, inner=Templates(module, record, more))
    inner.again, inner.best = more["state"], state_dict(INITIAL)
    replace_kept_models(inner, SERVED)
    assert inner.record is record and inner.more is more and inner.again is more["state"]
    assert same_bits(unpack(record), INITIAL)
    for kept in (module.state_dict(), more["state"]):
        assert same_bits(FORMS["state dict"][1](kept), INITIAL)
    assert same_bits(FORMS["state dict"][1](inner.best), SERVED), "it was kept in the training"
    module.load_state_dict(state_dict(ROUND))
    replace_kept_models(inner, SERVED)
    assert same_bits(FORMS["module"][1](module), SERVED)


@pytest.mark.parametrize("place", ["tuple", "dict", "object"])
def test_what_only_looks_like_a_model_stays_and_is_named(place: str, said: Any) -> None:
    average = state_dict(OTHER)
    kept = PLACES[place][0](0.5, average)
    inner = keeper(INITIAL, ROUND, average=kept, best=state_dict(ROUND), smaller={"weight": torch.zeros(3)})
    replace_kept_models(inner, SERVED)
    assert inner.average is kept and same_bits(FORMS["state dict"][1](average), OTHER)
    assert said(logging.WARNING) == [
        "Keeper.average holds arrays of the model's names and shapes that are no model of this training; it stays as it"
        " is, and it may carry what was forgotten"
    ]


def test_momenta_are_reset_as_ever(said: Any) -> None:
    """Flower's in silence, a strategy's own with a line in the log."""
    inner = keeper(INITIAL, ROUND, inner=flower.FedAvgM(**QUIET))
    inner.current_arrays, inner.momentum_vector = pack(ROUND), list(OTHER.values())
    replace_kept_models(inner, SERVED)
    assert (inner.current_arrays, inner.momentum_vector) == (None, None)
    assert said(logging.WARNING) == []
    ball = keeper(INITIAL, ROUND, inner=HeavyBall())
    said_before = len(said(logging.WARNING))
    ball.velocity, ball.last, ball.base, ball.rounds = dict(OTHER), [OTHER["bias"]], pack(ROUND), 4
    replace_kept_models(ball, SERVED)
    assert (ball.velocity, ball.last, ball.rounds) == ({}, None, 0)
    assert same_bits(unpack(ball.base), SERVED)
    assert said(logging.WARNING)[said_before:] == [
        "HeavyBall.velocity was reset at a commit: it may carry what was forgotten"
    ]


def test_records_of_numbers_survive_and_arrays_do_not() -> None:
    numbers: dict[str, Any] = {
        "accuracies": [np.float64(0.5), np.float64(0.75)],
        "losses": [0.7, 1],
        "by_round": {1: np.float32(0.5), 2: np.float32(0.25)},
        "mixed": [0.5, np.float64(0.25)],
        "metrics": {1: {"accuracy": 0.5}},
    }
    arrays: dict[str, Any] = {
        "per_class": [np.array([0.5, 0.75])],
        "confusion": np.eye(3),
        "with_an_array": [np.float64(0.5), np.zeros(2)],
        "by_name": {"a": np.zeros(3)},
    }
    inner = keeper(INITIAL, ROUND, **numbers, **arrays)
    replace_kept_models(inner, SERVED)
    for name, value in numbers.items():
        assert getattr(inner, name) is value
    assert numbers["accuracies"] == [0.5, 0.75] and not vars(inner).keys() & arrays.keys()


class WithStart(Keeper):
    """Has a ``start()`` of its own."""

    def start(self, *given: Any, **named: Any) -> Any:
        return super().start(*given, **named)


@pytest.mark.parametrize("number", [0.75, 3, "run-1", np.float64(0.75)])
def test_a_single_number_stays_with_a_start_of_its_own(number: object) -> None:
    """Without one it may count the rounds of a momentum, which begins anew."""
    own, plain = keeper(INITIAL, inner=WithStart(**QUIET), so_far=number), keeper(INITIAL, so_far=number)
    replace_kept_models(own, SERVED)
    replace_kept_models(plain, SERVED)
    assert own.so_far is number and not hasattr(plain, "so_far")


def test_a_model_on_the_class_is_replaced() -> None:
    class Careless(Keeper):
        seen: ClassVar[list[Any]] = []
        last: ClassVar[Any] = None

    inner = keeper(INITIAL, ROUND, inner=Careless(**QUIET))
    Careless.seen.append((0.5, state_dict(ROUND)))
    Careless.last = (0.5, state_dict(ROUND))
    replace_kept_models(inner, SERVED)
    for _, made in (*Careless.seen, Careless.last):
        assert same_bits(FORMS["state dict"][1](made), SERVED)
    assert not vars(inner).keys() & {"seen", "last"}


def test_replies_that_are_kept_are_named(said: Any) -> None:
    inner = keeper(INITIAL, ROUND, replies=replies_of([OTHER]), sent=replies_of([ROUND]))
    replace_kept_models(inner, SERVED)
    assert [line.split()[0] for line in said(logging.WARNING)] == ["Keeper.replies"]
    assert same_bits(unpack(inner.sent[0].content["arrays"]), SERVED)


def test_an_average_within_a_module_is_named(said: Any) -> None:
    average = torch.optim.swa_utils.AveragedModel(SmallModule(OTHER))
    inner = keeper(INITIAL, ROUND, average=average)
    replace_kept_models(inner, SERVED)
    assert [line.split()[0] for line in said(logging.WARNING)] == ["Keeper.average"]
    assert same_bits(FORMS["module"][1](average.module), OTHER)


def test_nothing_that_an_object_raises_ends_a_commit(said: Any) -> None:
    class Locked(dict[str, Any]):
        def __setitem__(self, name: str, value: object) -> None:
            raise PermissionError("read only")

    class WordlessError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Angry:
        def __init__(self) -> None:
            self.held = 1

        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            raise WordlessError

    broken, locked = [Broken(), state_dict(ROUND)], Locked(best=state_dict(ROUND))
    inner = keeper(INITIAL, ROUND, broken=broken, locked=locked, angry=[Angry()], best=state_dict(ROUND))
    replace_kept_models(inner, SERVED)
    for made in (inner.best, broken[1]):
        assert same_bits(FORMS["state dict"][1](made), SERVED), "the others are replaced"
    lines = said(logging.WARNING)
    start = "was not wholly looked through at a commit, and it may carry what was forgotten:"
    assert f"Keeper.broken {start} RuntimeError: closed" in lines
    assert f"Keeper.locked {start} PermissionError: read only" in lines
    assert f"Keeper.angry {start} WordlessError" in lines


def test_a_reset_without_a_commit_leaves_alone_what_no_reset_takes() -> None:
    kept = (0.5, state_dict(ROUND))
    inner = keeper(INITIAL, ROUND, best=kept, last=pack(ROUND), average=pack(OTHER))
    reset_to(inner, INITIAL, "since nothing came of it")
    assert inner.best is kept and same_bits(FORMS["state dict"][1](kept[1]), ROUND)
    assert same_bits(unpack(inner.last), INITIAL) and not hasattr(inner, "average")


def test_a_strategy_that_was_never_trained_has_nothing_to_replace() -> None:
    inner = Keeper(**QUIET)
    check_supported(inner)
    inner.best = Scored(0.5, state_dict(ROUND))
    kept = inner.best.model
    reset_to(inner, INITIAL, "since nothing came of it")
    assert inner.best.model is kept


def test_how_far_is_looked_is_bounded(said: Any) -> None:
    near: list[Any] = [state_dict(ROUND)]
    far: list[Any] = [state_dict(ROUND)]
    for _ in range(MOST_LEVELS - 1):
        near = [near]
    for _ in range(MOST_LEVELS):
        far = [far]
    inner = keeper(INITIAL, ROUND, near=near, far=far, many=[[] for _ in range(100_001)], best=state_dict(ROUND))
    replace_kept_models(inner, SERVED)
    assert [line.split()[0] for line in said(logging.INFO)] == ["Keeper.near", "Keeper.best"]
    assert said(logging.WARNING) == [
        "Keeper.far was not wholly looked through at a commit, and it may carry what was forgotten: TooMuchError: things"
        " lie in it deeper than 8 levels",
        "Keeper.many was not wholly looked through at a commit, and it may carry what was forgotten: TooMuchError: more"
        " than 100000 parts lie in it",
    ]
