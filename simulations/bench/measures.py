"""The figures and the cost of one model in a comparison of methods."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from fed_unlearn.audits.base import AUDITS, Observation
from fed_unlearn.audits.battery import REPLACED, AuditRun, audits_of, central_observation, run_audits
from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.outputs.splits import Splits
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.audits.samples.shadows import Shadows
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError, UnlearningDivergedError
from fed_unlearn.logits import predict_logits
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.seeding import derive_seed
from fed_unlearn.simulations.bench.audited import READING, AuditCost, RowAudits, RowFigure
from fed_unlearn.simulations.bench.results import MethodRow
from fed_unlearn.simulations.bench.setup import BenchParts, ForgetSplit, drawn

_ACCURACIES, _ATTACK = "splits", "population_attack"
"""Audits that give a row its accuracies and its attack, whatever the level."""

_OF_SAMPLES = ("lira", "ulira")
"""Audits that read shadow models, whatever the level."""


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
    """Measures models, all on the same samples and with the same draws."""

    def __init__(self, parts: BenchParts, split: ForgetSplit) -> None:
        self._parts, self._split, settings = parts, split, parts.settings
        self._seed = derive_seed(settings.seed, "bench", "audit")
        in_classes = torch.isin(parts.test.labels, torch.tensor(sorted(split.classes), dtype=torch.int64))
        most = settings.audit_test_samples

        def some(samples: ImageSet, positions: torch.Tensor, count: int, purpose: str) -> ImageSet:
            return samples.subset(drawn(positions, count, settings.seed, purpose))

        self._data = RequestData(
            parts={
                "forget": some(split.forget, torch.arange(len(split.forget)), settings.audit_forget_samples, "audit"),
                "retain": some(split.retain, torch.arange(len(split.retain)), settings.retain_samples, "retain"),
                "test_forget": some(parts.test, in_classes.nonzero().flatten(), most, "test-forget"),
                "test_retain": some(parts.test, (~in_classes).nonzero().flatten(), most, "test-retain"),
            },
            classes=split.classes,
            class_count=parts.source.class_count,
        )
        skipped = {*settings.skip_audits, *REPLACED, _ACCURACIES}
        of_samples = _OF_SAMPLES if settings.shadows else ()
        names = dict.fromkeys((_ATTACK, *audits_of(settings.audit, settings.scope), *of_samples))
        self._names = tuple(name for name in names if name not in skipped)

    def described(self) -> dict[str, object]:
        """Describe the sets that are measured on."""
        forget, read = self._split.forget, {part: len(samples) for part, samples in self._data.parts.items()}
        test = self._data.parts["test_forget" if self._split.classes else "test_retain"]
        return {
            "fingerprint": self._parts.source.fingerprint,
            "class_names": self._parts.source.class_names,
            "forget_classes": sorted(self._split.classes),
            "forget_sample_ids": [] if self._split.classes else forget.ids,
            "memorised_sample_ids": sorted(self._split.memorised),
            "forget_samples": len(forget),
            "forget_samples_measured": read["forget"],
            "retain_samples": len(self._split.retain),
            "retain_samples_measured": read["retain"],
            "test_samples": len(self._parts.test),
            "test_samples_measured": read["test_forget"] + read["test_retain"],
            "outsiders": int(torch.isin(test.labels, forget.labels.unique()).sum()),
            "unseen_samples": 0 if self._parts.unseen is None else len(self._parts.unseen),
            "audits": [_ACCURACIES, *self._names],
        }

    def readings(self, model: nn.Module) -> Readings:
        """What is read of a model; every sample once, when it is first asked for."""
        return Readings(model, self._data)

    def row(
        self,
        name: str,
        readings: Readings,
        cost: Cost,
        converged: bool | None = None,
        *,
        original: Readings | None = None,
        oracles: tuple[Readings, ...] = (),
        shadows: Shadows | None = None,
        from_cache: bool = False,
    ) -> MethodRow:
        """Measure a model.

        Parameters
        ----------
        name : str
        readings : Readings
            Readings of the model.
        cost : Cost
        converged : bool or None
        original : Readings, optional
            Readings of the model before the request.
        oracles : tuple of Readings
            Readings of the oracles. If the model is an oracle, those of the others alone.
        shadows : Shadows, optional
            What shadow models say that were made as this model was.
        from_cache : bool

        Raises
        ------
        UnlearningDivergedError
            If its outputs are not finite numbers.
        """
        started = time.perf_counter()
        seen = central_observation(
            readings,
            self._parts.settings.scope,
            original=original,
            oracles=oracles,
            shadows=shadows,
            seed=self._seed,
        )
        splits = _splits(name, seen, readings)
        read = sum(len(part) for part in self._data.parts.values())
        costs = {READING: AuditCost(forward_passes=read, seconds=time.perf_counter() - started)}
        runs = {_ACCURACIES: AuditRun(figures=splits.figures)}
        counted = [each.passes for each in (readings, *oracles, *([] if original is None else [original]))]
        for audit in self._names:
            before = _passes(counted)
            runs[audit] = run_audits(seen, [audit])[audit]
            forward, backward = (after - earlier for after, earlier in zip(_passes(counted), before, strict=True))
            costs[audit] = AuditCost(
                forward_passes=forward,
                backward_passes=backward,
                seconds=runs[audit].seconds,
                error=runs[audit].error,
            )
        figures = _figures(runs)
        values = {key: figure.measured.value for key, figure in figures.items()}
        attack = figures.get("membership_auc", RowFigure(audit=_ATTACK, measured=Measured(None))).measured
        return MethodRow(
            method=name,
            forget_accuracy=values.get("forget_accuracy"),
            retain_accuracy=values.get("retain_accuracy"),
            test_forget_accuracy=values.get("test_forget_accuracy"),
            test_retain_accuracy=values.get("test_retain_accuracy"),
            membership_auc=attack.value,
            membership_auc_interval=attack.interval,
            converged=converged,
            extra={key: values[key] for key, figure in figures.items() if _is_foreign(figure.audit)},
            audits=RowAudits(figures=figures, costs=costs),
            from_cache=from_cache,
            **dataclasses.asdict(cost),
        )


def _splits(name: str, seen: Observation, readings: Readings) -> Splits:
    """Accuracies of a model, whose outputs must be finite."""
    try:
        retain = readings.answers("retain").served
    except InvalidModelError:  # no layer puts out the logits
        retain = predict_logits(readings.model, readings.data.parts["retain"])
        readings.passes.add(forward=len(retain))
    forgotten = seen.outsiders if seen.classes else None
    sides = [
        (side.logits, side.labels) if side is not None else (retain[:0], torch.empty(0, dtype=torch.int64))
        for side in (seen.forget, forgotten, seen.test_retain)
    ]
    sides.insert(1, (retain, readings.data.parts["retain"].labels.cpu()))
    if not all(bool(torch.isfinite(logits).all()) for logits, _ in sides):
        raise UnlearningDivergedError(f"{name}: the model's outputs are not finite; try a smaller learning rate")
    hits = (int((logits.argmax(1) == labels).sum()) for logits, labels in sides)
    return Splits(tuple(hits), tuple(len(labels) for _, labels in sides))


def _figures(runs: Mapping[str, AuditRun]) -> dict[str, RowFigure]:
    """All figures by name; a name that an earlier audit has gets that of its audit before it."""
    figures = dict[str, RowFigure]()
    for audit, run in runs.items():
        for name, measured in run.figures.items():
            figures[f"{audit}.{name}" if name in figures else name] = RowFigure(audit=audit, measured=measured)
    return figures


def _passes(counters: Iterable[PassCounter]) -> tuple[int, int]:
    """Samples forward and backward through the audited model and those beside it; some audits train copies of these."""
    several = {id(counter): counter for counter in counters}.values()
    return sum(counter.forward for counter in several), sum(counter.backward for counter in several)


def _is_foreign(audit: str) -> bool:
    return not AUDITS.find(audit).__module__.startswith("fed_unlearn.")
