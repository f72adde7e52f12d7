"""The model that a client works with: what of it travels, what does not, and what the client itself makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from flwr.app import Context
from torch import Tensor, nn

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.model_copies import copied
from fed_unlearn.seeding import derive_seed, isolated_random
from fed_unlearn.task import Task


@dataclass(frozen=True)
class WorkingModel:
    """A task's model, which all messages of a process share.

    Attributes
    ----------
    model : nn.Module
        The model as the task builds it, on the task's device. Its weights are those of the last message.
    rest : dict of str to Tensor
        The first values of what does not travel, by name in the model's state. Empty where all of it travels.
    """

    model: nn.Module
    rest: Mapping[str, Tensor]

    @classmethod
    def build(cls, task: Task, context: Context, device: torch.device) -> WorkingModel:
        """Build a task's model. What does not travel begins with the same values at every client.

        Raises
        ------
        FedUnlearnError
            If the model is one of Opacus, or the task names no array that travels.
        """
        with isolated_random(derive_seed("what does not travel")):
            model = task.build_model(context)
        _refuse_opacus(model)
        model = model.to(device)
        sent = sent_arrays(task, model)
        rest = {name: value for name, value in model.state_dict().items() if name not in sent}
        return cls(model, {name: value.detach().clone() for name, value in rest.items()})

    def load(self, task: Task, arrays: Mapping[str, Tensor]) -> nn.Module:
        """Give the model the arrays of a message, and what does not travel its first values."""
        if self.rest:
            self.model.load_state_dict(dict(self.rest), strict=False)
        task.load_arrays(self.model, arrays)
        return self.model

    def is_whole_in(self, personal: nn.Module) -> bool:
        """Whether what does not travel is in a personal model as in this one, so that this one is a model by itself."""
        state = personal.state_dict()
        return all(name in state and _same(value, state[name]) for name, value in self.rest.items())


def sent_arrays(task: Task, model: nn.Module) -> Mapping[str, Tensor]:
    """The arrays of a model that travel.

    Raises
    ------
    FedUnlearnError
        If the task gives none, or something else.
    """
    arrays = task.arrays_of(model)
    if not isinstance(arrays, Mapping) or not arrays or not all(isinstance(item, Tensor) for item in arrays.values()):
        raise FedUnlearnError(
            f"{type(task).__name__}.arrays_of gave a {type(arrays).__name__}"
            f"{' without arrays' if isinstance(arrays, Mapping) and not arrays else ''}; expected tensors by name, as"
            " model.state_dict() or some of it"
        )
    return arrays


def personal_model(task: Task, model: nn.Module, context: Context) -> nn.Module:
    """What the client uses in place of a model, which stays as it is; the model itself where that is the same.

    Raises
    ------
    FedUnlearnError
        If the task gives something else than a module.
    """
    if not task.has_personal:
        return model
    personal = task.personal(copied(model), context)
    if not isinstance(personal, nn.Module):
        given = type(personal).__name__
        raise FedUnlearnError(f"{type(task).__name__}.personal gave a {given}; expected a torch.nn.Module")
    first, second = model.state_dict(), personal.state_dict()
    is_same = first.keys() == second.keys() and all(_same(value, second[name]) for name, value in first.items())
    return model if is_same and type(personal) is type(model) else personal


@contextmanager
def frozen_rest(task: Task, model: nn.Module) -> Iterator[None]:
    """Freeze the parameters that do not travel, since a step on them would be lost, for the time of a ``with`` block.

    They stay free where the task keeps them, and where none of the arrays that travel is a parameter by its name.
    """
    sent = sent_arrays(task, model)
    named = dict(model.named_parameters())
    rest = [value for name, value in named.items() if name not in sent and value.requires_grad]
    if task.keeps_personal or not named.keys() & sent.keys():
        rest = []
    for parameter in rest:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in rest:
            parameter.requires_grad_(True)


def _same(first: Tensor, second: Tensor) -> bool:
    return (
        first.shape == second.shape and first.dtype == second.dtype and bool((first == second.to(first.device)).all())
    )


def _refuse_opacus(model: nn.Module) -> None:
    for module in model.modules():
        kinds = type(module).__mro__
        if any(kind.__module__.partition(".")[0] == "opacus" and "GradSampleModule" in kind.__name__ for kind in kinds):
            raise FedUnlearnError(
                f"the model is a {type(module).__name__} of Opacus, and unlearning methods take steps without DP-SGD,"
                " after which its guarantee does not hold: give the plain model, and make it private in Task.train"
            )
