"""Replies through a strategy's own aggregation, as a model with the names, order and dtypes of the one sent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack, unpack, with_dtypes_of
from fed_unlearn.errors import FedUnlearnError, InvalidModelError
from fed_unlearn.seeding import derive_seed, isolated_numpy
from fed_unlearn.strategies.inner.floating_view import FloatingView
from fed_unlearn.strategies.inner.kinds import (
    PRIVACY_WRAPPERS,
    PrivacyWrapper,
    minimum_replies,
    privacy_wrapper,
    weight_key,
)
from fed_unlearn.strategies.inner.known_models import known_models
from fed_unlearn.strategies.inner.privacy import (
    PrivacyAccountant,
    digest_of,
    noise_for,
    noise_multiplier_of,
    register_release,
    topped_up,
)
from fed_unlearn.strategies.inner.state import layers
from fed_unlearn.strategies.inner.statistics import positive_variances

_SCALES_IN_PLACE = (*PRIVACY_WRAPPERS, flower.QFedAvg)


class AggregationFailedError(FedUnlearnError, RuntimeError):
    """Replies of which a strategy's own aggregation made no model; another method has to serve the request."""


class TooFewRepliesError(AggregationFailedError):
    """Fewer replies than an aggregation needs to mean anything."""


def aggregate_through(
    inner: Strategy,
    base: Arrays,
    replies: Sequence[Message],
    number: int,
    *,
    seed: int = 0,
    purpose: str = "repair",
    accountant: PrivacyAccountant | None = None,
) -> Arrays:
    """Replies of an unlearn or repair round through a robust aggregator or a differential-privacy wrapper.

    A robust aggregator weights them as in training, by the protocol's weight. A privacy wrapper clips, adds noise and
    adapts its norm as in training, with ``base`` as the model that changes are counted from.

    The noise is made for the replies that are there: every reply counts alike, and the standard deviation is z C / n
    for n of them, whatever ``num_sampled_clients`` says. Flower divides by the latter; with fewer replies, or with
    weights, one client would have more influence on the mean than such noise covers. One holder alone gets z C: enough
    to hide it, and more than many a model stands, which the gate sees.

    Parameters
    ----------
    inner : Strategy
        The strategy, one of which :func:`aggregates_repair` holds. Afterwards its state is as before, but for an
        adaptive clipping norm and what an accountant of its own has counted.
    base : dict of ndarray
        The model that the clients were sent.
    replies : sequence of Message
        Usable ones (:func:`~fed_unlearn.strategies.clients.replies.usable_arrays`), in the order of their clients;
        they stay as they are.
    number : int
        Number of the round; part of the noise's seed.
    seed : int
        Seed of the noise. Who knows it, and the updates of all others, can take the noise off again.
    purpose : str
        What the release is counted under; part of the noise's seed.
    accountant : PrivacyAccountant, optional
        Counts the release.

    Returns
    -------
    dict of ndarray
        Names, order and dtypes of ``base``; under a privacy wrapper its integer arrays too.

    Raises
    ------
    TooFewRepliesError
        If a robust aggregator has fewer than three replies, or than the theorem of Krum or Bulyan asks for.
    AggregationFailedError
        If the strategy made nothing of them, or the budget of an accountant of its own is spent.
    """
    name = type(inner).__name__
    needed = max(1, minimum_replies(inner))
    if len(replies) < needed:
        raise TooFewRepliesError(
            f"{len(replies)} usable replies came, and {name} needs {needed} to tell single clients from the others;"
            " use a method that asks more clients"
        )
    weighted = [_with_weight_alone(reply, weight_key(inner) or protocol.WEIGHT) for reply in replies]
    wrapper = privacy_wrapper(inner)
    try:
        with undone_on_error(inner):
            if wrapper is not None:
                with noise_for(wrapper, len(weighted)):
                    register_release(wrapper, number, weighted)
            aggregate, _ = aggregate_replies(
                inner, base, weighted, number, seed=seed, purpose=purpose, accountant=accountant
            )
    except Exception as error:
        raise AggregationFailedError(
            f"{name} made nothing of {len(replies)} replies: {type(error).__name__}: {error}"
        ) from error
    if aggregate is None:
        raise AggregationFailedError(f"{name} made nothing of {len(replies)} replies")
    return aggregate


def aggregate_replies(
    inner: Strategy,
    base: Arrays,
    replies: Sequence[Message],
    number: int,
    *,
    seed: int,
    purpose: str,
    accountant: PrivacyAccountant | None = None,
) -> tuple[Arrays | None, MetricRecord | None]:
    """One call of a strategy's ``aggregate_train``; what it draws from NumPy's generator depends on seeds alone.

    Parameters
    ----------
    inner : Strategy
    base : dict of ndarray
        The model that the clients were sent.
    replies : sequence of Message
        Replies that can be used. Some strategies take the arrays out of their records.
    number : int
        Number of the round.
    seed, purpose : int, str
        Seed of what the strategy draws, together with the purpose and the number.
    accountant : PrivacyAccountant, optional
        Counts the release under its purpose, where there is noise.

    Returns
    -------
    tuple of (dict of ndarray or None) and (MetricRecord or None)
        Names, order and dtypes of ``base``; None where the strategy made no model of the replies.

    Raises
    ------
    InvalidModelError
        If the strategy's model has other arrays than ``base``.
    Exception
        Whatever the strategy raises.
    """
    wrapper = privacy_wrapper(inner)
    if wrapper is not None and replies:
        made = _aggregate_privately(inner, wrapper, base, replies, number, seed, purpose, accountant)
        if made[0] is not None:
            known_models(inner).note(made[0])
        return made
    return _aggregate(inner, base, replies, number, derive_seed(seed, "aggregate", purpose, number))


def _aggregate(
    inner: Strategy, base: Arrays, replies: Sequence[Message], number: int, seed: int
) -> tuple[Arrays | None, MetricRecord | None]:
    view = FloatingView(base) if any(isinstance(layer, _SCALES_IN_PLACE) for layer in layers(inner)) else None
    shown = replies if view is None else [_with_models(reply, view.of) for reply in replies]
    with _seen_by(inner, view), isolated_numpy(seed):
        aggregated, metrics = inner.aggregate_train(number, shown)
    if aggregated is None:
        return None, metrics
    as_made = unpack(aggregated)
    known_models(inner).note(as_made)  # a strategy may keep it before integers are integers again
    return _like(base, as_made, view), metrics


def _aggregate_privately(
    inner: Strategy,
    wrapper: PrivacyWrapper,
    base: Arrays,
    replies: Sequence[Message],
    number: int,
    seed: int,
    purpose: str,
    accountant: PrivacyAccountant | None,
) -> tuple[Arrays | None, MetricRecord | None]:
    view = FloatingView(base)
    weight = weight_key(inner) or protocol.WEIGHT
    shown = [_with_equal_weight(_with_models(reply, view.of_changed), weight) for reply in replies]
    sent = [array.data for array in pack(base).values()]
    came = [array.data for reply in replies for _, record in _models(reply) for array in record.values()]
    noise = derive_seed(seed, "noise", purpose, number, digest_of([*sent, *came]))
    with _seen_by(inner, view), noise_for(wrapper, len(shown)):
        clipped_to = float(wrapper.clipping_norm)
        with isolated_numpy(noise):
            aggregated, metrics = inner.aggregate_train(number, shown)
        if aggregated is None:
            return None, metrics
        released = topped_up(unpack(aggregated), wrapper, clipped_to, derive_seed(noise, "rest"))
    if accountant is not None:
        accountant.add(purpose, noise_multiplier_of(inner) or 0.0)
    return _like(base, released, view), metrics


@contextmanager
def undone_on_error(inner: Strategy) -> Iterator[None]:
    """Put back the attributes that a strategy replaced where its aggregation raises half-way."""
    before = {id(layer): dict(vars(layer)) for layer in layers(inner)}
    try:
        yield
    except Exception:
        for layer in list(layers(inner)):
            vars(layer).clear()
            vars(layer).update(before[id(layer)])
        raise


@contextmanager
def _seen_by(inner: Strategy, view: FloatingView | None) -> Iterator[None]:
    """Show strategies that keep the round's model what is seen of it; theirs is as before afterwards."""
    keepers = [layer for layer in layers(inner) if view is not None and isinstance(layer, _SCALES_IN_PLACE)]
    before = [keeper.current_arrays for keeper in keepers]
    try:
        for keeper in keepers:
            keeper.current_arrays = view.base_record() if view is not None else keeper.current_arrays
        yield
    finally:
        for keeper, arrays in zip(keepers, before, strict=True):
            keeper.current_arrays = arrays


def _like(base: Arrays, aggregate: Arrays, view: FloatingView | None) -> Arrays:
    whole = aggregate if view is None else view.completed(aggregate)
    if {name: value.shape for name, value in whole.items()} != {name: value.shape for name, value in base.items()}:
        raise InvalidModelError(f"the aggregate has {len(whole)} arrays, and not those of the model")
    return positive_variances(with_dtypes_of({name: whole[name] for name in base}, base), base)


def _models(reply: Message) -> list[tuple[str, ArrayRecord]]:
    return [(key, record) for key, record in reply.content.items() if isinstance(record, ArrayRecord)]


def _with_content(reply: Message, records: RecordDict) -> Message:
    changed = copy.copy(reply)
    changed.content = records
    return changed


def _with_models(reply: Message, shown: Callable[[ArrayRecord], ArrayRecord]) -> Message:
    return _with_content(reply, RecordDict({**reply.content, **{key: shown(record) for key, record in _models(reply)}}))


def _with_weight_alone(reply: Message, key: str) -> Message:
    """The reply's model and weight, the latter under the strategy's own key.

    The model is in a record of its own: FedMedian and others take arrays out of the records that they read.
    """
    weight = MetricRecord({key: protocol.read_metric(reply, protocol.WEIGHT)})
    records = RecordDict({protocol.ARRAYS_KEY: protocol.arrays_of(reply).copy(), protocol.METRICS_KEY: weight})
    return _with_content(reply, records)


def _with_equal_weight(reply: Message, key: str) -> Message:
    equal = {
        name: MetricRecord({**record, key: 1.0}) if isinstance(record, MetricRecord) else record
        for name, record in reply.content.items()
    }
    return _with_content(reply, RecordDict(equal))
