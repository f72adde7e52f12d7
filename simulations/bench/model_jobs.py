"""Models that a comparison needs many of, each described completely, so that it can be made anywhere and kept."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fed_unlearn.batch_plan import batch_count
from fed_unlearn.data.images import ImageSet
from fed_unlearn.holder import Guard, guard_retained
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import Method
from fed_unlearn.methods.parts.labels import nearest_allowed
from fed_unlearn.models import build_model
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.seeding import isolated_random
from fed_unlearn.simulations.run.installed import installed_versions
from fed_unlearn.training import TrainingSettings, train_locally

VERSION = 1
"""Version of the jobs. It is raised where models are made in another way, so that kept ones are made anew."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """How a model is built.

    Attributes
    ----------
    name : str
        Name of the network, as in :func:`fed_unlearn.models.build_model`; so are the other fields.
    class_count : int
    image_shape : (int, int, int)
    parameters : mapping of str to object
        Parameters of the network, values that JSON can hold.
    """

    name: str
    class_count: int
    image_shape: tuple[int, int, int]
    parameters: Mapping[str, object] = field(default_factory=dict)

    def build(self, seed: int = 0) -> nn.Module:
        """The model with fresh weights."""
        return build_model(
            self.name,
            class_count=self.class_count,
            image_shape=self.image_shape,
            seed=seed,
            parameters=self.parameters,
        )


@dataclass(frozen=True, kw_only=True)
class Material:
    """The samples that models are made of.

    Attributes
    ----------
    train : ImageSet
        Training samples; a job names some of them by position.
    unseen : ImageSet or None
        Samples that no model is trained on, for methods that imitate a model's outputs on such.
    device : torch.device
        Device on which models are made.
    """

    train: ImageSet
    unseen: ImageSet | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def fingerprint(self) -> str:
        """SHA-256 over all samples with labels and ids, in hexadecimal."""
        digest = hashlib.sha256()
        for part in (self.train, self.unseen):
            if part is None:
                digest.update(b"none")
                continue
            for tensor in (part.images, part.labels):
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
            digest.update("\x1f".join(part.ids).encode())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Made:
    """A model that a job made.

    Attributes
    ----------
    model : nn.Module
    passes : PassCounter
        Samples that passed through models to make it from what the job begins with.
    steps : int
        Number of optimizer steps.
    converged : bool or None
        Whether a method reports that it reached its aim; None for a model that was trained.
    """

    model: nn.Module
    passes: PassCounter
    steps: int = 0
    converged: bool | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelJob(ABC):
    """One model to make. All fields together determine it.

    Attributes
    ----------
    network : Network
    """

    network: Network

    @abstractmethod
    def make(self, material: Material, find: Callable[[ModelJob], nn.Module]) -> Made:
        """Make the model.

        Parameters
        ----------
        material : Material
        find : callable
            Gives the model of another job, in evaluation mode, that this job begins with.
        """

    def described(self) -> dict[str, object]:
        """The kind of job and all its fields, in values that JSON can hold; positions by their SHA-256."""
        fields = {item.name: _described(getattr(self, item.name)) for item in dataclasses.fields(self)}
        return {"kind": type(self).__name__, **fields}

    def digest(self, fingerprint: str, device: str) -> str:
        """SHA-256, in hexadecimal, of all that determines the model, the version of torch included.

        Parameters
        ----------
        fingerprint : str
            Fingerprint of the material.
        device : str
            Type of the device: models of different ones differ in their last digits.
        """
        body = {"version": VERSION, "torch": torch.__version__, "device": device, "data": fingerprint}
        text = json.dumps({**body, "job": self.described()}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingJob(ModelJob):
    """A model that is trained from scratch on some of the training samples.

    Attributes
    ----------
    positions : Tensor of shape (n,), int64
        Positions of the samples that the model is trained on.
    training : TrainingSettings
    weights_seed : int
        Seed of the initial weights.
    order_seed : int
        Seed of the order of samples, of augmentation and of dropout, in [0, 2**63).
    """

    positions: Tensor
    training: TrainingSettings
    weights_seed: int
    order_seed: int

    def make(self, material: Material, find: Callable[[ModelJob], nn.Module]) -> Made:
        """Build the model and train it."""
        model = self.network.build(self.weights_seed).to(material.device)
        samples = material.train.subset(self.positions)
        with isolated_random(self.order_seed):
            passes = train_locally(model, samples, self.training, torch.Generator().manual_seed(self.order_seed))
        return Made(model=model.eval(), passes=passes, steps=_steps(len(samples), self.training))


@dataclass(frozen=True, kw_only=True)
class GuardedRepair:
    """Guarded repair of a model.

    Attributes
    ----------
    training : TrainingSettings
    weight : int
        Number of copies of each forget sample among the samples.
    margin : float
        How far the old class is kept below the others, in logits.
    """

    training: TrainingSettings
    weight: int
    margin: float


@dataclass(frozen=True, kw_only=True, eq=False)
class UnlearningJob(ModelJob):
    """A trained model that is made to forget: by a method, by guarded repair, or by both in this order.

    Attributes
    ----------
    trained : TrainingJob
        Job of the model that is made to forget.
    forget, retain : Tensor of shape (n,) and (m,), int64
        Positions of the samples to forget, and of those to keep.
    method : Method or None
    gives_retain : bool
        Whether the method gets the samples to keep.
    repair : GuardedRepair or None
    seed : int
        Seed of what the method and repair draw, in [0, 2**63).
    """

    trained: TrainingJob
    forget: Tensor
    retain: Tensor
    method: Method | None
    gives_retain: bool
    repair: GuardedRepair | None
    seed: int

    def described(self) -> dict[str, object]:
        """As of every job, with whose method it is and the version of this package, which decide how it forgets."""
        kind = type(self.method)
        code = [f"{kind.__module__}.{kind.__qualname__}", installed_versions().get("fed-unlearn")]
        return {**super().described(), "code": code}

    def make(self, material: Material, find: Callable[[ModelJob], nn.Module]) -> Made:
        """Make a copy of the trained model forget."""
        model, passes, steps, converged, taught = find(self.trained), PassCounter(), 0, None, None
        forget, retain = material.train.subset(self.forget), material.train.subset(self.retain)
        with isolated_random(self.seed):
            generator = torch.Generator().manual_seed(self.seed)
            if self.method is not None:
                given = retain if self.gives_retain else None
                outcome = self.method.unlearn(model, forget, given, generator=generator, unseen=material.unseen)
                model, steps, converged, taught = outcome.model, outcome.steps, outcome.converged, outcome.guard_labels
                passes.add(outcome.forward_passes, outcome.backward_passes)
            if self.repair is not None:
                if taught is None:
                    taught = nearest_allowed(predict_logits(model, forget), forget.labels, ())
                    passes.add(forward=len(forget))
                guard = Guard(forget, taught.cpu())
                mixed = guard_retained(retain, [guard], weight=self.repair.weight, margin=self.repair.margin)
                model = copy.deepcopy(model)
                repaired = train_locally(model, mixed, self.repair.training, generator)
                passes.add(repaired.forward, repaired.backward)
                steps += _steps(len(mixed), self.repair.training)
        return Made(model=model.eval(), passes=passes, steps=steps, converged=converged)


def _steps(count: int, training: TrainingSettings) -> int:
    share = count if training.fraction >= 1 else max(1, round(count * training.fraction))
    return training.local_epochs * batch_count(share, training.batch_size)


def _described(value: Any) -> object:
    if isinstance(value, ModelJob):
        return value.described()
    if isinstance(value, Tensor):
        return [len(value), hashlib.sha256(value.to(torch.int64).contiguous().numpy().tobytes()).hexdigest()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {item.name: _described(getattr(value, item.name)) for item in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    return dict(value) if isinstance(value, Mapping) else value
