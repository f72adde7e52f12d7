"""Ordinary training rounds, in the halves that Flower's loop has: whom the strategy asks, what it makes of replies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.app.exception import AppExitException
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, all_finite, pack, unpack
from fed_unlearn.errors import ProtocolError
from fed_unlearn.seeding import derive_seed
from fed_unlearn.strategies.clients.bounds.faults import NO_ANSWER, fault_of
from fed_unlearn.strategies.clients.claims import most_retained
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.clients.replies import ReplyFilter, UsableReply
from fed_unlearn.strategies.clients.weights import bounded_weights, training_weights
from fed_unlearn.strategies.inner.aggregation import aggregate_replies, undone_on_error
from fed_unlearn.strategies.inner.frozen_head import FrozenHead
from fed_unlearn.strategies.inner.kept_models import reset_to
from fed_unlearn.strategies.inner.kinds import needed_metric, weight_key
from fed_unlearn.strategies.inner.privacy import PrivacyAccountant
from fed_unlearn.strategies.inner.sampling import minima_within, seeded_sampling
from fed_unlearn.strategies.training.bounds import bounded_replies
from fed_unlearn.strategies.training.history import HistoryStore
from fed_unlearn.strategies.training.rounds import AskedRound, TrainingRound
from fed_unlearn.text import printable

logger = logging.getLogger("fed_unlearn.strategies")

EvaluateFunction = Callable[[int, ArrayRecord], MetricRecord | None]


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
        Seed of the inner strategy's sampling of clients, and of what it draws in aggregation.
    history : HistoryStore, optional
        Keeps every round that changed the model.
    accountant : PrivacyAccountant, optional
        Counts rounds with noise, as ``"train"``.
    noise_seed : int, optional
        Seed of the noise of a differential-privacy wrapper; ``seed`` where none is given. Clients are told ``seed``
        with every request, and who knows the noise's seed can take the noise off: outside of simulations, give a secret
        one.
    max_norm_factor : float, optional
        Multiple of the usual norm beyond which a change is absurdly long; the usual norm is the larger one of the last
        round's median and this round's. A change is also absurdly long beyond six times the longest of others in the
        first round of a training, and three times the longest so far in later ones. None leaves all changes as they
        are, and so does a round of one reply.
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
        longest: float = 0.0,
        measure_norms: bool = False,
    ) -> TrainingRound:
        """One whole round.

        Parameters
        ----------
        arrays : dict of ndarray
            The model that the round starts from.
        number : int
            Running number over all experiences, from 1: clients derive their seeds from it.
        train_config : ConfigRecord
            Training configuration. It stays as it is.
        longest, measure_norms
            The longest change so far, and whether norms are wanted, as for :meth:`take`.
        """
        asked = self.ask(arrays, pack(arrays), number, ConfigRecord(dict(train_config)))
        answers = () if asked.is_refused else self.grid.send_and_receive(asked.messages, timeout=self.timeout)
        return self.take(asked, answers, longest=longest, measure_norms=measure_norms)

    def ask(
        self, arrays: Arrays, record: ArrayRecord, number: int, config: ConfigRecord, grid: Grid | None = None
    ) -> AskedRound:
        """The first half of a round: have the strategy say what is sent to whom.

        Parameters
        ----------
        arrays, record : dict of ndarray, ArrayRecord
            The model that the round starts from, twice.
        number : int
            Running number over all experiences, from 1: clients derive their seeds from it.
        config : ConfigRecord
            The strategy completes it in place, as in Flower.
        grid : Grid, optional
            What the strategy samples from, where that is not every client that may be asked.
        """
        try:
            with self._sampling("train-sample", number, grid or self.grid):
                messages = tuple(self.inner.configure_train(number, record, config, grid or self.grid))
        except (AppExitException, ValueError) as error:
            # A privacy budget that is spent, or a node too few for the strategy's own accountant.
            logger.warning("training round %d: nobody is asked: %s: %s", number, type(error).__name__, error)
            return AskedRound(number, arrays, record, config, is_refused=True)
        clients = {message.metadata.dst_node_id: self._client_at(message.metadata.dst_node_id) for message in messages}
        return AskedRound(number, arrays, record, config, messages, clients)

    def take(
        self,
        asked: AskedRound,
        answers: Iterable[Message],
        *,
        usual_norm: float | None = None,
        longest: float = 0.0,
        measure_norms: bool = False,
    ) -> TrainingRound:
        """The second half of a round: what the strategy makes of the replies that can be used.

        Parameters
        ----------
        asked : AskedRound
            The first half of the round.
        answers : iterable of Message
            Replies that came back.
        usual_norm : float, optional
            Median norm of the clients' changes in the last round.
        longest : float
            The longest change of the training so far, as the round before gave it; 0 before the first round of a
            training.
        measure_norms : bool
            Whether the clients' update norms are wanted.
        """
        arrays, number = asked.arrays, asked.number
        bounds = self.max_norm_factor is not None
        keep_arrays = measure_norms or bounds or self.history is not None
        replies, failed = self._usable(asked, answers, keep_arrays=keep_arrays)
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
        names = frozenset(reply.client for reply in replies)
        return TrainingRound(trained, asked.config, train_metrics, norms, longest, names, failed)

    def ask_evaluation(
        self, record: ArrayRecord, number: int, config: ConfigRecord, grid: Grid | None = None
    ) -> list[Message]:
        """Have the strategy say who evaluates a model; parameters as for :meth:`ask`."""
        with self._sampling("evaluate-sample", number, grid or self.grid):
            return list(self.inner.configure_evaluate(number, record, config, grid or self.grid))

    def take_evaluation(self, number: int, answers: Iterable[Message]) -> MetricRecord | None:
        """What the strategy makes of the evaluations that can be used."""
        replies = self._filter.evaluations(
            answers,
            name_of=self._client_at,
            weight_key=weight_key(self.inner),
            bounded=lambda weights: bounded_weights(self.grid.roster, weights),
        )
        try:
            return self.inner.aggregate_evaluate(number, replies)
        except Exception as error:  # whatever clients can make a strategy raise must not end the run
            logger.warning(
                "training round %d: no evaluation: %s: %s", number, type(error).__name__, printable(str(error))
            )
            return None

    def _usable(
        self, asked: AskedRound, answers: Iterable[Message], *, keep_arrays: bool
    ) -> tuple[list[UsableReply], dict[str, str]]:
        """The replies that can be used; and why there is none of other clients."""
        if asked.is_refused:
            return [], self.grid.kept_away()
        clients = dict(asked.clients)
        answers = list(answers)
        clients |= {node: client for node, client in self.grid.roster.clients.items() if client in clients.values()}
        key = weight_key(self.inner)
        sums = self.inner if isinstance(self.inner, FrozenHead) else None
        usable = self._filter.usable(
            answers,
            _sent(asked.messages, asked.record, asked.arrays),
            asked=clients,
            weight_key=key,
            keep_arrays=keep_arrays,
            bounded=lambda weights: (
                weights
                if sums is not None
                else training_weights(self.grid.roster, weights, in_samples=key == protocol.WEIGHT)
            ),
            needed=needed_metric(self.inner),
        )
        if sums is not None:
            usable = [reply for reply in usable if self._has_sums(reply, sums)]
        reasons = {**dict.fromkeys(clients.values(), NO_ANSWER), **self.grid.kept_away()}
        reasons |= {**self.grid.dropped, **self._filter.left_out}
        trained = {reply.client for reply in usable}
        return usable, {client: fault_of(reason) for client, reason in reasons.items() if client not in trained}

    def _has_sums(self, reply: UsableReply, strategy: FrozenHead) -> bool:
        """Whether a reply has sums over no more samples than its client has; who sent it is named where not."""
        try:
            strategy.sums_of(reply.message, most_retained(self.grid.roster, reply.client)[1])
        except ProtocolError as error:
            self._filter.leave_out(reply.client, str(error))
            return False
        return True

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
            reset_to(self.inner, arrays, "since the aggregate is not finite")
            return None, metrics
        return candidate, metrics

    def _client_at(self, node: int) -> str:
        return self.grid.roster.clients.get(node) or f"of node {node}"

    @contextmanager
    def _sampling(self, purpose: str, number: int, grid: Grid) -> Iterator[None]:
        available = len(list(grid.get_node_ids()))
        with minima_within(self.inner, available), seeded_sampling(derive_seed(self.seed, purpose, number)):
            yield


def _sent(messages: Iterable[Message], record: ArrayRecord, arrays: Arrays) -> Arrays:
    """The model that clients were sent: strategies of a user's own may send another than they were given."""
    for message in messages:
        for sent in message.content.array_records.values():
            return arrays if sent is record else unpack(sent)
    return arrays
