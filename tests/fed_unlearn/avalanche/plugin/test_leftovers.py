"""Memory of forgotten samples that nobody told of is found and named; what holds none is left alone."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.training import Naive
from hoarders import Careful, Early, ForgettingReplay, Hoard, Mine, MyReplay
from plugged_strategies import EVERY_KIND, plugged, scenario_of, state_of
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from watched_strategies import made, made_dataset

from fed_unlearn.avalanche.plugin import RequestFailedError, UnlearningPlugin
from fed_unlearn.avalanche.plugin.memory import held_values, leftover_check, leftovers
from fed_unlearn.avalanche.plugin.memory.leftovers import Leftover, find_leftovers
from fed_unlearn.avalanche.streams.order import interleave
from fed_unlearn.avalanche.streams.samples import with_sample_ids
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]
GONE = {str(index) for index in range(0, 60, 6)}
"""Class 0 of made_dataset()."""
FIRST = ForgetRequest.for_class(0, id="zeros")


def holding(**held: Any) -> Any:
    """A strategy with some attributes and no plug-ins."""
    return SimpleNamespace(**held, plugins=[])


def found_in(strategy: Any, dataset: Any = None, classes: Any = (0,)) -> list[tuple[str, str, int]]:
    search = find_leftovers(strategy, GONE, [made_dataset() if dataset is None else dataset], classes=classes)
    assert search.complete
    return [(item.path, item.kind, item.count) for item in search.found]


def inputs(*rows: int) -> Tensor:
    dataset = made_dataset()
    return torch.stack([dataset[row][0] for row in rows])


# ---------------------------------------------------------------------- what is found, and under which name


@pytest.mark.parametrize(
    "stored",
    [
        lambda x: x[0],
        lambda x: x[:1],
        lambda x: x[0].numpy(),
        lambda x: x.double(),
        lambda x: x.half(),
        lambda x: (x * 255).round().to(torch.uint8),
        lambda x: x.flatten(1),
        lambda x: x[None],
        lambda x: x.numpy().astype(np.float64),
        lambda x: torch.nn.Parameter(x)[:1],
    ],
)
def test_an_input_is_found_in_every_form(stored: Any) -> None:
    assert found_in(holding(kept=stored(inputs(6)))) == [("strategy.kept", "inputs", 1)]
    assert found_in(holding(kept=stored(inputs(7)))) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_input_on_a_gpu_is_found() -> None:
    assert found_in(holding(kept=inputs(6, 7).cuda())) == [("strategy.kept", "inputs", 1)]


class Slotted:
    __slots__ = ("kept",)

    def __init__(self, kept: Any) -> None:
        self.kept = kept


def stopped(value: Any) -> Any:
    """A generator that stands still and has the value as a local."""

    def run(held: Any) -> Any:
        yield len(held)
        yield held

    generator = run(value)
    next(generator)
    return generator


@pytest.mark.parametrize(
    ("held", "path"),
    [
        (lambda x: [(1, x)], "strategy.kept[0][1]"),
        (lambda x: [0, x, 1], "strategy.kept[1]"),
        (lambda x: deque([x]), "strategy.kept[0]"),
        (lambda x: {"a": {3: x}}, "strategy.kept['a'][3]"),
        (lambda x: Slotted(x), "strategy.kept.kept"),
        (lambda x: SimpleNamespace(deep=[x]), "strategy.kept.deep[0]"),
        (lambda x: TensorDataset(x, torch.zeros(len(x))), "strategy.kept.tensors[0]"),
        (lambda x: DataLoader(TensorDataset(x, torch.zeros(len(x)))), "strategy.kept.dataset.tensors[0]"),
        (lambda x: stopped(x), "strategy.kept.held"),
        (lambda x: np.array([None, x], dtype=object), "strategy.kept[1]"),
    ],
)
def test_the_path_leads_to_what_is_held(held: Any, path: str) -> None:
    assert found_in(holding(kept=held(inputs(1, 6, 12)))) == [(path, "inputs", 2)]


def test_a_sample_counts_once_for_an_attribute_and_its_first_place_is_named() -> None:
    strategy = holding(mem=[(inputs(row)[0], row % 6) for row in (1, 6, 12, 6)], other=inputs(18))
    assert found_in(strategy) == [("strategy.mem[1][0]", "inputs", 2), ("strategy.other", "inputs", 1)]
    [one, _] = find_leftovers(strategy, GONE, [made_dataset()]).found
    assert str(one) == "strategy.mem holds the inputs of 2 forgotten samples (the first at strategy.mem[1][0])"


def test_inputs_are_known_as_they_lie_below_the_transformations_and_behind_them() -> None:
    base = TensorDataset(inputs(*range(60)), torch.arange(60) % 6)
    base.targets = (torch.arange(60) % 6).tolist()
    dataset = with_sample_ids(
        as_classification_dataset(
            base, transform_groups={"train": (lambda x: x * 2 + 1, None), "eval": (lambda x: x - 4, None)}
        )
    )
    for stored in (inputs(6), inputs(6) * 2 + 1, inputs(6) - 4):
        assert found_in(holding(kept=stored), dataset) == [("strategy.kept", "inputs", 1)]
    assert found_in(holding(kept=inputs(6) + 3), dataset) == []


# ---------------------------------------------------------------------- ids


@pytest.mark.parametrize(
    ("name", "held", "count"),
    [
        ("ids", ["1", "6", "12"], 2),
        ("seen_ids", {"6", "7"}, 1),
        ("logits_by_id", {"6": torch.zeros(3)}, 1),
        ("sample_ids", [6, 7, 12], 2),
        ("sample_ids", torch.tensor([6, 7]), 1),
    ],
)
def test_containers_of_ids_are_found(name: str, held: Any, count: int) -> None:
    assert found_in(holding(**{name: held})) == [(f"strategy.{name}", "ids", count)]


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("ids", [6, 7]),  # whole numbers, and nothing says that they are of samples
        ("class_ids", ["0", "6"]),
        ("task_ids", {"0"}),
        ("words", ["6", "12"]),
        ("ids", ["6", "somebody"]),
        ("sample_ids", ["1", "7"]),
        ("sample_ids", [6.0, 12.0]),
        ("width", [0, 6]),
    ],
)
def test_other_containers_are_no_alarm(name: str, held: Any) -> None:
    assert found_in(holding(**{name: held})) == []


# ---------------------------------------------------------------------- random augmentation


def augmented() -> Any:
    base = TensorDataset(inputs(*range(60)), torch.arange(60) % 6)
    base.targets = (torch.arange(60) % 6).tolist()
    noisy = (lambda x: x + torch.rand(()) / 10, None)
    return with_sample_ids(as_classification_dataset(base, transform_groups={"train": noisy, "eval": (None, None)}))


def drawn(*rows: int) -> Tensor:
    return torch.stack([augmented()[row][0] for row in rows])


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ({"x": [drawn(0, 1)], "y": [torch.tensor([0, 1])]}, [("strategy.x[0]", "augmented", 1)]),
        ({"x": [drawn(1, 2)], "y": [torch.tensor([1, 2])]}, []),
        ({"mem": [(drawn(0)[0], 0), (drawn(6)[0], 0), (drawn(1)[0], 1)]}, [("strategy.mem[0][0]", "augmented", 2)]),
        ({"mem_x": drawn(0, 6), "mem_y": torch.tensor([0, 0])}, [("strategy.mem_x", "augmented", 2)]),
        ({"mem": {"image": drawn(0, 1), "label": [0, 1]}}, [("strategy.mem['image']", "augmented", 1)]),
        ({"x": drawn(0, 1)}, [("strategy.x", "uncertain", 2)]),
        ({"x": drawn(0)[0], "step": 0}, [("strategy.x", "uncertain", 1)]),
        ({"gradient": torch.rand(6, 64)}, []),
    ],
)
def test_labels_beside_augmented_inputs_tell(held: Any, found: Any) -> None:
    assert found_in(holding(**held), augmented()) == found


def test_single_samples_among_augmented_inputs_are_uncertain() -> None:
    held = {"x": [drawn(0, 1)], "y": [torch.tensor([0, 1])]}
    assert found_in(holding(**held), augmented(), classes=()) == [("strategy.x[0]", "uncertain", 2)]
    assert not Leftover("strategy.x", "strategy.x[0]", "uncertain", 2).is_certain
    assert found_in(holding(x=[drawn(1)], y=[torch.tensor([1])]), augmented(), classes=()) == []


# ---------------------------------------------------------------------- bounds and side effects


def test_who_reaches_a_bound_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    deep: Any = inputs(6)
    for _ in range(12):
        deep = [deep]
    assert not find_leftovers(holding(kept=deep), GONE, [made_dataset()]).complete
    monkeypatch.setattr(held_values, "OBJECTS", 5)
    assert not find_leftovers(holding(kept=[[row] for row in range(9)]), GONE, [made_dataset()]).complete
    monkeypatch.undo()
    monkeypatch.setattr(leftovers, "BYTES", 600)
    search = find_leftovers(holding(a=inputs(6), b=inputs(6, 12)), GONE, [made_dataset()])
    assert not search.complete and [item.path for item in search.found] == ["strategy.a"]


def test_nothing_is_drawn_and_nothing_read_without_need() -> None:
    dataset = augmented()
    before = torch.get_rng_state()
    find_leftovers(holding(kept=inputs(6)), GONE, [dataset])
    assert torch.equal(torch.get_rng_state(), before)

    class Unread(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            raise AssertionError("a sample was read")

    base = Unread(inputs(*range(60)), torch.arange(60) % 6)
    base.targets = (torch.arange(60) % 6).tolist()
    assert found_in(holding(kept=[1, 2], names=["a"]), with_sample_ids(as_classification_dataset(base))) == []


# ---------------------------------------------------------------------- the plug-in


@pytest.mark.parametrize(
    ("kind", "given", "attribute"),
    [(Naive, MyReplay, "MyReplay.x"), (Naive, Hoard, "Hoard.xs"), (Mine, None, "strategy.mem")],
)
def test_a_request_fails_if_raw_samples_are_left(kind: Any, given: Any, attribute: str) -> None:
    scenario = scenario_of("ci", {1: FIRST})
    strategy, plugin, _ = plugged(made(kind, plugins=[given()] if given else []))
    strategy.train(scenario.train_stream[0])
    before = state_of(strategy.model)
    strategy.train(scenario.forget_stream[0])
    [outcome] = plugin.outcomes
    assert not outcome.committed and state_of(strategy.model) == before
    assert f"{attribute} holds the inputs of 10 forgotten samples" in outcome.reason
    assert 'leftovers="warn"' in outcome.reason
    assert ("forget(strategy, sample_ids)" if given else "forget(sample_ids)") in outcome.reason
    assert any(text.startswith(attribute) for text in plugin.leftovers)


def test_the_next_request_after_a_refused_one_counts_from_the_models_own_state() -> None:
    scenario = scenario_of("ci", {1: FIRST, 2: ForgetRequest.for_class(2)})
    replay = MyReplay()
    strategy, plugin, _ = plugged(made(Naive, plugins=[replay]))
    for experience in interleave(scenario)[:2]:
        strategy.train(experience)
    assert plugin._service.unlearning.forgotten_classes == frozenset()
    replay.x, replay.y = [], []
    strategy.train(scenario.train_stream[1])
    replay.x, replay.y = [inputs(0)], []  # of the request that was refused: no reason against this one
    strategy.train(scenario.forget_stream[1])
    assert plugin.leftovers == ("MyReplay.x holds the inputs of 1 forgotten sample (the first at MyReplay.x[0])",)
    assert [outcome.committed for outcome in plugin.outcomes] == [False, True]
    assert plugin._service.unlearning.forgotten_classes == {2}


def test_with_warn_the_request_is_committed_and_the_places_are_named(caplog: pytest.LogCaptureFixture) -> None:
    scenario = scenario_of("ci", {1: FIRST})
    strategy, plugin, _ = plugged(made(Naive, plugins=[MyReplay()]), leftovers="warn")
    strategy.train(scenario.train_stream[0])
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING, "fed_unlearn.avalanche"):
        warnings.simplefilter("always")
        strategy.train(scenario.forget_stream[0])
    assert plugin.outcomes[0].committed
    [text] = [str(item.message) for item in caught if "MyReplay.x" in str(item.message)]
    assert text in caplog.messages and "holds the inputs of 10 forgotten samples" in text


@pytest.mark.parametrize(
    ("kind", "given"), [(Naive, lambda: [ForgettingReplay(0)]), (Careful, list)], ids=["plug-in", "strategy"]
)
def test_a_method_forget_is_the_way_out(kind: Any, given: Any) -> None:
    scenario = scenario_of("ci", {1: FIRST})
    plugins = given()
    strategy, plugin, _ = plugged(made(kind, plugins=plugins), strict=True)
    for experience in interleave(scenario):
        strategy.train(experience)
    assert plugin.outcomes[0].committed and plugin.leftovers == ()
    if plugins:
        assert plugins[0].told == [frozenset(map(str, range(0, 60, 6)))]
        assert 0 not in torch.cat(plugins[0].y)
    else:
        assert {int(label) for _, label in strategy.mem} == {2, 3, 4, 5}


def after_commit(**options: Any) -> tuple[Any, UnlearningPlugin, Any]:
    """Its own hook stores the forget experience."""
    scenario = scenario_of("ci", {1: FIRST})
    strategy, plugin, _ = plugged(made(Early), **options)
    strategy.train(scenario.train_stream[0])
    return strategy, plugin, scenario


def test_what_a_hook_stores_after_the_commit_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    strategy, plugin, scenario = after_commit()
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING, "fed_unlearn.avalanche"):
        warnings.simplefilter("always")
        strategy.train(scenario.forget_stream[0])
        strategy.train(scenario.train_stream[1])
    assert plugin.outcomes[0].committed
    texts = [str(item.message) for item in caught if "strategy.mem" in str(item.message)]
    assert len(texts) == 1 and "strategy.mem holds the inputs of 10 forgotten samples" in texts[0]
    assert caplog.messages.count(texts[0]) == 1
    assert plugin.leftovers == (texts[0].split(". ")[0],)


def test_what_a_hook_stores_after_the_commit_raises_if_strict() -> None:
    strategy, plugin, scenario = after_commit(strict=True)
    with pytest.raises(RequestFailedError, match=r"strategy\.mem holds the inputs of 10"):
        strategy.train(scenario.forget_stream[0])
    assert plugin.outcomes[0].committed
    strategy, plugin, scenario = after_commit(strict=True, leftovers="warn")
    strategy.train(scenario.forget_stream[0])
    assert len(plugin.leftovers) == 1


def test_hooks_of_the_strategy_see_a_forget_experience_without_samples() -> None:
    scenario = scenario_of("ci", {1: FIRST})
    strategy, plugin, _ = plugged(made(Mine))
    strategy.train(scenario.train_stream[0])
    strategy.mem = []
    strategy.train(scenario.forget_stream[0])
    assert plugin.outcomes[0].committed and strategy.mem == [] and plugin.leftovers == ()


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_avalanches_own_strategies_leave_nothing(kind: str) -> None:
    scenario = scenario_of("nc", {1: FIRST, 2: ForgetRequest.for_samples("0", count=3)})
    strategy, plugin, _ = plugged(EVERY_KIND[kind](), strict=True)
    for experience in interleave(scenario):
        strategy.train(experience)
        assert plugin.leftovers == ()
    assert [outcome.committed for outcome in plugin.outcomes] == [True, True]


def test_without_a_request_nothing_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftover_check, "find_leftovers", lambda *args, **kwargs: pytest.fail("searched"))
    strategy, _, _ = plugged(made(Naive, plugins=[MyReplay()]))
    strategy.train(scenario_of("ci", {}).train_stream)


def test_online_parts_are_not_searched_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    find = leftover_check.find_leftovers
    monkeypatch.setattr(
        leftover_check, "find_leftovers", lambda *given, **rest: searched.append(len(given[2])) or find(*given, **rest)
    )
    strategy, _, _ = plugged(made(Naive))
    scenario = scenario_of("ci", {1: FIRST})
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.forget_stream[0])
    for part in split_online_stream(scenario.train_stream[1:], 2, seed=1):
        strategy.train(part)
    assert len(searched) > 20 and set(searched) == {5}, "the request, the stream of three, and what came whole"


def test_another_choice_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="leftovers = 'ask' was given"):
        UnlearningPlugin(leftovers="ask")  # type: ignore[arg-type]
