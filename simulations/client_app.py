"""The Flower ClientApp of every simulation: its training and evaluation, and the unlearning actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor
from torch.nn import functional

from fed_unlearn.arrays import pack
from fed_unlearn.client import current_session, install, retained
from fed_unlearn.data.experiences import replayed
from fed_unlearn.data.joined import concatenate
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import ProtocolError
from fed_unlearn.logits import predict_logits
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.protocol import arrays_of, config_of
from fed_unlearn.seeding import derive_seed, isolated_random, seeded_generator
from fed_unlearn.simulations.task import ScenarioTask, scenario_of

task = ScenarioTask()
app = ClientApp()
install(app, task)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train for one round on retained samples: all that have arrived, or an experience and some of earlier ones."""
    order = train_order(message, context)
    ahead = trained_ahead.pop(order.seed, None)
    if ahead is None:
        model = current_session().model_with(arrays_of(message))
        with isolated_random(derive_seed(*order.seed)):
            passes = task.train(model, order.samples, order.config, seeded_generator(*order.seed))
        ahead = TrainedAhead(model.state_dict(), passes)
    metrics = MetricRecord(
        {
            "num-examples": len(order.samples),
            "forward-passes": ahead.passes.forward,
            "backward-passes": ahead.passes.backward,
        }
    )
    return Message(RecordDict({"arrays": pack(ahead.weights), "metrics": metrics}), reply_to=message)


@dataclass(frozen=True)
class TrainOrder:
    """What a client is to train in a round.

    Attributes
    ----------
    samples : SampleSet
        The client's retained samples.
    config : ConfigRecord
        Configuration of the message.
    seed : tuple of int and str
        Parts of the seed of its draws, which no other client and round has.
    """

    samples: SampleSet
    config: ConfigRecord
    seed: tuple[int | str, ...]


@dataclass(frozen=True)
class TrainedAhead:
    """A client's trained model, and what it cost.

    Attributes
    ----------
    weights : mapping of str to Tensor
    passes : PassCounter
    """

    weights: Mapping[str, Tensor]
    passes: PassCounter


trained_ahead: dict[tuple[int | str, ...], TrainedAhead] = {}
"""Results of clients that were trained together, by seed, until their messages are delivered."""


def train_order(message: Message, context: Context) -> TrainOrder:
    """What a train message asks of the client whose session is active."""
    config = config_of(message)
    samples = _training_samples(context, _number(config, "experience"), _number(config, "arrived"))
    seed = (int(str(config["seed"])), "train", int(str(config["server-round"])), task.client_id(context))
    return TrainOrder(samples, config, seed)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure accuracy and mean cross-entropy on test samples of classes that have arrived and are not forgotten."""
    config, data = config_of(message), current_session().data
    classes = _classes(config, "arrived-classes", range(data.class_count)) - _classes(config, "forgotten-classes", ())
    samples = data.test.of_classes(classes)
    model = current_session().model_with(arrays_of(message))
    logits = predict_logits(model, samples)
    count = len(samples)
    metrics = MetricRecord(
        {
            "num-examples": count,
            "accuracy": float((logits.argmax(1) == samples.labels).float().mean()) if count else 0.0,
            "loss": float(functional.cross_entropy(logits, samples.labels)) if count else 0.0,
        }
    )
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _classes(config: ConfigRecord, key: str, default: Iterable[int]) -> set[int]:
    given = config.get(key)
    return {int(item) for item in given} if isinstance(given, list) else set(default)


def _number(config: ConfigRecord, key: str) -> int:
    return int(str(config.get(key, 0)))


def _training_samples(context: Context, experience: int, arrived: int) -> SampleSet:
    """Retained samples of an experience and some to replay of earlier ones. Experience 0 is all that has arrived."""
    data = current_session().data
    if (experience or arrived) and data.experiences is None:
        raise ProtocolError("a train message of a stream that does not say which samples arrive when")
    if not experience:
        return retained(data.arrived(arrived), context)
    samples = [retained(data.of_experience(experience), context)]
    scenario = scenario_of(context)
    count = scenario.stream.replay_samples if scenario.stream is not None else 0
    for earlier in range(1, experience) if count else ():
        pool = data.of_experience(earlier)
        generator = seeded_generator(scenario.seed, "replay", earlier, task.client_id(context))
        samples.append(replayed(pool, retained(pool, context), count, generator))
    return concatenate(*samples)
