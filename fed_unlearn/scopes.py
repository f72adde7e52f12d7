"""What forget requests ask for: classes, single samples of a client, or all that a client ever contributed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fed_unlearn.class_names import ClassNames
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.text import quoted

ScopeKind = Literal["class", "sample", "client"]
SCOPES: tuple[ScopeKind, ...] = ("class", "sample", "client")


@dataclass(frozen=True)
class ClassScope:
    """All training samples of one or more classes, at all clients.

    Attributes
    ----------
    classes : tuple of int
        The classes, each named once. In a benchmark with tasks, a class of every task that has it.
    pairs : tuple of (int, int)
        Classes of single tasks, as (task, class). Only a benchmark with tasks has such classes; a federation refuses
        them.
    kind : {"class"}
        Name of the scope.

    Raises
    ------
    InvalidRequestError
        If there is neither a class nor a pair, a class or a task is not a number from 0, or a class is named twice.
    """

    classes: tuple[int, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    kind: Literal["class"] = field(default="class", init=False)

    def __post_init__(self) -> None:
        if not (self.classes or self.pairs) or not all(map(_is_index, self.classes)):
            raise InvalidRequestError(f"classes {self.classes} were given; expected one or more indices from 0")
        for pair in self.pairs:
            if not isinstance(pair, tuple) or len(pair) != 2 or not all(map(_is_index, pair)):
                raise InvalidRequestError(f"{pair!r} was given; expected a pair (task, class) of indices from 0")
        given = [*self.classes, *self.pairs]
        if len(set(given)) < len(given) or {label for _, label in self.pairs}.intersection(self.classes):
            raise InvalidRequestError(f"classes {tuple(given)} name a class twice")


@dataclass(frozen=True)
class SampleScope:
    """Single training samples of one client: by their ids, by a number that it draws, or by what its owner has queued.

    Attributes
    ----------
    client : str
        Name of the client.
    sample_ids : tuple of str
        The samples' ids. Empty if a count is given.
    count : int
        Number of samples that the client draws itself, or that its owner has queued, so that no id leaves it. 0 if ids
        are given.
    of_class : int or None
        The class that the client draws from, or all of whose samples there its owner wants forgotten. None means any
        class.
    queued : str
        Id of the request that the client's owner has queued at the client. Which samples it names, the client alone
        knows. Empty where the request comes from elsewhere.
    kind : {"sample"}
        Name of the scope.

    Raises
    ------
    InvalidRequestError
        If neither or both of ids and count are given, ids are given with a class or for what an owner has queued, or
        an id is named twice.
    """

    client: str
    sample_ids: tuple[str, ...] = ()
    count: int = 0
    of_class: int | None = None
    queued: str = ""
    kind: Literal["sample"] = field(default="sample", init=False)

    def __post_init__(self) -> None:
        if bool(self.sample_ids) == bool(self.count) or self.count < 0:
            raise InvalidRequestError(
                f"a sample request to client {self.client} names {len(self.sample_ids)} ids and a count of"
                f" {self.count}; expected either ids or a count of at least 1"
            )
        if self.queued and self.sample_ids:
            raise InvalidRequestError(
                f"a sample request to client {self.client} gives ids and what its owner queued; expected one"
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


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


Scope = ClassScope | SampleScope | ClientScope
Target = dict[str, list[int] | list[list[int]] | list[str] | int | str]


def classes_named(scope: Scope) -> tuple[int, ...]:
    """The classes that a scope names: those of a class request, or the one that samples are drawn from."""
    match scope:
        case ClassScope(classes=classes):
            return classes
        case SampleScope(of_class=of_class) if of_class is not None:
            return (of_class,)
    return ()


def refuse_pairs(scope: Scope) -> None:
    """Raise if a scope names classes of single tasks. Federations and models with one label space have no tasks.

    Raises
    ------
    InvalidRequestError
        The message names the first pair.
    """
    if isinstance(scope, ClassScope) and scope.pairs:
        task, label = scope.pairs[0]
        raise InvalidRequestError(
            f"class {label} of task {task} was asked for; only benchmarks of fed_unlearn.avalanche have tasks: expected"
            f" classes alone, such as ForgetRequest.for_class({label})"
        )


def scope_words(scope: Scope, names: ClassNames) -> str:
    """Say in a few words what a scope asks for, such as ``3 samples of class 'deer' (index 4) of client 7``.

    Parameters
    ----------
    scope : Scope
    names : ClassNames
        What the data calls its classes.
    """
    match scope:
        case ClassScope(classes=classes, pairs=pairs):
            whole = [("class " if len(classes) == 1 else "classes ") + names.listed(classes)] if classes else []
            return " and ".join([*whole, *(f"class {names.shown(label)} of task {task}" for task, label in pairs)])
        case SampleScope(client=client, sample_ids=ids, count=count, of_class=of_class):
            number = len(ids) or count
            of = "" if of_class is None else f" of class {names.shown(of_class)}"
            return f"{number} sample{'' if number == 1 else 's'}{of} of client {client}"
        case ClientScope(client=client):
            return f"client {client}"


def target_of(scope: Scope) -> Target:
    """The content of a scope as ``results.json`` and the ledger have it."""
    match scope:
        case ClassScope(classes=classes, pairs=pairs):
            # Versions that know no pairs refuse a request without classes.
            return {"classes": list(classes), **({"pairs": [list(pair) for pair in pairs]} if pairs else {})}
        case SampleScope(client=client, sample_ids=ids) if ids:
            return {"client": client, "sample_ids": list(ids)}
        case SampleScope(client=client, count=count, of_class=of_class, queued=queued):
            # Versions that know no owner's requests read the count nowhere, and refuse: they would draw other samples.
            named: Target = {"queued": queued, "count": count} if queued else {"samples": count}
            return {"client": client, **named, **({} if of_class is None else {"of_class": of_class})}
        case ClientScope(client=client):
            return {"client": client}


def read_scope(kind: object, target: Mapping[str, Any]) -> Scope:
    """Read what :func:`target_of` wrote.

    Raises
    ------
    InvalidRequestError
        If the kind is unknown, or the target makes no scope.
    """
    match kind:
        case "class":
            pairs = tuple((task, label) for task, label in target.get("pairs", ()))
            return ClassScope(tuple(target["classes"]), pairs)
        case "sample":
            ids, queued = tuple(target.get("sample_ids", ())), str(target.get("queued", ""))
            count = int(target.get("count" if queued else "samples", 0))
            return SampleScope(target["client"], ids, count, target.get("of_class"), queued)
        case "client":
            return ClientScope(target["client"])
    raise InvalidRequestError(f"scope {quoted(kind)} is unknown; known are class, sample and client")
