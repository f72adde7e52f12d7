"""The Flower ClientApp of every simulation: the user's own training and evaluation, and the unlearning actions."""

from __future__ import annotations

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.nn import functional

from fed_unlearn.arrays import pack
from fed_unlearn.client import current_session, install, retained
from fed_unlearn.inference import predict_logits
from fed_unlearn.protocol import arrays_of, config_of
from fed_unlearn.seeding import derive_seed, isolated_random, seeded_generator
from fed_unlearn.simulations.task import ScenarioTask

task = ScenarioTask()
app = ClientApp()
install(app, task)


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round of training on retained data."""
    config = config_of(message)
    samples = retained(task.load_data(context).train, context)
    model = current_session().model_with(arrays_of(message))
    seed = (int(str(config["seed"])), "train", int(str(config["server-round"])), task.client_id(context))
    with isolated_random(derive_seed(*seed)):
        passes = task.train(model, samples, config, seeded_generator(*seed))
    metrics = MetricRecord(
        {"num-examples": len(samples), "forward-passes": passes.forward, "backward-passes": passes.backward}
    )
    arrays = pack(model.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Accuracy and mean cross-entropy on this client's test samples of classes that are not forgotten."""
    forgotten = config_of(message).get("forgotten-classes", [])
    classes = set(range(task.load_data(context).class_count)) - set(forgotten if isinstance(forgotten, list) else [])
    samples = task.load_data(context).test.of_classes({int(item) for item in classes})
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
