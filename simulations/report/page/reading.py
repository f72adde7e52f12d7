"""Numbers and texts of ``results.json`` as HTML elements that say where they come from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from fed_unlearn.rounding import rounded_text
from fed_unlearn.text import printable

Key = str | int

LONGEST_TEXT = 2000
"""Greatest length of a text that the page shows, in characters."""

DASH = "\N{EN DASH}"
"""What stands where there is nothing."""

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def path_of(keys: Sequence[Key]) -> str:
    """Write where a value stands in ``results.json``.

    Parameters
    ----------
    keys : sequence of str or int
        Names of objects and indices of lists, outermost first.

    Examples
    --------
    >>> path_of(("requests", 0, "after", "forget_accuracy"))
    'requests[0].after.forget_accuracy'
    >>> path_of(("never_trained", "client 1"))
    'never_trained["client 1"]'
    """
    parts: list[str] = []
    for key in keys:
        if isinstance(key, str) and _PLAIN_NAME.fullmatch(key):
            parts.append(f".{key}" if parts else key)
        else:
            parts.append(f"[{json.dumps(key)}]")
    return "".join(parts)


def data(value: float, decimals: int = 3, **attributes: str) -> Markup:
    """A number as a ``<data>`` element, its exact value in ``value``.

    Parameters
    ----------
    value : float or int
    decimals : int
        Decimals of the text, where the number is no count.
    **attributes : str
        Further attributes of the element, by name; an underscore stands for a hyphen.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(name.replace("_", "-"), text) for name, text in attributes.items()
    )
    return Markup('<data value="{}"{}>{}</data>').format(json.dumps(value), written, rounded_text(value, decimals))


class Reading:
    """The results of a run as JSON, and elements of a page that show parts of it.

    Parameters
    ----------
    body : mapping
        What :meth:`~fed_unlearn.simulations.run.results.RunResults.to_json` gives.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body

    def value(self, *keys: Key) -> Any:
        """The value at a place, or None where there is none."""
        found: Any = self.body
        for key in keys:
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def number(self, *keys: Key, decimals: int = 3) -> Markup:
        """The number at a place, with its path in ``data-from``; a dash where there is none."""
        value = self.value(*keys)
        if value is None or isinstance(value, bool) or not isinstance(value, int | float):
            return Markup('<span class="none" title="not measured">{}</span>').format(DASH)
        return data(value, decimals, data_from=path_of(keys))

    def text(self, *keys: Key) -> Markup:
        """The text at a place, with its path in ``data-text-from``. Unprintable characters are escaped."""
        value = self.value(*keys)
        shown = printable(str(value), LONGEST_TEXT)
        return Markup('<span data-text-from="{}">{}</span>').format(path_of(keys), shown)

    def count(self, *keys: Key, where: tuple[Sequence[Key], object] | None = None) -> Markup:
        """How many entries a list or an object has.

        Parameters
        ----------
        *keys : str or int
            The place of the list.
        where : (sequence of keys, object), optional
            Only entries that have this value at this place within them.
        """
        entries = self.value(*keys) or ()
        if where is None:
            return data(len(entries), data_count=path_of(keys))
        inner, wanted = where
        found = sum(Reading(entry).value(*inner) == wanted for entry in entries)
        return data(found, data_count=path_of(keys), data_where=json.dumps([list(inner), wanted]))

    def interval(self, *keys: Key) -> Markup:
        """The interval at a place as ``low to high``; empty where there is none."""
        if self.value(*keys) is None:
            return Markup("")
        return Markup("{} to {}").format(self.number(*keys, 0), self.number(*keys, 1))


def name_text(name: str) -> Markup:
    """The name of a figure in words, marked as a name so that its digits are not taken for results."""
    words = printable(name, LONGEST_TEXT).replace("_", " ").replace(" auc", " AUC")
    return Markup('<span data-name="{}">{}</span>').format(name, words)


def joined(parts: Sequence[Markup | str], separator: str = " ") -> Markup:
    """Several pieces of markup with something between them; empty ones are left out."""
    return Markup(escape(separator)).join(part for part in parts if part)
