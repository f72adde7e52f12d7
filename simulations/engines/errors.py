"""Errors of a run that was started. Importing this module is cheap."""

from fed_unlearn.errors import FedUnlearnError


class EngineError(FedUnlearnError, RuntimeError):
    """Raised if Flower's runtime does not start or does not answer as expected."""


class NoAnswerError(EngineError):
    """Raised if a command of Flower took too long. What it was to do may have been done."""


class RunFailedError(FedUnlearnError, RuntimeError):
    """Raised if a run was started and failed. What it measured before is in its folder."""
