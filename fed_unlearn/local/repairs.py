"""The rounds of guarded repair of one attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from fed_unlearn.holder import Guard, repair_model
from fed_unlearn.local.gentle_training import train_gently
from fed_unlearn.local.plan import LocalPlan
from fed_unlearn.local.samples import LocalSamples
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.training import TrainingSettings, train_locally


@dataclass(kw_only=True)
class Repairs:
    """Trains a candidate on retained samples, and counts the rounds.

    The plan repairs each class request once before the gate looks at the model. A model that was trained in small steps
    must not be trained in larger ones where nobody asks for it: it would fit the retained samples better than its own
    training does, and learn later classes more slowly. Rounds that the gate asks for train at the plan's rate.

    Attributes
    ----------
    plan : LocalPlan
        Has the settings of repair.
    samples : LocalSamples
        Has the retained samples.
    seed : int
        Seed of all rounds.
    client : str
        Name of the holder, part of the seed.
    request_id : str
        Id of the request, part of the seed of what is measured.
    before : int
        Number of repair rounds of earlier attempts and requests, part of the seed.
    trained_at : float or None
        Learning rate that the model was trained at by SGD, greater than 0. Rounds that the gate has not asked for do
        not exceed it, unless the plan sets a learning rate. None for no such bound.
    passes : PassCounter
        Counts passes.
    rounds : int
        Number of rounds so far.
    """

    plan: LocalPlan
    samples: LocalSamples
    seed: int
    client: str
    request_id: str
    before: int
    trained_at: float | None
    passes: PassCounter
    rounds: int = 0
    _found: dict[bool, TrainingSettings] = field(default_factory=dict)

    def train(self, model: nn.Module, guards: Sequence[Guard], *, asked: bool, gently: bool) -> None:
        """Train a model in place for one round.

        Parameters
        ----------
        model : nn.Module
            The candidate.
        guards : sequence of Guard
            Forget samples with the labels that they keep.
        asked : bool
            Whether the gate asked for the round.
        gently : bool
            Whether a round that costs right answers is made again in smaller steps.
        """
        self.rounds += 1
        settings = self._found.get(asked) or self._settings(asked)
        if not gently:
            self._train_once(model, guards, settings)
            return
        self._found[asked] = train_gently(
            model,
            settings,
            lambda tried: self._train_once(model, guards, tried),
            self.samples.retained,
            generator=seeded_generator(self.seed, "measured", self.request_id, self.client),
            passes=self.passes,
        )

    def _settings(self, asked: bool) -> TrainingSettings:
        settings = self.plan.repair_training()
        is_set = any(name.replace("-", "_") == "learning_rate" for name in self.plan.repair.config)
        if asked or is_set or self.trained_at is None:
            return settings
        return replace(settings, learning_rate=min(settings.learning_rate, self.trained_at))

    def _train_once(self, model: nn.Module, guards: Sequence[Guard], settings: TrainingSettings) -> None:
        repair = self.plan.repair
        _, passes = repair_model(
            model,
            self.samples.retained,
            list(guards),
            lambda trained, samples, generator: train_locally(trained, samples, settings, generator),
            guard_weight=repair.guard_weight,
            guard_margin=repair.guard_margin,
            seed=(self.seed, "repair", self.before + self.rounds, self.client),
        )
        self.passes.add(passes.forward, passes.backward)
