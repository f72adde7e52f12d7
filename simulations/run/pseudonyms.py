"""Letters in place of clients' names, for whoever must not read these."""

from __future__ import annotations

import re
import sqlite3
import tomllib
from collections.abc import Iterable
from contextlib import closing
from functools import cached_property
from pathlib import Path
from string import ascii_uppercase

from fed_unlearn.simulations.run.folders import SCENARIO_FILE
from fed_unlearn.strategies.clients.messages.exchange import client_order

_NO_NAME = "?"
NODE = re.compile(r"of node -?\d+")
"""What a node that named no client is called."""

_BEFORE = r"(?<![\w-])(?:client rebind \S+ |(?:client|holder)s?(?: |=|[\"']: )|clients/)"
_QUOTE = "[\"']?"
_NOT_INSIDE, _ENDS = r"(?<![\w-])", r"(?![\w-])"


class Pseudonyms:
    """Letters for the clients of a run: A for the first, B for the second, AA after Z.

    Parameters
    ----------
    names : iterable of str
        Names of the clients, in the order in which they get their letters. A name that comes twice counts once.

    Examples
    --------
    >>> Pseudonyms(["0", "1", "hospital-berlin"]).scrubbed("client 1: as hospital-berlin says")
    'client B: as C says'
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._letters = {name: _letters(number) for number, name in enumerate(dict.fromkeys(names))}

    def of(self, name: str) -> str:
        """The letter of a client; a question mark for one that has none. A node that named no client stays."""
        return name if NODE.fullmatch(name) else self._letters.get(name, _NO_NAME)

    def and_of(self, names: Iterable[str]) -> Pseudonyms:
        """The same letters, and the next ones for clients that had none: numbers by value, then other names."""
        new = sorted(
            {name for name in names if name and not NODE.fullmatch(name)} - set(self._letters), key=client_order
        )
        return Pseudonyms([*self._letters, *new]) if new else self

    def scrubbed(self, text: str) -> str:
        """A text with letters in place of names.

        A name that is a number is replaced where it stands after the word client or holder, or in a path of clients'
        folders. Any other name is replaced wherever it stands as a word of its own.

        Parameters
        ----------
        text : str
            For instance why a request failed.
        """
        return self._pattern.sub(self._replaced, text)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted((name for name in self._letters if name.strip()), key=len, reverse=True)
        words = [re.escape(name) for name in longest_first if not _is_number(name)]
        anywhere = rf"|{_NOT_INSIDE}(?:{'|'.join(words)}){_ENDS}" if words else ""
        name = rf"{_QUOTE}(?:{'|'.join([*words, '[0-9]+'])}){_QUOTE}{_ENDS}"
        several = rf"{name}(?:(?:, | and ){name})*"
        # After "client" stands one name, but for messages that list several of them before a colon or a verb.
        plural = rf"{_NOT_INSIDE}(?:client|holder)s {several}|{_NOT_INSIDE}client {several}(?=:| is | are )"
        return re.compile(rf"{plural}|{_BEFORE}{name}{anywhere}")

    def _replaced(self, match: re.Match[str]) -> str:
        found = match.group()
        before = re.match(_BEFORE, found)
        if before is None:
            return self.of(found)
        names = re.split(r"(, | and )", found[before.end() :])
        return before.group() + "".join(part if part in (", ", " and ") else self._unquoted(part) for part in names)

    def _unquoted(self, name: str) -> str:
        if name in self._letters:
            return self.of(name)
        after = name[-1] if name[-1] in "\"'" and name[0] != name[-1] else ""  # it closes what began before the name
        return self.of(name.strip("\"'")) + after


def client_names(folder: Path) -> tuple[str, ...]:
    """Names of the clients of a run, in the order of their letters; empty where the folder tells of none.

    Parameters
    ----------
    folder : Path
        A run folder. Its ledger is read without its key, and its scenario for the number of clients.
    """
    return in_order(met_clients(folder / "ledger.db"), client_count(folder))


def client_count(folder: Path) -> int:
    """Number of clients of a run folder's scenario; 0 where it tells of none."""
    count = _scenario_value(folder / SCENARIO_FILE, "clients", "count")
    return count if isinstance(count, int) else 0


def in_order(names: Iterable[str], count: int = 0) -> tuple[str, ...]:
    """Names of clients in the order of their letters: numbers by value, then other names.

    Parameters
    ----------
    names : iterable of str
        The clients that were met.
    count : int
        Number of the scenario's clients. Those that were not met have letters too, where clients are numbered.
    """
    met = {name for name in names if name and not NODE.fullmatch(name)}
    numbered = {str(number) for number in range(count)} if all(map(_is_number, met)) else set()
    return tuple(sorted(met | numbered, key=client_order))


def is_anonymous(folder: Path) -> bool:
    """Whether the scenario of a run folder says that the report, the figures and the log name no client."""
    return _scenario_value(folder / SCENARIO_FILE, "reporting", "anonymous") is True


def met_clients(ledger: Path) -> list[str]:
    """Names of the clients that a ledger has met, read from its file without its key; none where it cannot be read."""
    if not ledger.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return [str(name) for (name,) in connection.execute("SELECT id FROM clients")]
    except sqlite3.Error:  # the results name clients too
        return []


def _scenario_value(scenario: Path, section: str, key: str) -> object:
    try:
        table = tomllib.loads(scenario.read_text(encoding="utf-8"))
        return table[section][key]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _letters(number: int) -> str:
    """A for 0, Z for 25, AA for 26."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, len(ascii_uppercase))
        text = ascii_uppercase[rest] + text
    return text
