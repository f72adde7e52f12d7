"""Forget requests as they are made. Whether they can be served is decided later."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Literal

from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.text import quoted

ScopeKind = Literal["class", "sample", "client"]
SCOPES: tuple[ScopeKind, ...] = ("class", "sample", "client")
ParameterValue = bool | int | float | str

_LAST_DEADLINE = 253402300800  # start of the year 10000, which Python's datetime cannot represent


@dataclass(frozen=True)
class ClassScope:
    """All training samples of one or more classes, at all clients.

    Attributes
    ----------
    classes : tuple of int
        The classes, each named once.
    kind : {"class"}
        Name of the scope.

    Raises
    ------
    InvalidRequestError
        If there is no class, a class is not a number from 0, or a class is named twice.
    """

    classes: tuple[int, ...]
    kind: Literal["class"] = field(default="class", init=False)

    def __post_init__(self) -> None:
        if not self.classes or any(
            not isinstance(item, int) or isinstance(item, bool) or item < 0 for item in self.classes
        ):
            raise InvalidRequestError(f"classes {self.classes} were given; expected one or more indices from 0")
        if len(set(self.classes)) < len(self.classes):
            raise InvalidRequestError(f"classes {self.classes} name a class twice")


@dataclass(frozen=True)
class SampleScope:
    """Single training samples of one client, given by their ids or by a number that the client draws.

    Attributes
    ----------
    client : str
        Name of the client.
    sample_ids : tuple of str
        The samples' ids. Empty if a count is given.
    count : int
        Number of samples that the client draws itself, so that no id leaves it. 0 if ids are given.
    of_class : int or None
        The class that the client draws from. None means any class.
    kind : {"sample"}
        Name of the scope.

    Raises
    ------
    InvalidRequestError
        If neither or both of ids and count are given, ids are given with a class, or an id is named twice.
    """

    client: str
    sample_ids: tuple[str, ...] = ()
    count: int = 0
    of_class: int | None = None
    kind: Literal["sample"] = field(default="sample", init=False)

    def __post_init__(self) -> None:
        if bool(self.sample_ids) == bool(self.count) or self.count < 0:
            raise InvalidRequestError(
                f"a sample request to client {self.client} names {len(self.sample_ids)} ids and a count of"
                f" {self.count}; expected either ids or a count of at least 1"
            )
        if self.of_class is not None and self.sample_ids:
            raise InvalidRequestError(f"a sample request to client {self.client} gives ids and a class; expected one")
        if len(set(self.sample_ids)) < len(self.sample_ids):
            raise InvalidRequestError(f"a sample request to client {self.client} names an id twice")


@dataclass(frozen=True)
class ClientScope:
    """Everything that one client ever contributed.

    Attributes
    ----------
    client : str
        Name of the client.
    kind : {"client"}
        Name of the scope.
    """

    client: str
    kind: Literal["client"] = field(default="client", init=False)


Scope = ClassScope | SampleScope | ClientScope


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
        *classes: int,
        method: str | None = None,
        id: str = "",
        priority: int = 0,
        deadline: float | None = None,
        **parameters: ParameterValue,
    ) -> ForgetRequest:
        """Request to forget all training samples of the given classes."""
        return cls(
            ClassScope(tuple(_as_index(item) for item in classes)),
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

    def target(self) -> dict[str, list[int] | list[str] | int | str]:
        """The content of the scope as ``results.json`` has it."""
        match self.scope:
            case ClassScope(classes=classes):
                return {"classes": list(classes)}
            case SampleScope(client=client, sample_ids=ids, count=count, of_class=of_class):
                if ids:
                    return {"client": client, "sample_ids": list(ids)}
                drawn: dict[str, list[int] | list[str] | int | str] = {"client": client, "samples": count}
                return drawn if of_class is None else {**drawn, "of_class": of_class}
            case ClientScope(client=client):
                return {"client": client}

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
            target = body["target"]
            scope: Scope
            match body["scope"]:
                case "class":
                    scope = ClassScope(tuple(target["classes"]))
                case "sample":
                    ids = tuple(target.get("sample_ids", ()))
                    scope = SampleScope(target["client"], ids, int(target.get("samples", 0)), target.get("of_class"))
                case "client":
                    scope = ClientScope(target["client"])
                case other:
                    raise InvalidRequestError(f"scope {quoted(other)} is unknown; known are class, sample and client")
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


def _as_index(value: int) -> int:
    """Convert a whole number of any kind to an int. Other values are returned as they are; the scope refuses them."""
    try:
        return value if isinstance(value, bool) else int(operator.index(value))
    except TypeError:
        return value
