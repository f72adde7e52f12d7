"""What a plug-in does about memory of forgotten samples that is left after it purged what it knows."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Sequence
from typing import Any, Literal

from fed_unlearn.avalanche.plugin.history import History
from fed_unlearn.avalanche.plugin.memory.input_digests import InputDigests
from fed_unlearn.avalanche.plugin.memory.leftovers import Leftover, find_leftovers
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.errors import InvalidParameterError

logger = logging.getLogger("fed_unlearn.avalanche")

Leftovers = Literal["fail", "warn"]


class LeftoverCheck:
    """Searches for leftovers, and says what was found in the same words wherever it is found.

    Parameters
    ----------
    mode : {"fail", "warn"}
        Whether a request is refused if something is left, or a warning is given.

    Attributes
    ----------
    found : tuple of str
        What the last search found.

    Raises
    ------
    InvalidParameterError
        If ``mode`` is another value.
    """

    def __init__(self, mode: Leftovers) -> None:
        if mode not in ("fail", "warn"):
            raise InvalidParameterError(f'leftovers = {mode!r} was given; expected "fail" or "warn"')
        self.fails = mode == "fail"
        self.found: tuple[str, ...] = ()
        self._digests = InputDigests()
        self._warned: set[str] = set()

    def before_commit(self, strategy: Any, history: History, experience: ForgetExperience) -> str | None:
        """Search for samples of a request before a model is committed.

        What has a method ``forget`` is not searched, since it is told after the commit.

        Returns
        -------
        str or None
            Why the request must be refused, in words; None if it may be committed.
        """
        told = [item for item in (strategy, *strategy.plugins) if callable(getattr(item, "forget", None))]
        classes = getattr(experience.request.scope, "classes", ())
        text = self._search(strategy, history, experience.sample_ids, classes, told)
        if text is None or self.fails:
            self._warned.add(text or "")
            return text
        self._warn(text)
        return None

    def after_training(self, strategy: Any, history: History) -> str | None:
        """Search at the end of a ``train`` call, and warn: hooks may have stored forgotten samples after a commit.

        Returns
        -------
        str or None
            What was found for certain, in words, if it was not told before; None otherwise.
        """
        if not history.forgotten:
            return None
        classes = {label for each in history.asked for label in getattr(each.request.scope, "classes", ())}
        text = self._search(strategy, history, history.forgotten, classes, [])
        return text if text is not None and self._warn(text) else None

    def _search(
        self,
        strategy: Any,
        history: History,
        forgotten: Collection[str],
        classes: Collection[int],
        without: Sequence[Any],
    ) -> str | None:
        """Return what was found for certain, in words. Warn of what is uncertain."""
        search = find_leftovers(
            strategy,
            forgotten,
            history.searched,
            classes=classes,
            digests=self._digests,
            without=without,
        )
        self.found = tuple(str(item) for item in search.found)
        certain = [item for item in search.found if item.is_certain]
        uncertain = [item for item in search.found if not item.is_certain]
        if uncertain:
            self._warn(_said(uncertain, strategy))
        if not search.complete:
            self._warn("the search for memory of forgotten samples reached its bound; what lies beyond was left out")
        return _said(certain, strategy) if certain else None

    def _warn(self, text: str) -> bool:
        """Warn of a text and log it, once. Return whether it was new."""
        if text in self._warned:
            return False
        self._warned.add(text)
        warnings.warn(text, stacklevel=2)
        logger.warning("%s", text)
        return True


def _said(found: Sequence[Leftover], strategy: Any) -> str:
    names = {item.attribute.split(".")[0] for item in found}
    ways: list[str] = []
    if "strategy" in names:
        ways.append(_way(strategy, type(strategy).__name__, "sample_ids"))
    for plugin in {type(plugin).__name__: plugin for plugin in strategy.plugins}.values():
        name = type(plugin).__name__
        if any(found_in.split("#")[0] == name for found_in in names - {"strategy"}):
            ways.append(_way(plugin, name, "strategy, sample_ids"))
    return f'{"; ".join(map(str, found))}. {", ".join(ways)}, or take UnlearningPlugin(leftovers="warn")'


def _way(holder: Any, name: str, arguments: str) -> str:
    if callable(getattr(holder, "forget", None)):
        return f"Have the method forget({arguments}) of {name} remove them"
    return f"Give {name} a method forget({arguments}) that removes them"
