"""What the layers of a model read, cut to a bounded size, for any model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.audits.readings import Readings
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import batch_slices, device_of, evaluation_mode
from fed_unlearn.model_inputs import memory_layout, model_inputs
from fed_unlearn.model_wrappers import unwrapped

MOST_VALUES = 8192
"""Maximum number of values of one layer for one sample; maps of many channels are pooled further."""

MOST_LAYERS = 8

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layer_inputs(readings: Readings, samples: SampleSet, *, most_side: int) -> dict[str, Tensor]:
    """What the hidden layers with weights read, which is what the layers before them put out, in one pass.

    The first such layer is left out, since it reads the samples themselves, and so is the output layer, whose inputs
    are the penultimate features. A tensor that several layers read is taken once. Of a layer that is called several
    times, the first call counts. Layers with weights are the modules without children that have a parameter of two
    dimensions or more, such as convolutions and linear layers. At most ``MOST_LAYERS`` are kept, evenly spread.

    Parameters
    ----------
    readings : Readings
        The pass is added to its count.
    samples : SampleSet
    most_side : int
        Maximum side of a map after pooling. Larger maps are pooled by averaging.

    Returns
    -------
    dict of str to Tensor of shape (n, values), float32, on the CPU
        Inputs of each layer, by the layer's name, from the input to the output of the model.
    """
    model = unwrapped(readings.model)
    device, read = device_of(model), samples.evaluated()
    parts: dict[str, list[Tensor]] = {}
    kept: frozenset[str] | None = None
    readings.passes.add(forward=len(samples))
    with _noted(model, readings.layer) as calls, evaluation_mode(model), torch.inference_mode():
        for inputs, labels in read.batches(batch_slices(read, device)):
            calls.clear()
            model(model_inputs(model, inputs.to(device, memory_format=memory_layout(model))))
            found = _hidden(calls, len(labels))
            if kept is None:
                kept = frozenset(_spread(list(found)))
            for name in [name for name in found if name in kept]:
                module, values = found[name]
                parts.setdefault(name, []).append(_pooled(module, values, most_side).float().cpu().clone())
    whole = {name: torch.cat(values) for name, values in parts.items()}
    return {name: values for name, values in whole.items() if len(values) == len(samples)}


@contextmanager
def _noted(model: nn.Module, output_layer: nn.Module) -> Iterator[list[tuple[str, nn.Module, Tensor]]]:
    """Yield the calls of layers with weights: name, layer and what it reads; whoever reads it clears it."""
    calls: list[tuple[str, nn.Module, Tensor]] = []

    def note(name: str, module: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            calls.append((name, module, inputs[0]))

    handles = [
        module.register_forward_pre_hook(lambda module, inputs, name=name: note(name, module, inputs))
        for name, module in model.named_modules()
        if module is not output_layer and _has_weights(module)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _has_weights(module: nn.Module) -> bool:
    return not any(True for _ in module.children()) and any(part.ndim > 1 for part in module.parameters())


def _hidden(calls: list[tuple[str, nn.Module, Tensor]], count: int) -> dict[str, tuple[nn.Module, Tensor]]:
    """The first call of each layer but the first, with one row a sample, each tensor once."""
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    known = [calls[0][2]] if calls else []
    for name, module, values in calls[1:]:
        fits = values.is_floating_point() and values.ndim > 1 and len(values) == count
        if fits and name not in found and not any(values is one for one in known):
            found[name] = (module, values)
        known.append(values)
    return found


def _spread(names: list[str]) -> list[str]:
    if len(names) <= MOST_LAYERS:
        return names
    last = len(names) - 1
    return [names[round(step * last / (MOST_LAYERS - 1))] for step in range(MOST_LAYERS)]


def _pooled(module: nn.Module, values: Tensor, most_side: int) -> Tensor:
    if values.ndim == 2:
        return values
    if not isinstance(module, _CONVOLUTIONS):
        values = values.flatten(1, -2).transpose(1, 2)  # positions come before the features
    channels, places = values.shape[1], values.shape[2:]
    side = most_side
    while side > 1 and channels * side ** len(places) > MOST_VALUES:
        side //= 2
    sides = [min(side, place) for place in places]
    if len(places) == 1:
        return functional.adaptive_avg_pool1d(values, sides).flatten(1)
    if len(places) == 2:
        return functional.adaptive_avg_pool2d(values, (sides[0], sides[1])).flatten(1)
    return functional.adaptive_avg_pool3d(values, (sides[0], sides[1], sides[2])).flatten(1)
