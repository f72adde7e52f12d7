"""Looks for forgotten samples in everything that can be reached from a strategy: by ids, and by the pixels of tensors."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from types import GeneratorType
from typing import Any

import torch
from avalanche.benchmarks import CLScenario
from avalanche.benchmarks.scenarios import CLStream
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fed_unlearn.avalanche import UnlearningPlugin
from fed_unlearn.avalanche.streams.samples import has_sample_ids, sample_ids
from fed_unlearn.data.images import ImageSet


def digests(images: Tensor) -> set[str]:
    return {hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in images}


def reachable(strategy: Any, forgotten: ImageSet) -> list[str]:
    """Where forgotten samples are: paths from the strategy. The benchmark and what is evaluated are left out."""
    ids, pixels = set(forgotten.ids), digests(forgotten.images)
    shape = tuple(forgotten.image_shape)
    seen: dict[int, Any] = {}
    found: list[str] = []

    def parts(value: Any) -> Iterable[tuple[Any, Any]]:
        if isinstance(value, dict):
            return list(value.items())
        if isinstance(value, list | tuple | set | deque):
            return list(enumerate(value))
        if isinstance(value, GeneratorType):
            return list((value.gi_frame.f_locals if value.gi_frame else {}).items())
        if isinstance(value, DataLoader):
            return [("dataset", value.dataset)]
        return list(vars(value).items()) if hasattr(value, "__dict__") else []

    def walk(value: Any, path: str) -> None:
        if id(value) in seen or isinstance(value, str | int | float | type | EvaluationPlugin | UnlearningPlugin):
            return
        seen[id(value)] = value
        if isinstance(value, AvalancheDataset):
            if len(value) and (not has_sample_ids(value) or ids.intersection(sample_ids(value))):
                found.append(path)
        elif isinstance(value, Tensor):
            if value.shape[-3:] == shape and pixels.intersection(digests(value.detach().reshape(-1, *shape))):
                found.append(path)
        elif not isinstance(value, nn.Module | CLScenario | CLStream):
            for name, item in parts(value):
                walk(item, f"{path}.{name}")

    for name, value in vars(strategy).items():
        walk(value, name)
    return found


def accuracy(model: nn.Module, images: ImageSet) -> float:
    mode = model.training
    model.eval()
    with torch.no_grad():
        hits = model(images.images).argmax(1) == images.labels
    model.train(mode)
    return float(hits.float().mean())
