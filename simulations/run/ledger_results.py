"""The results of a federation that somebody's own Flower app runs, read from its ledger."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.run.installed import installed_versions
from fed_unlearn.simulations.run.recorded import LedgerRead
from fed_unlearn.simulations.run.recorder import Recorder
from fed_unlearn.simulations.run.results import APP, ResultsError, RunResults


def results_of_ledger(path: Path, key: Path | None = None, *, name: str) -> RunResults:
    """Read the results of a federation from its server's ledger.

    They have what the results of a run have, but for oracles, views of models and counts by device. The accuracy of a
    round is there where the app's evaluation reports ``accuracy``. A server may be at work on the ledger.

    Parameters
    ----------
    path : Path
        The ledger's file.
    key : Path, optional
        The file of its key, if it is not beside the ledger.
    name : str
        What the results are called.

    Returns
    -------
    RunResults
        Complete where no training is open and no request waits.

    Raises
    ------
    ResultsError
        If there is no ledger, or it cannot be read with this key.
    """
    if not path.is_file():
        raise ResultsError(f"{path}: is no file; expected the ledger of a server")
    results = RunResults(scenario=name, seed=0, engine=APP, versions=installed_versions())
    try:
        with closing(Ledger(path, create=False, key=key)) as ledger:
            is_training = bool(ledger.state("training"))
            return Recorder(results, None).finish(LedgerRead(ledger), complete=not is_training)
    except FedUnlearnError as error:
        raise ResultsError(str(error)) from error
