"""Results without the names of clients: each client gets a letter, and free text that names it gets it too."""

from __future__ import annotations

import re
import sqlite3
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from string import ascii_uppercase

from fed_unlearn.simulations.run.folders import SCENARIO_FILE
from fed_unlearn.simulations.run.results import RequestResult, RunResults
from fed_unlearn.simulations.run.training_results import TrainingResult
from fed_unlearn.strategies.clients.messages.exchange import client_order

_NO_NAME = "?"
_NODE = re.compile(r"of node -?\d+")
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
        return name if _NODE.fullmatch(name) else self._letters.get(name, _NO_NAME)

    def knows(self, names: Iterable[str]) -> bool:
        """Whether all of these clients have letters."""
        return all(name in self._letters for name in names)

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
        return self.of(name) if name in self._letters else self.of(name.strip("\"'"))


def anonymised(results: RunResults, names: Iterable[str] = ()) -> RunResults:
    """Results in which every client has a letter in place of its name, and no request names samples by their ids.

    Labels of classes and ids of requests stay as they are.

    Parameters
    ----------
    results : RunResults
    names : iterable of str, optional
        Names of all clients of the run, in the order of their letters, as :func:`client_names` finds them in a run
        folder. Clients that only the results name follow.

    Returns
    -------
    RunResults
        A copy; the results that were given are not changed.
    """
    pseudonyms = Pseudonyms([*names, *sorted(_named_in(results), key=client_order)])
    return replace(
        results,
        training=_training(results.training, pseudonyms),
        requests=tuple(_request(request, pseudonyms) for request in results.requests),
        devices=tuple(replace(item, client=pseudonyms.of(item.client)) for item in results.devices),
    )


def client_names(folder: Path) -> tuple[str, ...]:
    """Names of the clients of a run, in the order of their letters; empty where the folder tells of none.

    Parameters
    ----------
    folder : Path
        A run folder. Its ledger is read without its key, and its scenario for the number of clients.
    """
    return in_order(_met(folder / "ledger.db"), _count(folder / SCENARIO_FILE))


def in_order(names: Iterable[str], count: int = 0) -> tuple[str, ...]:
    """Names of clients in the order of their letters: numbers by value, then other names.

    Parameters
    ----------
    names : iterable of str
        The clients that were met.
    count : int
        Number of the scenario's clients. Those that were not met have letters too, where clients are numbered.
    """
    met = set(names)
    numbered = {str(number) for number in range(count)} if all(map(_is_number, met)) else set()
    return tuple(sorted(met | numbered, key=client_order))


def _met(ledger: Path) -> list[str]:
    if not ledger.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return [str(name) for (name,) in connection.execute("SELECT id FROM clients")]
    except sqlite3.Error:  # the results name clients too
        return []


def _count(scenario: Path) -> int:
    try:
        count = tomllib.loads(scenario.read_text(encoding="utf-8"))["clients"]["count"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return count if isinstance(count, int) else 0


def _named_in(results: RunResults) -> set[str]:
    training = results.training
    names = {*training.trained_clients, *training.never_trained, *(item.client for item in results.devices)}
    names.update(name for item in training.clients for name in item.failed)
    names.update(str(request.target["client"]) for request in results.requests if "client" in request.target)
    names.update(name for request in results.requests for name in (*request.owed, *request.left_out))
    return {name for name in names if not _NODE.fullmatch(name)}


def _training(training: TrainingResult, pseudonyms: Pseudonyms) -> TrainingResult:
    return replace(
        training,
        clients=tuple(replace(item, failed=_reasons(item.failed, pseudonyms)) for item in training.clients),
        trained_clients=tuple(sorted(pseudonyms.of(name) for name in training.trained_clients)),
        never_trained=_reasons(training.never_trained, pseudonyms),
    )


def _reasons(reasons: Mapping[str, str], pseudonyms: Pseudonyms) -> dict[str, str]:
    return {pseudonyms.of(name): pseudonyms.scrubbed(why) for name, why in reasons.items()}


def _request(request: RequestResult, pseudonyms: Pseudonyms) -> RequestResult:
    reason = None if request.reason is None else pseudonyms.scrubbed(request.reason)
    return replace(
        request,
        reason=reason,
        target=dict(_target(request.target, pseudonyms)),
        owed=tuple(sorted(map(pseudonyms.of, request.owed))),
        left_out=tuple(sorted(map(pseudonyms.of, request.left_out))),
    )


def _target(target: Mapping[str, object], pseudonyms: Pseudonyms) -> Iterator[tuple[str, object]]:
    for name, value in target.items():
        if name == "client":
            yield name, pseudonyms.of(str(value))
        elif name == "sample_ids":
            yield "samples", len(value) if isinstance(value, list | tuple) else value
        else:
            yield name, value


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
