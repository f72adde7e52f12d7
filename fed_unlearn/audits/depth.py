"""Is a class forgotten as deeply as by a model that never saw it? Features and relearning, beside a retrain oracle."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from fed_unlearn.audits.probe import ProbeResult, probe
from fed_unlearn.audits.relearning import RelearnResult, RelearnSettings, relearn
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import EmptySetError
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.seeding import seeded_generator

# Forgetting counts as undone once this share of the original accuracy on D_f is back.
REGAINED_SHARE = 0.9


@dataclass(frozen=True)
class Depth:
    """What one model still knows of the classes, read from its features and its raw outputs."""

    probe: ProbeResult
    relearning: RelearnResult


@dataclass(frozen=True)
class DepthReport:
    """The unlearned model beside the oracle.

    Attributes
    ----------
    model, oracle : Depth
    """

    model: Depth
    oracle: Depth

    @property
    def probe_ratio(self) -> float | None:
        """The model's balanced accuracy divided by the oracle's; near 1 is deep. None if the oracle's is 0."""
        return _ratio(self.model.probe.balanced_accuracy, self.oracle.probe.balanced_accuracy)

    @property
    def relearn_ratio(self) -> float | None:
        """The model's steps divided by the oracle's, both from a fresh row unless the settings say otherwise: near 1 is
        deep.

        A model that did not reach the target counts with ``max_steps``. None if neither reached it, or if the oracle
        needed no step.
        """
        if not (self.model.relearning.reached or self.oracle.relearning.reached):
            return None
        return _ratio(self.model.relearning.steps, self.oracle.relearning.steps)

    def is_within(self, tolerance: float) -> bool:
        """Whether both ratios are known and at most ``tolerance`` from 1, for instance 0.2."""
        ratios = (self.probe_ratio, self.relearn_ratio)
        return all(ratio is not None and abs(ratio - 1) <= tolerance for ratio in ratios)


def depth(
    model: nn.Module,
    oracle: nn.Module,
    train: SampleSet,
    test: SampleSet,
    classes: Collection[int],
    *,
    seed: int,
    original_accuracy: float = 1.0,
    settings: RelearnSettings | None = None,
    head: str | None = None,
) -> DepthReport:
    """Probe both models and relearn the classes with both, in the same order of batches.

    Parameters
    ----------
    model, oracle : nn.Module
        The unlearned model and the oracle. Neither is changed.
    train, test : SampleSet
        Samples of all classes, the forgotten ones included. The probe is trained on ``train`` and judged on ``test``.
        D_f is the part of ``train`` that is of the forgotten classes.
    classes : collection of int
        The forgotten classes.
    seed : int
        Seed of all that is drawn. Both models get the same draws.
    original_accuracy : float in (0, 1], default 1
        Share of D_f that the model had right before it forgot. Relearning ends at ``REGAINED_SHARE`` of it.
    settings : RelearnSettings, optional
        How relearning trains; the defaults if None.
    head : str, optional
        Name of the layer that gives the logits; the one that is found in a traced call if None.

    Returns
    -------
    DepthReport

    Raises
    ------
    EmptySetError, InvalidModelError, InvalidParameterError, UnlearningDivergedError
        If :func:`~fed_unlearn.audits.probe.probe` or :func:`~fed_unlearn.audits.relearning.relearn` raises it.
    """
    require("original_accuracy", "depth", original_accuracy, float, above=0, maximum=1)
    forget = train.of_classes(classes)
    if len(forget) == 0:
        raise EmptySetError(f"depth: no training sample is of classes {sorted(classes)}; at least one was expected")

    def of(judged: nn.Module) -> Depth:
        return Depth(
            probe(judged, train, test, classes, seed=seed, head=head),
            relearn(
                judged,
                forget,
                target_accuracy=REGAINED_SHARE * original_accuracy,
                generator=seeded_generator(seed, "depth", "relearn"),
                settings=settings,
                classes=classes,
                head=head,
            ),
        )

    return DepthReport(model=of(model), oracle=of(oracle))


def _ratio(value: float, reference: float) -> float | None:
    return value / reference if reference else None
