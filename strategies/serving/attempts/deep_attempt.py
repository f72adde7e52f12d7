"""An attempt at class requests by a reset of the model's last blocks, in place of their method and of its repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fed_unlearn.requests import ParameterValue
from fed_unlearn.strategies.serving.attempts.server_attempt import ServerAttempt

RESET = "reset-and-relearn"


@dataclass
class DeepAttempt(ServerAttempt):
    """The holders take the samples out of training; the server draws the last blocks anew, and clients train these.

    The method of the requests is not run: the layers that it would change most are drawn anew, and those below stay
    as they are. No sample that is forgotten is read, and no guard is set.
    """

    @property
    def method_name(self) -> str:
        """That of the reset, whatever method the requests have."""
        return RESET

    @property
    def _method_parameters(self) -> Mapping[str, ParameterValue]:
        return self.context.plan.parameters.get(RESET, {})
