"""Shadow models of a comparison: trained with the samples to forget, made to forget them, and trained without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fed_unlearn.audits.readings import RequestData
from fed_unlearn.audits.samples.memorised import balanced_halves, memorisation, most_memorised
from fed_unlearn.audits.samples.shadows import Shadows, confidences
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, InvalidDataError
from fed_unlearn.logits import predict_logits
from fed_unlearn.seeding import derive_seed, seeded_generator
from fed_unlearn.simulations.bench.model_jobs import (
    GuardedRepair,
    Material,
    ModelJob,
    Network,
    TrainingJob,
    UnlearningJob,
)
from fed_unlearn.simulations.bench.results import ORACLE, ORIGINAL, REPAIR, REPAIRED_SUFFIX
from fed_unlearn.simulations.bench.settings import MethodBenchSettings
from fed_unlearn.simulations.bench.setup import BenchParts, ForgetSplit
from fed_unlearn.simulations.bench.trained_models import TrainedModels

_CACHE = "cache"


class ShadowModels:
    """Makes the shadow models of a comparison in parallel, or takes them from the cache.

    All are trained as the original is, by seeds of their own. Shadow model t of every method begins with shadow model t
    of those that are trained with the samples.

    Parameters
    ----------
    parts : BenchParts
        Parts of the comparison. Its settings have a cache.
    on_progress : callable
        Called with a line of text after every model.
    workers : int, optional
        Maximum number of processes.
    """

    def __init__(self, parts: BenchParts, on_progress: Callable[[str], None], workers: int | None = None) -> None:
        self._parts, self._on_progress = parts, on_progress
        self._count, self._seed = parts.settings.shadows, parts.settings.seed
        self._network = Network(
            name=parts.settings.model,
            class_count=parts.source.class_count,
            image_shape=parts.source.image_shape,
            parameters=dict(parts.model_parameters),
        )
        self._models = TrainedModels(
            folder=(parts.settings.cache or parts.settings.out / _CACHE) / "shadows",
            material=Material(train=parts.source.train, unseen=parts.unseen, device=parts.device),
            workers=workers,
            on_progress=on_progress,
        )

    def with_memorised(self, split: ForgetSplit, model: nn.Module) -> ForgetSplit:
        """Add the samples that models memorise most to those to forget.

        They are the retained samples that the model has right and that models trained on half of the samples are much
        surer of where they were trained on them.

        Parameters
        ----------
        split : ForgetSplit
            The split, with the samples that were drawn at random.
        model : nn.Module
            The original model.

        Raises
        ------
        InvalidDataError
            If the model has too few samples right.
        """
        count, train = self._parts.settings.forget_memorised, self._parts.source.train
        if count is None:
            return split
        is_right = predict_logits(model, split.retain).argmax(dim=1) == split.retain.labels.cpu()
        candidates = split.kept[is_right]
        if count > len(candidates):
            raise InvalidDataError(
                f"--forget-memorised {count}: beside those drawn at random the model has only {len(candidates)}"
                " training samples right; ask for fewer, or give a model that is trained"
            )
        halves = balanced_halves(len(train), self._count, seeded_generator(self._seed, "bench", "halves"))
        jobs = [self._training("half", number, half.nonzero().flatten()) for number, half in enumerate(halves)]
        gaps = memorisation(self._confidences(jobs, train, "shadow models trained on halves"), halves)
        chosen = most_memorised(gaps, candidates, count)
        kept = split.kept[~torch.isin(split.kept, chosen)]
        positions = torch.cat([split.positions(), chosen]).sort().values
        return replace(
            split,
            forget=train.subset(positions),
            retain=train.subset(kept),
            kept=kept,
            memorised=frozenset(train.ids[position] for position in chosen.tolist()),
        )

    def prepared(self, split: ForgetSplit, data: RequestData) -> Callable[[str], Shadows | None]:
        """Train the shadow models with and without the samples.

        Parameters
        ----------
        split : ForgetSplit
        data : RequestData
            The samples that audits read.

        Returns
        -------
        callable
            Gives the confidences of shadow models for the row of a name. Those of a method are made when it is called;
            where that fails they are left out, and the reason is told.
        """
        forget, test = data.parts["forget"], data.parts["test_retain"]
        everything = torch.arange(len(self._parts.source.train))
        trained = [self._training("with", number, everything) for number in range(self._count)]
        without = [self._training("without", number, split.kept) for number in range(self._count)]
        what = "shadow models trained without the samples"
        retrained = self._confidences(without, forget, what)
        common = Shadows(
            retrained=retrained,
            retrained_test=confidences([self._models.load(job) for job in without], test),
            memorised=torch.tensor([name in split.memorised for name in forget.ids]) if split.memorised else None,
        )
        untouched = self._confidences(trained, forget, "shadow models trained with the samples")

        def of(name: str) -> Shadows | None:
            if name == ORIGINAL:
                return replace(common, unlearned=untouched)
            if name.startswith(ORACLE):  # as many again, by other seeds: they cannot be told apart but by chance
                jobs: Sequence[ModelJob] = [
                    self._training("without again", number, split.kept) for number in range(self._count)
                ]
            else:
                jobs = [self._unlearning(name, number, job, split) for number, job in enumerate(trained)]
            try:
                return replace(common, unlearned=self._confidences(jobs, forget, f"shadow models of {name}"))
            except FedUnlearnError as error:
                self._on_progress(f"{name}: no shadow models, and no U-LiRA ({error})")
                return common

        return of

    def _training(self, kind: str, number: int, positions: Tensor) -> TrainingJob:
        seed = derive_seed(self._seed, "bench", "shadow", kind, number)
        return TrainingJob(
            network=self._network,
            positions=positions,
            training=self._parts.training,
            weights_seed=seed,
            order_seed=derive_seed(seed, "bench", "train"),
        )

    def _unlearning(self, name: str, number: int, trained: TrainingJob, split: ForgetSplit) -> UnlearningJob:
        """The job that makes a shadow model as the model of a row was made."""
        settings, training = self._parts.settings, self._parts.repair
        is_repaired = name == REPAIR or name.endswith(REPAIRED_SUFFIX)
        method = None if name == REPAIR else self._parts.methods[name.removesuffix(REPAIRED_SUFFIX)]
        repair = None
        if is_repaired and training is not None and settings.repair is not None:
            repair = GuardedRepair(training=training, weight=settings.repair.weight, margin=settings.repair.margin)
        return UnlearningJob(
            network=self._network,
            trained=trained,
            forget=split.positions(),
            retain=split.kept,
            method=method,
            gives_retain=settings.with_retain or (method is not None and method.requires_retain),
            repair=repair,
            seed=derive_seed(self._seed, "bench", "shadow", "unlearn", name.removesuffix(REPAIRED_SUFFIX), number),
        )

    def _confidences(self, jobs: Sequence[ModelJob], samples: SampleSet, what: str) -> Tensor:
        self._models.make(jobs, what)
        return confidences([self._models.load(job) for job in jobs], samples)


def with_cache(settings: MethodBenchSettings, out: Path) -> MethodBenchSettings:
    """The same settings, with a cache in the output folder where shadow models are asked for and no cache is given."""
    return replace(settings, cache=out / _CACHE) if settings.shadows and settings.cache is None else settings


def holds_only_cache(out: Path) -> bool:
    """Whether an output folder holds models of a comparison that was interrupted before it measured anything."""
    return [path.name for path in out.iterdir()] == [_CACHE]


def how_to_go_on(settings: MethodBenchSettings, out: Path) -> list[str]:
    """What to say of the models that an interrupted comparison made."""
    cache = settings.cache
    if cache is None or not cache.exists():
        return []
    again = (
        "the same --out" if cache == out / _CACHE and holds_only_cache(out) else f"another --out and --cache {cache}"
    )
    return [f"models made so far are kept; to go on, run it again with {again}"]
