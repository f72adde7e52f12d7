"""Ordinary training rounds, run through the hooks of the inner Flower strategy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.app.exception import AppExitException
from flwr.serverapp.strategy import Strategy

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, all_finite, pack, unpack
from fed_unlearn.seeding import derive_seed
from fed_unlearn.strategies.clients.bounds.faults import NO_ANSWER, fault_of
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.clients.replies import ReplyFilter, UsableReply
from fed_unlearn.strategies.clients.weights import bounded_weights, training_weights
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.inner.aggregation import aggregate_replies, undone_on_error
from fed_unlearn.strategies.inner.kinds import needed_metric, weight_key
from fed_unlearn.strategies.inner.privacy import PrivacyAccountant
from fed_unlearn.strategies.inner.sampling import minima_within, seeded_sampling
from fed_unlearn.strategies.inner.state import fresh_copy, reset_server_state
from fed_unlearn.strategies.training.bounds import bounded_replies
from fed_unlearn.strategies.training.history import HistoryStore
from fed_unlearn.text import printable

logger = logging.getLogger("fed_unlearn.strategies")

EvaluateFunction = Callable[[int, ArrayRecord], MetricRecord | None]


@dataclass(frozen=True)
class TrainingRound:
    """What one round gave.

    Attributes
    ----------
    arrays : dict of ndarray
        The aggregated model; the round's start where nothing usable came back.
    config : ConfigRecord
        As the inner strategy completed it.
    train_metrics, evaluate_metrics : MetricRecord or None
        As the inner strategy aggregated them.
    update_norms : tuple of float
        How far each client moved; empty unless asked for.
    longest : float
        The longest change of the training so far that is not the longest of its round.
    trained : frozenset of str
        Clients whose model was used.
    failed : mapping of str to str
        Why no model of a client was used, without data of its own; clients that were not asked since they are left out
        are among them.
    """

    arrays: Arrays
    config: ConfigRecord
    train_metrics: MetricRecord | None
    evaluate_metrics: MetricRecord | None
    update_norms: tuple[float, ...]
    longest: float
    trained: frozenset[str]
    failed: Mapping[str, str]


@dataclass(frozen=True)
class Trainer:
    """Runs rounds of an inner strategy over eligible clients; no client can stop one, or spoil it alone by accident.

    A reply that cannot be used is left out, and its client named in the log. Where the strategy makes nothing of the
    others, the model stays as it was for that round, and the log says why. A change that is absurdly long both for the
    last round and beside the others of its own is scaled down, where the strategy does not bound changes by itself.

    Attributes
    ----------
    inner : Strategy
    grid : EligibleGrid
    timeout : float
        Seconds that each exchange waits for answers.
    seed : int
        Of the inner strategy's sampling of clients, and of what it draws in aggregation.
    history : HistoryStore, optional
        Keeps every round that changed the model.
    accountant : PrivacyAccountant, optional
        Counts rounds with noise, as ``"train"``.
    noise_seed : int, optional
        Of the noise of a differential-privacy wrapper; the seed above where none is given. Clients are told that one
        with every request, and who knows it can take the noise off: outside of simulations, give a secret one.
    max_norm_factor : float, optional
        A change is absurdly long beyond so many times what is usual: the larger one of the last round's median norm
        and this round's; or beyond six times the longest of others in the first round of a training, and three times
        the longest so far in later ones. None leaves all changes as they are, and so does a round of one reply.
    """

    inner: Strategy
    grid: EligibleGrid
    timeout: float
    seed: int
    history: HistoryStore | None = None
    accountant: PrivacyAccountant | None = None
    noise_seed: int | None = None
    max_norm_factor: float | None = None
    _filter: ReplyFilter = field(default_factory=ReplyFilter, init=False, repr=False, compare=False)

    def train(
        self,
        arrays: Arrays,
        number: int,
        train_config: ConfigRecord,
        *,
        evaluate_config: ConfigRecord | None = None,
        usual_norm: float | None = None,
        longest: float = 0.0,
        measure_norms: bool = False,
    ) -> TrainingRound:
        """One round.

        Parameters
        ----------
        arrays : dict of ndarray
            The model that the round starts from.
        number : int
            Running number over all experiences, from 1: clients derive their seeds from it.
        train_config : ConfigRecord
        evaluate_config : ConfigRecord, optional
            Evaluate the result through the inner strategy, with this configuration.
        usual_norm : float, optional
            Median norm of the clients' changes in the last round.
        longest : float
            As the round before gave it; 0 before the first round of a training.
        measure_norms : bool
            Whether the clients' update norms are wanted.
        """
        config = ConfigRecord(dict(train_config))
        bounds = self.max_norm_factor is not None
        keep_arrays = measure_norms or bounds or self.history is not None
        replies, failed = self._replies(arrays, number, config, keep_arrays=keep_arrays)
        norms: tuple[float, ...] = ()
        if measure_norms or bounds:
            held = self.grid.roster.class_samples
            known = bounded_replies(arrays, replies, held, self.max_norm_factor, usual_norm, longest)
            replies, norms, longest = known.replies, known.norms, known.longest
            for client, reason in known.against.items():
                self._filter.leave_out(client, reason, whole=False)
            failed |= known.against
        candidate, train_metrics = self._aggregated(arrays, number, replies)
        if candidate is not None and self.history is not None:
            self.history.record(number, arrays, {reply.client: (reply.arrays, reply.weight) for reply in replies})
        trained = arrays if candidate is None else candidate
        evaluated = self._evaluate(trained, number, evaluate_config) if evaluate_config is not None else None
        names = frozenset(reply.client for reply in replies)
        return TrainingRound(trained, config, train_metrics, evaluated, norms, longest, names, failed)

    def _replies(
        self, arrays: Arrays, number: int, config: ConfigRecord, *, keep_arrays: bool
    ) -> tuple[list[UsableReply], dict[str, str]]:
        """The replies that can be used; and why there is none of other clients."""
        record = pack(arrays)
        try:
            with self._sampling("train-sample", number):
                messages = list(self.inner.configure_train(number, record, config, self.grid))
        except (AppExitException, ValueError) as error:
            # A privacy budget that is spent, or a node too few for the strategy's own accountant.
            logger.warning("training round %d: nobody is asked: %s: %s", number, type(error).__name__, error)
            return [], self.grid.kept_away()
        asked = {message.metadata.dst_node_id: self._client_at(message.metadata.dst_node_id) for message in messages}
        key = weight_key(self.inner)
        answers = self.grid.send_and_receive(messages, timeout=self.timeout)
        asked |= {node: client for node, client in self.grid.roster.clients.items() if client in asked.values()}
        usable = self._filter.usable(
            answers,
            _sent(messages, record, arrays),
            asked=asked,
            weight_key=key,
            keep_arrays=keep_arrays,
            bounded=lambda weights: training_weights(self.grid.roster, weights, in_samples=key == protocol.WEIGHT),
            needed=needed_metric(self.inner),
        )
        reasons = {**dict.fromkeys(asked.values(), NO_ANSWER), **self.grid.kept_away()}
        reasons |= {**self.grid.dropped, **self._filter.left_out}
        trained = {reply.client for reply in usable}
        return usable, {client: fault_of(reason) for client, reason in reasons.items() if client not in trained}

    def _aggregated(
        self, arrays: Arrays, number: int, replies: Sequence[UsableReply]
    ) -> tuple[Arrays | None, MetricRecord | None]:
        """What the strategy makes of the replies; no model where that is nothing, or no model."""
        try:
            with undone_on_error(self.inner):
                candidate, metrics = aggregate_replies(
                    self.inner,
                    arrays,
                    [reply.message for reply in replies],
                    number,
                    seed=self.seed if self.noise_seed is None else self.noise_seed,
                    purpose="train",
                    accountant=self.accountant,
                )
        except Exception as error:  # whatever clients can make a strategy raise must not end the run
            logger.warning(
                "training round %d: %s made nothing of %d replies, and the model stays as it was: %s: %s",
                number,
                type(self.inner).__name__,
                len(replies),
                type(error).__name__,
                printable(str(error)),
            )
            return None, None
        if candidate is None:
            logger.warning(
                "training round %d: no model came of %d usable replies; the model stays as it was", number, len(replies)
            )
        elif not all_finite(candidate):
            logger.warning("training round %d: the aggregate is not finite; the model stays as it was", number)
            reset_server_state(self.inner)
            return None, metrics
        return candidate, metrics

    def _evaluate(self, arrays: Arrays, number: int, evaluate_config: ConfigRecord) -> MetricRecord | None:
        config = ConfigRecord(dict(evaluate_config))
        with self._sampling("evaluate-sample", number):
            messages = list(self.inner.configure_evaluate(number, pack(arrays), config, self.grid))
        if not messages:
            return None
        replies = self._filter.evaluations(
            self.grid.send_and_receive(messages, timeout=self.timeout),
            name_of=self._client_at,
            weight_key=weight_key(self.inner),
            bounded=lambda weights: bounded_weights(self.grid.roster, weights),
        )
        try:
            return self.inner.aggregate_evaluate(number, replies)
        except Exception as error:  # as above
            logger.warning(
                "training round %d: no evaluation: %s: %s", number, type(error).__name__, printable(str(error))
            )
            return None

    def _client_at(self, node: int) -> str:
        return self.grid.roster.clients.get(node) or f"of node {node}"

    @contextmanager
    def _sampling(self, purpose: str, number: int) -> Iterator[None]:
        available = len(list(self.grid.get_node_ids()))
        with minima_within(self.inner, available), seeded_sampling(derive_seed(self.seed, purpose, number)):
            yield


def _sent(messages: Iterable[Message], record: ArrayRecord, arrays: Arrays) -> Arrays:
    """The model that clients were sent: strategies of a user's own may send another than they were given."""
    for message in messages:
        for sent in message.content.array_records.values():
            return arrays if sent is record else unpack(sent)
    return arrays


def fresh_trainer(context: CallContext, *, accountant: PrivacyAccountant | None = None) -> Trainer:
    """A trainer around a copy of the wrapped strategy that knows nothing of earlier rounds; it keeps no history.

    Parameters
    ----------
    context : CallContext
        What the call works with.
    accountant : PrivacyAccountant, optional
        Counts releases with noise; needed where the model may be served.
    """
    return _trainer(context, fresh_copy(context.inner), accountant, None)


def serving_trainer(context: CallContext) -> Trainer:
    """The trainer of ordinary rounds, around the wrapped strategy itself."""
    return _trainer(context, context.inner, context.state.accountant, context.history)


def _trainer(
    context: CallContext, inner: Strategy, accountant: PrivacyAccountant | None, history: HistoryStore | None
) -> Trainer:
    """Robust and private strategies bound changes by themselves."""
    return Trainer(
        inner,
        context.grid,
        context.timeout,
        context.seed,
        history=history,
        accountant=accountant,
        noise_seed=context.noise_seed,
        max_norm_factor=context.plan.max_norm_factor if context.kind.trusts_clients else None,
    )
