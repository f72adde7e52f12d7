"""``strategy.unlearn(asked)``: unlearning as a method of the strategy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from avalanche.training.plugins import SupervisedPlugin

from fed_unlearn.avalanche.plugin.unlearning_plugin import UnlearningPlugin
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.local import LocalOutcome
from fed_unlearn.requests import ForgetRequest

Asked = ForgetRequest | ForgetExperience


class UnlearningCallbacks(SupervisedPlugin):
    """Base class of plug-ins that react to forget experiences. It has Avalanche's callbacks and two more."""

    def before_unlearning_exp(self, strategy: Any) -> None:
        """Run before a request is served. ``strategy.experience`` is the forget experience."""

    def after_unlearning_exp(self, strategy: Any) -> None:
        """Run after a request was served. ``strategy.model`` is the model after it."""


class Unlearning:
    """Mixin that gives a strategy a method ``unlearn``.

    The strategy needs an :class:`~fed_unlearn.avalanche.plugin.UnlearningPlugin` among its plug-ins::

        class NaiveUnlearning(Unlearning, Naive):
            pass

        strategy = NaiveUnlearning(model=model, optimizer=optimizer, plugins=[UnlearningPlugin("boundary-shrink")])
        strategy.unlearn(scenario.forget_stream[0])
    """

    PLUGIN_CLASS: ClassVar[Any] = UnlearningCallbacks

    def unlearn(self, asked: Asked | Iterable[Asked]) -> list[LocalOutcome]:
        """Serve requests or forget experiences, one after another.

        Parameters
        ----------
        asked : ForgetRequest, ForgetExperience or iterable of them
            What to forget, for instance a slice of the benchmark's forget stream.

        Returns
        -------
        list of LocalOutcome
            Outcomes, one for each request.

        Raises
        ------
        InvalidParameterError
            If the strategy does not have exactly one UnlearningPlugin, or something else is given.
        """
        plugins: list[Any] = getattr(self, "plugins", [])
        found = [plugin for plugin in plugins if isinstance(plugin, UnlearningPlugin)]
        if len(found) != 1:
            raise InvalidParameterError(
                f"{type(self).__name__} has {len(found)} UnlearningPlugins; expected one:"
                " give plugins=[UnlearningPlugin()]"
            )
        listed = list(asked) if isinstance(asked, Iterable) else [asked]
        return [found[0].unlearn(self, each) for each in listed]
