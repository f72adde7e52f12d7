"""Models that methods and repair made, kept as files by the digest of all that determines them."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.models import save_checkpoint
from fed_unlearn.simulations.bench.measures import Cost
from fed_unlearn.simulations.run.installed import installed_versions

VERSION = 1
"""Version of the kept models. It is raised where models are made in another way, so that kept ones are made anew."""

logger = logging.getLogger("fed_unlearn.simulations.bench")

_HEADER, _LABELS, _STATE = "made", "guard_labels", "state."


@dataclass(frozen=True, kw_only=True)
class MadeModel:
    """A model and what it cost to make it.

    Attributes
    ----------
    model : nn.Module
    cost : Cost
        Cost of making the model. All its fields are None for a model that was given.
    converged : bool or None
        Whether a method reports that it reached its aim.
    guard_labels : Tensor of shape (n,), int64, or None
        The label that a method taught each forget sample.
    from_cache : bool
        Whether it was made by an earlier comparison, which its costs are of.
    """

    model: nn.Module
    cost: Cost
    converged: bool | None = None
    guard_labels: Tensor | None = None
    from_cache: bool = False


@dataclass(frozen=True)
class KeptModels:
    """A folder of models. Several comparisons may share it.

    Attributes
    ----------
    folder : Path or None
        Folder of the models, made when the first model is kept. None keeps nothing.
    """

    folder: Path | None

    def made(
        self, key: Callable[[], Mapping[str, object]], like: nn.Module, make: Callable[[], MadeModel]
    ) -> MadeModel:
        """Take a model that is kept, or make it and keep it.

        A model that is built otherwise than ``like``, as after a method that adds a layer, is not kept.

        Parameters
        ----------
        key : callable
            Gives all that determines the model, in values that JSON can hold. Only called where there is a folder.
        like : nn.Module
            A model of the same structure.
        make : callable
        """
        if self.folder is None:
            return make()
        path = self.folder / f"{_digest(key())}.safetensors"
        found = _read(path, like)
        if found is not None:
            return found
        made = make()
        if _structure(made.model) == _structure(like):
            _write(path, made)
        return made


def samples_digest(samples: SampleSet | None) -> str | None:
    """SHA-256 of the samples' ids and labels, in their order; the data's own fingerprint stands beside it in a key."""
    if samples is None:
        return None
    return _digest({"ids": list(samples.ids), "labels": samples.labels.tolist()})


def state_digest(model: nn.Module) -> str:
    """SHA-256 of the model's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}\x1f{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _digest(body: Mapping[str, object]) -> str:
    versions = installed_versions()
    whole = {"version": VERSION, "versions": {name: versions.get(name) for name in ("fed-unlearn", "torch")}, **body}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def _structure(model: nn.Module) -> tuple[str, list[tuple[str, tuple[int, ...], torch.dtype]]]:
    return repr(model), [(name, tuple(value.shape), value.dtype) for name, value in model.state_dict().items()]


def _write(path: Path, made: MadeModel) -> None:
    tensors = {_STATE + name: value for name, value in made.model.state_dict().items()}
    if made.guard_labels is not None:
        tensors[_LABELS] = made.guard_labels
    header = {"cost": dataclasses.asdict(made.cost), "converged": made.converged}
    save_checkpoint(tensors, path, {_HEADER: json.dumps(header)})


def _read(path: Path, like: nn.Module) -> MadeModel | None:
    """The model of a file; None where there is none, or where it cannot be read."""
    if not path.exists():
        return None
    model = copy.deepcopy(like)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        labels = tensors.pop(_LABELS, None)
        model.load_state_dict({name.removeprefix(_STATE): value for name, value in tensors.items()})
        cost, converged = Cost(**header["cost"]), header["converged"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        logger.warning("%s cannot be read (%s); its model is made again", path, error)
        return None
    return MadeModel(model=model, cost=cost, converged=converged, guard_labels=labels, from_cache=True)
