"""The library's own errors: what was given, what was expected, what to do."""

from collections.abc import Callable
from typing import ParamSpec

Arguments = ParamSpec("Arguments")


class FedUnlearnError(Exception):
    """Base of every error that this library raises on purpose.

    Parameters
    ----------
    *problems : str
        Usually one; an error of a check that does not stop at the first has one for each.
    """

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, a line for each."""
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        return "\n".join(self.problems)


class InvalidRequestError(FedUnlearnError, ValueError):
    """A forget request that cannot be served as it was put."""


class EmptySetError(FedUnlearnError, ValueError):
    """A set of samples that must not be empty is."""


class InvalidDataError(FedUnlearnError, ValueError):
    """A data set that is missing, unreadable, or not what its user said it was."""


class InvalidModelError(FedUnlearnError, ValueError):
    """A model or checkpoint that does not fit what is asked of it."""


class InvalidParameterError(FedUnlearnError, ValueError):
    """A parameter of a method, a gate or a strategy that is unknown or out of range."""


class UnlearningDivergedError(FedUnlearnError, RuntimeError):
    """A loss that is no longer a finite number; the given model is as it was."""


class ProtocolError(FedUnlearnError, RuntimeError):
    """A message whose records are not those of the wire protocol."""


class TransitionError(FedUnlearnError, RuntimeError):
    """A step that the life of a forget request does not have."""


def problems_of(check: Callable[Arguments, object], *args: Arguments.args, **kwargs: Arguments.kwargs) -> list[str]:
    """What a check, called with these arguments, finds wrong; empty where it raises no error of the library's."""
    try:
        check(*args, **kwargs)
    except FedUnlearnError as error:
        return list(error.problems)
    return []
