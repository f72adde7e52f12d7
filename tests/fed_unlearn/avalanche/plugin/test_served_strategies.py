"""Strategies that keep samples or outputs of them, on real digits, with requests in the middle and training after them."""

from typing import Any

import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.supervised import ER_AML
from avalanche.training.supervised.joint_training import JointTraining
from digit_strategies import SERVED, digit_benchmark, digit_network, on_digits, plain_digits
from digit_stream import digits
from reachable import accuracy, reachable
from torch import Tensor

from fed_unlearn.avalanche import UnlearningPlugin
from fed_unlearn.avalanche.plugin.memory.buffers import buffered, purge_buffers
from fed_unlearn.avalanche.plugin.regularisers import keep_consistent
from fed_unlearn.avalanche.streams import forget_benchmark
from fed_unlearn.avalanche.streams.samples import has_sample_ids, labels_of, sample_ids, with_sample_ids, without
from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]

TRAIN, TEST = digits()
BY_CLASS = {"der", "er-ace", "gdumb", "replay-growing"}
"""Strategies that learn classes one after another: the others lose class 0 before the request."""


def named(benchmark: Any) -> Any:
    return forget_benchmark(benchmark, [ForgetRequest.for_class(0)])


def requests_of(benchmark: Any) -> dict[int, list[ForgetRequest]]:
    """Class 0 and three samples of class 1, after two experiences."""
    first = named(benchmark).train_stream[0].dataset
    ones = [name for name, label in zip(sample_ids(first), labels_of(first), strict=True) if label == 1][:3]
    return {2: [ForgetRequest.for_class(0), ForgetRequest.for_samples("0", ones)]}


def of_ids(ids: Any) -> ImageSet:
    return TRAIN.subset(torch.tensor([row for row, name in enumerate(TRAIN.ids) if name in ids]))


@pytest.mark.parametrize(
    ("name", "kind"), [(name, "ni") for name in SERVED] + [(name, "nc") for name in sorted(BY_CLASS)]
)
def test_a_strategy_forgets_for_good_and_keeps_no_sample(name: str, kind: str) -> None:
    benchmark = digit_benchmark(kind)
    scenario = forget_benchmark(benchmark, requests_of(benchmark))
    strategy, plugin = SERVED[name](), UnlearningPlugin(retain="seen", reopen_relapsed=name == "lfl")
    strategy.plugins.append(plugin)
    zeros, others = TRAIN.of_classes([0]), TEST.of_classes([1, 2, 3, 4, 5])
    strategy.train(list(scenario.train_stream)[:2])
    assert accuracy(strategy.model, zeros) == 1.0
    for experience in [*scenario.forget_stream, *list(scenario.train_stream)[2:]]:
        strategy.train(experience)
        assert accuracy(strategy.model, zeros) == 0.0
        # LFL freezes the output layer: its features alone forget, and less of what was never seen.
        assert accuracy(strategy.model, TEST.of_classes([0])) <= (0.4 if name == "lfl" else 0.1)
        assert reachable(strategy, of_ids(plugin.forgotten)) == []
    assert [outcome.committed for outcome in plugin.outcomes[:2]] == [True, True]
    assert len(plugin.forgotten) == 20 + 3, "also what comes after the request"
    assert strategy.clock.train_exp_counter == 3
    assert accuracy(strategy.model, others) >= 0.85


def test_the_search_finds_what_a_strategy_holds() -> None:
    strategy = SERVED["der"]()
    strategy.train(list(named(digit_benchmark("nc")).train_stream)[:2])
    assert reachable(strategy, TRAIN.of_classes([5])) == []
    assert any("buffer_groups.0" in path for path in reachable(strategy, TRAIN.of_classes([0])))
    strategy.kept = {"batch": [TRAIN.images[-3:]]}
    assert reachable(strategy, TRAIN.of_classes([5])) == ["kept.batch.0"]


# ---------------------------------------------------------------------- DER


def stored(strategy: Any) -> dict[str, Tensor]:
    """The stored logits of each sample in DER's buffer, as batches bring them."""
    return {
        name: dataset[place][-1]
        for dataset in (group.buffer for group in strategy.storage_policy.buffer_groups.values())
        for place, name in enumerate(sample_ids(dataset))
    }


def test_der_stores_the_outputs_of_the_unlearned_model() -> None:
    strategy = SERVED["der"]()
    experiences = list(named(digit_benchmark("nc")).train_stream)
    strategy.train(experiences[:2])
    before, weights = stored(strategy), [group._buffer_weights for group in _reservoirs(strategy)]
    with torch.no_grad():
        strategy.model.classifier.bias[0] -= 50.0
    drawn = torch.get_rng_state()
    keep_consistent(strategy, [], experiences[:2], [40, 40])
    after = stored(strategy)
    assert list(after) == list(before)
    assert len(after) == 36
    assert torch.equal(torch.get_rng_state(), drawn)
    assert strategy.model.training
    strategy.model.eval()
    for name, row in after.items():
        expected = strategy.model(of_ids([name]).images)[0]
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-5)
        assert row[0] < before[name][0] - 30
    assert all(
        torch.equal(group._buffer_weights, kept) for group, kept in zip(_reservoirs(strategy), weights, strict=True)
    )
    # A later experience draws from old and new samples together.
    strategy.train(experiences[2])
    assert len(stored(strategy)) == 36


def _reservoirs(strategy: Any) -> list[Any]:
    return list(strategy.storage_policy.buffer_groups.values())


def test_a_class_that_der_has_lost_leaves_its_share_to_the_others() -> None:
    strategy = SERVED["der"]()
    first, second, third = named(digit_benchmark("nc")).train_stream
    strategy.train([first, second])
    purge_buffers(strategy, sample_ids(first.dataset))
    assert strategy.storage_policy.seen_classes == {2, 3}
    strategy.train(third)
    assert [len(group.buffer) for group in _reservoirs(strategy)] == [9, 9, 9, 9]


def test_der_stores_nothing_of_an_experience_that_is_skipped() -> None:
    strategy, plugin = SERVED["der"](), UnlearningPlugin(retain="seen")
    strategy.plugins.append(plugin)
    first, second, third = named(digit_benchmark("nc")).train_stream
    strategy.train(first)
    held = list(stored(strategy))
    plugin._history.forgotten = frozenset(sample_ids(second.dataset))
    strategy.train(second)
    assert list(stored(strategy)) == held, "as before, and with the same shares"
    strategy.train(third)
    assert len(stored(strategy)) == 36


# ---------------------------------------------------------------------- ER-AML, whose loaders wait for whole batches


def test_er_aml_trains_on_with_fewer_samples_of_a_class_than_a_batch() -> None:
    strategy, plugin = SERVED["er-aml"](), UnlearningPlugin()
    strategy.plugins.append(plugin)
    first, second, third = named(digit_benchmark("nc")).train_stream
    strategy.train([first, second])
    kept = next(group.buffer for group in _reservoirs(strategy) if set(labels_of(group.buffer)) == {1})
    plugin._history.forgotten = frozenset(sample_ids(kept)[1:])
    before = strategy.model.classifier.weight.detach().clone()
    strategy.train(third)
    assert isinstance(strategy, ER_AML)
    assert strategy.clock.train_exp_counter == 3
    sizes = {labels_of(group.buffer)[0]: len(group.buffer) for group in _reservoirs(strategy)}
    assert sizes[1] == 1
    assert not torch.equal(strategy.model.classifier.weight, before)


# ---------------------------------------------------------------------- JointTraining


def test_joint_training_holds_its_experiences_without_what_was_forgotten() -> None:
    scenario = named(digit_benchmark("nc"))
    strategy = on_digits(JointTraining, model=digit_network())
    strategy.train(scenario.train_stream)
    zeros = of_ids(scenario.forget_stream[0].sample_ids)
    assert reachable(strategy, zeros)
    purge_buffers(strategy, zeros.ids)
    assert all(isinstance(dataset, AvalancheDataset) for dataset in buffered(strategy))
    left = [sample_ids(experience.dataset) for experience in strategy._experiences]
    assert left == [sample_ids(without(item.dataset, zeros.ids)) for item in scenario.train_stream]
    assert len(scenario.train_stream[0].dataset) == 40, "the benchmark is as it was"
    strategy.eval(scenario.test_stream)


# ---------------------------------------------------------------------- samples that were stored before they had ids


@pytest.mark.parametrize("name", ["er-ace", "er-aml"])
def test_samples_that_were_stored_without_ids_are_found_by_their_place(name: str) -> None:
    """ER-ACE and ER-AML store an experience before a plug-in can give its samples ids."""
    benchmark = digit_benchmark("nc", plain_digits())
    known = [experience.dataset for experience in named(benchmark).train_stream]
    strategy = SERVED[name]()
    strategy.train(list(benchmark.train_stream)[:2])
    zeros = set(sample_ids(known[0])[:20])
    assert not has_sample_ids(strategy.storage_policy.buffer)
    held = {label: len(group.buffer) for label, group in strategy.storage_policy.buffer_groups.items()}
    assert held == {0: 9, 1: 9, 2: 9, 3: 9}
    with pytest.raises(InvalidDataError, match=rf"^{type(strategy).__name__}: 9 samples without ids.*forget_benchmark"):
        purge_buffers(strategy, zeros, known[1:])
    assert len(strategy.storage_policy.buffer) == 36, "nothing was changed"
    assert purge_buffers(strategy, zeros, known) == 9
    assert strategy.storage_policy.seen_classes == {1, 2, 3}
    for label, group in strategy.storage_policy.buffer_groups.items():
        assert set(labels_of(group.buffer)) == {label}
        for place, sample in enumerate(sample_ids(group.buffer)):
            assert torch.equal(group.buffer[place][0], of_ids([sample]).images[0])
    # The next experience is stored without ids beside those that have some.
    strategy.train(benchmark.train_stream[2])
    assert not any(has_sample_ids(group.buffer) for group in _reservoirs(strategy)[-2:])
    fours = set(sample_ids(known[2])[:20])
    assert purge_buffers(strategy, zeros | fours, known) > 0
    assert reachable(strategy, of_ids(zeros | fours)) == []


def test_a_place_with_several_ids_tells_nothing() -> None:
    benchmark = digit_benchmark("nc", plain_digits())
    known = [experience.dataset for experience in named(benchmark).train_stream]
    again = with_sample_ids(benchmark.train_stream[0].dataset, [f"again:{row}" for row in range(40)])
    strategy = SERVED["er-ace"]()
    strategy.train(benchmark.train_stream[0])
    with pytest.raises(InvalidDataError, match="without ids"):
        purge_buffers(strategy, ["0"], [*known, again])


@pytest.mark.parametrize("name", ["er-ace", "er-aml"])
def test_requests_are_served_on_a_benchmark_without_ids(name: str) -> None:
    """Class 0 is in every experience; one request comes at a boundary within a train call, one by itself."""
    benchmark = digit_benchmark("ni", plain_digits())
    strategy, plugin = SERVED[name](), UnlearningPlugin(retain="seen")
    strategy.plugins.append(plugin)
    plugin.submit(ForgetRequest.for_class(0), after=2)
    strategy.train(benchmark.train_stream)
    zeros, ones = TRAIN.of_classes([0]), TRAIN.of_classes([1])
    assert [outcome.committed for outcome in plugin.outcomes] == [True]
    assert reachable(strategy, zeros) == []
    assert accuracy(strategy.model, zeros) == 0.0
    assert reachable(strategy, ones)
    plugin.unlearn(strategy, ForgetRequest.for_class(1))
    assert [outcome.committed for outcome in plugin.outcomes] == [True, True]
    assert reachable(strategy, concatenate(zeros, ones)) == []


def test_a_request_is_served_after_joint_training() -> None:
    benchmark = digit_benchmark("nc", plain_digits())
    strategy, plugin = on_digits(JointTraining), UnlearningPlugin(retain="seen")
    strategy.plugins.append(plugin)
    strategy.train(benchmark.train_stream)
    zeros = TRAIN.of_classes([0])
    assert accuracy(strategy.model, zeros) > 0.9
    assert plugin.unlearn(strategy, ForgetRequest.for_class(0)).committed
    assert accuracy(strategy.model, zeros) == 0.0
    assert reachable(strategy, zeros) == []
    assert accuracy(strategy.model, TEST.of_classes([1, 2, 3, 4, 5])) >= 0.85
