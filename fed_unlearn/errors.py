"""The library's own errors. Each message says what was given, what was expected, and what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

Arguments = ParamSpec("Arguments")


class FedUnlearnError(Exception):
    """Base of every error that this library raises on purpose.

    Parameters
    ----------
    *problems : str
        What is wrong, one text for each problem. Only checks that go on after the first problem give several.
    """

    @property
    def problems(self) -> tuple[str, ...]:
        """One text for each problem."""
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        return "\n".join(self.problems)


class InvalidRequestError(FedUnlearnError, ValueError):
    """A forget request that is malformed or cannot be served."""


class EmptySetError(FedUnlearnError, ValueError):
    """A set of samples is empty that must not be empty."""


class NothingRetainedError(EmptySetError):
    """A client has no sample left that it may train on. It takes part in no training."""


class InvalidDataError(FedUnlearnError, ValueError):
    """A data set that is missing, unreadable, or different from what was said of it."""


class UnsuitableInputsError(InvalidDataError):
    """Samples whose inputs a method cannot work on. The message holds no data."""


class InvalidModelError(FedUnlearnError, ValueError):
    """A model or checkpoint that does not fit its use."""


class UnsuitableModelError(InvalidModelError):
    """A model that does not answer with logits. The message holds no data."""


class InvalidParameterError(FedUnlearnError, ValueError):
    """A parameter of a method, a gate or a strategy that is unknown or out of range."""


class UnlearningDivergedError(FedUnlearnError, RuntimeError):
    """A loss, an output or a weight that is not finite. The given model is unchanged."""


class ProtocolError(FedUnlearnError, RuntimeError):
    """A message whose records do not follow the wire protocol."""


class TransitionError(FedUnlearnError, RuntimeError):
    """A status that cannot follow the present one of a forget request."""


class StorageError(FedUnlearnError):
    """A file or folder that cannot be read or written, such as on a full disk."""


@contextmanager
def collected(problems: list[str]) -> Iterator[None]:
    """Add what an error of the library's, raised inside, says to a list, and go on after it."""
    try:
        yield
    except FedUnlearnError as error:
        problems.extend(error.problems)


def problems_of(check: Callable[Arguments, object], *args: Arguments.args, **kwargs: Arguments.kwargs) -> list[str]:
    """Call a check; return the problems of the library's error that it raises, or an empty list."""
    problems: list[str] = []
    with collected(problems):
        check(*args, **kwargs)
    return problems
