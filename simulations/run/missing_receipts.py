"""Receipts of a run that ended without them: the disk was full, or somebody deleted them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from fed_unlearn.ledger import Ledger
from fed_unlearn.receipts import default_receipt_key
from fed_unlearn.simulations.run.anonymity import anonymity_of
from fed_unlearn.simulations.run.folders import RECEIPTS
from fed_unlearn.strategies.receipt_folder import ReceiptFolder


def issue_missing(out: Path, ledger_key: Path | None = None, receipt_key: Path | None = None) -> list[str]:
    """Issue the receipts that are missing of a run's requests.

    Parameters
    ----------
    out : Path
        The run folder.
    ledger_key, receipt_key : Path, optional
        The files of the ledger's key and of the key that signs receipts, if they do not stand in the run folder.

    Returns
    -------
    list of str
        What was issued, in one line, and why receipts are still missing; empty where none was.

    Raises
    ------
    FedUnlearnError
        If the ledger cannot be opened.
    """
    if not (out / "ledger.db").is_file():
        return []
    with closing(Ledger(out / "ledger.db", create=False, key=ledger_key)) as ledger:
        key = receipt_key or default_receipt_key(ledger.path)
        had_key, receipts = key.exists(), ReceiptFolder(ledger, out / RECEIPTS, key)
        problems = receipts.catch_up()
    anonymity = anonymity_of(out)
    told = problems if anonymity is None else [anonymity.hidden(problem) for problem in problems]
    if not receipts.issued:
        return told
    names = ", ".join(path.name for path in receipts.issued)
    signed = "" if had_key else f", signed by a new key: {key}"
    return [f"receipts were missing and were issued now: {names}{signed}", *told]
