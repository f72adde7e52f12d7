"""Many audits of one model for one request, where models and data are in one place."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from fed_unlearn.audits.asked import measured_of
from fed_unlearn.audits.base import AUDITS, Level, Measured, RequestAudit
from fed_unlearn.audits.observation import Judged, Observation
from fed_unlearn.audits.readings import Central, PartName, Readings
from fed_unlearn.audits.samples.shadows import Shadows
from fed_unlearn.audits.scores import class_scores, layer_scores
from fed_unlearn.errors import FedUnlearnError, InvalidModelError
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ScopeKind
from fed_unlearn.seeding import derive_seed, isolated_random

logger = logging.getLogger("fed_unlearn.audits")

REPLACED = {"forget_accuracy": "splits", "membership_auc": "population_attack"}
"""Audits whose figures others give in one place, of the samples themselves and with intervals."""


@dataclass(frozen=True, kw_only=True)
class AuditRun:
    """One audit of one model.

    Attributes
    ----------
    figures : mapping of str to Measured
        Figures by name; empty where the audit failed.
    forward_passes, backward_passes : int
        Samples that the audit pushed through models, beside those that were read before.
    seconds : float
        Wall time in seconds.
    error : str or None
        Why there are no figures.
    """

    figures: Mapping[str, Measured] = field(default_factory=dict)
    forward_passes: int = 0
    backward_passes: int = 0
    seconds: float = 0.0
    error: str | None = None


def audits_of(level: Level, scope: ScopeKind) -> tuple[str, ...]:
    """Names of the audits that can be asked about requests of a scope: the default ones, or all with ``"full"``.

    ``"full"`` leaves out those in :data:`REPLACED`.
    """
    known = AUDITS.available()
    return tuple(
        name
        for name, audit in known.items()
        if scope in audit.scopes and level in ("full", audit.level) and not (level == "full" and name in REPLACED)
    )


def central_observation(
    readings: Readings,
    scope: ScopeKind,
    *,
    original: Readings | None = None,
    oracles: tuple[Readings, ...] = (),
    shadows: Shadows | None = None,
    seed: int = 0,
) -> Observation:
    """What audits in one place read of a model.

    Parameters
    ----------
    readings : Readings
        Readings of the audited model.
    scope : str
        Scope of the request. For a client, whose request forgets no class, test samples stand in for validation
        samples.
    original : Readings, optional
        Readings of the model before the request.
    oracles : tuple of Readings
        Readings of models that were retrained without the forget set; the audited model is none of them.
    shadows : Shadows, optional
        What shadow models say of the same samples.
    seed : int
        Seed of all that the audits draw: the same for all models that are compared.
    """
    data = readings.data

    def judged(part: PartName) -> Judged | None:
        return _judged(readings, part) if len(data.parts.get(part, ())) else None

    forget, outsiders, test_retain = _judged(readings, "forget"), judged("test_forget"), judged("test_retain")
    if not data.classes and test_retain is not None:
        outsiders = test_retain.of_classes(forget.labels.unique())
    is_client = scope == "client"
    return Observation(
        model=readings.model,
        scope=scope,
        class_count=data.class_count,
        forget=forget,
        outsiders=outsiders,
        seed=seed,
        classes=tuple(sorted(data.classes)),
        test_retain=test_retain,
        left_out=tuple(sorted(data.left_out)),
        validation=test_retain if is_client else None,
        retained=judged("retain") if is_client else None,
        triggered=judged("triggered") if is_client else None,
        central=Central(readings=readings, original=original, oracles=oracles, shadows=shadows),
    )


def run_audits(seen: Observation, names: Collection[str]) -> dict[str, AuditRun]:
    """Run audits one after another; one that fails has an error in place of figures.

    Parameters
    ----------
    seen : Observation
        What the audits read of the model, from :func:`central_observation`.
    names : collection of str
        Names of the registered audits to run.

    Returns
    -------
    dict of str to AuditRun
        Run of each audit, by the audit's name.

    Raises
    ------
    InvalidParameterError
        If a name is unknown.
    """
    return {name: _run(AUDITS.find(name), seen) for name in names}


def _judged(readings: Readings, part: PartName) -> Judged:
    """One part with the model's answers and the scores; those of the outputs where no layer puts out the logits."""
    samples = readings.data.parts[part]
    try:
        answers, layer = readings.answers(part), readings.layer
    except InvalidModelError:
        readings.passes.add(forward=len(samples))
        logits = predict_logits(readings.model, samples)
        return Judged.whole(samples, logits, class_scores(logits))
    return Judged.whole(samples, answers.served, layer_scores(answers.raw, answers.features, layer))


def _run(audit: type[RequestAudit], seen: Observation) -> AuditRun:
    counter = seen.central.readings.passes if seen.central is not None else None
    before = (counter.forward, counter.backward) if counter is not None else (0, 0)
    started, figures, failure = time.perf_counter(), dict[str, Measured](), None
    try:
        with isolated_random(derive_seed(seen.seed, "audit", audit.name)):
            figures = measured_of({audit.name: audit.count(seen)})
    except FedUnlearnError as error:
        failure = str(error)
    except Exception as error:  # another package's audit may raise anything, and must not end a comparison
        logger.exception("audit %s failed; it has no figure", audit.name)
        failure = f"{type(error).__name__}: {error}"
    after = (counter.forward, counter.backward) if counter is not None else (0, 0)
    return AuditRun(
        figures=figures,
        forward_passes=after[0] - before[0],
        backward_passes=after[1] - before[1],
        seconds=time.perf_counter() - started,
        error=failure,
    )
