"""The arguments of an app's own functions, found by the names of their parameters."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.text import quoted

_ALSO_CALLED: Mapping[str, tuple[str, ...]] = {
    "batch_size": ("local_batch_size",),
    "epochs": ("local_epochs", "num_epochs"),
    "learning_rate": ("lr",),
    "local_epochs": ("epochs", "num_epochs"),
    "lr": ("learning_rate",),
    "num_epochs": ("local_epochs", "epochs"),
}
"""Other names that configurations have for a parameter. They stand in for one without a default alone."""


@dataclass(frozen=True)
class NamedConfig:
    """A configuration in which arguments are looked for.

    Attributes
    ----------
    name : str
        What an app's owner calls it, such as ``"run config"``.
    values : mapping of str to object
        Values by name. The names may have hyphens or underscores.
    """

    name: str
    values: Mapping[str, Any]

    def key_of(self, names: Sequence[str]) -> str | None:
        """Its key for the first of some parameter names that it has; None if it has none of them."""
        spelled = {key.replace("-", "_"): key for key in self.values}
        return next((spelled[name] for name in names if name in spelled), None)


@dataclass(frozen=True)
class NamedArguments:
    """The parameters of an app's own function, but for the first ones, which are given by their place.

    Attributes
    ----------
    function : callable
    role : str
        What the function is to the library, such as ``"train"``.
    parameters : tuple of inspect.Parameter
        Parameters that are looked for by name.
    """

    function: Callable[..., Any]
    role: str
    parameters: tuple[inspect.Parameter, ...]

    @classmethod
    def of(cls, function: Callable[..., Any], role: str, *, leading: Sequence[str] = ()) -> Self:
        """Read the parameters of a function. What ``functools.partial`` has bound by name stays bound.

        Parameters
        ----------
        function : callable
        role : str
        leading : sequence of str
            What is given first, by its place.

        Raises
        ------
        InvalidParameterError
            If the function does not take as many arguments by their place.
        """
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # some functions of C have no signature
            return cls(function, role, ())
        bound = function.keywords if isinstance(function, functools.partial) else {}
        places = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        takes_any = any(each.kind is each.VAR_POSITIONAL for each in parameters)
        if len(places) < len(leading) and not takes_any:
            raise InvalidParameterError(
                f"{role}: {_name_of(function)} takes {len(places)} arguments by their place; expected"
                f" {' and '.join(leading)} first, then what it needs by name"
            )
        named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        given = {each.name for each in places[: len(leading)]}
        return cls(function, role, tuple(each for each in named if each.name not in {*given, *bound}))

    @property
    def required(self) -> NamedArguments:
        """Those of the parameters that have no default."""
        needed = tuple(each for each in self.parameters if each.default is each.empty)
        return NamedArguments(self.function, self.role, needed)

    @property
    def module(self) -> str | None:
        """The module in which the function was written."""
        return getattr(_unbound(self.function), "__module__", None)

    def uses(self, name: str) -> bool:
        """Whether the function has a parameter of this name."""
        return any(each.name == name for each in self.parameters)

    def found(self, known: Mapping[str, Any], configs: Sequence[NamedConfig]) -> dict[str, Any]:
        """The argument of each parameter, by its name.

        Its own name is looked for in all configurations before its other names are. A parameter with a default takes a
        value of exactly its own name, and keeps its default where there is none.

        Parameters
        ----------
        known : mapping of str to object
            Arguments by name, which go before those of configurations.
        configs : sequence of NamedConfig
            The most specific one first.

        Raises
        ------
        FedUnlearnError
            If an argument without a default is nowhere. The text names what there is.
        """
        made = {each.name: known[each.name] for each in self.parameters if each.name in known}
        made |= {parameter: config.values[key] for parameter, config, key in self._from(known, configs)}
        missing = [each.name for each in self.parameters if each.name not in made and each.default is each.empty]
        if missing:
            there = [*known, *(key for config in configs for key in config.values)]
            raise FedUnlearnError(
                f"LoaderTask's {self.role}: {_name_of(self.function)} needs {' and '.join(map(quoted, missing))}, and"
                " no configuration has it; bind it with functools.partial, or name the parameter as one of"
                f" {', '.join(map(quoted, there))}"
            )
        return made

    def described(self, known: Mapping[str, Any], configs: Sequence[NamedConfig]) -> str:
        """Which arguments come from configurations, for the app's owner; empty where none does."""
        found = self._from(known, configs)
        told = [f"{parameter} is {quoted(key)} of the {config.name}" for parameter, config, key in found]
        return f"{_name_of(self.function)}: {', '.join(told)}" if told else ""

    def call(self, leading: Sequence[Any], arguments: Mapping[str, Any]) -> Any:
        """Call the function with what is given first, by its place, and arguments as :meth:`found` gives them."""
        places = [each for each in self.parameters if each.kind is each.POSITIONAL_ONLY]
        placed = [*leading, *(arguments.get(each.name, each.default) for each in places)]
        by_place = {each.name for each in places}
        return self.function(*placed, **{name: arguments[name] for name in arguments if name not in by_place})

    def _from(self, known: Mapping[str, Any], configs: Sequence[NamedConfig]) -> Iterator[tuple[str, NamedConfig, str]]:
        """Each parameter that a configuration has, with the configuration and its key."""
        for parameter in self.parameters:
            if parameter.name in known:
                continue
            others = _ALSO_CALLED.get(parameter.name, ()) if parameter.default is parameter.empty else ()
            pairs = ((config, config.key_of(names)) for names in ((parameter.name,), others) for config in configs)
            found = next(((config, key) for config, key in pairs if key is not None), None)
            if found is not None:
                yield parameter.name, *found


def _unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    return _unbound(function.func) if isinstance(function, functools.partial) else function


def _name_of(function: Callable[..., Any]) -> str:
    inner = _unbound(function)
    return f"{getattr(inner, '__name__', type(inner).__name__)}()"
