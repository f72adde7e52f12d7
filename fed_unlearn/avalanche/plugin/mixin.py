"""``strategy.unlearn(experience)``: the plug-in's work as a method of the strategy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from avalanche.training.plugins import SupervisedPlugin

from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.local import LocalOutcome


class UnlearningCallbacks(SupervisedPlugin):  # type: ignore[misc, unused-ignore]
    """Avalanche's callbacks and those of unlearning: a base for plug-ins that are told of forget experiences."""

    def before_unlearning_exp(self, strategy: Any) -> None:
        """Called before a forget experience is served; ``strategy.experience`` is it."""

    def after_unlearning_exp(self, strategy: Any) -> None:
        """Called after it, with the model that is served from here on."""


class Unlearning:
    """Mixin for strategies that unlearn when told to, apart from their training.

    The strategy needs an :class:`~fed_unlearn.avalanche.plugin.UnlearningPlugin` among its plug-ins::

        class NaiveUnlearning(Unlearning, Naive):
            pass

        strategy = NaiveUnlearning(model=model, optimizer=optimizer, plugins=[UnlearningPlugin("boundary-shrink")])
        strategy.unlearn(scenario.forget_stream[0])
    """

    PLUGIN_CLASS: ClassVar[Any] = UnlearningCallbacks

    def unlearn(self, experiences: ForgetExperience | Iterable[ForgetExperience]) -> list[LocalOutcome]:
        """Serve forget experiences, one after another.

        Parameters
        ----------
        experiences : ForgetExperience, or iterable of them
            For instance a slice of the benchmark's forget stream.

        Returns
        -------
        list of LocalOutcome

        Raises
        ------
        InvalidParameterError
            If the strategy has no UnlearningPlugin, or one of the experiences is none to forget.
        """
        plugins: list[Any] = getattr(self, "plugins", [])
        found = [plugin for plugin in plugins if isinstance(plugin, UnlearningPlugin)]
        if len(found) != 1:
            raise InvalidParameterError(
                f"{type(self).__name__} has {len(found)} UnlearningPlugins; expected one:"
                " give plugins=[UnlearningPlugin()]"
            )
        listed = list(experiences) if isinstance(experiences, Iterable) else [experiences]
        return [found[0].unlearn(self, experience) for experience in listed]
