"""Audits of one model over all clients."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from flwr.app import Message

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack
from fed_unlearn.audits.asked import extra_audits
from fed_unlearn.audits.counts import ALL_PARTS, ClientCounts, Part
from fed_unlearn.audits.pooled import Audit, check_counts
from fed_unlearn.errors import ProtocolError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.claims import bounded_replies, check_audit
from fed_unlearn.strategies.clients.messages.exchange import NobodyAnsweredError
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.plan import UnlearningPlan

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class Auditor:
    """Asks all clients what a model gets right, and pools their counts.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    """

    context: CallContext

    def audit_committed(self, arrays: Arrays) -> Audit:
        """Audit of a model, with all committed requests.

        Raises
        ------
        NobodyAnsweredError
            If no client answers.
        """
        return self.audit(arrays, [entry.request for entry in self.context.ledger.committed()], audited=())

    def keep_comparable(self, audit: Audit) -> None:
        """Audit the served model anew where nothing could be compared with its audit.

        That is so where no client that answers now did before, and where the server has samples of its own only now.

        Raises
        ------
        NobodyAnsweredError
            If no client answers.
        """
        served = self.context.served
        if served.audit is None:
            return
        lacks_server = audit.server is not None and served.audit.server is None
        if lacks_server or not set(served.audit.replies) & set(audit.replies):
            served.audit = self.audit_committed(served.arrays).without_targets()

    def audit(
        self,
        arrays: Arrays,
        requests: Sequence[ForgetRequest] = (),
        parts: tuple[Part, ...] = ALL_PARTS,
        *,
        arrived: int | None = None,
        audited: Collection[ForgetRequest] | None = None,
        most: int = 0,
        means: Mapping[int, Collection[int]] | None = None,
    ) -> Audit:
        """Counts of a model.

        Parameters
        ----------
        arrays : dict of ndarray
            The model.
        requests : sequence of ForgetRequest
            Requests whose forget sets are measured too.
        parts : tuple of str
            Parts to count, of ``"retain"``, ``"validation"`` and ``"test"``.
        arrived : int, optional
            Number of training experiences whose samples are there already; that of the served model by default.
        audited : collection of ForgetRequest, optional
            Requests that are being served; all by default. Audits without a field of their own are counted for these
            alone. The plan's ``relapse_limit`` bounds how many samples of other requests are read.
        most : int, optional
            Maximum number of samples of each client and part that are read where no verdict depends on them; 0 for as
            many as the plan allows.
        means : mapping of int to collection of int, optional
            Classes whose output rows alone were set since the last audit, and the classes that all of them are the mean
            of: clients then read few samples.

        Raises
        ------
        NobodyAnsweredError
            If no client answers.
        """
        served, plan = requests if audited is None else audited, self.context.plan
        limits = limits_of(plan, most)
        instruction = protocol.AuditInstruction(
            parts=parts,
            targets=tuple(protocol.Target.of(request) for request in requests),
            retain_limit=limits["retain"],
            validation_limit=limits["validation"],
            test_limit=limits["test"],
            earlier_limit=plan.relapse_limit if len(served) < len(requests) else 0,
            seed=self.context.seed,
            arrived=self.context.arrived if arrived is None else arrived,
            audits=self._audits_of(served),
            audited=tuple(request.id for request in served),
            left_out=self._left_out(),
            rows_set=tuple(means or ()),
            rows_of=tuple(next(iter(means.values()))) if means else (),
        )
        content = protocol.content(instruction, pack(arrays))
        answers = self.context.grid.ask(protocol.AUDIT, content, self.context.timeout)
        self.context.grid.roster.committed = tuple(entry.request for entry in self.context.ledger.committed())
        replies, failed = self._read(answers.replies, instruction, requests)
        failed.update({**answers.failed, **answers.refused})
        if not replies:
            raise NobodyAnsweredError("no client answered evaluate.audit; their logs say why", failed)
        leaving = self.context.grid.reachable_leavers()
        if requests and leaving:
            of_leaving = self.context.grid.ask(protocol.AUDIT, content, self.context.timeout, leaving)
            for client, reply in self._read(of_leaving.replies, instruction, requests, replies)[0].items():
                replies[client] = replace(reply, parts={})
        replies, lowered = bounded_replies(replies, self.context.plan.max_client_share)
        for client in sorted(lowered):
            self.context.grid.name(client, "counts more samples than its share; they are scaled down to it")
        validation = self.context.gate.validation
        server = validation.count(arrays) if validation is not None and "validation" in parts else None
        return Audit(replies, failed, answers.silent, server)

    def _left_out(self) -> tuple[int, ...]:
        """Classes that were forgotten before, and those that nobody could train on at the served model's audit."""
        known = self.context.served.audit
        absent = known.absent_classes if known is not None else frozenset[int]()
        return tuple(sorted(self.context.ledger.forgotten_classes() | absent))

    def _audits_of(self, requests: Collection[ForgetRequest]) -> tuple[str, ...]:
        """Audits without a field of their own that some requests are counted for, those behind the gate's included."""
        scopes = {request.scope.kind for request in requests}
        behind = self.context.gate.audits
        return tuple(sorted({name for scope in scopes for name in (*extra_audits(scope), *behind(scope))}))

    def _read(
        self,
        messages: Mapping[str, Message],
        instruction: protocol.AuditInstruction,
        requests: Sequence[ForgetRequest],
        others: Mapping[str, ClientCounts] | None = None,
    ) -> tuple[dict[str, ClientCounts], dict[str, str]]:
        """Counts by client, and the clients whose counts cannot be used."""
        replies: dict[str, ClientCounts] = {}
        failed: dict[str, str] = {}
        pooled = sum((others or {}).values(), start=ClientCounts())
        asked = {target.request_id for target in instruction.targets}
        for client, message in messages.items():
            try:
                reply = protocol.read_audit(message)
                check_counts(
                    reply,
                    parts=instruction.parts,
                    requests=asked,
                    audits=instruction.audits,
                    class_count=self.context.grid.roster.class_count,
                )
                reply, foreign = check_audit(
                    reply, self.context.grid.roster, client, requests, instruction.retain_limit
                )
                if foreign:
                    self.context.grid.name(client, f"counts samples of requests {', '.join(foreign)}, and holds none")
                pooled = _added(pooled, reply)
                replies[client] = reply
            except ProtocolError as error:
                self.context.grid.leave_out(client, str(error))
                failed[client] = f"client {client}: {error}"
        for audit in instruction.audits:
            without = [client for client in replies if audit in protocol.read_uncounted(messages[client])]
            if without:
                logger.warning("audit %s: clients %s do not count it; their logs say why", audit, ", ".join(without))
        return replies, failed


def limits_of(plan: UnlearningPlan, most: int = 0) -> dict[Part, int]:
    """How many samples of each part a client reads at most; 0 for all, as of the gate's unless ``most`` bounds them.

    Parameters
    ----------
    plan : UnlearningPlan
    most : int
        Maximum number of samples of each client and part, as in :meth:`Auditor.audit`; 0 for those of the plan.
    """
    limits: dict[Part, int] = {"retain": plan.retain_limit, "validation": 0, "test": plan.test_limit}
    return {part: min(limit or most, most) if most else limit for part, limit in limits.items()}


def _added(pooled: ClientCounts, reply: ClientCounts) -> ClientCounts:
    """The sum; counts of another package's audit may have the wrong length, which only adding them shows.

    Raises
    ------
    ProtocolError
        If they cannot be added.
    """
    try:
        return pooled + reply
    except ValueError as error:
        raise ProtocolError("an evaluate.audit reply whose counts cannot be added to those of others") from error
