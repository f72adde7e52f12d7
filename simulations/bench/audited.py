"""What audits found of one model of a comparison, what they cost, and how it stands beside oracles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.oracles.fingerprint import Fingerprint, fingerprint
from fed_unlearn.audits.oracles.prediction import Judgement, judge_all

READING = "reading"
"""What reading each sample once costs, before any audit, stands under this name."""


@dataclass(frozen=True, kw_only=True)
class RowFigure:
    """One figure of a model.

    Attributes
    ----------
    audit : str
        The audit that measured it.
    measured : Measured
    judgement : Judgement or None
        None where fewer than two oracles have the figure.
    """

    audit: str
    measured: Measured
    judgement: Judgement | None = None

    @property
    def is_outside(self) -> bool:
        """Whether it is above or below what the oracles allow."""
        return self.judgement is not None and self.judgement.is_outside

    def to_json(self) -> dict[str, object]:
        """As JSON: the audit, the value with its interval, and the verdict with what it is by."""
        judged = {} if self.judgement is None else self.judgement.to_json()
        return {"audit": self.audit, **self.measured.to_json(), **judged}


@dataclass(frozen=True, kw_only=True)
class AuditCost:
    """What one audit of one model cost, beside reading the samples.

    Attributes
    ----------
    forward_passes, backward_passes : int
        Samples pushed through the model and through those beside it: what an audit makes of an oracle for a model is
        kept for the next ones, and counts once.
    seconds : float
        Wall time in seconds.
    error : str or None
        Why the audit has no figures.
    """

    forward_passes: int = 0
    backward_passes: int = 0
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outside:
    """How many figures of a model, and of how many audits, the oracles do not allow.

    Attributes
    ----------
    figures, judged_figures : int
        Figures that are outside, and all that were judged.
    audits, judged_audits : int
        Audits with a figure that is outside, and all that were judged.
    """

    figures: int
    judged_figures: int
    audits: int
    judged_audits: int


def left_out_share(oracles: Sequence[RowAudits]) -> Outside | None:
    """Figures of all oracles that the others do not allow, each oracle left out once; chance alone gives about 5 %.

    Parameters
    ----------
    oracles : sequence of RowAudits
        Audits of the oracles, with verdicts. Audits are counted once for each oracle.

    Returns
    -------
    Outside or None
        None where nothing was judged: with fewer than three oracles.
    """
    several = [outside for audits in oracles if (outside := audits.outside) is not None]
    if not several:
        return None
    columns = zip(*map(dataclasses.astuple, several), strict=True)
    figures, judged_figures, audits, judged_audits = map(sum, columns)
    return Outside(figures=figures, judged_figures=judged_figures, audits=audits, judged_audits=judged_audits)


@dataclass(frozen=True, kw_only=True)
class RowAudits:
    """All audits of one model.

    Attributes
    ----------
    figures : mapping of str to RowFigure
        Figures by name.
    costs : mapping of str to AuditCost
        Costs by audit; that of :data:`READING` comes first.
    fingerprint : Fingerprint or None
        None with fewer than two oracles.
    """

    figures: Mapping[str, RowFigure] = field(default_factory=dict)
    costs: Mapping[str, AuditCost] = field(default_factory=dict)
    fingerprint: Fingerprint | None = None

    @property
    def measured(self) -> dict[str, Measured]:
        """The figures without verdicts."""
        return {name: figure.measured for name, figure in self.figures.items()}

    @property
    def errors(self) -> dict[str, str]:
        """By audit, why it has no figures."""
        return {audit: cost.error for audit, cost in self.costs.items() if cost.error is not None}

    @property
    def outside(self) -> Outside | None:
        """None where nothing was judged."""
        judged = [figure for figure in self.figures.values() if figure.judgement is not None]
        flagged = [figure for figure in judged if figure.is_outside]
        if not judged:
            return None
        return Outside(
            figures=len(flagged),
            judged_figures=len(judged),
            audits=len({figure.audit for figure in flagged}),
            judged_audits=len({figure.audit for figure in judged}),
        )

    def beside(self, oracles: Sequence[RowAudits]) -> RowAudits:
        """The same with verdicts.

        Parameters
        ----------
        oracles : sequence of RowAudits
            Audits of the oracles. If these are the audits of an oracle, those of the others alone.
        """
        theirs = [oracle.measured for oracle in oracles]
        judged = judge_all(self.measured, theirs)
        figures = {name: replace(figure, judgement=judged.get(name)) for name, figure in self.figures.items()}
        return replace(self, figures=figures, fingerprint=fingerprint(self.measured, theirs))

    def to_json(self) -> dict[str, object]:
        """As JSON: ``audits`` by figure, ``audit_costs``, and where there are verdicts ``outside`` and so on."""
        body: dict[str, object] = {
            "audits": {name: figure.to_json() for name, figure in self.figures.items()},
            "audit_costs": {audit: dataclasses.asdict(cost) for audit, cost in self.costs.items()},
        }
        if self.outside is not None:
            body["outside"] = dataclasses.asdict(self.outside)
        if self.fingerprint is not None:
            body["fingerprint"] = self.fingerprint.to_json()
        return body
