"""Classes by name: built-in ones, and those that other packages register or offer through entry points."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.text import quoted

T = TypeVar("T")
C = TypeVar("C", bound=type)


class _NameTakenError(InvalidParameterError):
    pass


class Registry(Generic[T]):
    """The classes of one kind by name.

    A built-in class registers itself when its module is imported, which happens at the first look-up. Another package
    offers classes through an entry point group, whose entries name classes, or modules that register classes on
    import. An entry point that cannot be loaded is an error only where its name is asked for.

    Parameters
    ----------
    kind : str
        What a class is called in messages, such as ``"method"``.
    contract : str
        The base class of all, as ``"package.module:Class"``; imported when the first class registers. A class must set
        every class variable that the contract declares without a value.
    group : str
        The entry point group.
    built_in : sequence of str
        Modules that register the built-in classes.
    """

    def __init__(self, kind: str, *, contract: str, group: str, built_in: Sequence[str]) -> None:
        self.kind = kind
        self.group = group
        self._contract = contract
        self._built_in = tuple(built_in)
        self._classes: dict[str, type[T]] = {}
        self._distributions: dict[str, str] = {}  # by name, of the classes that came through an entry point
        self._unavailable: dict[str, str] = {}
        self._conflicts: list[str] = []
        self._is_loaded = False
        self._loading: str | None = None  # distribution of the entry point that is being loaded

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator that makes a class available by name.

        Raises
        ------
        InvalidParameterError
            If the name is taken, where both classes and their distributions are named; or if the class does not
            fulfil the contract.
        """

        def decorate(cls: C) -> C:
            problem = self._problem_of(cls)
            if problem is not None:
                raise InvalidParameterError(f"{self.kind} {quoted(name)}: {_described(cls, self._loading)} {problem}")
            taken = self._classes.get(name)
            if taken is not None and taken is not cls:
                raise _NameTakenError(
                    f"{self.kind} name {quoted(name)} is taken: {_described(taken, self._distributions.get(name))} and"
                    f" {_described(cls, self._loading)} both register it; rename one, or uninstall its distribution"
                )
            registered: Any = cls
            registered.name = name
            self._classes[name] = registered
            return cls

        return decorate

    def __contains__(self, name: object) -> bool:
        """Whether a class or a broken entry point has that name; :meth:`find` raises for the latter."""
        return name in self.available() or name in self._unavailable

    def available(self) -> dict[str, type[T]]:
        """Every class by its name, sorted: built-in ones and those of other packages.

        Raises
        ------
        InvalidParameterError
            If two distributions give two classes one name; both are named.
        """
        self._load()
        if self._conflicts:
            raise InvalidParameterError(self._conflicts[0])
        return dict(sorted(self._classes.items()))

    def unavailable(self) -> dict[str, str]:
        """Entry points that cannot be loaded: by name, the reason in one sentence."""
        self._load()
        return dict(sorted(self._unavailable.items()))

    def distribution_of(self, name: str) -> str | None:
        """The installed distribution whose entry point gives a class; None for built-in classes and unknown names."""
        self._load()
        return self._distributions.get(name)

    def find(self, name: str, *, expected: Collection[str] | None = None) -> type[T]:
        """The class of a name.

        Parameters
        ----------
        name : str
        expected : collection of str, optional
            Names that the error lists where no class has the given one. All by default.

        Raises
        ------
        InvalidParameterError
            If no class has that name, or its entry point cannot be loaded.
        """
        known = self.available()
        if name in known:
            return known[name]
        if name in self._unavailable:
            raise InvalidParameterError(f"{self.kind} {quoted(name)}: {self._unavailable[name]}")
        raise self.unknown(name, known if expected is None else expected)

    def unknown(self, name: str, expected: Collection[str]) -> InvalidParameterError:
        """The error that says that a name is unknown, which name is close to it, and which ones are expected.

        Parameters
        ----------
        name : str
        expected : collection of str
            All names that can stand in its place.
        """
        broken = ", ".join(sorted(self.unavailable()))
        missing = f"; entry points {broken} cannot be loaded" if broken else ""
        close = difflib.get_close_matches(name, expected, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        listed = ", ".join(expected) or "none"
        return InvalidParameterError(f"{self.kind} {quoted(name)} is unknown; {hint}known are {listed}{missing}")

    def create(self, name: str, /, **parameters: Any) -> T:
        """An object of a class with the given parameters, the others at their defaults.

        Parameters
        ----------
        name : str
        **parameters
            Fields of the class, a dataclass.

        Raises
        ------
        InvalidParameterError
            If the name or a parameter is unknown, or a value is of the wrong type or out of range.
        """
        cls: Any = self.find(name)
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(parameters) - known)
        if unknown:
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise InvalidParameterError(f"{self.kind} {quoted(name)} has no parameter {quoted(unknown[0])}; {has}")
        made: T = cls(**parameters)
        return made

    def _problem_of(self, cls: Any) -> str | None:
        """Why a class cannot be registered; None where it can."""
        contract: Any = imported_callable(self._contract)
        if not isinstance(cls, type) or not issubclass(cls, contract):
            return f"is no subclass of {contract.__module__}.{contract.__qualname__}"
        declared = {key: str(kind) for key, kind in inspect.get_annotations(contract).items() if key != "name"}
        required = [key for key, kind in declared.items() if "ClassVar" in kind and not hasattr(contract, key)]
        missing = [key for key in required if not hasattr(cls, key)]
        if missing:
            every = " and ".join(", ".join(required).rsplit(", ", 1))
            return f"has no {missing[0]!r}; every {self.kind} has {every}"
        lacking = sorted(getattr(cls, "__abstractmethods__", ()))
        if lacking:
            return f"does not implement {', '.join(lacking)}"
        for key in required:
            if "ClassVar[tuple" in declared[key] and not isinstance(getattr(cls, key), tuple):
                return f"has {key} = {getattr(cls, key)!r}; expected a tuple of {key}"
        return None

    def _load(self) -> None:
        if self._is_loaded:
            return
        for module in self._built_in:
            importlib.import_module(module)
        self._is_loaded = True
        for entry_point in sorted(entry_points(group=self.group), key=lambda entry: (entry.name, entry.value)):
            self._load_entry_point(entry_point)

    def _load_entry_point(self, entry_point: EntryPoint) -> None:
        distribution = self._loading = entry_point.dist.name if entry_point.dist is not None else "unknown"
        before = set(self._classes)
        try:
            loaded = entry_point.load()
            if isinstance(loaded, type) and loaded not in self._classes.values():  # its module may have registered it
                self.register(entry_point.name)(loaded)
            elif not isinstance(loaded, ModuleType | type):
                raise TypeError(f"{loaded!r} is neither a module nor a class")
            # A module that several groups name was imported for the first of them, when it registered all its classes.
            module = entry_point.module
            for name, cls in self._classes.items():
                if name not in before or f"{cls.__module__}.".startswith(f"{module}."):
                    self._distributions.setdefault(name, distribution)
            return
        except _NameTakenError as error:
            self._conflicts.append(str(error))
        except Exception as error:  # another package may raise anything when it is imported
            self._unavailable[entry_point.name] = (
                f"entry point {entry_point.name!r} ({entry_point.value}) of distribution {distribution!r} cannot be"
                f" loaded ({type(error).__name__}: {error}); update or uninstall {distribution}"
            )
        finally:
            self._loading = None
        for name in set(self._classes) - before:  # a module that failed half-way has registered these
            del self._classes[name]


def imported_callable(name: str) -> Callable[..., Any]:
    """The callable of a name such as ``package.module:callable``; its module is imported.

    Raises
    ------
    InvalidParameterError
        If the name has another form, the module cannot be imported, or it has no such callable.
    """
    place, _, attribute = name.partition(":")
    if not place or not attribute:
        raise InvalidParameterError(f"{quoted(name)} was given; expected 'package.module:callable'")
    try:
        module = importlib.import_module(place)
    except Exception as error:  # the user's own module may raise anything when it is imported
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise InvalidParameterError(f"{place} cannot be imported ({reason})") from error
    found: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(found):
        raise InvalidParameterError(f"{place} has no callable {quoted(attribute)}")
    return found


def _described(cls: type, distribution: str | None) -> str:
    """A class and the distribution that it comes from, if it comes from one."""
    if distribution is None and cls.__module__.startswith("fed_unlearn."):
        distribution = "fed-unlearn"
    described = f"{cls.__module__}.{cls.__qualname__}"
    return described if distribution is None else f"{described} of distribution {distribution!r}"
