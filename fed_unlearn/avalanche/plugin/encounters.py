"""What happens to each experience that a strategy meets in a ``train`` call."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from avalanche.training.supervised import JointTraining

from fed_unlearn.avalanche.plugin.memory.buffers import drop_batches, purge_buffers
from fed_unlearn.avalanche.plugin.muting import Muting
from fed_unlearn.avalanche.plugin.regularisers import note_skipped
from fed_unlearn.avalanche.plugin.service import RequestService
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.forget_experience import released
from fed_unlearn.avalanche.streams.naming import experience_with
from fed_unlearn.avalanche.streams.samples import without

logger = logging.getLogger("fed_unlearn.avalanche")


class Offered(partial[Any]):
    """The method ``unlearn`` that a plug-in gives a strategy. Another plug-in in its place gives another."""


class Encounters:
    """Serves forget experiences, and takes out of training experiences what must not be trained on.

    Methods are called in the order in which they stand here, for each experience.

    Parameters
    ----------
    kept : SupervisedPlugin
        The plug-in that stays with the strategy while an experience is hidden from the others.
    service : RequestService
        Serves requests.
    """

    def __init__(self, kept: Any, service: RequestService) -> None:
        self._service = service
        self._kept, self._muting = kept, Muting(kept)

    def begin(self, strategy: Any) -> None:
        """Take up a strategy that begins to train, and give it a method ``unlearn`` if it has none of its own."""
        self._service.history.own(strategy)
        if not hasattr(strategy, "unlearn") or isinstance(vars(strategy).get("unlearn"), Offered):
            strategy.unlearn = Offered(self._kept.unlearn, strategy)

    def recover(self, strategy: Any) -> None:
        """Give the strategy its plug-ins back if the last ``train`` call broke off while an experience was hidden."""
        self._muting.recover(strategy)

    def meet(self, strategy: Any) -> None:
        """Serve a forget experience; or serve waiting requests and take forgotten samples out of the experience."""
        if isinstance(strategy.experience, ForgetExperience):
            self._meet_request(strategy, strategy.experience)
        else:
            if not isinstance(strategy, JointTraining):
                self._service.history.progress.expect(strategy.experience, strategy.clock.train_exp_counter)
            self._service.serve_waiting(strategy)
            self._meet_training(strategy)

    def clean(self, strategy: Any) -> None:
        """Take forgotten and held-out samples out of what the strategy trains on besides the experience."""
        unwanted = self._service.history.never_trained_on
        if unwanted and not self._muting.active:
            strategy.adapted_dataset = without(strategy.adapted_dataset, unwanted)

    def empty(self, strategy: Any) -> None:
        """Leave nothing to store for strategies that store samples of an experience in which nothing was trained."""
        if self._muting.active:
            strategy.experience = experience_with(strategy.experience, released(strategy.experience.dataset).subset([]))

    def leave(self, strategy: Any) -> None:
        """Give the strategy its other plug-ins back after a hidden experience; warn of requests that were passed."""
        if self._muting.active:
            self._muting.end(strategy)
            self.purge(strategy)
        else:
            self._service.history.warn_of_overdue()

    def end(self, strategy: Any) -> None:
        """Note the end of a ``train`` call, and do what :meth:`purge` does."""
        self._service.history.progress.end_call()
        self.purge(strategy)

    def purge(self, strategy: Any) -> None:
        """Remove forgotten and held-out samples that the strategy and its plug-ins have stored."""
        history = self._service.history
        unwanted = history.never_trained_on
        if unwanted:
            purge_buffers(strategy, unwanted, history.named)

    def _meet_request(self, strategy: Any, experience: ForgetExperience) -> None:
        drop_batches(strategy)
        try:
            self._service.unlearn_now(strategy, experience)
        except BaseException:
            strategy._train_cleanup()
            raise
        strategy.experience = experience_with(experience, released(experience.dataset))
        self._muting.start(strategy)

    def _meet_training(self, strategy: Any) -> None:
        history, place = self._service.history, strategy.clock.train_exp_counter
        self._service.unlearning.note_training()
        trains_jointly = isinstance(strategy, JointTraining)  # on all experiences at once
        given = strategy._experiences if trains_jointly else [strategy.experience]
        retained = [history.add_training(each, place + number) for number, each in enumerate(given)]
        if trains_jointly:
            strategy._experiences = retained
        self._service.check_announced()
        if history.never_trained_on and not any(len(each.dataset) for each in retained):
            logger.warning("experience %d has no sample to train on: all are forgotten or held out; skipped", place)
            note_skipped(strategy)  # before the plug-ins that it tells are taken away
            self._muting.start(strategy)
            strategy.clock.train_exp_counter += 1
        else:
            strategy.experience = retained[0]
            self.purge(strategy)  # ER-ACE and ER-AML have stored the whole experience already
