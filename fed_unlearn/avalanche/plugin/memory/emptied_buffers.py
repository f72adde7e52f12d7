"""What buffers, plug-ins and strategies need after they have lost samples, so that they train on."""

from __future__ import annotations

from typing import Any

from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader
from avalanche.training.storage_policy import ClassBalancedBuffer, ExperienceBalancedBuffer, ParametricBuffer
from avalanche.training.supervised.der import ClassBalancedBufferWithLogits
from avalanche.training.utils import cycle
from torch.utils.data import DataLoader


def drop_empty_groups(buffer: Any) -> None:
    """Drop groups without samples from buffers of a known kind.

    Selection by features cannot sort an empty group, and an empty group would keep its share of the buffer's size.
    """
    left = {key: group for key, group in buffer.buffer_groups.items() if len(group.buffer) > 0}
    if len(left) == len(buffer.buffer_groups):
        return
    if isinstance(buffer, ExperienceBalancedBuffer):
        buffer._num_exps = len(left)  # keys are 0 to len(left) - 1, and the next experience gets the key len(left)
        left = dict(enumerate(left.values()))
    elif isinstance(buffer, ClassBalancedBuffer | ClassBalancedBufferWithLogits):
        buffer.seen_classes.intersection_update(left)
    elif isinstance(buffer, ParametricBuffer):
        buffer.seen_groups.intersection_update(left)
    else:
        return
    buffer.buffer_groups = left


def restart_reference_batches(plugin: Any) -> None:
    """Rebuild AGEM's loader from the samples that are left. It cannot draw from an empty experience."""
    plugin.buffers[:] = [dataset for dataset in plugin.buffers if len(dataset) > 0]
    loader, plugin.buffer_dataloader, plugin.buffer_dliter = plugin.buffer_dataloader, None, iter(())
    if plugin.buffers and loader is not None:
        plugin.buffer_dataloader = GroupBalancedInfiniteDataLoader(
            plugin.buffers, batch_size=plugin.sample_size // len(plugin.buffers), **loader.loader_kwargs
        )
        plugin.buffer_dliter = iter(plugin.buffer_dataloader)


def mend_pair_loaders(strategy: Any) -> None:
    """Rebuild ER-AML's loaders, one for each class, if a class has fewer samples left than a batch.

    ER-AML drops incomplete batches, so that such a loader would be waited for without end.
    """
    groups = [group.buffer for group in strategy.storage_policy.buffer_groups.values() if len(group.buffer) > 0]
    size, loaders = strategy.train_mb_size, vars(strategy).get("pos_neg_loaders")
    if loaders is None or (len(loaders) == len(groups) and all(len(group) >= size for group in groups)):
        return
    strategy.pos_neg_loaders = [
        cycle(DataLoader(group, batch_size=min(size, len(group)), shuffle=True, drop_last=True)) for group in groups
    ]
