"""One figure of an audit, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A figure and its 95 % interval.

    Attributes
    ----------
    value : float or None
        None where there is nothing to measure.
    interval : (float, float) or None
        Lower and upper end; None where the figure has no uncertainty, or none that the audit knows.
    """

    value: float | None
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, object]:
        """As JSON: ``value``, and ``interval`` where there is one."""
        return {"value": self.value, **({} if self.interval is None else {"interval": list(self.interval)})}
