"""The command that says how a federation stands."""

from __future__ import annotations

from fed_unlearn.simulations.cli.ledger import AsJson, LedgerPlace, opened_ledger
from fed_unlearn.simulations.cli.orders.codes import COMMITTED, NOT_COMMITTED
from fed_unlearn.simulations.cli.orders.options import LedgerKey


def status(place: LedgerPlace, ledger_key: LedgerKey = None, as_json: AsJson = False) -> int:
    """Show who is there, what runs, what waits and why, what is owed, and the last audit of each request.

    The exit code is 0 if a server works on the ledger and its last turn went well, 1 if not.
    """
    from fed_unlearn.simulations.report.ledger_tables import print_json
    from fed_unlearn.simulations.report.server_status import ServerStatus

    with opened_ledger(place, ledger_key) as ledger:
        found = ServerStatus.of(ledger)
    if as_json:
        print_json(found.body)
    else:
        found.print()
    return COMMITTED if found.is_healthy else NOT_COMMITTED
