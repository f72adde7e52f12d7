"""Audits of one model over all clients."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flwr.app import ArrayRecord, Message

from fed_unlearn import protocol
from fed_unlearn.audits.base import extra_audits
from fed_unlearn.audits.counts import ALL_PARTS, ClientCounts, Part
from fed_unlearn.audits.pooled import Audit, check_counts
from fed_unlearn.errors import ProtocolError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.grid import EligibleGrid, NobodyAnsweredError

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class Auditor:
    """Asks all clients what a model gets right, and pools their counts.

    Attributes
    ----------
    grid : EligibleGrid
    timeout : float
        Seconds.
    retain_limit : int
        At most so many retained training samples of each client are read; 0 for all.
    seed : int
    """

    grid: EligibleGrid
    timeout: float
    retain_limit: int
    seed: int

    def audit(
        self,
        arrays: ArrayRecord,
        requests: Sequence[ForgetRequest] = (),
        parts: tuple[Part, ...] = ALL_PARTS,
        *,
        arrived: int = 0,
    ) -> Audit:
        """Counts of a model.

        Parameters
        ----------
        arrays : ArrayRecord
        requests : sequence of ForgetRequest
            Those whose forget sets are to be measured too.
        parts : tuple of str
            Which of ``"retain"``, ``"validation"`` and ``"test"``.
        arrived : int
            Training experiences whose samples are there already; 0 for all.

        Raises
        ------
        NobodyAnsweredError
            If no client answers.
        """
        instruction = protocol.AuditInstruction(
            parts=parts,
            targets=tuple(protocol.Target.of(request) for request in requests),
            retain_limit=self.retain_limit,
            seed=self.seed,
            arrived=arrived,
            audits=extra_audits() if requests else (),
        )
        content = protocol.content(instruction, arrays)
        answers = self.grid.ask(protocol.AUDIT, content, self.timeout)
        replies, failed = self._read(answers.replies, instruction)
        failed.update({**answers.failed, **answers.refused})
        if not replies:
            raise NobodyAnsweredError("no client answered evaluate.audit; their logs say why")
        leaving = self.grid.reachable_leavers()
        if requests and leaving:
            of_leaving = self.grid.ask(protocol.AUDIT, content, self.timeout, leaving)
            for client, reply in self._read(of_leaving.replies, instruction, replies)[0].items():
                replies[client] = replace(reply, parts={})
        return Audit(replies, failed, answers.silent)

    def _read(
        self,
        messages: Mapping[str, Message],
        instruction: protocol.AuditInstruction,
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
                    class_count=self.grid.roster.class_count,
                )
                pooled = _added(pooled, reply)
                replies[client] = reply
            except ProtocolError as error:
                self.grid.leave_out(client, str(error))
                failed[client] = f"client {client}: {error}"
        for audit in instruction.audits:
            without = [client for client in replies if audit in protocol.read_uncounted(messages[client])]
            if without:
                logger.warning("audit %s: clients %s do not count it; their logs say why", audit, ", ".join(without))
        return replies, failed


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
