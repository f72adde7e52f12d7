"""Training from scratch on what is retained: the rounds that a run has trained so far, and later ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from flwr.app import ConfigRecord

from fed_unlearn.arrays import Arrays
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.inner.frozen_head import FrozenHead
from fed_unlearn.strategies.training.trainers import fresh_trainer


class Retraining:
    """A model that is trained as the run was, without what was forgotten when the retraining was begun.

    Clients leave out what they have quarantined or tombstoned by themselves, so the server needs to know no sample.
    After another request has been served, the retraining must not go on: begin a new one.

    Parameters
    ----------
    context : CallContext
        What the call works with, its clients identified.
    arrays : dict of ndarray
        The model that it begins with.
    seed : int, optional
        Seed of the strategy's sampling of clients; the run's own if None.
    config : mapping, optional
        What replaces values of the configuration of every round, where a round has them.
    """

    def __init__(
        self,
        context: CallContext,
        arrays: Arrays,
        *,
        seed: int | None = None,
        config: Mapping[str, int] | None = None,
    ) -> None:
        self._context = context if seed is None else replace(context, seed=seed, noise_seed=seed)
        self._changed = dict(config or {})
        self._trainer = fresh_trainer(self._context)
        self._arrays, self._longest, self._rounds = arrays, 0.0, 0

    def catch_up(self) -> Arrays:
        """Train the rounds that the run has trained and that are missing here, and return the model."""
        inner, experiences = self._trainer.inner, self._context.state.experiences()
        configs = [config for experience in experiences for config in experience.configs]
        for config in configs[self._rounds :]:
            self._rounds += 1
            if isinstance(inner, FrozenHead):  # the last round is over all that is retained, and is all that counts
                inner.reads_anew = self._rounds == len(configs)
            trained = self._trainer.train(self._arrays, self._rounds, self._of(config), longest=self._longest)
            self._arrays, self._longest = trained.arrays, trained.longest
        return self._arrays

    def _of(self, config: ConfigRecord) -> ConfigRecord:
        return ConfigRecord({**config, **{key: value for key, value in self._changed.items() if key in config}})
