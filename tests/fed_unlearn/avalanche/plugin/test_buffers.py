from collections import Counter
from typing import Any

import pytest
import torch
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from avalanche.training.storage_policy import (
    ClassBalancedBuffer,
    ExperienceBalancedBuffer,
    ParametricBuffer,
    ReservoirSamplingBuffer,
)
from watched_strategies import REPLAYING, REPLAYING_WITH_TASKS, made_benchmark, made_dataset, naive_with, replay_with

from fed_unlearn.avalanche.plugin.memory.buffers import buffered, purge_buffers
from fed_unlearn.errors import InvalidDataError

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]

CASES = [(name, kind) for name in REPLAYING for kind in ("nc", "ci")] + [(name, "nc") for name in REPLAYING_WITH_TASKS]


def ids_of(dataset: Any) -> list[str]:
    return list(dataset.sample_id) if len(dataset) else []


def held(strategy: Any) -> Counter[str]:
    """Ids kept, by where each strategy is known to keep them: not by the walk under test."""
    if hasattr(strategy, "dataset"):
        return Counter(ids_of(strategy.dataset))
    plugin = next(
        plugin for plugin in strategy.plugins if hasattr(plugin, "storage_policy") or hasattr(plugin, "buffers")
    )
    datasets = plugin.buffers if hasattr(plugin, "buffers") else [plugin.storage_policy.buffer]
    return Counter(name for dataset in datasets for name in ids_of(dataset))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_strategy_trains_on_without_what_was_forgotten(name: str, kind: str) -> None:
    strategy = {**REPLAYING, **REPLAYING_WITH_TASKS}[name]()
    first, second, third = made_benchmark(kind).train_stream
    strategy.train([first, second])
    before = held(strategy)
    # All of the first experience, so that groups become empty, and a half of the second.
    forgotten = {*ids_of(first.dataset), *ids_of(second.dataset)[::2]}
    gone = sum(before[sample] for sample in forgotten)
    assert gone > 0

    assert purge_buffers(strategy, forgotten) == gone
    kept = Counter({sample: count for sample, count in before.items() if sample not in forgotten})
    assert held(strategy) == kept
    assert {sample for dataset in buffered(strategy) for sample in ids_of(dataset)} == set(kept)

    strategy.model.trained_on.clear()
    for _ in range(3):
        strategy.train(third)
        assert not forgotten.intersection(held(strategy))
    seen = {str(index) for index in strategy.model.trained_on}
    assert not forgotten & seen
    assert seen & set(kept), "what was kept is replayed"
    assert purge_buffers(strategy, forgotten) == 0


@pytest.mark.parametrize("name", [*REPLAYING, *REPLAYING_WITH_TASKS])
def test_everything_may_be_forgotten(name: str) -> None:
    strategy = {**REPLAYING, **REPLAYING_WITH_TASKS}[name]()
    first, second, third = made_benchmark("nc").train_stream
    strategy.train([first, second])
    forgotten = {*ids_of(first.dataset), *ids_of(second.dataset)}
    purge_buffers(strategy, forgotten)
    assert buffered(strategy) == []
    strategy.model.trained_on.clear()
    strategy.train([third, third])
    assert (
        {str(index) for index in strategy.model.trained_on} == set(ids_of(third.dataset)) if name != "gdumb" else True
    )
    assert set(held(strategy)) <= set(ids_of(third.dataset))
    assert held(strategy)


@pytest.mark.parametrize("name", [*REPLAYING, *REPLAYING_WITH_TASKS])
def test_what_holds_none_of_the_samples_is_left_as_it_is(name: str) -> None:
    strategy = {**REPLAYING, **REPLAYING_WITH_TASKS}[name]()
    strategy.train(list(made_benchmark("nc").train_stream)[:2])
    before = buffered(strategy)
    parts = {id(plugin): dict(vars(plugin)) for plugin in strategy.plugins}
    assert purge_buffers(strategy, {"40", "59", "no such sample"}) == 0
    assert all(new is old for new, old in zip(buffered(strategy), before, strict=True))
    for plugin in strategy.plugins:
        assert all(getattr(plugin, key) is value for key, value in parts[id(plugin)].items())


def test_a_walk_over_a_loader_that_has_begun_does_not_go_on() -> None:
    strategy = REPLAYING["rar"]()
    first, second, _ = made_benchmark("nc").train_stream
    strategy.train([first, second])
    plugin = strategy.plugins[0]
    plugin.get_buffer_batch()  # of five: the others were drawn with it
    forgotten = {int(sample) for sample in ids_of(plugin.storage_policy.buffer)[:9]}
    purge_buffers(strategy, {str(index) for index in forgotten})
    drawn = {index for _ in range(6) for index in (plugin.get_buffer_batch()[0][:, 0, 0, 0] * 1000).round().tolist()}
    assert drawn
    assert not drawn & forgotten


def test_no_global_random_number_is_drawn() -> None:
    strategy = REPLAYING["agem"]()
    first, second, _ = made_benchmark("nc").train_stream
    strategy.train([first, second])
    state = torch.get_rng_state()
    purge_buffers(strategy, ids_of(first.dataset)[:5])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_reservoir_keeps_the_weights_of_its_samples() -> None:
    policy = ReservoirSamplingBuffer(20)
    strategy = replay_with(policy)
    policy.update_from_dataset(made_dataset())
    drawn = dict(zip(ids_of(policy.buffer), policy._buffer_weights.tolist(), strict=True))
    forgotten = set(list(drawn)[3:17:2])
    assert purge_buffers(strategy, forgotten) == 7
    kept = {sample: weight for sample, weight in drawn.items() if sample not in forgotten}
    assert dict(zip(ids_of(policy.buffer), policy._buffer_weights.tolist(), strict=True)) == kept
    # Sampling goes on over old and new weights: the 20 largest are kept, in order.
    policy.update_from_dataset(made_dataset(30, 100))
    after = dict(zip(ids_of(policy.buffer), policy._buffer_weights.tolist(), strict=True))
    assert list(after.values()) == sorted(after.values(), reverse=True)
    assert len(after) == 20
    for sample, weight in kept.items():
        assert after.get(sample, weight) == weight
        assert sample in after or weight <= min(after.values())


@pytest.mark.parametrize(
    "policy",
    [ClassBalancedBuffer(18), ParametricBuffer(18, groupby="class"), ExperienceBalancedBuffer(18)],
    ids=lambda policy: type(policy).__name__,
)
def test_the_share_of_a_group_without_samples_falls_to_the_others(policy: Any) -> None:
    strategy = replay_with(policy)
    first, second, third = made_benchmark("nc").train_stream
    strategy.train([first, second])
    purge_buffers(strategy, ids_of(first.dataset))
    by_experience = isinstance(policy, ExperienceBalancedBuffer)
    assert len(policy.buffer_groups) == (1 if by_experience else 2)
    policy.resize(strategy, 18)
    strategy.train(third)
    sizes = Counter(int(sample) % 6 // (2 if by_experience else 1) for sample in ids_of(policy.buffer))
    if by_experience:
        assert sizes == {1: 9, 2: 9}, "6 each if the first experience still had a share"
    else:
        assert set(sizes) == {2, 3, 4, 5}
        assert min(sizes.values()) >= 4, "3 each if the first two classes still had a share"
    policy.resize(strategy, 6)
    assert len(policy.buffer) == 6


class Keeper(SupervisedPlugin):
    """A plug-in of a user's that keeps data sets in ways of its own."""

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self.by_name = {"parts": [(dataset.subset([0, 1, 2, 3]), "label")]}
        self.whole = dataset
        self.again = dataset
        self.inner = ReplayPlugin(4, storage_policy=ReservoirSamplingBuffer(4))
        self.circle: list[Any] = [self]
        self.circle.append(self.circle)


def test_samples_are_found_wherever_a_plug_in_holds_them() -> None:
    plugin = Keeper(made_dataset(10))
    strategy = naive_with(plugin)
    plugin.inner.storage_policy.update_from_dataset(made_dataset(3, 2))
    assert sorted(map(len, buffered(strategy))) == [3, 4, 10]
    # "2" and "3" in the part, the whole (once, though two attributes hold it) and the reservoir.
    assert purge_buffers(strategy, ["2", "3"]) == 6
    part, label = plugin.by_name["parts"][0]
    assert (ids_of(part), label) == (["0", "1"], "label")
    assert ids_of(plugin.whole) == ["0", "1", "4", "5", "6", "7", "8", "9"]
    assert plugin.again is plugin.whole
    assert ids_of(plugin.inner.storage_policy.buffer) == ["4"]


def test_samples_without_ids_are_refused_and_nothing_is_changed() -> None:
    named, unnamed = made_dataset(6), made_dataset(6, named=False)
    plugin = Keeper(named)
    strategy = naive_with(plugin)
    strategy.kept = [unnamed]
    with pytest.raises(InvalidDataError, match="forget_benchmark"):
        purge_buffers(strategy, ["1"])
    assert plugin.whole is named


def test_the_benchmark_and_what_is_trained_on_just_now_are_left_alone() -> None:
    strategy = REPLAYING["replay"]()
    benchmark = made_benchmark("ci")
    first = benchmark.train_stream[0]
    strategy.train(first)
    strategy.experience, strategy.adapted_dataset = first, first.dataset
    purge_buffers(strategy, ids_of(first.dataset))
    assert strategy.adapted_dataset is first.dataset is benchmark.train_stream[0].dataset
    assert len(first.dataset) == 20
    assert buffered(strategy) == []
