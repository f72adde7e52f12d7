"""What the page shows of a run folder beside ``results.json``: its settings, its ledger, and digests of its files."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.gate import Gate
from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.report.anonymous import Pseudonyms
from fed_unlearn.simulations.run.folders import SCENARIO_FILE
from fed_unlearn.simulations.run.results import FILE_NAME
from fed_unlearn.simulations.scenario import Scenario, load_scenario
from fed_unlearn.text import printable

_LEDGER = "ledger.db"
_LONGEST_VALUE = 300
_HIDDEN = {"sample-ids"}
"""Settings whose values name samples."""
_CLIENT = "client"


@dataclass(frozen=True, kw_only=True)
class LedgerFacts:
    """What the ledger of a run says that the results do not.

    Attributes
    ----------
    head : str
        Digest of its last event.
    events : int
        Number of its events.
    served : str or None
        Digest of the model that serves.
    owed : mapping of str to tuple of str
        Requests that each client has not learned of yet, by client.
    departed : tuple of str
        Clients that were forgotten and are never asked again.
    """

    head: str
    events: int
    served: str | None
    owed: Mapping[str, tuple[str, ...]]
    departed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """What a run folder says beside the results.

    Attributes
    ----------
    settings : list of (str, str)
        Every setting with its value, by dotted key; sample ids are counted instead.
    gate : Gate or None
        The run's gate; None where the scenario cannot be read.
    ledger : LedgerFacts or None
    ledger_problem : str
        Why there are no facts of the ledger; empty where there are.
    digests : list of (str, str)
        SHA-256 digests of files, by name.
    """

    settings: list[tuple[str, str]] = field(default_factory=list)
    gate: Gate | None = None
    scenario: Scenario | None = None
    ledger: LedgerFacts | None = None
    ledger_problem: str = ""
    digests: list[tuple[str, str]] = field(default_factory=list)

    def with_letters(self, pseudonyms: Pseudonyms) -> FolderFacts:
        """A copy in which clients have letters in place of their names."""
        if self.ledger is None:
            return self
        owed = {pseudonyms.of(client): requests for client, requests in self.ledger.owed.items()}
        departed = tuple(pseudonyms.of(client) for client in self.ledger.departed)
        return replace(self, ledger=replace(self.ledger, owed=owed, departed=departed))


def facts_of(folder: Path, *, anonymous: bool = False, ledger_key: Path | None = None) -> FolderFacts:
    """Read a run folder.

    Parameters
    ----------
    folder : Path
    anonymous : bool
        Whether settings that name clients are left out, and what the ledger says of clients.
    ledger_key : Path, optional
        The file of the ledger's key, if it is not beside the ledger.
    """
    scenario = _scenario_of(folder)
    ledger, problem = _ledger_facts(folder / _LEDGER, ledger_key)
    files = (name for name in (SCENARIO_FILE, FILE_NAME) if (folder / name).is_file())
    return FolderFacts(
        settings=list(_settings(_table_of(folder / SCENARIO_FILE), anonymous=anonymous)),
        gate=None if scenario is None else _gate_of(scenario),
        scenario=scenario,
        ledger=ledger,
        ledger_problem=problem,
        digests=[(name, hashlib.sha256((folder / name).read_bytes()).hexdigest()) for name in files],
    )


def _scenario_of(folder: Path) -> Scenario | None:
    try:
        return load_scenario(str(folder / SCENARIO_FILE))
    except (FedUnlearnError, OSError):
        return None


def _gate_of(scenario: Scenario) -> Gate:
    """The gate's bounds, without the samples of a server that judges."""
    section = scenario.gate
    return Gate(
        class_thresholds=section.class_.thresholds(),
        sample_thresholds=section.sample.thresholds(),
        client_thresholds=section.client.thresholds(),
        indistinguishable_thresholds=section.indistinguishable.thresholds(),
    )


def _ledger_facts(path: Path, key: Path | None) -> tuple[LedgerFacts | None, str]:
    if not path.is_file():
        return None, "The folder holds no ledger."
    try:
        with closing(Ledger(path, create=False, key=key)) as ledger:
            events, head = ledger.head()
            return LedgerFacts(
                head=head,
                events=events,
                served=ledger.served_model(),
                owed=_owed_by_client(ledger),
                departed=tuple(sorted(ledger.departed())),
            ), ""
    except (FedUnlearnError, OSError) as error:
        return None, f"The ledger could not be read: {printable(str(error))}"


def _owed_by_client(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    owed: dict[str, list[str]] = {}
    for entry in ledger.entries():
        for client in entry.owed:
            owed.setdefault(client, []).append(entry.id)
    return {client: tuple(requests) for client, requests in sorted(owed.items())}


def _table_of(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _settings(table: Mapping[str, Any], prefix: str = "", *, anonymous: bool) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if value:
                yield from _settings(value, f"{name}.", anonymous=anonymous)
            else:
                yield name, "empty"
        elif isinstance(value, Sequence) and value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                yield from _settings(item, f"{name}.{index}.", anonymous=anonymous)
        else:
            yield name, _value_text(key, value, anonymous=anonymous)


def _value_text(key: str, value: object, *, anonymous: bool) -> str:
    if key in _HIDDEN:
        return f"{len(value) if isinstance(value, list) else 1} ids, not shown"
    if anonymous and key == _CLIENT:
        return "not shown"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return printable(text, _LONGEST_VALUE)
