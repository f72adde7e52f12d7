"""Small models of digits that forgot wrongly in known ways, and what audits say of them beside retrained models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

import torch
from audited_digits import data, digits, overwritten
from torch import Tensor, nn
from trained_digits import fitted, untrained_network

from fed_unlearn.audits.base import Measured
from fed_unlearn.audits.battery import central_observation, run_audits
from fed_unlearn.audits.oracles.prediction import judge
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.audits.samples.shadows import Shadows, confidences
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.joined import concatenate
from fed_unlearn.methods import create
from fed_unlearn.seeding import isolated_random

ORACLES = 5
CLASS_AUDITS = (
    "logit_ranking",
    "recall_without_bias",
    "nearest_mean",
    "prototype",
    "parameter_difference",
    "oracle_distance",
    "splits",
    "sureness",
    "tug_of_war",
)
"""Those that take little time."""


@cache
def oracle(number: int) -> nn.Module:
    """From the same first weights as the original, in an order of its own, without the class."""
    retain = digits().retain
    order = torch.randperm(len(retain), generator=torch.Generator().manual_seed(number))
    return fitted(untrained_network(), retain.subset(order), epochs=8)


def ascended() -> nn.Module:
    """The loss on the class is raised far beyond what a model has that never saw it."""
    model, forget = digits().model, digits().forget
    optimizer, generator = torch.optim.SGD(model.parameters(), lr=0.002), torch.Generator().manual_seed(0)
    for _ in range(4):
        for chosen in torch.randperm(len(forget), generator=generator).split(32):
            images, labels = forget.batch(chosen)
            optimizer.zero_grad()
            # Log-odds, whose gradient does not vanish where the loss is near zero.
            logits = model(images)
            own = logits.gather(1, labels[:, None])[:, 0]
            (own - logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1)).mean().backward()
            optimizer.step()
    return model


def class_model(name: str) -> nn.Module:
    """A model that has forgotten class 3, or seems to have, by what is wrong with it."""
    match name:
        case "output suppressed":
            generator = torch.Generator().manual_seed(0)
            return create("mask-output").unlearn(digits().model, digits().forget, generator=generator).model
        case "row overwritten":
            return overwritten(digits().model)
        case "forgets nothing":
            return digits().model
        case "over-forgets":
            return ascended()
        case "retrained":
            return oracle(ORACLES)  # it is none of the others
    raise ValueError(name)


@cache
def class_figures(name: str) -> Mapping[str, Measured]:
    """Figures of a model beside its original and the oracles; those of an oracle itself by its number."""
    model = oracle(int(name)) if name.isdigit() else class_model(name)
    others = tuple(_readings(number) for number in range(ORACLES) if str(number) != name)
    own = _readings(int(name)) if name.isdigit() else Readings(model, data())
    seen = central_observation(own, "class", original=_original(), oracles=others)
    runs = run_audits(seen, CLASS_AUDITS)
    assert not [run.error for run in runs.values() if run.error]
    return {figure: measured for run in runs.values() for figure, measured in run.figures.items()}


def verdicts(name: str) -> dict[str, str]:
    """What lies outside of where one more oracle's figure would be: above or below it."""
    found = {}
    for figure, measured in class_figures(name).items():
        beside = [class_figures(str(number))[figure] for number in range(ORACLES)]
        judgement = judge(measured, beside)
        if judgement is not None and judgement.is_outside:
            found[figure] = judgement.verdict
    return found


@cache
def _readings(number: int) -> Readings:
    return Readings(oracle(number), data())


@cache
def _original() -> Readings:
    return Readings(digits().model, data())


# ---------------------------------------------------------------------- single samples

MEMORISED, RANDOM, SHADOWS = 8, 16, 8


def small_network() -> nn.Module:
    with isolated_random(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))


@cache
def samples() -> tuple[ImageSet, ImageSet, ImageSet]:
    """D_f, random samples and then some with a label that no other model would give them, which have to be memorised;
    D_r and test samples."""
    everything = concatenate(digits().retain, digits().test_retain)
    assert isinstance(everything, ImageSet)
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(len(everything), generator=generator)
    chosen = everything.subset(order[: RANDOM + MEMORISED])
    labels = chosen.labels.clone()
    labels[RANDOM:] = (labels[RANDOM:] + 5) % 10
    return chosen.relabelled(labels), everything.subset(order[24:324]), everything.subset(order[324:484])


def sample_model(number: int, kept: Collection[int] = ()) -> nn.Module:
    """Trained on D_r and some of D_f, in an order of its own."""
    forget, retain, _ = samples()
    held = concatenate(retain, forget.subset(torch.tensor(sorted(kept), dtype=torch.int64))) if kept else retain
    order = torch.randperm(len(held), generator=torch.Generator().manual_seed(100 + number))
    shuffled = held.subset(order)
    assert isinstance(shuffled, ImageSet)
    return fitted(small_network(), shuffled, epochs=40)


@cache
def retrained() -> tuple[Tensor, Tensor]:
    models = [sample_model(number) for number in range(SHADOWS)]
    forget, _, test = samples()
    return confidences(models, forget), confidences(models, test)


@cache
def sample_figures(kept: tuple[int, ...], *, shadows: bool = False) -> Mapping[str, Measured]:
    """Figures of a model that has kept some samples of D_f, perhaps beside shadow models that kept the same."""
    forget, retain, test = samples()
    of_forget, of_test = retrained()
    others = [sample_model(1000 + number, kept) for number in range(SHADOWS)] if shadows else []
    given = Shadows(
        retrained=of_forget,
        retrained_test=of_test,
        unlearned=confidences(others, forget) if others else None,
        memorised=torch.arange(RANDOM + MEMORISED) >= RANDOM,
    )
    none = forget.subset(torch.empty(0, dtype=torch.int64))
    parts = {"forget": forget, "retain": retain, "test_forget": none, "test_retain": test}
    request = RequestData(parts=parts, classes=frozenset(), class_count=10)  # type: ignore[arg-type]
    seen = central_observation(Readings(sample_model(500, kept), request), "sample", shadows=given)
    runs = run_audits(seen, ("lira", "ulira"))
    assert not [run.error for run in runs.values() if run.error]
    return {figure: measured for run in runs.values() for figure, measured in run.figures.items()}
