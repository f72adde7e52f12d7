"""Training of several clients at once: their models are stacked, and ``torch.func`` maps one step over all of them.

A small model on a few samples costs less arithmetic than calls. Mapped, a step of many clients is as many calls as a
step of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from fed_unlearn.batch_plan import split_into_batches
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.logits import device_of
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.text import printable
from fed_unlearn.training.local import TrainingSettings, draw_share, flip_and_shift
from fed_unlearn.training.sgd import GradientDescent

Weights = dict[str, Tensor]

_PRINTED = 200


def train_together(
    model: nn.Module, samples: Sequence[SampleSet], settings: TrainingSettings, generators: Sequence[torch.Generator]
) -> tuple[list[Weights | None], PassCounter]:
    """Train one copy of a model for each client, as :func:`~fed_unlearn.training.train_locally` would.

    The batches are the same, and so are the results but for rounding.

    Parameters
    ----------
    model : nn.Module
        The model that all start from, on the device to train on. It stays as it is. :func:`check_model` accepts it.
    samples : sequence of SampleSet
        The samples of each client: the same number for all, at least 1.
    settings : TrainingSettings
        How each client trains.
    generators : sequence of torch.Generator
        Sources of the draws, as in ``train_locally``, one for each client.

    Returns
    -------
    tuple of (list of dict of str to Tensor or None) and PassCounter
        The state dict of each client's model, None where the loss of the last batch is not finite; and the passes of
        each client.
    """
    names, device = [name for name, value in model.named_parameters() if value.requires_grad], device_of(model)
    start = {name: model.get_parameter(name).detach() for name in names}
    stacked = {name: nn.Parameter(value.repeat(len(samples), *[1] * value.dim())) for name, value in start.items()}

    def loss_of(weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
        loss = functional.cross_entropy(functional_call(model, weights, (images,)).float(), labels)
        if settings.proximal_mu:
            moved = sum((weights[name] - start[name]).square().sum() for name in names)
            loss = loss + settings.proximal_mu / 2 * moved
        return loss

    step = vmap(grad_and_value(loss_of), randomness="error")
    descent = GradientDescent(
        stacked.values(),
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    model.train()
    chosen = [
        draw_share(len(own), settings.fraction, generator) for own, generator in zip(samples, generators, strict=True)
    ]
    for _ in range(settings.local_epochs):
        orders = [
            own[torch.randperm(len(own), generator=generator)]
            for own, generator in zip(chosen, generators, strict=True)
        ]
        for indices in zip(*(split_into_batches(order, settings.batch_size) for order in orders), strict=True):
            images, labels = _stacked_batch(samples, indices, generators, augment=settings.augment)
            images = model_inputs(model, images.to(device), pack=False)
            gradients, losses = step(
                {name: value.detach() for name, value in stacked.items()}, images, labels.to(device)
            )
            for name, value in stacked.items():
                value.grad = gradients[name]
            descent.step()
    state = {name: value.detach() for name, value in stacked.items()}
    finite = torch.isfinite(losses).tolist()
    shared = model.state_dict()
    trained = [
        {name: state[name][index] if name in state else value for name, value in shared.items()} if is_finite else None
        for index, is_finite in enumerate(finite)
    ]
    count = len(chosen[0]) * settings.local_epochs
    return trained, PassCounter(count, count)


def _stacked_batch(
    samples: Sequence[SampleSet], indices: Sequence[Tensor], generators: Sequence[torch.Generator], *, augment: bool
) -> tuple[Tensor, Tensor]:
    """The next batch of each client, stacked."""
    batches = [own.batch(chosen) for own, chosen in zip(samples, indices, strict=True)]
    images = [batch for batch, _ in batches]
    if augment:
        images = [flip_and_shift(batch, generator) for batch, generator in zip(images, generators, strict=True)]
    return torch.stack(images), torch.stack([labels for _, labels in batches])


def check_model(model: nn.Module, image_shape: tuple[int, ...]) -> None:
    """Try whether a model can be trained for several clients at once.

    Parameters
    ----------
    model : nn.Module
        The model. It stays as it is.
    image_shape : tuple of int
        Channels, height and width of the images.

    Raises
    ------
    InvalidModelError
        If it has BatchNorm or dropout, or does what ``torch.func.vmap`` cannot map. The message says what.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats:
            raise InvalidModelError(
                f"its layer {name} ({type(module).__name__}) keeps statistics of the batches that it has seen, which"
                " clients cannot share"
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise InvalidModelError(f"its layer {name} ({type(module).__name__}) draws at random")
    images = ImageSet(torch.zeros(2, *image_shape), torch.zeros(2, dtype=torch.int64))
    try:
        train_together(model, [images, images], TrainingSettings(), [torch.Generator(), torch.Generator()])
    except RuntimeError as error:
        raise InvalidModelError(f"torch.func cannot map it: {printable(str(error), _PRINTED)}") from error
