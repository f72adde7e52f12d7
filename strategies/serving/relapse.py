"""Whether what was forgotten stays forgotten: audits of all earlier requests, and requests that are opened again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from fed_unlearn.audits.pooled import Audit, classes_of, forget_accuracy
from fed_unlearn.ledger import Fact, Ledger, LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.strategies.clients.audit import Auditor
from fed_unlearn.strategies.clients.messages.exchange import NobodyAnsweredError
from fed_unlearn.strategies.context import CallContext, Event
from fed_unlearn.strategies.outcomes import RelapseRow
from fed_unlearn.strategies.serving.doubt import relapse_with_doubt
from fed_unlearn.strategies.serving.judge import Judge
from fed_unlearn.strategies.state import looks_due, settle_look

_EVENT, _NOT_AUDITED = "relapse-audit", "relapse-not-audited"
TOMBSTONES = "tombstones"
"""What an audit followed if a client wrote the tombstones that it owed: ``"tombstones:CLIENT"``."""

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class RelapseWatch:
    """Looks at all committed requests after every commit and every training experience, on raw outputs.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    """

    context: CallContext

    def look(self, after: str, audit: Audit | None, *, may_reopen: bool) -> None:
        """Record how all committed requests stand.

        Parameters
        ----------
        after : str
            What happened before, for instance ``"train:2"`` or a request's id.
        audit : Audit or None
            Audit of the served model, with these requests; made anew where there is none.
        may_reopen : bool
            Whether a request that relapsed may be opened again now.
        """
        ledger = self.context.ledger
        entries = ledger.committed()
        if not entries:
            return
        if audit is None:
            self.look_at_once([after], may_reopen=may_reopen)
            return
        judge = Judge(self.context.gate, self.context.plan)
        relapsed = {
            entry.id: reason
            for entry in entries
            if entry.status is Status.COMMITTED
            and (reason := relapse_with_doubt(judge, entry.request, audit)) is not None
        }
        test = audit.counts("test")
        row = RelapseRow(
            after,
            {entry.id: forget_accuracy(audit, entry.request) for entry in entries},
            {
                entry.id: test.accuracy(only=classes_of(entry.request))
                if test is not None and classes_of(entry.request)
                else None
                for entry in entries
            },
            tuple(relapsed),
        )
        with ledger.transaction():
            ledger.note(_EVENT, _facts(row, ledger))
            settle_look(ledger, after)
            for entry in entries:
                if entry.id in relapsed:
                    self._relapsed(entry, relapsed[entry.id], audit, may_reopen=may_reopen)
        self.context.result.relapse.append(row)
        if after in self.context.result.relapse_due:
            self.context.result.relapse_due.remove(after)

    def look_at_once(self, afters: Sequence[str], *, may_reopen: bool) -> None:
        """Record how all committed requests stand after several things that nothing came between; by one audit.

        Parameters
        ----------
        afters : sequence of str
            Events that happened before the audit.
        may_reopen : bool
            Whether a request that relapsed may be opened again now.
        """
        if not afters or not self.context.ledger.committed():
            return
        try:
            audit = Auditor(self.context).audit_committed(self.context.served.arrays)
        except NobodyAnsweredError as error:
            for after in afters:
                self._not_audited(after, str(error))
            return
        for after in afters:
            self.look(after, audit, may_reopen=may_reopen)

    def catch_up(self) -> None:
        """Do what a crash has cut off, or could not be done since no client answered."""
        for after, may_reopen in looks_due(self.context.ledger).items():
            self.look(after, None, may_reopen=may_reopen)

    def _not_audited(self, after: str, reason: str) -> None:
        """Say that the look is still to come: to the log, the observer and, the first time in a call, the ledger."""
        text = f"after {after}: {reason}; relapse is looked for the next time"
        logger.warning("%s", text)
        self.context.notify(Event("relapse-not-audited", text))
        if after not in self.context.result.relapse_due:
            self.context.result.relapse_due.append(after)
            self.context.ledger.note(_NOT_AUDITED, {"after": _without_client(after, self.context.ledger)})

    def _relapsed(self, entry: LedgerEntry, reason: str, audit: Audit, *, may_reopen: bool) -> None:
        ledger = self.context.ledger
        logger.warning("request %s has relapsed: %s", entry.id, reason)
        ledger.note("relapsed", {}, request_id=entry.id)
        readable = forget_accuracy(audit, entry.request) is not None
        reopens = self.context.plan.reopen_relapsed or self.context.plan.is_lasting(entry.request)
        if reopens and may_reopen and readable:
            ledger.advance(entry.id, Status.REOPENED, attempt=entry.attempt, reason=reason)


def relapse_rows(ledger: Ledger) -> list[RelapseRow]:
    """All that was ever found, from the ledger."""
    rows: list[RelapseRow] = []
    names = {ledger.client_reference(client): client for client in ledger.known_clients()}
    for event in ledger.events():
        if event.name != _EVENT:
            continue
        found: dict[str, dict[str, float | None]] = {"forget_accuracy": {}, "test_forget_accuracy": {}}
        relapsed: list[str] = []
        for key, value in event.facts.items():
            name, _, request_id = key.partition("/")
            if name in found and isinstance(value, int | float):
                found[name][request_id] = float(value)
            elif name == "relapsed":
                relapsed.append(request_id)
        what, mark, client = str(event.facts["after"]).partition(":")
        after = f"{what}{mark}{names.get(client, client) if what == TOMBSTONES else client}"
        rows.append(RelapseRow(after, **found, relapsed=tuple(relapsed)))
    return rows


def _facts(row: RelapseRow, ledger: Ledger) -> dict[str, Fact]:
    facts: dict[str, Fact] = {"after": _without_client(row.after, ledger)}
    for name, values in (("forget_accuracy", row.forget_accuracy), ("test_forget_accuracy", row.test_forget_accuracy)):
        facts.update({f"{name}/{request_id}": value for request_id, value in values.items() if value is not None})
    facts.update({f"relapsed/{request_id}": True for request_id in row.relapsed})
    return facts


def _without_client(after: str, ledger: Ledger) -> str:
    """What an audit follows, as events have it: they name no client."""
    what, mark, client = after.partition(":")
    return f"{what}{mark}{ledger.client_reference(client)}" if what == TOMBSTONES else after
