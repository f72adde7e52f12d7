"""Success of a planted trigger, counted one by one, and of a model that learned it."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from fed_unlearn.audits.asked import measured_of
from fed_unlearn.audits.base import Judged
from fed_unlearn.audits.battery import central_observation, run_audits
from fed_unlearn.audits.clients.backdoor import BackdoorSuccess
from fed_unlearn.audits.intervals import wilson_interval
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.joined import concatenate
from fed_unlearn.data.trigger import Trigger
from fed_unlearn.holder import observe
from fed_unlearn.logits import predict_logits
from fed_unlearn.seeding import isolated_random, seeded_generator

TRIGGER = Trigger(0)


def digits() -> ImageSet:
    pixels, labels = load_digits(return_X_y=True)
    return ImageSet(torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels))


def fitted(samples: ImageSet) -> nn.Module:
    with isolated_random(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    order = torch.Generator().manual_seed(0)
    for _ in range(6):
        for chosen in torch.randperm(len(samples), generator=order).split(32):
            images, labels = samples.batch(chosen)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model


@pytest.fixture(scope="module")
def parts() -> dict[str, ImageSet]:
    source = digits()
    client = TRIGGER.planted(source.subset(torch.arange(200)), seeded_generator("client"))
    assert isinstance(client, ImageSet)
    return {
        "forget": client,
        "retain": source.subset(torch.arange(200, 900)),
        "test_forget": source.subset(torch.empty(0, dtype=torch.int64)),
        "test_retain": source.subset(torch.arange(900, 1300)),
    }


@pytest.fixture(scope="module")
def models(parts: dict[str, ImageSet]) -> dict[str, nn.Module]:
    both = concatenate(parts["forget"], parts["retain"])
    assert isinstance(both, ImageSet)
    return {"original": fitted(both), "oracle": fitted(parts["retain"])}


def count(model: nn.Module, test: ImageSet) -> BackdoorSuccess:
    shown = TRIGGER.shown(test)
    empty = test.subset(torch.empty(0, dtype=torch.int64))
    seen = observe(
        model,
        "client",
        (),
        Judged.whole(empty, torch.empty(0, 10)),
        10,
        triggered=Judged.whole(shown, predict_logits(model, shown)),
    )
    return BackdoorSuccess.count(seen)


def test_the_figure_is_counted_one_by_one(models: dict[str, nn.Module], parts: dict[str, ImageSet]) -> None:
    test, model = parts["test_retain"], models["original"]
    called = total = 0
    for image, label in (test[index] for index in range(len(test))):
        if label != 0:
            marked = image.clone()
            for row in (5, 6, 7):
                for column in (5, 6, 7):
                    marked[0, row, column] = 1.0
            total += 1
            called += int(model(marked[None]).argmax()) == 0
    counts = count(model, test)
    assert (counts.called, counts.total) == (called, total)
    assert counts.value == called / total and counts.interval == wilson_interval(called, total)


def test_counts_of_holders_add_up(models: dict[str, nn.Module], parts: dict[str, ImageSet]) -> None:
    test = parts["test_retain"]
    shares = [test.subset(torch.arange(start, len(test), 3)) for start in range(3)]
    total = sum((count(models["original"], share) for share in shares), start=BackdoorSuccess())
    assert total == count(models["original"], test) and total.fits(10)
    assert not BackdoorSuccess(called=3, total=2).fits(10)


def test_a_backdoor_is_there_before_and_not_in_the_oracle(
    models: dict[str, nn.Module], parts: dict[str, ImageSet]
) -> None:
    with_trigger = {**parts, "triggered": TRIGGER.shown(parts["test_retain"])}
    data = RequestData(parts=with_trigger, classes=frozenset(), class_count=10)  # type: ignore[arg-type]
    found = {}
    for name, model in models.items():
        readings = Readings(model, data)
        seen = central_observation(readings, "client")
        read = readings.passes.forward
        found[name] = run_audits(seen, ["backdoor_success"])["backdoor_success"].figures["backdoor_success"].value
        assert read == sum(len(part) for part in with_trigger.values()), "each sample is read once"
        assert readings.passes.forward == read
    assert found["original"] is not None and found["original"] > 0.8
    assert found["oracle"] is not None and found["oracle"] < 0.1
    assert found["original"] == count(models["original"], parts["test_retain"]).value


def test_without_a_trigger_there_is_no_figure(models: dict[str, nn.Module], parts: dict[str, ImageSet]) -> None:
    data = RequestData(parts=parts, classes=frozenset(), class_count=10)  # type: ignore[arg-type]
    seen = central_observation(Readings(models["oracle"], data), "client")
    run = run_audits(seen, ["backdoor_success"])["backdoor_success"]
    assert run.error is None and run.figures == {}
    assert measured_of({"backdoor_success": BackdoorSuccess(3, 4)}, for_gate=True) == {}
