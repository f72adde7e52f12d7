"""The names of the classes: what the data calls them, where the model has outputs by index."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.text import printable, quoted

LONGEST_NAME = 200
"""No class has a longer name, in characters."""

_MOST_NAMED = 6
_LONGEST_SHOWN = 60


@dataclass(frozen=True)
class ClassNames:
    """The data's own labels of its classes, in the order of the model's outputs.

    A label is found by its text first, so that ``1`` is the class called ``"1"``, whatever its index. A whole number is
    an index only where no class has a number for a name, or where those that have one stand at that index.

    Parameters
    ----------
    names : tuple of str
        The name of each class: the label itself where the data has no other name. Empty where they are not known;
        classes are then given by their index alone.

    Examples
    --------
    >>> ClassNames(("cat", "deer")).index("deer"), ClassNames(("cat", "deer")).index(1)
    (1, 1)
    >>> ClassNames(("1", "2", "3")).index(1)
    0
    >>> print(ClassNames(("cat", "deer")).shown(1), ClassNames(("0", "1")).shown(1), ClassNames().shown(1))
    'deer' (index 1) 1 1
    """

    names: tuple[str, ...] = ()

    def index(self, label: int | str) -> int:
        """The index of the class that a request calls by this name or label.

        Parameters
        ----------
        label : int or str
            The name, or the data's own label; text of a whole number is one.

        Returns
        -------
        int
            Index of the class, counted from 0.

        Raises
        ------
        InvalidRequestError
            If there is no such class, or more than one.
        """
        text, number = str(label), _number(label)
        if not self.names:
            if number is None or number < 0:
                raise InvalidRequestError(
                    f"class {quoted(label)}: the names of the classes are not known here; expected an index from 0"
                )
            return number
        found = [index for index, name in enumerate(self.names) if name == text]
        if not found and number is not None:
            found = [index for index, value in enumerate(self._numbers) if value == number]
        if not found and number is not None and self._indices_are_labels and 0 <= number < len(self.names):
            found = [number]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidRequestError(
                f"{len(found)} classes are called {quoted(label)}, with the indices {', '.join(map(str, found))};"
                " expected one of these"
            )
        close = difflib.get_close_matches(text, self.names, n=1)
        hint = f"; did you mean {quoted(close[0])}?" if close and number is None else ""
        raise InvalidRequestError(f"{quoted(label)} is not a class of the data ({self.allowed()}){hint}")

    def indices(self, labels: Iterable[int | str]) -> tuple[int, ...]:
        """The index of each label, as :meth:`index` finds it."""
        return tuple(self.index(label) for label in labels)

    def shown(self, index: int) -> str:
        """A class for a table, a log or a message: its name, and its index where that is another one.

        Parameters
        ----------
        index : int
            Index of the class. An index that no class has is written as it is.
        """
        if not 0 <= index < len(self.names) or self.names[index] == str(index):
            return str(index)
        return f"{quoted(self.names[index], _LONGEST_SHOWN)} (index {index})"

    def listed(self, indices: Iterable[int]) -> str:
        """Several classes as :meth:`shown` writes them, in the given order, divided by commas."""
        return ", ".join(map(self.shown, indices))

    def labels(self, indices: Iterable[int]) -> list[str]:
        """The names of classes, for JSON; the index as text where no name is known."""
        return [self.names[index] if 0 <= index < len(self.names) else str(index) for index in indices]

    def allowed(self) -> str:
        """The labels that there are, in few words, such as ``1..10``."""
        numbers = [value for value in self._numbers if value is not None]
        if len(numbers) == len(self.names) and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            return f"{numbers[0]}..{numbers[-1]}"
        shown = ", ".join(quoted(name, _LONGEST_SHOWN) for name in self.names[:_MOST_NAMED])
        return shown if len(self.names) <= _MOST_NAMED else f"{shown} and {len(self.names) - _MOST_NAMED} more"

    @property
    def differ(self) -> bool:
        """Whether a class has another name than its index."""
        return any(name != str(index) for index, name in enumerate(self.names))

    def renumbering(self) -> str | None:
        """Which of the data's labels is which output of the model, in words; None where no number is another one."""
        moved = [index for index, value in enumerate(self._numbers) if value not in (None, index)]
        if not moved:
            return None
        pairs = ", ".join(f"{printable(self.names[index], _LONGEST_SHOWN)} -> {index}" for index in moved[:_MOST_NAMED])
        more = f" and {len(moved) - _MOST_NAMED} more" if len(moved) > _MOST_NAMED else ""
        return f"the data's labels are not the indices of the model's outputs: {pairs}{more}; requests name labels"

    @cached_property
    def _numbers(self) -> tuple[int | None, ...]:
        return tuple(map(_number, self.names))

    @cached_property
    def _indices_are_labels(self) -> bool:
        return all(value in (None, index) for index, value in enumerate(self._numbers))


UNNAMED_CLASSES = ClassNames()
"""Class names to use where nobody has said what the classes are called."""


def class_names_problem(names: Sequence[object], class_count: int | None = None) -> str | None:
    """What is wrong with names of classes; None where nothing is.

    Parameters
    ----------
    names : sequence
        Names as they came. Texts of 1 to 200 characters are expected.
    class_count : int, optional
        Expected number of names.
    """
    if class_count is not None and len(names) != class_count:
        return f"{len(names)} names for {class_count} classes"
    for index, name in enumerate(names):
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            return f"class {index} is called {quoted(name, _LONGEST_SHOWN)}; expected 1 to {LONGEST_NAME} characters"
    return None


def _number(label: object) -> int | None:
    """A label as a whole number; None where it is none."""
    if isinstance(label, int):
        return label
    text = str(label).strip()
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(digits) < 19 else None
