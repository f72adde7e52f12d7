"""What audits read where a client uses another model than the one of all: the worse of both for what is forgotten."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fed_unlearn.audits.base import Judged
from fed_unlearn.audits.scores import PASSES_TO_FIND, output_layer_of, scored_by, scored_logits
from fed_unlearn.client.derived_answers import CHECKED, RowsSet
from fed_unlearn.client.known_answers import KnownAnswers, ModelAnswers
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.parts.heads import OutputLayer


@dataclass
class JudgedModels:
    """The models that an audit of a client judges.

    What is retained is judged by the model that the client uses. What is to be forgotten counts as recognised if either
    model recognises it, and so do the samples that it is compared with: of each sample the answer of the model counts
    that recognises it, or else that is surer of its class.

    Attributes
    ----------
    used : nn.Module
        What the client uses.
    shared : nn.Module or None
        The model of all; None where it is the same, or none by itself.
    known : KnownAnswers, optional
        What models have answered before: these samples are not read again.
    reader : str
        The attempts that samples are read for; empty for none.
    rows_set : RowsSet, optional
        What alone has changed since the models that were asked last: few samples are read then.
    passes : int
        Samples read so far, by each model. What was read before for the same attempts counts too: an attempt that a
        crash has cut off is made again, and what it had read until then was counted nowhere.
    """

    used: nn.Module
    shared: nn.Module | None
    known: KnownAnswers | None = None
    reader: str = ""
    rows_set: RowsSet | None = None
    passes: int = field(default=0, init=False)
    _layers: dict[int, OutputLayer | None] = field(default_factory=dict, init=False, repr=False)
    _answers: dict[int, ModelAnswers] = field(default_factory=dict, init=False, repr=False)
    _counted: dict[int, set[str]] = field(default_factory=dict, init=False, repr=False)
    _sources: dict[int, ModelAnswers | None] = field(default_factory=dict, init=False, repr=False)

    def read(self, samples: SampleSet, *, scored: bool = False, part: str = "train") -> tuple[Tensor, Judged]:
        """What the client's model says of samples, and for each the answer that counts against forgetting.

        Parameters
        ----------
        samples : SampleSet
        scored : bool
            Whether the scores of classes are read in the same pass; of each sample from the model that counts.
        part : str
            Part of the client's data that the samples belong to: ``"train"``, ``"validation"``, ``"test"``, or
            ``"triggered"`` for test samples with a trigger shown on them.

        Returns
        -------
        tuple of Tensor of shape (n, classes) and Judged
        """
        used, own_scores = self._read(self.used, samples, scored, part)
        if self.shared is None or not len(samples):
            return used, Judged.whole(samples, used, own_scores)
        shared, scores = self._read(self.shared, samples, scored, part)
        labels = samples.labels.to(used.device)
        is_surer = (_surety(shared, labels) > _surety(used, labels))[:, None]
        if scores is not None and own_scores is not None:
            scores = torch.where(is_surer, scores, own_scores)
        return used, Judged.whole(samples, torch.where(is_surer, shared, used), scores)

    def _read(self, model: nn.Module, samples: SampleSet, scored: bool, part: str) -> tuple[Tensor, Tensor | None]:
        if self.known is None or not len(samples):
            self.passes += len(samples)
            return scored_logits(model, samples) if scored else (predict_logits(model, samples), None)
        answers, keys = self._answers_of(model), [self.known.key_of(part, sample_id) for sample_id in samples.ids]
        read_again = answers.read_for(keys, self.reader) if self.reader else []
        self._count(model, read_again)
        missing = answers.missing(keys)
        if missing and self.rows_set is not None:
            missing = self._derived(model, samples, keys, missing, self.rows_set, self.known)
        if missing:
            self._ask(model, samples, keys, missing, self.known)
        logits, scores = answers.of(keys)
        return logits, scores if scored else None

    def _ask(
        self, model: nn.Module, samples: SampleSet, keys: Sequence[str], places: Sequence[int], known: KnownAnswers
    ) -> tuple[Tensor, Tensor]:
        """Read some of the samples."""
        asked = [keys[place] for place in places]
        self._count(model, asked)
        unread = samples.subset(torch.tensor(places)) if len(places) < len(samples) else samples
        found = scored_by(self._layer_of(model, unread), model, unread)
        known.add(self._answers_of(model), asked, *found, self.reader)
        return found

    def _derived(
        self,
        model: nn.Module,
        samples: SampleSet,
        keys: Sequence[str],
        missing: list[int],
        rows: RowsSet,
        known: KnownAnswers,
    ) -> list[int]:
        """Derive what can be from what the model before has answered; the samples that are still to be read."""
        answers, layer = self._answers_of(model), self._layer_of(model, samples)
        if layer is None:
            return missing
        if id(model) not in self._sources:
            checked, missing = missing[:CHECKED], missing[CHECKED:]
            found = self._ask(model, samples, keys, checked, known)
            asked = [keys[place] for place in checked]
            self._sources[id(model)] = rows.source(known.before(answers), asked, found, layer)
        source = self._sources[id(model)]
        if source is None:
            return missing
        unknown = set(source.missing(keys))
        told = [place for place in missing if place not in unknown]
        if told:
            names = [keys[place] for place in told]
            known.add(answers, names, *rows.answers(source.of(names)[0], layer), "")  # read for no attempt
        return [place for place in missing if place in unknown]

    def _count(self, model: nn.Module, keys: Sequence[str]) -> None:
        """Count samples once a message, and with the first ones what finding the output layer takes."""
        counted = self._counted.setdefault(id(model), set())
        if keys and not counted:
            self.passes += PASSES_TO_FIND
        self.passes += len(set(keys) - counted)
        counted.update(keys)

    def _answers_of(self, model: nn.Module) -> ModelAnswers:
        if id(model) not in self._answers and self.known is not None:
            self._answers[id(model)] = self.known.of(model)
        return self._answers[id(model)]

    def _layer_of(self, model: nn.Module, samples: SampleSet) -> OutputLayer | None:
        if id(model) not in self._layers:
            self._layers[id(model)] = output_layer_of(model, samples)
        return self._layers[id(model)]


def for_classes(classes: Collection[int], labels: Tensor, theirs: Tensor, others: Tensor) -> Tensor:
    """Some logits for the samples of some classes, and others for the rest.

    Parameters
    ----------
    classes : collection of int
    labels : Tensor of shape (n,)
    theirs, others : Tensor of shape (n, classes)
    """
    if theirs is others or not classes:
        return others
    named = torch.isin(labels.to(others.device), torch.tensor(sorted(classes), device=others.device))
    return torch.where(named[:, None], theirs, others)


def _surety(logits: Tensor, labels: Tensor) -> Tensor:
    """The probability of each sample's own class, and 1 more where the sample is recognised."""
    own = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    return own + (logits.argmax(1) == labels)
