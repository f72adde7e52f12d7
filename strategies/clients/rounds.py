"""The rounds that make up a request: unlearning at the holders, guarded repair at all, confirming and discarding."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Message, RecordDict

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, clipped, longest_usual, pack, weighted_average
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.book import ClientBook
from fed_unlearn.strategies.clients.bounds.changes import LONGEST_IN_REPAIR, bounds_by_others
from fed_unlearn.strategies.clients.claims import credible, what_it_holds
from fed_unlearn.strategies.clients.client_models import ClientModels, norms_of
from fed_unlearn.strategies.clients.messages.exchange import Answers, NobodyAnsweredError
from fed_unlearn.strategies.clients.replies import completed, read_reply
from fed_unlearn.strategies.clients.weights import bounded_weights, with_weight
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.inner.aggregation import aggregate_through
from fed_unlearn.strategies.inner.statistics import bounded_statistics

_LONGEST_BESIDE_OTHERS = {"unlearn": 1.5, "repair": LONGEST_IN_REPAIR}
"""Greatest length of a client's change, as a multiple of the longest one of the others in its round, by purpose.

Where clients are honest the longest change is at most 1.3 times the second in unlearn rounds of the built-in scenarios.
"""


@dataclass(frozen=True)
class Rounds:
    """Sends the rounds of requests, and aggregates what comes back.

    Attributes
    ----------
    context : CallContext
        The clients, the plan and the wrapped strategy, which aggregates these rounds too where it is robust or private.
    """

    context: CallContext

    def unlearn(
        self,
        requests: Sequence[ForgetRequest],
        base: Arrays,
        instruction: protocol.UnlearnInstruction,
        attempt: int,
        clients: Collection[str] | None = None,
        *,
        reference: Arrays | None = None,
    ) -> ClientModels:
        """``train.unlearn``: to every client for a class, else to the named ones, each about its own requests.

        Parameters
        ----------
        requests : sequence of ForgetRequest
            Requests to serve, all of one scope.
        base : dict of ndarray
            The model that the clients start from.
        instruction : UnlearnInstruction
            How they are to unlearn; its targets are filled in here.
        attempt : int
            Number of the attempt.
        clients : collection of str, optional
            Clients that are asked, among those above; all of them by default.
        reference : dict of ndarray, optional
            A model that never saw the samples. Its arrays are sent where they differ from those of ``base``.
        """
        by_client: dict[str, list[ForgetRequest]] = {}
        for request in requests:
            for client in self._concerned(request):
                if clients is None or client in clients:
                    by_client.setdefault(client, []).append(request)
        record, config, contents = pack(base), self.context.repair_config, dict[tuple[str, ...], RecordDict]()
        others = None if reference is None else pack(_differing(reference, base))
        for asked in by_client.values():
            ids = tuple(request.id for request in asked)
            if ids not in contents:
                targets = tuple(protocol.Target.of(request, attempt) for request in asked)
                contents[ids] = protocol.content(instruction.model_copy(update={"targets": targets}), record, config)
                if others is not None:
                    contents[ids][protocol.REFERENCE_KEY] = others
        answers = self.context.grid.ask_each(
            protocol.UNLEARN,
            {client: contents[tuple(request.id for request in asked)] for client, asked in by_client.items()},
            self.context.timeout,
        )
        models = self._checked(answers, base, by_client, has_arrays=instruction.method is not None)
        ClientBook(self.context.ledger).note_held(models.counts)
        return models

    def repair(self, base: Arrays, guarded: tuple[protocol.RequestAttempt, ...]) -> ClientModels:
        """``train.repair``: one round of training on retained data, guarded at the holders.

        The served model counts these rounds: their running number is part of the clients' seeds.

        Parameters
        ----------
        base : dict of ndarray
            The model that the clients start from.
        guarded : tuple of RequestAttempt
            The open attempts that are guarded. Committed requests that are to last are guarded too, as long as their
            samples may be read.

        Raises
        ------
        NobodyAnsweredError
            If no client answers at all.
        """
        context, repair = self.context, self.context.plan.repair
        context.served.repair_rounds += 1
        open_ids = {attempt.request_id for attempt in guarded}
        lasting = [
            protocol.RequestAttempt.numbered(entry.request, entry.attempt)
            for entry in context.ledger.committed()
            if entry.id not in open_ids and context.plan.is_lasting(entry.request)
        ]
        instruction = protocol.RepairInstruction(
            guarded=(*guarded, *lasting),
            guard_weight=repair.guard_weight,
            guard_margin=repair.guard_margin,
            seed=context.seed,
            round=context.served.repair_rounds,
            arrived=context.arrived,
        )
        content = protocol.content(instruction, pack(base), context.repair_config)
        contents = dict.fromkeys(context.grid.roster.staying.values(), content)
        answers = context.grid.ask_each(protocol.REPAIR, contents, context.timeout)
        if not answers.anything:
            raise NobodyAnsweredError("no client answered train.repair")
        return self._checked(answers, base)

    def aggregate(
        self, base: Arrays, trained: ClientModels, purpose: str, number: int, max_norm: float | None = None
    ) -> Arrays:
        """The average of the clients' models by their samples, or what a robust or private strategy makes of them.

        A robust strategy that gets fewer models than it can judge, as in an unlearn round of one holder, is passed by:
        there the bound on a client's change protects the model instead.

        Parameters
        ----------
        base : dict of ndarray
            The model that the clients were sent. It is returned itself where nobody trained.
        trained : ClientModels
        purpose : str
            What the round is for, ``"unlearn"`` or ``"repair"``.
        number : int
            Number of the round.
        max_norm : float or None
            Greatest length of a change. Longer changes are scaled down to it; where it is None, those that are absurd
            beside the others. A change much longer than all others is scaled down too.

        Raises
        ------
        TooFewRepliesError, AggregationFailedError
            If the strategy cannot do it with these.
        """
        if not trained.models:
            return base
        context, inner = self.context, self.context.inner
        few = len(trained.models) < context.kind.minimum_replies
        if not context.kind.trusts_clients and (context.kind.is_private or purpose == "repair" or not few):
            return aggregate_through(
                inner,
                base,
                list(trained.messages.values()),
                number,
                seed=context.noise_seed,
                purpose=purpose,
                accountant=context.state.accountant,
            )
        norms = norms_of(trained, base)
        beside = bounds_by_others(norms, _LONGEST_BESIDE_OTHERS[purpose])
        if max_norm is None:
            max_norm = longest_usual(norms, context.plan.max_norm_factor)
            beside = [min(max_norm, bound) for bound in beside]
        for client, length, bound in zip(trained.models, norms, beside, strict=True):
            if length > bound:
                context.grid.name(client, f"changes the model by {length:.3g}, over {bound:.3g}; it is scaled down")
        bounded = zip(trained.models.items(), beside, strict=True)
        within = {client: clipped(model, base, min(max_norm, bound)) for (client, model), bound in bounded}
        models = bounded_statistics(within, base, context.plan.max_norm_factor, alone=True)
        return weighted_average(list(models.values()), list(trained.weights.values()))

    def settle(
        self,
        message_type: str,
        requests: Sequence[ForgetRequest],
        attempts: Mapping[str, int],
        *,
        release: bool = False,
        clients: Sequence[str] | None = None,
    ) -> Answers:
        """``train.confirm`` or ``train.discard``: to every client that may hold something of the requests.

        Where no clients are given, those that have put something by of their own are told too.
        """
        by_client, others = dict[str, list[protocol.Target]](), dict[str, list[protocol.RequestAttempt]]()
        roster, days = self.context.grid.roster, self.context.plan.retention_days
        put_by = roster.put_by.intersection(roster.clients.values()) if clients is None else set[str]()
        for request in requests:
            target = protocol.Target.of(request, attempts.get(request.id, 0))
            concerned = self._concerned(request, clients)
            for client in concerned:
                by_client.setdefault(client, []).append(target)
            for client in put_by.difference(concerned):
                other = protocol.RequestAttempt(request_id=request.id, attempt=target.attempt)
                others.setdefault(client, []).append(other)
        is_commit = message_type == protocol.CONFIRM
        lasting = [request for request in requests if is_commit and self.context.plan.is_lasting(request)]
        contents: dict[str, RecordDict] = {}
        for client in {**by_client, **others}:
            targets, rest = tuple(by_client.get(client, ())), tuple(others.get(client, ()))
            named = {target.request_id for target in targets}
            told = protocol.SettleInstruction(
                targets=targets,
                retention_days=days,
                release=release,
                others=rest,
                lasting=tuple(request.id for request in lasting if request.id in named),
            )
            contents[client] = protocol.content(told)
        return self.context.grid.ask_each(message_type, contents, self.context.timeout)

    def _concerned(self, request: ForgetRequest, clients: Collection[str] | None = None) -> Collection[str]:
        """The client that a request names; for a class all clients that stay, or the given ones."""
        named = client_of(request)
        if named is not None:
            return (named,)
        return clients or list(self.context.grid.roster.staying.values())

    def _checked(
        self,
        answers: Answers,
        base: Arrays,
        asked: Mapping[str, Sequence[ForgetRequest]] | None = None,
        *,
        has_arrays: bool = True,
    ) -> ClientModels:
        """What can be used of the answers; ``asked`` has the requests that each client was told of, if any."""
        models: dict[str, Arrays] = {}
        weights: dict[str, float] = {}
        messages: dict[str, Message] = {}
        counts: dict[str, dict[str, int]] = {}
        refused: dict[str, str] = {}
        failed = dict(answers.failed)
        most: dict[str, float] = {}
        for client, message in answers.replies.items():
            held, impossible, reason = ({}, {}, None) if asked is None else what_it_holds(message, asked[client])
            if reason is None and asked is not None:
                held, excess = credible(self.context.grid.roster, client, asked[client], held)
                for text in excess:
                    self.context.grid.name(client, text)
            weight = protocol.read_metric(message, protocol.WEIGHT)
            if reason is None and has_arrays and (held or (asked is None and weight != 0)):
                arrays, reason = read_reply(message, base, protocol.WEIGHT)
                if reason is None and protocol.ARRAYS_KEY not in message.content:
                    reason = "its reply carries no model"
                if reason is None:
                    most[client] = float(sum(held.values())) if asked is not None else self._most_repaired(client)
                    models[client], weights[client] = arrays, float(weight)
                    messages[client] = completed(message, arrays)
            if reason is not None:
                self.context.grid.leave_out(client, reason)
                failed[client] = f"client {client}: {reason}"
                continue
            refused.update(impossible)
            for request_id, count in held.items():
                counts.setdefault(request_id, {})[client] = count
        for client, reason in answers.refused.items():
            failed[client] = reason
        for client, weight in bounded_weights(self.context.grid.roster, weights, most).items():
            if weight < weights[client]:
                weights[client], messages[client] = weight, with_weight(messages[client], protocol.WEIGHT, weight)
        return ClientModels(models, weights, messages, counts, refused, failed, dict(answers.silent))

    def _most_repaired(self, client: str) -> float:
        """At most so many samples stand in a client's repair: its own, guarded ones as often as the plan says."""
        own = sum(self.context.grid.roster.class_samples.get(client, ()))
        return float(own * self.context.plan.repair.guard_weight)


def _differing(arrays: Arrays, base: Arrays) -> Arrays:
    """Those that are not the same in a base."""
    return {name: value for name, value in arrays.items() if not np.array_equal(value, base[name])}


def client_of(request: ForgetRequest) -> str | None:
    """The client that a request names; None where it is about classes."""
    return getattr(request.scope, "client", None)
