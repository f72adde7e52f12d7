"""Output folders. They are new or empty, and checked before anything is computed."""

from __future__ import annotations

import errno
import os
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

from fed_unlearn.checkpoints import is_temporary, make_private_folder
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import LAUNCH_LOCK, RUN_LOCK, LockedError, run_lock
from fed_unlearn.simulations.run.setting_values import changed_keys, digest_of_values, told_changes, values_of
from fed_unlearn.simulations.scenario.errors import ScenarioError
from fed_unlearn.simulations.scenario.sections import RunSection, Scenario

SCENARIO_FILE = "scenario.toml"
"""The resolved scenario in the folder of a run."""

RECEIPTS = "receipts"
"""The folder of receipts in the folder of a run; their key stands beside it."""

_LEDGER, _SCENARIO_STATE = "ledger.db", "scenario"
_OF_A_BEGINNING = {
    *(RUN_LOCK, LAUNCH_LOCK, SCENARIO_FILE, "ledger.key", "log.txt", "stream.json", "superlink.log"),
    *("checkpoints", "clients", "history", "keys", "logs", "reports", "superlink", "views"),
    *(RECEIPTS, f"{RECEIPTS}.key", f"{RECEIPTS}.pub"),
}


class OutputFolderError(FedUnlearnError, ValueError):
    """Raised if an output folder cannot be used."""


def usable_folder(folder: Path, results: str, begins_again: Callable[[Path], bool] = lambda folder: False) -> Path:
    """Check an output folder and return its absolute path. Nothing is made yet.

    Parameters
    ----------
    folder : Path
        The folder of ``--out``.
    results : str
        The name of a file that shows that the folder was used before.
    begins_again : callable
        Whether a folder that is not empty may be used all the same.

    Raises
    ------
    OutputFolderError
        If it is a file, lies below a file, or is not empty.
    """
    folder = folder.expanduser().absolute()
    blocking = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not blocking.is_dir() and blocking.exists():
        raise OutputFolderError(f"--out {folder}: {blocking} is a file; expected a new folder or an empty one")
    if (folder / results).exists():
        raise OutputFolderError(f"--out {folder}: holds a run already; expected a new folder or an empty one")
    if folder.exists() and any(folder.iterdir()) and not begins_again(folder):
        raise OutputFolderError(f"--out {folder}: is not empty; expected a new folder or an empty one")
    return folder


def make_folder(folder: Path) -> bool:
    """Make an output folder.

    Returns
    -------
    bool
        Whether the folder is a new one.

    Raises
    ------
    OutputFolderError
        If it cannot be made or written to.
    """
    is_new = not folder.exists()
    try:
        make_private_folder(folder)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise OutputFolderError(
            f"--out {folder}: cannot be written ({error.strerror}); expected a folder that can be made"
        ) from None
    return is_new


def holds_a_run(folder: Path) -> bool:
    """Whether a folder holds a run or part of one."""
    return (folder / SCENARIO_FILE).is_file()


def is_of_older_version(folder: Path) -> bool:
    """Whether a run was begun by a version that did not bound requests: its resolved scenario lacks a key."""
    section = tomllib.loads((folder / SCENARIO_FILE).read_text(encoding="utf-8")).get("unlearning", {})
    return "max-client-share" not in section


def is_free(folder: Path, resolved: str) -> bool:
    """Whether a run can begin in a folder: it is new, or holds the same run's beginning, which no process works on."""
    if not folder.exists():
        return True
    try:
        with run_lock(folder) if (folder / RUN_LOCK).exists() else nullcontext():
            return is_beginning(folder, resolved)
    except (LockedError, OSError):
        return False


def is_beginning(folder: Path, resolved: str) -> bool:
    """Whether a folder holds nothing but a run that was stopped before its first results; an empty one does, too.

    Parameters
    ----------
    folder : Path
    resolved : str
        The resolved scenario of the run.
    """
    names = {path.name for path in folder.iterdir() if not is_temporary(path)}
    if not all(name in _OF_A_BEGINNING or name.startswith(_LEDGER) for name in names):
        return False
    if SCENARIO_FILE not in names:
        return names <= {RUN_LOCK, LAUNCH_LOCK}
    return (folder / SCENARIO_FILE).read_text(encoding="utf-8") == resolved


_ADDED = {"audit_test_samples", "audit_earlier_samples", "audit_unlearned_samples"}
"""Settings of ``[run]`` that runs may have been begun without; they go on with the defaults."""


def keep_scenario(scenario: Scenario, ledger: Ledger, out: Path) -> None:
    """Write into the ledger what a run is begun with. If the run continues, compare the scenario with that.

    Parameters
    ----------
    scenario : Scenario
    ledger : Ledger
        The ledger of the run.
    out : Path
        The run folder, for the error.

    Raises
    ------
    ScenarioError
        If the run was begun with another scenario or another seed. The message names the keys that differ.
    """
    table = tomllib.loads(scenario.to_toml())
    table.pop("serve", None)  # how a server looks for work changes no result, and neither does who is told of it
    for key in ("trackers", "anonymous"):
        table.get("reporting", {}).pop(key, None)
    values = values_of(table)
    body = {"digest": digest_of_values(values), "version": version("fed-unlearn"), "values": values}
    known = ledger.state(_SCENARIO_STATE)
    if not isinstance(known, dict):
        ledger.set_state(_SCENARIO_STATE, body)
        return
    if known["digest"] == body["digest"]:
        return
    added = values_of(RunSection().model_dump(mode="json", by_alias=True, include=_ADDED), "run.")
    before: dict[str, str] = known["values"]
    differing = changed_keys(before, values, same_version=known["version"] == body["version"])
    changed = [key for key in differing if key in before or added.get(key) != values.get(key)]
    if changed:
        raise ScenarioError(
            f"{scenario.source_file}: differs from what the run in {out} was begun with:"
            f" {told_changes(changed, before, values)}; put it back, or begin another run in a new folder"
        )
