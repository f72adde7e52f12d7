"""What a plug-in has met so far: its strategy, its benchmark, training experiences and requests."""

from __future__ import annotations

from typing import Any

from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.due import coming, warn_of_overdue, way
from fed_unlearn.avalanche.streams.naming import experience_with
from fed_unlearn.avalanche.streams.samples import labels_of, sample_ids, without
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.local import LocalPlan


class History:
    """Keeps training experiences and requests, tells which samples are forgotten, and refuses what does not fit.

    Attributes
    ----------
    trained : list of DatasetExperience
        Training experiences in the order of ``train_exp_counter``, with all their samples.
    sizes : list of int
        Number of samples of each training experience that the weights rest on: those that were trained on, without
        those of requests that were committed since.
    asked : list of ForgetExperience
        All requests, also those that the gate did not accept.
    forgotten : frozenset of str
        Ids of samples that must not be trained on again.
    """

    def __init__(self) -> None:
        self.trained: list[Any] = []
        self.sizes: list[int] = []
        self.asked: list[ForgetExperience] = []
        self.forgotten: frozenset[str] = frozenset()
        self._warned: set[str] = set()
        self._owner: tuple[Any, Any] | None = None

    @property
    def asked_classes(self) -> set[int]:
        """Classes that class requests have named."""
        return {label for item in self.asked for label in getattr(item.request.scope, "classes", ())}

    def check(self, strategy: Any, experience: Any, plan: LocalPlan) -> None:
        """Raise if an experience comes from another strategy or benchmark than the first one.

        Raises
        ------
        InvalidParameterError
            Also if ``plan`` cannot serve a request of the benchmark.
        """
        benchmark = getattr(experience.origin_stream, "benchmark", None)
        if self._owner is None:
            for asked in getattr(benchmark, "streams", {}).get("forget", ()):
                plan.method_of(asked.request)
            self._owner = (strategy, benchmark)
        elif self._owner[0] is not strategy or self._owner[1] is not benchmark:
            what = "strategy" if self._owner[0] is not strategy else "benchmark"
            raise InvalidParameterError(
                f"this UnlearningPlugin was used with another {what} before; make a new one for each strategy and"
                " benchmark, since sample ids mean nothing beyond"
            )

    def check_request(self, strategy: Any, experience: ForgetExperience, plan: LocalPlan) -> None:
        """Raise if :meth:`check` does, or a request comes at another place than after its training experiences.

        Raises
        ------
        InvalidParameterError
            Also if the strategy trained before it had the plug-in.
        """
        self.check(strategy, experience, plan)
        seen, trained = len(self.trained), strategy.clock.train_exp_counter
        if seen < trained:
            raise InvalidParameterError(
                f"the UnlearningPlugin has met {seen} of {trained} training experiences; give it to the strategy before"
                " the first one"
            )
        if 0 < trained < experience.after:
            raise InvalidParameterError(f"{coming(experience)}, and {trained} were trained so far; {way(experience)}")

    def warn_of_overdue(self, experience: Any) -> None:
        """Warn of requests that the script has passed over, once each. Call this after a training experience."""
        benchmark = getattr(experience.origin_stream, "benchmark", None)
        met = {str(asked.request.id) for asked in self.asked}
        warn_of_overdue(benchmark, len(self.trained), met, self._warned)

    def add_request(self, experience: ForgetExperience) -> None:
        """Note a request. Its samples are forgotten from now on."""
        self.forgotten = self.forgotten.union(experience.sample_ids)
        self.asked.append(experience)

    def add_training(self, experience: Any, place: int) -> Any:
        """Note a training experience and return it without forgotten samples.

        Samples of the experience that fall under an earlier request are forgotten, too. An experience that was noted in
        the same place is replaced, since its training did not finish.

        Parameters
        ----------
        experience : DatasetExperience
            The experience that is about to be trained on.
        place : int
            Number of training experiences before it.
        """
        if self.asked:
            ids, labels = sample_ids(experience.dataset), labels_of(experience.dataset)
            for earlier in self.asked:
                hits = earlier.names(labels, ids)
                self.forgotten = self.forgotten.union(name for name, hit in zip(ids, hits, strict=True) if hit)
        retained = self.retained(experience)
        self.trained[place:], self.sizes[place:] = [experience], [len(retained.dataset)]
        return retained

    def retained(self, experience: Any) -> Any:
        """Return a training experience without forgotten samples. It is the same object if it has none."""
        kept = without(experience.dataset, self.forgotten)
        return experience if kept is experience.dataset else experience_with(experience, kept)

    def views(self) -> list[Any]:
        """Return all training experiences without forgotten samples."""
        return [self.retained(experience) for experience in self.trained]
