"""One plug-in is for one strategy and one benchmark: sample ids mean nothing beyond."""

from __future__ import annotations

from typing import Any

from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.local import LocalPlan


class Binding:
    """What a plug-in is used with, from its first experience on.

    Parameters
    ----------
    plan : LocalPlan
        Must have a method for every request of the benchmark's forget stream.
    """

    def __init__(self, plan: LocalPlan) -> None:
        self._plan = plan
        self._bound: tuple[Any, Any] | None = None

    def check(self, strategy: Any, experience: Any) -> None:
        """Refuse another strategy or benchmark than the first, and requests that cannot be served as they are put.

        Parameters
        ----------
        strategy : SupervisedTemplate
        experience : DatasetExperience
            To train on, or to forget.

        Raises
        ------
        InvalidParameterError
            Naming what differs, or the method or parameter that cannot be.
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
        """Refuse a request that has no meaning now.

        Parameters
        ----------
        strategy : SupervisedTemplate
        experience : ForgetExperience
        seen : int
            Training experiences that the plug-in has met.

        Raises
        ------
        InvalidParameterError
            As :meth:`check` does; if the strategy trained before it had the plug-in, or not yet what the request is
            about.
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
