"""Checks that a plug-in is used with one strategy and one benchmark only."""

from __future__ import annotations

from typing import Any

from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.local import LocalPlan


class Binding:
    """Remembers the strategy and the benchmark of a plug-in's first experience, and refuses others.

    Parameters
    ----------
    plan : LocalPlan
        It must have a method for every request of the benchmark's forget stream.
    """

    def __init__(self, plan: LocalPlan) -> None:
        self._plan = plan
        self._bound: tuple[Any, Any] | None = None

    def check(self, strategy: Any, experience: Any) -> None:
        """Raise if the strategy or the benchmark is not the first one, or a request of the stream cannot be served.

        Parameters
        ----------
        strategy : SupervisedTemplate
            The strategy that calls the plug-in.
        experience : DatasetExperience
            The experience to train on or to forget.

        Raises
        ------
        InvalidParameterError
            If the strategy or benchmark differs from the first one, or a request names an unknown method or parameter.
        """
        benchmark = getattr(experience.origin_stream, "benchmark", None)
        if self._bound is None:
            for asked in getattr(benchmark, "streams", {}).get("forget", ()):
                self._plan.method_of(asked.request)
            self._bound = (strategy, benchmark)
        elif self._bound[0] is not strategy or self._bound[1] is not benchmark:
            what = "strategy" if self._bound[0] is not strategy else "benchmark"
            raise InvalidParameterError(
                f"this UnlearningPlugin was used with another {what} before; make a new one for each strategy and"
                " benchmark, since sample ids mean nothing beyond"
            )

    def check_request(self, strategy: Any, experience: ForgetExperience, seen: int) -> None:
        """Raise if a request cannot be served now.

        Parameters
        ----------
        strategy : SupervisedTemplate
            The strategy that calls the plug-in.
        experience : ForgetExperience
            The experience of the request.
        seen : int
            Number of training experiences that the plug-in has met.

        Raises
        ------
        InvalidParameterError
            If :meth:`check` raises, the strategy trained before it had the plug-in, or the training experiences before
            the request are not all trained yet.
        """
        self.check(strategy, experience)
        trained = strategy.clock.train_exp_counter
        if seen < trained:
            raise InvalidParameterError(
                f"the UnlearningPlugin has met {seen} of {trained} training experiences; give it to the strategy before"
                " the first one"
            )
        if 0 < trained < experience.after:
            raise InvalidParameterError(
                f"request {experience.request.id} comes after {experience.after} training experiences, and {trained}"
                " were trained so far; take experiences in the order of interleave(benchmark)"
            )
