"""Relearning from some samples of one kind, in several draws: the cells of the grid."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor

from fed_unlearn.audits.membership import exact_membership_auc
from fed_unlearn.audits.readings import PartName, Readings, RequestData
from fed_unlearn.audits.relearner import Climb, Relearner, climb, relearner
from fed_unlearn.audits.scores import class_scores
from fed_unlearn.data.joined import concatenate
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import EmptySetError, InvalidDataError, UnlearningDivergedError
from fed_unlearn.logits import device_of
from fed_unlearn.methods.parts.batches import cycle
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.settings import AboveZero, FromOne, FromZero, Settings

Kind = Literal["forget", "retain", "mixed"]

SHARES = (0.5, 0.9)
"""Shares of the original's recall to which steps are counted."""

logger = logging.getLogger("fed_unlearn.audits")


@dataclass(frozen=True)
class Cell:
    """What is relearned from.

    Attributes
    ----------
    kind : str
        ``"forget"``: samples of the forgotten classes alone, from a fresh row. ``"mixed"``: as many samples of every
        class, from a fresh row. ``"retain"``: samples of the classes that stay, from the model's own row without a
        mask, since a fresh row that sees no sample of its class stays below the others.
    size : int or None
        Samples of each of these classes. None means all; of ``"mixed"``, as many as every class has.
    draws : int
        Number of times that samples and batches are drawn.
    """

    kind: Kind
    size: int | None
    draws: int = 3

    @property
    def name(self) -> str:
        """Start of the names of its figures, such as ``relearn_10_mixed``."""
        return f"relearn_{self.size or 'all'}_{self.kind}"

    @property
    def stops_at_target(self) -> bool:
        """Whether training ends where nine tenths are regained, and not after a fixed number of steps."""
        return self.kind == "forget"


@dataclass(frozen=True, kw_only=True)
class GridSettings(Settings, prefix="relearning: "):
    """How copies relearn, and how they are measured.

    Attributes
    ----------
    learning_rate, momentum : float
        Learning rate and momentum of SGD on samples of the forgotten classes alone, or of the others alone.
    mixed_learning_rate, mixed_momentum : float
        Learning rate and momentum of SGD on samples of all classes.
    batch_size : int
    max_steps : int
        Bound on the steps on the forgotten classes alone.
    fixed_steps : int
        Number of steps on samples of other classes too, or of these alone.
    every_step, measured_every : int
        The recall is measured after each of the first ``every_step`` steps, then after every ``measured_every``-th.
    max_measured, max_retained : int
        Maximum number of samples of D_ft for the recall, and of D_rt for the retained accuracy and the false recall,
        drawn at random.
    half_precision : bool
        Whether passes compute in bfloat16 where autocast allows it.
    """

    learning_rate: AboveZero = 6e-3
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    mixed_learning_rate: AboveZero = 5e-3
    mixed_momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    batch_size: FromOne = 32
    max_steps: FromOne = 120
    fixed_steps: FromOne = 40
    every_step: FromZero = 8
    measured_every: FromOne = 4
    max_measured: FromOne = 100
    max_retained: FromOne = 400
    half_precision: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one draw of a cell found. A draw that diverged has reached nothing, and has no shares where it stopped.

    Attributes
    ----------
    steps, reached : tuple of int and of bool
        Optimizer steps to each of ``SHARES`` of the original's recall; the bound where it was not reached.
    recall : float or None
        Share of samples of D_ft under their own label where training stopped.
    auc : float or None
        AUC with which the classes' log-odds, without their own biases, rank D_ft above D_rt there.
    retain_accuracy, false_recall : float or None
        Shares of D_rt there: right ones, and those that are called one of the forgotten classes.
    """

    steps: tuple[int, ...]
    reached: tuple[bool, ...]
    recall: float | None = None
    auc: float | None = None
    retain_accuracy: float | None = None
    false_recall: float | None = None


def outcomes(
    readings: Readings, original: Readings, cell: Cell, *, seed: int, settings: GridSettings
) -> tuple[Outcome, ...]:
    """Relearn once for each draw; nothing where a class has fewer samples than the cell asks for.

    Parameters
    ----------
    readings : Readings
        Readings of the audited model. What is trained and measured is added to its passes.
    original : Readings
        Readings of the model before the request.
    cell : Cell
    seed : int
        Seed of the draws. All models that are compared have the same draws.
    settings : GridSettings

    Raises
    ------
    EmptySetError
        If D_ft or D_rt has no sample.
    InvalidDataError
        If the original recognises no sample of D_ft that is measured.
    InvalidModelError
        If :func:`~fed_unlearn.audits.relearner.relearner` raises it.
    """
    return tuple(_drawn(readings, original, cell, seed, settings))


def _drawn(readings: Readings, original: Readings, cell: Cell, seed: int, settings: GridSettings) -> Iterator[Outcome]:
    data = readings.data
    for draw in range(cell.draws):
        generator = seeded_generator(seed, "relearning", cell.name, draw)
        positions = _positions(original, settings, seeded_generator(seed, "relearning", "measured", draw))
        recalled = _recall(original, positions["test_forget"])
        samples = chosen(cell, data, generator)
        if samples is None:
            return
        try:
            yield _outcome(readings, samples, positions, recalled, cell, settings, generator)
        except UnlearningDivergedError as error:
            logger.warning("relearning: draw %d of %s has no figure where it stopped: %s", draw, cell.name, error)
            bound = settings.max_steps if cell.stops_at_target else settings.fixed_steps
            yield Outcome((bound,) * len(SHARES), (False,) * len(SHARES))


def _outcome(
    readings: Readings,
    samples: SampleSet,
    positions: dict[PartName, Tensor],
    recalled: float,
    cell: Cell,
    settings: GridSettings,
    generator: torch.Generator,
) -> Outcome:
    data, device = readings.data, device_of(readings.model)
    fixed, is_mixed = not cell.stops_at_target, cell.kind == "mixed"
    forgotten, retained = (_at(data, part, positions[part]).to(device) for part in ("test_forget", "test_retain"))
    batches = cycle(samples.evaluated().to(device), settings.batch_size, generator)
    with relearner(
        "relearning",
        readings.model,
        samples,
        classes=data.classes,
        fresh_row=cell.kind != "retain",
        learning_rate=settings.mixed_learning_rate if is_mixed else settings.learning_rate,
        momentum=settings.mixed_momentum if is_mixed else settings.momentum,
        head=data.head,
        half_precision=settings.half_precision,
        passes=readings.passes,
    ) as copy:
        found = climb(
            lambda: copy.train(*next(batches)[1:]),
            lambda step: copy.recall(forgotten, step),
            [share * recalled for share in SHARES],
            max_steps=settings.fixed_steps if fixed else settings.max_steps,
            is_measured=lambda step: step <= settings.every_step or step % settings.measured_every == 0,
            to_the_end=fixed,
        )
        return _judged(copy, found, forgotten, retained, data)


def _judged(copy: Relearner, found: Climb, forgotten: SampleSet, retained: SampleSet, data: RequestData) -> Outcome:
    """What the copy says where it stopped."""
    outputs = copy.outputs(forgotten, max(found.steps)), copy.outputs(retained, max(found.steps))
    classes = sorted(data.classes)
    bias = 0 if copy.layer.bias is None else copy.layer.bias.detach()
    scores = (class_scores(rows, rows - bias)[:, classes].amax(1).cpu() for rows in outputs)
    said = outputs[1].argmax(dim=1)
    return Outcome(
        steps=found.steps,
        reached=found.reached,
        recall=found.recall,
        auc=exact_membership_auc(*(-side for side in scores)),
        retain_accuracy=float((said == retained.labels).double().mean()),
        false_recall=float(torch.isin(said, torch.tensor(classes, device=said.device)).double().mean()),
    )


def chosen(cell: Cell, data: RequestData, generator: torch.Generator) -> SampleSet | None:
    """The samples of one draw; None where a class has fewer than the cell asks for.

    Parameters
    ----------
    cell : Cell
    data : RequestData
    generator : torch.Generator
        Source of the draws, on the CPU.
    """
    parts = [data.parts[name] for name in ("forget", "retain") if cell.kind in (name, "mixed")]
    if any(len(part) == 0 for part in parts):
        return None
    if cell.size is None and cell.kind != "mixed":
        return parts[0]
    of_class = [_of_classes(part) for part in parts]
    fewest = min(len(positions) for each in of_class for positions in each)
    size = fewest if cell.size is None else cell.size
    if size > fewest:
        return None
    drawn = [
        part.subset(
            torch.cat([positions[torch.randperm(len(positions), generator=generator)[:size]] for positions in each])
        )
        for part, each in zip(parts, of_class, strict=True)
    ]
    return concatenate(*drawn) if len(drawn) > 1 else drawn[0]


def _of_classes(samples: SampleSet) -> Sequence[Tensor]:
    labels = samples.labels.cpu()
    return [(labels == label).nonzero().flatten() for label in labels.unique().tolist()]


def _positions(original: Readings, settings: GridSettings, generator: torch.Generator) -> dict[PartName, Tensor]:
    """Which test samples are measured, in rising order."""
    most: dict[PartName, int] = {"test_forget": settings.max_measured, "test_retain": settings.max_retained}
    found: dict[PartName, Tensor] = {}
    for part, bound in most.items():
        count = len(original.data.parts[part])
        if count == 0:
            raise EmptySetError(f"relearning: part {part!r} has no sample; at least one was expected")
        found[part] = torch.randperm(count, generator=generator)[:bound].sort().values
    return found


def _at(data: RequestData, part: PartName, positions: Tensor) -> SampleSet:
    return data.parts[part].subset(positions.to(data.parts[part].labels.device)).evaluated()


def _recall(original: Readings, positions: Tensor) -> float:
    answers = original.answers("test_forget")
    right = (answers.served.argmax(1) == answers.labels)[positions]
    if not right.any():
        raise InvalidDataError(
            f"relearning: the model before the request recognises none of the {len(right)} test samples of the"
            " forgotten classes that are measured; expected one that knew them"
        )
    return float(right.double().mean())
