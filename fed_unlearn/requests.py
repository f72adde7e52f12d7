"""Forget requests as they are made. Whether they can be served is decided later."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import cast

from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.scopes import (
    SCOPES,
    ClassScope,
    ClientScope,
    SampleScope,
    Scope,
    ScopeKind,
    Target,
    read_scope,
    target_of,
)
from fed_unlearn.text import quoted

__all__ = [
    "SCOPES", "ClassScope", "ClientScope", "ForgetRequest", "ParameterValue", "SampleScope", "Scope", "ScopeKind",
]  # fmt: skip

ParameterValue = bool | int | float | str

_LAST_DEADLINE = 253402300800  # start of the year 10000, which Python's datetime cannot represent


@dataclass(frozen=True)
class ForgetRequest:
    """One request to forget.

    Parameters
    ----------
    scope : ClassScope, SampleScope or ClientScope
        What to forget.
    method : str, optional
        Name of the unlearning method. If none is given, the strategy's default for the scope.
    parameters : mapping of str to bool, int, float or str
        Hyper-parameters of the method that differ from its defaults.
    id : str
        Idempotence key on the server and on every client. It may be empty until the ledger receives the request and
        gives it an id.
    priority : int
        Requests of higher priority are served first. A signed integer of 64 bits.
    deadline : float, optional
        Time by which the request should be served, in seconds since the epoch. Among requests of equal priority,
        earlier deadlines come first.

    Raises
    ------
    InvalidRequestError
        If a parameter, the priority or the deadline has the wrong type or is out of range.
    """

    scope: Scope
    method: str | None = None
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    id: str = ""
    priority: int = field(default=0, kw_only=True)
    deadline: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "priority", _as_priority(self.priority))
        object.__setattr__(self, "deadline", _as_deadline(self.deadline))
        for name, value in self.parameters.items():
            if not isinstance(value, bool | int | float | str):
                raise InvalidRequestError(
                    f"parameter {name!r} is a {type(value).__name__}; expected a bool, int, float or str"
                )
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    def __reduce__(self) -> tuple[object, ...]:
        """Support copying and pickling, which the read-only view of the parameters does not."""
        restored = partial(ForgetRequest, priority=self.priority, deadline=self.deadline)
        return restored, (self.scope, self.method, dict(self.parameters), self.id)

    @classmethod
    def for_class(
        cls,
        *classes: int | tuple[int, int],
        method: str | None = None,
        id: str = "",
        priority: int = 0,
        deadline: float | None = None,
        **parameters: ParameterValue,
    ) -> ForgetRequest:
        """Request to forget all training samples of the given classes.

        Parameters
        ----------
        classes : int or tuple of (int, int)
            Classes, or pairs (task, class) of a benchmark with tasks. A class without a task means this class of every
            task. A federation refuses pairs.
        method, id, priority, deadline, parameters
            As for the request itself.
        """
        pairs = [item for item in classes if isinstance(item, tuple)]
        whole = [item for item in classes if not isinstance(item, tuple)]
        scope = ClassScope(tuple(map(_as_index, whole)), tuple(map(_as_pair, pairs)))
        return cls(
            scope,
            method,
            parameters,
            id,
            priority=priority,
            deadline=deadline,
        )

    @classmethod
    def for_samples(
        cls,
        client: str | int,
        sample_ids: Sequence[str | int] = (),
        *,
        count: int = 0,
        of_class: int | None = None,
        method: str | None = None,
        id: str = "",
        priority: int = 0,
        deadline: float | None = None,
        **parameters: ParameterValue,
    ) -> ForgetRequest:
        """Request to forget single samples of a client, by id or by a number that the client draws."""
        scope = SampleScope(str(client), tuple(map(str, sample_ids)), count, of_class)
        return cls(scope, method, parameters, id, priority=priority, deadline=deadline)

    @classmethod
    def for_client(
        cls,
        client: str | int,
        *,
        method: str | None = None,
        id: str = "",
        priority: int = 0,
        deadline: float | None = None,
        **parameters: ParameterValue,
    ) -> ForgetRequest:
        """Request to forget a whole client."""
        return cls(ClientScope(str(client)), method, parameters, id, priority=priority, deadline=deadline)

    def asks_the_same(self, other: ForgetRequest) -> bool:
        """Whether scope, method and parameters are equal. Id, priority and deadline may differ."""
        return (self.scope, self.method, self.parameters) == (other.scope, other.method, other.parameters)

    def target(self) -> Target:
        """The content of the scope as ``results.json`` has it."""
        return target_of(self.scope)

    def to_json(self) -> str:
        """Encode the request as one line of JSON, which :meth:`from_json` decodes."""
        return json.dumps(
            {
                "scope": self.scope.kind,
                "target": self.target(),
                "method": self.method,
                "parameters": dict(self.parameters),
                "id": self.id or None,
                "priority": self.priority,
                "deadline": self.deadline,
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> ForgetRequest:
        """Decode what :meth:`to_json` encoded. A missing priority or deadline gets its default.

        Raises
        ------
        InvalidRequestError
            If the text is not a request.
        """
        try:
            body = json.loads(text)
            scope = read_scope(body["scope"], body["target"])
            order = {"priority": body.get("priority", 0), "deadline": body.get("deadline")}
            return cls(scope, body["method"], body["parameters"], body["id"] or "", **order)
        except InvalidRequestError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InvalidRequestError(f"{quoted(text)} is not a forget request: {error}") from error


def _as_priority(priority: object) -> int:
    if not isinstance(priority, int) or isinstance(priority, bool) or not -(2**63) <= priority < 2**63:
        raise InvalidRequestError(f"priority {quoted(priority)} was given; expected an integer of 64 bits")
    return priority


def _as_deadline(deadline: object) -> float | None:
    if deadline is None:
        return None
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not abs(deadline) < _LAST_DEADLINE:
        raise InvalidRequestError(f"deadline {quoted(deadline)} was given; expected seconds since the epoch, or None")
    return float(deadline)


def _as_pair(pair: tuple[int, ...]) -> tuple[int, int]:
    """Convert whole numbers of any kind to ints. The scope refuses what is no pair."""
    return cast("tuple[int, int]", tuple(map(_as_index, pair)))


def _as_index(value: int) -> int:
    """Convert a whole number of any kind to an int. Other values are returned as they are; the scope refuses them."""
    try:
        return value if isinstance(value, bool) else int(operator.index(value))
    except TypeError:
        return value
