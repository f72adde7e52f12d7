"""The figures and the cost of one model in a comparison of methods."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fed_unlearn.audits.accuracy import ClassCounts, ForgetAccuracy
from fed_unlearn.audits.base import Figures, Judged, Observation, count_extra, extra_audits
from fed_unlearn.audits.counts import RequestCounts
from fed_unlearn.audits.membership import exact_membership_auc, membership_auc_interval, sample_losses
from fed_unlearn.audits.pooled import figures_of
from fed_unlearn.audits.scores import scored_logits
from fed_unlearn.errors import UnlearningDivergedError
from fed_unlearn.logits import predict_logits
from fed_unlearn.seeding import derive_seed
from fed_unlearn.simulations.bench.results import MethodRow
from fed_unlearn.simulations.bench.setup import BenchParts, ForgetSplit, drawn


@dataclass
class Cost:
    """What it cost to make a model, as in :class:`~fed_unlearn.simulations.bench.results.MethodRow`.

    All is None for a model that was given.
    """

    seconds: float | None = None
    forward_passes: int | None = None
    backward_passes: int | None = None
    steps: int | None = None

    def plus(self, other: Cost) -> Cost:
        """Add the cost of a second step."""
        mine, others = dataclasses.astuple(self), dataclasses.astuple(other)
        return Cost(*((left or 0) + (right or 0) for left, right in zip(mine, others, strict=True)))


@contextmanager
def timed(device: torch.device, cost: Cost) -> Iterator[None]:
    """Add the wall time of a block to a cost. Work that is queued on a device counts."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    started = now()
    yield
    cost.seconds = (cost.seconds or 0.0) + now() - started


class Measures:
    """Measures models, all on the same samples."""

    def __init__(self, parts: BenchParts, split: ForgetSplit) -> None:
        self._seed, self._classes = parts.settings.seed, split.classes
        kept = drawn(torch.arange(len(split.retain)), parts.settings.retain_samples, self._seed, "retain")
        same = torch.isin(parts.test.labels, split.forget.labels.unique())
        self._forget, self._retain, self._test = split.forget, split.retain.subset(kept), parts.test
        self._outsiders, self._parts, self._retained = same, parts, len(split.retain)

    def described(self) -> dict[str, object]:
        """Describe the sets that are measured on."""
        return {
            "fingerprint": self._parts.source.fingerprint,
            "class_names": self._parts.source.class_names,
            "forget_classes": sorted(self._classes),
            "forget_sample_ids": [] if self._classes else self._forget.ids,
            "forget_samples": len(self._forget),
            "retain_samples": self._retained,
            "retain_samples_measured": len(self._retain),
            "test_samples": len(self._test),
            "outsiders": int(self._outsiders.sum()),
            "unseen_samples": 0 if self._parts.unseen is None else len(self._parts.unseen),
        }

    def row(self, name: str, model: nn.Module, cost: Cost, converged: bool | None) -> MethodRow:
        """Measure a model.

        Raises
        ------
        UnlearningDivergedError
            If its outputs are not finite numbers.
        """
        forget, test = (Judged.whole(part, *scored_logits(model, part)) for part in (self._forget, self._test))
        retain = Judged.whole(self._retain, predict_logits(model, self._retain))
        if not all(bool(torch.isfinite(part.logits).all()) for part in (forget, retain, test)):
            raise UnlearningDivergedError(f"{name}: the model's outputs are not finite; try a smaller learning rate")
        outsiders = test.where(self._outsiders)
        seen = Observation(
            model=model,
            scope="class" if self._classes else "sample",
            class_count=test.logits.shape[1],
            forget=forget,
            outsiders=outsiders,
            seed=derive_seed(self._seed, "bench", "audit"),
            classes=tuple(sorted(self._classes)),
            test_retain=test.where(~self._outsiders) if self._classes else None,
        )
        figures = figures_of(
            RequestCounts(hits=ForgetAccuracy.count(seen), extra=count_extra(seen, extra_audits())),
            self._classes,
            left_out=self._classes,
            retain=ClassCounts.of(retain.logits, retain.labels, seen.class_count),
            test=ClassCounts.of(test.logits, test.labels, seen.class_count),
        )
        auc, interval = None, None
        if len(outsiders):
            members, others = (sample_losses(side.logits, side.labels) for side in (forget, outsiders))
            auc = exact_membership_auc(members, others)
            random = np.random.default_rng(derive_seed(self._seed, "bench", "bootstrap"))
            interval = membership_auc_interval(members, others, random)
        return MethodRow(
            method=name,
            **{**_fields_of_row(figures), "membership_auc": auc},
            membership_auc_interval=interval,
            converged=converged,
            **dataclasses.asdict(cost),
        )


def _fields_of_row(figures: Figures) -> dict[str, Any]:
    """The figures that a row has; those of client requests are none of them."""
    names = {field.name for field in dataclasses.fields(MethodRow)}
    return {name: value for name, value in vars(figures).items() if name in names}
