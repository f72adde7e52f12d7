"""What an attempt tries, as it is written down before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fed_unlearn.requests import ForgetRequest, ParameterValue


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is tried. It is written down before the attempt, so that a crash cannot change it.

    Attributes
    ----------
    requests : tuple of ForgetRequest
        Requests to serve, all of one scope, by one method.
    number : int
        Number of the attempt, counted from 1 over all methods.
    method : str
        Name of the method.
    parameters : mapping of str to value
        The method's hyper-parameters.
    stronger : int
        Number of times that the method's setting is made stronger.
    excluded_classes : tuple of int
        Classes that no forget sample may be taught to be: those forgotten before, those of the requests, and those
        that have not arrived yet.
    """

    requests: tuple[ForgetRequest, ...]
    number: int
    method: str
    parameters: Mapping[str, ParameterValue]
    stronger: int
    excluded_classes: tuple[int, ...]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Ids of the requests."""
        return tuple(request.id for request in self.requests)

    @cached_property
    def scope(self) -> str:
        """Scope of all requests."""
        return self.requests[0].scope.kind
