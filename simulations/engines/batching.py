"""Clients of one round that are trained at once, before their messages are delivered; each then answers with its own.

``[run] batch-clients`` turns it on. A client still has a session of its own for its message, in which its data is read
and its reply stamped; only the training itself is shared.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flwr.app import ArrayRecord, Context, Message

from fed_unlearn import protocol
from fed_unlearn.client.session import ClientSession, active_session
from fed_unlearn.client.working_model import WorkingModel
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.simulations.client_app import TrainedAhead, TrainOrder, task, train_order, trained_ahead
from fed_unlearn.simulations.scenario import Scenario
from fed_unlearn.simulations.scenario.errors import ScenarioError
from fed_unlearn.simulations.task import new_model, source_of, training_settings
from fed_unlearn.training.together import check_model, train_together

logger = logging.getLogger("fed_unlearn.client")


def check_batching(scenario: Scenario) -> None:
    """Check that a scenario's clients can be trained at once.

    Raises
    ------
    ScenarioError
        If its model does not allow it. The message says why, and what to do.
    """
    source = source_of(scenario.data)
    try:
        check_model(new_model(scenario, source), source.image_shape)
    except InvalidModelError as error:
        raise ScenarioError(
            f"{scenario.source_file}: run.batch-clients: clients of the model {scenario.model.name!r} cannot be trained"
            f" together: {error}; leave it out"
        ) from error


class BatchedTraining:
    """Trains the clients of train messages in groups of equal model, settings and number of samples.

    A client that is alone in its group, or whose loss is not finite, is left to train by itself.
    """

    def __init__(self) -> None:
        self._models: dict[str, WorkingModel] = {}

    def __call__(self, messages: Sequence[tuple[Message, Context]]) -> None:
        """Train the clients of some messages, and keep the results until the messages are delivered."""
        trained_ahead.clear()
        groups: dict[object, list[tuple[TrainOrder, ClientSession, ArrayRecord]]] = {}
        for message, context in messages:
            if message.metadata.message_type != protocol.TRAIN:
                continue
            session = ClientSession(task, context, self._models, message)
            token = active_session.set(session)
            try:
                if session.owner.is_used:  # what its owner asks for is looked up when the message itself comes
                    continue
                order, arrays = train_order(message, context), protocol.arrays_of(message)
            except Exception:  # the client meets it again when its message comes, and answers with it
                logger.debug("client of node %s is not trained ahead", context.node_id, exc_info=True)
                continue
            finally:
                active_session.reset(token)
            if len(order.samples):
                key = id(arrays), len(order.samples), repr(sorted(order.config.items()))
                groups.setdefault(key, []).append((order, session, arrays))
        for group in groups.values():
            if len(group) > 1:
                self._train(group)

    @staticmethod
    def _train(group: Sequence[tuple[TrainOrder, ClientSession, ArrayRecord]]) -> None:
        first, session, arrays = group[0]
        samples: list[SampleSet] = [order.samples for order, _, _ in group]
        generators = [seeded_generator(*order.seed) for order, _, _ in group]
        trained, passes = train_together(
            session.model_with(arrays), samples, training_settings(first.config), generators
        )
        for (order, _, _), weights in zip(group, trained, strict=True):
            if weights is not None:
                trained_ahead[order.seed] = TrainedAhead(weights, passes)
