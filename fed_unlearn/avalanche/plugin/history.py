"""What a plug-in has met so far: its strategy, training experiences and requests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from avalanche.benchmarks import OnlineCLExperience

from fed_unlearn.avalanche.plugin.held_out import HeldOut
from fed_unlearn.avalanche.plugin.known_stream import KnownStream
from fed_unlearn.avalanche.plugin.progress import Progress
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.due import coming, warn_of_overdue, way
from fed_unlearn.avalanche.streams.naming import bare_experience, experience_with
from fed_unlearn.avalanche.streams.samples import has_sample_ids, only, sample_ids, without
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.requests import ForgetRequest


class Owner:
    """Marks a strategy and its plug-in as belonging together. Copies and pickles of both keep one mark for both."""


class History:
    """Keeps training experiences and requests, tells which samples are forgotten, and refuses what does not fit.

    Attributes
    ----------
    stream : KnownStream
        The training stream, with the ids of its samples.
    trained : list of DatasetExperience
        Training experiences in the order of ``train_exp_counter``, with all their samples. Online parts count alone.
    sizes : list of int
        Number of samples of each training experience that the weights rest on: those that were trained on, without
        those of requests that were committed since.
    asked : list of ForgetExperience
        All requests, also those that the gate did not accept.
    forgotten : frozenset of str
        Ids of samples that must not be trained on again.
    arrived : set of str
        Ids of the samples of all training experiences, forgotten ones included.
    held_out : HeldOut
        Samples that are never trained on.
    progress : Progress
        Counts experiences of the stream.
    """

    def __init__(self, held_out: HeldOut | None = None) -> None:
        self.stream = KnownStream()
        self.held_out = held_out or HeldOut()
        self.trained: list[Any] = []
        self.sizes: list[int] = []
        self.asked: list[ForgetExperience] = []
        self.forgotten: frozenset[str] = frozenset()
        self.arrived: set[str] = set()
        self.progress = Progress()
        self._warned: set[str] = set()
        self._owner: Owner | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the benchmark that training experiences are of. Not every benchmark can be pickled."""
        return {**vars(self), "trained": [bare_experience(experience) for experience in self.trained]}

    @property
    def asked_classes(self) -> set[int]:
        """Classes that class requests have named."""
        return {label for item in self.asked for label in getattr(item.asked.scope, "classes", ())}

    @property
    def never_trained_on(self) -> frozenset[str]:
        """Ids of samples that are forgotten or held out."""
        return self.forgotten | self.held_out.ids

    def validation(self) -> list[Any]:
        """Return the data sets of the held-out samples, without forgotten ones."""
        kept = self.held_out.ids - self.forgotten
        return [only(item.dataset, kept) for item in self.trained] if kept else []

    @property
    def experience_count(self) -> int:
        """Number of experiences of the stream that were trained on, whole or in parts."""
        return self.progress.begun

    @property
    def named(self) -> Iterator[Any]:
        """Data sets whose samples have ids: those of the training stream, and those that were trained on."""
        return (experience.dataset for experience in itertools.chain(self._announced(), self.trained))

    @property
    def searched(self) -> list[Any]:
        """Data sets that have all samples of requests and of the training so far. Online parts are in their stream."""
        whole = (experience for experience in self.trained if not isinstance(experience, OnlineCLExperience))
        return [experience.dataset for experience in itertools.chain(self.asked, self._announced(), whole)]

    def _announced(self) -> Iterable[Any]:
        return () if self.stream.scenario is None else self.stream.scenario.streams["train"]

    def own(self, strategy: Any) -> None:
        """Note whose plug-in this is. Nothing is refused before a request."""
        if self._owner is None:
            self._owner = Owner()
            strategy._unlearning_owner = self._owner
        try:
            self._check_owner(strategy)
        except InvalidParameterError as error:
            self.stream.problem = self.stream.problem or error

    def problem_with(self, strategy: Any) -> FedUnlearnError | None:
        """Return what stands against every request of a strategy; None if nothing is known against them."""
        try:
            self._check_strategy(strategy)
        except InvalidParameterError as error:
            return error
        return self.stream.problem

    def check_request(self, strategy: Any, experience: ForgetExperience) -> None:
        """Raise if a forget experience is of another benchmark, or comes before its training experiences.

        Raises
        ------
        InvalidParameterError
            Also if the strategy is another one, or trained before it had the plug-in.
        """
        self._check_strategy(strategy)
        self.stream.meet_request(experience)
        if 0 < self.experience_count < experience.after:
            raise InvalidParameterError(
                f"{coming(experience)}, and {self.experience_count} were trained so far; {way(experience)}"
            )

    def experience_of(self, strategy: Any, request: ForgetRequest) -> ForgetExperience:
        """Return the forget experience of a request that was made now.

        Raises
        ------
        InvalidParameterError
            If the strategy is another one, or trained before it had the plug-in.
        InvalidDataError
            If nothing is known of the training samples.
        InvalidRequestError
            If the request has nothing to forget, leaves nothing, or names something unknown.
        """
        self._check_strategy(strategy)
        return self.stream.experience_of(request, self.experience_count, self.arrived)

    def _check_owner(self, strategy: Any) -> None:
        if self._owner is not None and getattr(strategy, "_unlearning_owner", None) is not self._owner:
            raise InvalidParameterError(
                "this UnlearningPlugin was used with another strategy before; make a new one for each strategy and"
                " benchmark, since sample ids mean nothing beyond"
            )

    def _check_strategy(self, strategy: Any) -> None:
        self._check_owner(strategy)
        seen, trained = len(self.trained), strategy.clock.train_exp_counter
        if seen < trained:
            raise InvalidParameterError(
                f"the UnlearningPlugin has met {seen} of {trained} training experiences; give it to the strategy before"
                " the first one"
            )

    def warn_of_overdue(self) -> None:
        """Warn of requests that the script has passed over, once each. Call this after a training experience."""
        met = {str(asked.request.id) for asked in self.asked}
        warn_of_overdue(self.stream.scenario, self.experience_count, met, self._warned)

    def add_request(self, experience: ForgetExperience) -> None:
        """Note a request. Its samples are forgotten from now on."""
        self.forgotten = self.forgotten.union(experience.sample_ids)
        self.asked.append(experience)

    def take_back(self, experience: ForgetExperience) -> None:
        """Take a request back that was noted and was not served. Its samples are not trained on all the same."""
        self.stream.withdraw(experience)
        self.asked = [asked for asked in self.asked if asked is not experience]

    def add_training(self, experience: Any, place: int) -> Any:
        """Note a training experience and return it with ids and without forgotten samples.

        Samples of the experience that fall under an earlier request are forgotten, too. An experience that was noted in
        the same place is replaced, since its training did not finish.

        Parameters
        ----------
        experience : DatasetExperience
            The experience that is about to be trained on.
        place : int
            Number of training experiences before it.

        Raises
        ------
        FedUnlearnError
            If something is forgotten, and the samples cannot be told from it.
        """
        experience = self.stream.named(experience, self.forgotten)
        if self.asked:
            ids = sample_ids(experience.dataset)
            for earlier in self.asked:
                hits = earlier.names_in(experience.dataset)
                self.forgotten = self.forgotten.union(name for name, hit in zip(ids, hits, strict=True) if hit)
        if has_sample_ids(experience.dataset):
            self.arrived.update(sample_ids(experience.dataset))
        self.progress.add(experience, place)
        self.held_out.meet(experience.dataset, self.forgotten)
        retained = _retained(experience, self.never_trained_on)
        self.trained[place:], self.sizes[place:] = [experience], [len(retained.dataset)]
        return retained

    def views(self) -> list[Any]:
        """Return all training experiences without forgotten and held-out samples."""
        unwanted = self.never_trained_on
        return [_retained(experience, unwanted) for experience in self.trained]


def _retained(experience: Any, unwanted: frozenset[str]) -> Any:
    """Return a training experience without unwanted samples; the same object if it has none."""
    kept = without(experience.dataset, unwanted)
    return experience if kept is experience.dataset else experience_with(experience, kept)
