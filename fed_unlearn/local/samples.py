"""The samples that a request is served with on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fed_unlearn.data.sample_set import SampleSet

RetainedFrom = Literal["given", "seen", "memory"]


@dataclass(frozen=True, kw_only=True)
class LocalSamples:
    """What a request is served with.

    Attributes
    ----------
    forget, retained : SampleSet
        D_f, and the samples that repair may train on, and that methods which need some may read.
    validation : SampleSet
        Samples of all classes that nothing is trained on. Methods may read half of them, and the gate judges by all of
        them; by ``retained`` where there are none.
    absent_classes : frozenset of int
        Classes that have not arrived yet: no sample is taught to be one, and none counts as retained.
    test : SampleSet or None
        Test samples, for results alone.
    retained_from : {"given", "seen", "memory"}, default "given"
        Where the retained samples come from: those that the caller gave, all that were trained on, or what the strategy
        itself keeps.
    """

    forget: SampleSet
    retained: SampleSet
    validation: SampleSet
    absent_classes: frozenset[int] = frozenset()
    test: SampleSet | None = None
    retained_from: RetainedFrom = "given"
