"""All audits that need neither an oracle nor the model before, of a request that a strategy has just served."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import nn

from fed_unlearn.audits.base import AUDITS, Figures, Measured
from fed_unlearn.audits.battery import audits_of, central_observation, run_audits
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.avalanche.metrics.forget_figures import ServedRequest
from fed_unlearn.avalanche.streams.reading import SampleReader
from fed_unlearn.avalanche.streams.samples import sample_ids
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ScopeKind
from fed_unlearn.seeding import derive_seed, seeded_generator

MOST_RETAINED = 2000
"""Maximum number of retained training samples that are read."""

_ELSEWHERE = frozenset(Figures.__dataclass_fields__) - {"retain_accuracy"}
"""Figures that other metrics emit."""

logger = logging.getLogger("fed_unlearn.avalanche")


def full_figures(
    model: nn.Module, request: ServedRequest, retained: SampleSet, test: SampleSet | None, staying: Collection[int]
) -> dict[str, Measured]:
    """The figures of all full audits, by name; those that need an oracle or the model before are left out.

    An audit that fails is logged as a warning.

    Parameters
    ----------
    model : nn.Module
        The model. It is not changed.
    request : ServedRequest
        The request, with its samples.
    retained : SampleSet
        Training samples of the classes that stay, no forgotten one among them.
    test : SampleSet or None
        All test samples.
    staying : collection of int
        The classes that have arrived and that no request named.
    """
    samples = request.samples
    if samples is None or not len(samples):
        return {}
    nothing = samples.subset(torch.empty(0, dtype=torch.int64))
    class_count = predict_logits(model, samples.subset(torch.tensor([0]))).shape[1]
    data = RequestData(
        parts={
            "forget": samples,
            "retain": retained,
            "test_forget": test.of_classes(request.classes) if test is not None and request.classes else nothing,
            "test_retain": test.of_classes(staying) if test is not None else nothing,
        },
        classes=frozenset(request.classes),
        class_count=class_count,
        left_out=frozenset(range(class_count)).difference(staying, request.classes),
    )
    scope: ScopeKind = "class" if request.classes else "sample"
    seen = central_observation(Readings(model, data), scope, seed=derive_seed("avalanche", "audit", request.id))
    names = [name for name in audits_of("full", scope) if AUDITS.find(name).level == "full"]
    found: dict[str, Measured] = {}
    for name, run in run_audits(seen, names).items():
        if run.error is not None:
            logger.warning("audit %s of request %s: %s", name, request.id, run.error)
        found.update({figure: item for figure, item in run.figures.items() if item.value is not None})
    return {figure: item for figure, item in found.items() if figure not in _ELSEWHERE}


def retained_of(
    datasets: Sequence[AvalancheDataset],
    like: SampleSet,
    *,
    staying: Collection[int],
    without: Collection[str],
    seed: str,
    reader: SampleReader,
) -> SampleSet:
    """At most :data:`MOST_RETAINED` samples of the classes that stay, drawn evenly; only these are read.

    Parameters
    ----------
    datasets : sequence of AvalancheDataset
        Data sets of the training experiences so far.
    like : SampleSet
        Gives the shape of inputs where there are none.
    staying : collection of int
    without : collection of str
        Ids of forgotten samples.
    seed : str
        Seed of the draw.
    reader : SampleReader
        Reads the samples.
    """
    kept, gone = set(staying), set(without)
    places = [
        (number, position)
        for number, dataset in enumerate(datasets)
        for position, (label, name) in enumerate(zip(reader.labels(dataset), sample_ids(dataset), strict=True))
        if label in kept and name not in gone
    ]
    generator = seeded_generator("avalanche", "retained", seed)
    drawn = sorted(places[index] for index in torch.randperm(len(places), generator=generator)[:MOST_RETAINED].tolist())
    chosen = {number: [position for other, position in drawn if other == number] for number, _ in drawn}
    parts = [datasets[number].subset(positions) for number, positions in chosen.items()]
    return reader.joined(parts, parts[0]) if parts else like.subset(torch.empty(0, dtype=torch.int64))
