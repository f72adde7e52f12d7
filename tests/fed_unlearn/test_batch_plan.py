from __future__ import annotations

import copy
import random

import odd_models
import pytest
import torch
from torch import nn
from torch.nn import functional

from fed_unlearn.batch_plan import batch_count, split_into_batches
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods.parts.batches import cycle
from fed_unlearn.training import TrainingSettings, train_locally

SHAPE = (1, 8, 8)


def made(count: int) -> ImageSet:
    generator = torch.Generator().manual_seed(count)
    return ImageSet(torch.rand(count, *SHAPE, generator=generator), torch.arange(count) % 10)


def normalising() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return odd_models.normalising(10, SHAPE)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (0, 32, []),
        (1, 32, [1]),
        (32, 32, [32]),
        (33, 32, [33]),
        (34, 32, [32, 2]),
        (65, 32, [32, 33]),
        (3, 2, [3]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_a_last_batch_of_one_is_joined_to_the_one_before(count: int, batch_size: int, sizes: list[int]) -> None:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    batches = split_into_batches(order, batch_size)
    assert [len(batch) for batch in batches if len(batch)] == sizes
    assert batch_count(count, batch_size) == len(sizes)
    assert torch.equal(torch.cat(batches), order)


def test_the_count_is_that_of_the_batches_for_drawn_sizes() -> None:
    generator = random.Random(0)
    for _ in range(300):
        count, batch_size = generator.randint(1, 200), generator.randint(1, 50)
        batches = split_into_batches(torch.arange(count), batch_size)
        assert len(batches) == batch_count(count, batch_size)
        assert batch_size == 1 or min(map(len, batches)) > 1 or count == 1


@pytest.mark.parametrize("count", [33, 65])
def test_training_equals_steps_taken_by_hand_on_the_joined_batches(count: int) -> None:
    samples, settings = made(count), TrainingSettings(local_epochs=2, learning_rate=0.1, weight_decay=0.01)
    trained, by_hand = normalising(), normalising()
    passes = train_locally(trained, samples, settings, torch.Generator().manual_seed(7))
    assert (passes.forward, passes.backward) == (2 * count, 2 * count)
    generator = torch.Generator().manual_seed(7)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(2):
        order = torch.randperm(count, generator=generator)
        for start, stop in [(0, 33)] if count == 33 else [(0, 32), (32, 65)]:
            images, labels = samples.batch(order[start:stop])
            optimizer.zero_grad()
            functional.cross_entropy(by_hand(images), labels).backward()
            optimizer.step()
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value)


def test_methods_read_every_sample_once_a_pass_and_never_one_alone() -> None:
    batches = cycle(made(65), 32, torch.Generator().manual_seed(0))
    for _ in range(3):
        first, second = next(batches)[0], next(batches)[0]
        assert sorted([*first.tolist(), *second.tolist()]) == list(range(65)) and len(second) == 33


def test_the_only_sample_of_a_client_trains_with_the_statistics_as_they_are() -> None:
    model = normalising()
    before = copy.deepcopy(model.state_dict())
    passes = train_locally(model, made(1), TrainingSettings(local_epochs=3), torch.Generator().manual_seed(0))
    assert passes.backward == 3 and all(module.training for module in model.modules())
    after = model.state_dict()
    same = {name for name in after if torch.equal(after[name], before[name])}
    assert same == {"2.running_mean", "2.running_var", "2.num_batches_tracked"}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_maps_of_one_sample_have_a_variance_and_train_as_ever() -> None:
    convolution = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 10))
    expected = copy.deepcopy(convolution[:2])
    samples = made(1)
    train_locally(convolution, samples, TrainingSettings(learning_rate=1e-9), torch.Generator())
    expected(samples.batch()[0])
    torch.testing.assert_close(convolution[1].running_mean, expected[1].running_mean)
    torch.testing.assert_close(convolution[1].running_var, expected[1].running_var)


def test_batches_of_one_sample_each_are_refused_where_a_layer_normalises_over_them() -> None:
    reason = r"training: layer '2' \(BatchNorm1d\) normalises over the batch, and a batch has one sample"
    with pytest.raises(InvalidModelError, match=reason):
        train_locally(normalising(), made(5), TrainingSettings(batch_size=1), torch.Generator())
    model = odd_models.network(10, SHAPE, nn.BatchNorm1d(48, track_running_stats=False))
    with pytest.raises(InvalidModelError, match=reason):
        train_locally(model, made(1), TrainingSettings(), torch.Generator())
    train_locally(odd_models.network(10, SHAPE), made(5), TrainingSettings(batch_size=1), torch.Generator())
    frozen = TrainingSettings(batch_size=1, batch_norm="frozen")
    train_locally(normalising(), made(5), frozen, torch.Generator())
