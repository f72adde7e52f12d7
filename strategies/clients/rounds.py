"""The rounds that make up a request: unlearning at the holders, guarded repair at all, confirming and discarding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import Strategy

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, clipped, difference, longest_usual, norm, pack, weighted_average
from fed_unlearn.requests import ForgetRequest, ParameterValue
from fed_unlearn.strategies.clients.grid import EligibleGrid, NobodyAnsweredError
from fed_unlearn.strategies.clients.replies import read_reply
from fed_unlearn.strategies.clients.roster import Answers
from fed_unlearn.strategies.inner.aggregation import aggregate_through
from fed_unlearn.strategies.inner.kinds import aggregates_repair, minimum_replies, privacy_wrapper
from fed_unlearn.strategies.inner.privacy import PrivacyAccountant
from fed_unlearn.strategies.plan import UnlearningPlan


@dataclass(frozen=True, kw_only=True)
class UnlearnOrder:
    """How holders are to unlearn.

    Attributes
    ----------
    method : str or None
        None only takes the samples out of training.
    parameters : mapping of str to value
    stronger : int
        How often the method's setting is made stronger.
    attempt, step : int
    excluded_classes : tuple of int
        What no forget sample may be taught to be.
    only_if_recognised : bool
        Whether a holder is to leave the model as it is where none of its samples is given its own label any more.
    arrived : int
        Training experiences whose samples are there already; 0 for all.
    """

    method: str | None
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    stronger: int = 0
    attempt: int
    step: int = 0
    excluded_classes: tuple[int, ...] = ()
    only_if_recognised: bool = False
    arrived: int = 0


@dataclass(frozen=True)
class LocalModels:
    """Clients' models of one round, checked.

    Attributes
    ----------
    models : dict of str to dict of ndarray
        By client, sorted; of those that trained on at least one sample.
    weights : dict of str to float
        Samples by client.
    messages : dict of str to Message
    counts : dict of str to dict of str to int
        For each request, how many of its samples a client holds.
    refused : dict of str to str
        Why a request cannot be served as it was put.
    failed, silent : dict of str to str
        Clients that did not do it, and why; and those that did not answer.
    """

    models: dict[str, Arrays]
    weights: dict[str, float]
    messages: dict[str, Message]
    counts: dict[str, dict[str, int]]
    refused: dict[str, str]
    failed: dict[str, str]
    silent: dict[str, str]


@dataclass(frozen=True)
class Rounds:
    """Sends the rounds of requests, and aggregates what comes back.

    Attributes
    ----------
    grid : EligibleGrid
    timeout : float
        Seconds that each round waits for answers.
    seed : int
    inner : Strategy
        Aggregates these rounds too where it is robust or private.
    plan : UnlearningPlan
    accountant : PrivacyAccountant
        Counts releases with noise.
    noise_seed : int
        Of the noise.
    """

    grid: EligibleGrid
    timeout: float
    seed: int
    inner: Strategy
    plan: UnlearningPlan
    accountant: PrivacyAccountant
    noise_seed: int

    def unlearn(
        self, requests: Sequence[ForgetRequest], base: Arrays, order: UnlearnOrder, clients: Sequence[str] | None = None
    ) -> LocalModels:
        """``train.unlearn``: to every client for a class, else to the ones that are named, each about its own requests.

        Parameters
        ----------
        requests : sequence of ForgetRequest
            All of one scope.
        base : dict of ndarray
        order : UnlearnOrder
        clients : sequence of str, optional
            Only these of them.
        """
        record = pack(base)
        by_client: dict[str, list[ForgetRequest]] = {}
        for request in requests:
            named = client_of(request)
            for client in self.grid.roster.staying.values() if named is None else (named,):
                if clients is None or client in clients:
                    by_client.setdefault(client, []).append(request)
        contents: dict[tuple[str, ...], RecordDict] = {}
        for asked in by_client.values():
            key = tuple(request.id for request in asked)
            if key not in contents:
                instruction = protocol.UnlearnInstruction(
                    targets=tuple(protocol.Target.of(request, order.attempt) for request in asked),
                    step=order.step,
                    method=order.method,
                    parameters=dict(order.parameters),
                    stronger=order.stronger,
                    excluded_classes=order.excluded_classes,
                    only_if_recognised=order.only_if_recognised,
                    seed=self.seed,
                    arrived=order.arrived,
                )
                contents[key] = protocol.content(instruction, record)
        answers = self.grid.ask_each(
            protocol.UNLEARN,
            {client: contents[tuple(request.id for request in asked)] for client, asked in by_client.items()},
            self.timeout,
        )
        return self._checked(answers, base, by_client, has_arrays=order.method is not None)

    def repair(
        self, base: Arrays, guarded: tuple[tuple[str, int], ...], config: ConfigRecord, number: int, arrived: int
    ) -> LocalModels:
        """``train.repair``: one round of training on retained data, guarded at the holders.

        Parameters
        ----------
        base : dict of ndarray
        guarded : tuple of (request id, attempt)
        config : ConfigRecord
            Of training, as repair changes it.
        number : int
            Running number of the repair round: part of the seed.
        arrived : int
            Training experiences whose samples are there already; 0 for all.

        Raises
        ------
        NobodyAnsweredError
            If no client answers at all.
        """
        instruction = protocol.RepairInstruction(
            guarded=guarded,
            guard_weight=self.plan.guard_weight,
            guard_margin=self.plan.guard_margin,
            seed=self.seed,
            round=number,
            arrived=arrived,
        )
        content = protocol.content(instruction, pack(base), config)
        answers = self.grid.ask(protocol.REPAIR, content, self.timeout)
        if not answers.anything:
            raise NobodyAnsweredError("no client answered train.repair")
        return self._checked(answers, base)

    def aggregate(
        self, base: Arrays, local: LocalModels, purpose: str, number: int, max_norm: float | None = None
    ) -> Arrays:
        """The average of local models by their samples, or what a robust or private strategy makes of them.

        A robust strategy that gets fewer models than it can judge, as in an unlearn round of one holder, is passed by:
        there the bound on a client's change protects the model instead.

        Parameters
        ----------
        base : dict of ndarray
            Returned itself where nobody trained.
        local : LocalModels
        purpose : str
            ``"unlearn"`` or ``"repair"``.
        number : int
            Of the round.
        max_norm : float or None
            Longer changes are scaled down to it; where it is None, those that are absurd beside the others.

        Raises
        ------
        TooFewRepliesError, AggregationFailedError
            If the strategy cannot do it with these.
        """
        if not local.models:
            return base
        few = len(local.models) < minimum_replies(self.inner)
        if aggregates_repair(self.inner) and (self.is_private or purpose == "repair" or not few):
            return aggregate_through(
                self.inner,
                base,
                list(local.messages.values()),
                number,
                seed=self.noise_seed,
                purpose=purpose,
                accountant=self.accountant,
            )
        if max_norm is None:
            max_norm = longest_usual(norms_of(local, base), self.plan.max_norm_factor)
        models = [clipped(model, base, max_norm) for model in local.models.values()]
        return weighted_average(models, list(local.weights.values()))

    @property
    def is_private(self) -> bool:
        """Whether every round goes through a differential-privacy wrapper."""
        return privacy_wrapper(self.inner) is not None

    @property
    def trusts_clients(self) -> bool:
        """Whether the inner strategy takes every client's model as it is."""
        return not aggregates_repair(self.inner)

    def settle(
        self,
        message_type: str,
        requests: Sequence[ForgetRequest],
        attempts: Mapping[str, int],
        *,
        release: bool = False,
        clients: Sequence[str] | None = None,
    ) -> Answers:
        """``train.confirm`` or ``train.discard``: to every client that may hold something of the requests."""
        by_client: dict[str, list[protocol.Target]] = {}
        for request in requests:
            target = protocol.Target.of(request, attempts.get(request.id, 0))
            named = client_of(request)
            staying = list(self.grid.roster.staying.values())
            for client in (clients or staying) if named is None else (named,):
                by_client.setdefault(client, []).append(target)
        contents = {
            client: protocol.content(
                protocol.SettleInstruction(
                    targets=tuple(targets), retention_days=self.plan.retention_days, release=release
                )
            )
            for client, targets in by_client.items()
        }
        return self.grid.ask_each(message_type, contents, self.timeout)

    def _checked(
        self,
        answers: Answers,
        base: Arrays,
        asked: Mapping[str, Sequence[ForgetRequest]] | None = None,
        *,
        has_arrays: bool = True,
    ) -> LocalModels:
        """What can be used of the answers; ``asked`` has the requests that each client was told of, if any."""
        models: dict[str, Arrays] = {}
        weights: dict[str, float] = {}
        messages: dict[str, Message] = {}
        counts: dict[str, dict[str, int]] = {}
        refused: dict[str, str] = {}
        failed = dict(answers.failed)
        for client, message in answers.replies.items():
            held, impossible, reason = ({}, {}, None) if asked is None else _told(message, client, asked[client])
            weight = protocol.read_metric(message, protocol.WEIGHT)
            if reason is None and has_arrays and (held or weight != 0):
                arrays, reason = read_reply(message, base, protocol.WEIGHT)
                if reason is None and protocol.ARRAYS_KEY not in message.content:
                    reason = "its reply carries no model"
                if reason is None:
                    models[client], weights[client], messages[client] = arrays, weight, message
            if reason is not None:
                self.grid.leave_out(client, reason)
                failed[client] = f"client {client}: {reason}"
                continue
            refused.update(impossible)
            for request_id, count in held.items():
                counts.setdefault(request_id, {})[client] = count
        for client, reason in answers.refused.items():
            failed[client] = reason
        return LocalModels(models, weights, messages, counts, refused, failed, dict(answers.silent))


def _told(
    message: Message, client: str, asked: Sequence[ForgetRequest]
) -> tuple[dict[str, int], dict[str, str], str | None]:
    """What a client holds of the requests that it was asked about, which of them it cannot serve, or what is wrong.

    A client speaks for itself: it cannot have a request refused that others are asked about too.
    """
    told = protocol.read_forgotten(message)
    if told is None:
        return {}, {}, "its reply does not say what it holds"
    held, refused = told
    own = {request.id for request in asked if client_of(request) is not None}
    if not set(refused) <= own:
        return {}, {}, "it refuses what it was not asked about alone"
    known = {request.id for request in asked}
    return {name: count for name, count in held.items() if name in known and count > 0}, refused, None


def norms_of(local: LocalModels, base: Arrays) -> list[float]:
    """How far each client moved from a model."""
    return [norm(difference(model, base)) for model in local.models.values()]


def client_of(request: ForgetRequest) -> str | None:
    """The client that a request names; None where it is about classes."""
    return getattr(request.scope, "client", None)
