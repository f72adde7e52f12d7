"""What the layers of a model read of samples: one row of features for each sample and layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import batch_slices, device_of
from fed_unlearn.model_inputs import model_inputs

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
Rows = dict[str, Tensor]


def plain_layers(model: nn.Module) -> dict[str, Layer]:
    """Linear layers and convolutions without groups whose own weight may be trained, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and getattr(module, "groups", 1) == 1
        and (weight := module._parameters.get("weight")) is not None
        and weight.requires_grad
    }


def input_means(model: nn.Module, samples: SampleSet, class_count: int) -> Rows:
    """Mean of what each layer reads, by class. They are sums over samples: sums of several holders add.

    Parameters
    ----------
    model : nn.Module
        The model, in evaluation mode.
    samples : SampleSet
        Samples to read, at least one.
    class_count : int

    Returns
    -------
    dict of str to Tensor of shape (present classes, features), float64, on the CPU
        Means by layer, one row for each class that has samples. Layers that are not called, or not once with a row a
        sample, are left out.
    """
    counts = torch.bincount(samples.labels.cpu(), minlength=class_count)
    sums: Rows = {}
    for labels, rows in _rows(model, samples):
        shares = functional.one_hot(labels, class_count).double()
        for name, values in rows.items():
            found = shares.T @ values
            sums[name] = sums[name] + found if name in sums else found
    present = counts > 0
    return {name: total[present] / counts[present, None] for name, total in sums.items()}


def input_rows(model: nn.Module, samples: SampleSet) -> Rows:
    """What each layer reads of each sample, as float64 of shape (n, features), by layer. Parameters as above."""
    found: dict[str, list[Tensor]] = {}
    for _, rows in _rows(model, samples):
        for name, values in rows.items():
            found.setdefault(name, []).append(values)
    return {name: torch.cat(parts) for name, parts in found.items()}


@torch.no_grad()
def _rows(model: nn.Module, samples: SampleSet) -> Iterator[tuple[Tensor, Rows]]:
    """Labels and rows of one batch after another."""
    device, read = device_of(model), samples.evaluated()
    for inputs, labels in read.batches(batch_slices(read, device)):
        with _recorded(plain_layers(model)) as calls:
            model(model_inputs(model, inputs.to(device)))
        whole = {name: given[0] for name, given in calls.items() if len(given) == 1 and len(given[0]) == len(labels)}
        yield labels.cpu(), whole


@contextmanager
def _recorded(layers: dict[str, Layer]) -> Iterator[dict[str, list[Tensor]]]:
    calls: dict[str, list[Tensor]] = {}

    def note(name: str, layer: nn.Module, inputs: Tensor) -> None:
        calls.setdefault(name, []).append(_averaged(layer, inputs).cpu().double())

    handles = [
        layer.register_forward_pre_hook(lambda module, given, name=name: note(name, module, given[0]))
        for name, layer in layers.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _averaged(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs averaged over positions, which stand behind the channels of a convolution, else before the features."""
    if isinstance(layer, nn.Linear):
        return inputs.flatten(1, -2).mean(1) if inputs.ndim > 2 else inputs
    return inputs.flatten(2).mean(2)
