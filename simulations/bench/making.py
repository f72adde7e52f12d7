"""Makes the models of a comparison: the original, oracles, and those that methods and guarded repair give."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fed_unlearn.batch_plan import batch_count
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.holder import Guard, guard_retained
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import Method
from fed_unlearn.methods.parts.labels import nearest_allowed
from fed_unlearn.seeding import derive_seed, seeded_generator
from fed_unlearn.simulations.bench.kept_models import KeptModels, MadeModel, samples_digest, state_digest
from fed_unlearn.simulations.bench.measures import Cost, timed
from fed_unlearn.simulations.bench.model_jobs import Material, Network, TrainingJob
from fed_unlearn.simulations.bench.setup import BenchParts, ForgetSplit
from fed_unlearn.simulations.bench.trained_models import TrainedModels
from fed_unlearn.training import TrainingSettings, train_locally


class ModelMaker:
    """Makes models, or takes them from the cache. All models see the same random draws.

    Parameters
    ----------
    parts : BenchParts
    on_progress : callable
        Called with a line of text when something long begins.
    """

    def __init__(self, parts: BenchParts, on_progress: Callable[[str], None]) -> None:
        self._parts, self._settings, self._on_progress = parts, parts.settings, on_progress
        cache = self._settings.cache
        self._kept = KeptModels(cache / "unlearned" if cache is not None else None)

    def warm_up(self) -> None:
        """Train for one step that is not measured. The first step on a device includes its set-up."""
        model, train = self._parts.fresh_model(), self._parts.source.train
        samples = train.subset(torch.arange(min(64, len(train))))
        train_locally(model, samples, TrainingSettings(), torch.Generator().manual_seed(0))

    def original(self) -> MadeModel:
        """The checkpoint's model, or one that is trained on all training samples."""
        if self._settings.checkpoint is not None:
            return MadeModel(model=self._parts.model, cost=Cost())
        train = self._parts.source.train
        self._on_progress(f"training {self._settings.model} on {len(train)} samples")
        if self._settings.cache is not None:
            (job,) = self._jobs(torch.arange(len(train)), 1)
            return self._in_processes([job], "original")[0]
        return self._trained(train)

    def oracles(self, split: ForgetSplit) -> list[MadeModel]:
        """The oracles of checkpoints, and those that are trained here: the first by the seed of the original."""
        given = [MadeModel(model=model, cost=Cost()) for model in self._parts.oracles]
        count = self._settings.trained_oracles
        if not count:
            return given
        named = "the oracle" if count == 1 else f"{count} oracles"
        self._on_progress(f"training {named}, without the forget set")
        if count == 1 and self._settings.cache is None:
            return [*given, self._trained(split.retain)]
        return [*given, *self._in_processes(self._jobs(split.kept, count), "oracles")]

    def unlearned(self, name: str, method: Method, model: nn.Module, split: ForgetSplit) -> MadeModel:
        """The model that a method makes of the original."""
        retain = split.retain if self._settings.with_retain or method.requires_retain else None

        def key() -> dict[str, object]:
            return {
                **self._common_key(model, split),
                "method": [name, dataclasses.asdict(method)],
                "retain": samples_digest(retain),
                "unseen": samples_digest(self._parts.unseen),
            }

        def make() -> MadeModel:
            cost = Cost()
            with timed(self._parts.device, cost):
                outcome = method.unlearn(
                    model,
                    split.forget,
                    retain,
                    excluded_classes=split.classes,
                    generator=seeded_generator(self._settings.seed, "bench", "unlearn", name),
                    unseen=self._parts.unseen,
                )
            cost.forward_passes, cost.backward_passes = outcome.forward_passes, outcome.backward_passes
            cost.steps = outcome.steps
            return MadeModel(
                model=outcome.model, cost=cost, converged=outcome.converged, guard_labels=outcome.guard_labels
            )

        return self._kept.made(key, model, make)

    def repaired_alone(self, model: nn.Module, split: ForgetSplit) -> MadeModel:
        """The original after guarded repair. The guard labels are its own best answers among the classes that stay."""

        def make() -> MadeModel:
            cost = Cost(forward_passes=len(split.forget))
            with timed(self._parts.device, cost):
                labels = nearest_allowed(predict_logits(model, split.forget), split.forget.labels, split.classes)
            return self._repaired(model, labels, cost, split)

        return self._kept.made(lambda: self._repair_key(model, split), model, make)

    def repaired(self, unlearned: MadeModel, split: ForgetSplit) -> MadeModel:
        """The model of a method after guarded repair, with the costs of both."""

        def make() -> MadeModel:
            cost = Cost()
            with timed(self._parts.device, cost):
                labels = _guard_labels(unlearned, split)
            cost.forward_passes = 0 if unlearned.guard_labels is not None else len(split.forget)
            return self._repaired(unlearned.model, labels, cost, split)

        def key() -> dict[str, object]:
            taught = None if unlearned.guard_labels is None else unlearned.guard_labels.tolist()
            return {**self._repair_key(unlearned.model, split), "taught": taught}

        made = self._kept.made(key, unlearned.model, make)
        return dataclasses.replace(
            made,
            cost=unlearned.cost.plus(made.cost),
            converged=unlearned.converged,
            from_cache=made.from_cache or unlearned.from_cache,
        )

    def _repaired(self, model: nn.Module, labels: Tensor, before: Cost, split: ForgetSplit) -> MadeModel:
        training, repair = self._parts.repair, self._settings.repair
        if training is None or repair is None:
            raise InvalidParameterError("no settings for repair were given; give the bench both training and repair")
        guard = Guard(split.forget, labels.cpu())
        mixed = guard_retained(split.retain, [guard], weight=repair.weight, margin=repair.margin)
        model = copy.deepcopy(model)
        return MadeModel(model=model, cost=before.plus(self._train(model, mixed, training, "repair")))

    def _trained(self, samples: ImageSet) -> MadeModel:
        model = self._parts.fresh_model()
        return MadeModel(model=model, cost=self._train(model, samples, self._parts.training, "train"))

    def _train(self, model: nn.Module, samples: SampleSet, training: TrainingSettings, purpose: str) -> Cost:
        """Train in place."""
        cost = Cost()
        with timed(self._parts.device, cost):
            passes = train_locally(model, samples, training, seeded_generator(self._settings.seed, "bench", purpose))
        cost.forward_passes, cost.backward_passes = passes.forward, passes.backward
        epoch = batch_count(passes.backward // training.local_epochs, training.batch_size)
        cost.steps = training.local_epochs * epoch
        return cost

    def _jobs(self, positions: Tensor, count: int) -> list[TrainingJob]:
        """So many trainings on some training samples: the first as the original is trained, others by other seeds."""
        source, seed = self._parts.source, self._settings.seed
        network = Network(
            name=self._settings.model,
            class_count=source.class_count,
            image_shape=source.image_shape,
            parameters=dict(self._parts.model_parameters),
        )
        seeds = [seed, *(derive_seed(seed, "bench", "oracle", number) for number in range(2, count + 1))]
        return [
            TrainingJob(
                network=network,
                positions=positions,
                training=self._parts.training,
                weights_seed=each,
                order_seed=derive_seed(each, "bench", "train"),
            )
            for each in seeds
        ]

    def _in_processes(self, jobs: Sequence[TrainingJob], what: str) -> list[MadeModel]:
        """Train in parallel, one thread of torch each."""
        cache = self._settings.cache
        with tempfile.TemporaryDirectory() as temporary:
            models = TrainedModels(
                folder=Path(temporary) if cache is None else cache / "trained",
                material=Material(train=self._parts.source.train, device=self._parts.device),
                on_progress=self._on_progress,
            )
            files = models.make(jobs, what)
            return [
                MadeModel(
                    model=models.load(job),
                    cost=Cost(file.seconds, file.forward_passes, file.backward_passes, file.steps),
                    from_cache=not file.is_new,
                )
                for job, file in zip(jobs, files, strict=True)
            ]

    def _common_key(self, model: nn.Module, split: ForgetSplit) -> dict[str, object]:
        return {
            "data": self._parts.source.fingerprint,
            "model": [self._settings.model, dict(self._parts.model_parameters), state_digest(model)],
            "seed": self._settings.seed,
            "device": self._parts.device.type,
            "threads": torch.get_num_threads(),
            "forget": samples_digest(split.forget),
            "classes": sorted(split.classes),
        }

    def _repair_key(self, model: nn.Module, split: ForgetSplit) -> dict[str, object]:
        training, repair = self._parts.repair, self._settings.repair
        settings = [None if each is None else dataclasses.asdict(each) for each in (training, repair)]
        return {**self._common_key(model, split), "repair": settings, "retain": samples_digest(split.retain)}


def _guard_labels(unlearned: MadeModel, split: ForgetSplit) -> Tensor:
    """The labels that a method taught, or else the model's best answers among the classes that stay."""
    if unlearned.guard_labels is not None:
        return unlearned.guard_labels
    return nearest_allowed(predict_logits(unlearned.model, split.forget), split.forget.labels, split.classes)
