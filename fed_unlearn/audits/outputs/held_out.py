"""The samples of a forgotten class that a gate may judge by."""

from __future__ import annotations

from fed_unlearn.audits.observation import Judged, Observation


def held_out_of(seen: Observation) -> Judged | None:
    """Validation samples of the class; at a holder that has none, those of D_f; None where there is neither."""
    if seen.held_out is not None and len(seen.held_out):
        return seen.held_out
    return seen.forget if len(seen.forget) else None
