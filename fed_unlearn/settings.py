"""Groups of settings: every bound stands on its field, is checked here and is quoted by the error."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import wraps
from numbers import Integral, Real
from typing import Annotated, Any, ClassVar, Final, TypeVar, get_args, get_type_hints

from annotated_types import Ge, Gt, Interval

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.text import quoted

FromZero = Annotated[int, Ge(0)]
FromOne = Annotated[int, Ge(1)]
NotNegative = Annotated[float, Ge(0)]
AboveZero = Annotated[float, Gt(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]

SettingsType = TypeVar("SettingsType", bound="Settings")

_COMPARISONS: Final[Mapping[str, tuple[Callable[[Any, Any], bool], str]]] = {
    "ge": (operator.ge, "from"),
    "gt": (operator.gt, "above"),
    "le": (operator.le, "up to"),
    "lt": (operator.lt, "below"),
}


class Flat:
    """In the annotation of a group's field: names by which plans take it as a keyword of their own."""

    def __init__(self, *names: str) -> None:
        self.names = names


@dataclass(frozen=True)
class Bounds:
    """What a number may be.

    Attributes
    ----------
    kind : type
        Type of the number, ``int`` or ``float``.
    limits : mapping of str to float
        Limits by ``"ge"``, ``"gt"``, ``"le"`` and ``"lt"``, as pydantic's ``Field`` takes them.
    or_none : bool
        Whether it may be None.
    """

    kind: type
    limits: Mapping[str, float]
    or_none: bool = False

    def allow(self, value: object) -> bool:
        """Whether a value is one of these."""
        if value is None:
            return self.or_none
        is_number = isinstance(value, Integral if self.kind is int else Real)
        return is_number and all(_COMPARISONS[name][0](value, limit) for name, limit in self.limits.items())

    def __str__(self) -> str:
        ends = " ".join(f"{_COMPARISONS[name][1]} {limit:g}" for name, limit in self.limits.items())
        said = f"a {'whole number' if self.kind is int else 'number'} {ends}"
        if self.limits == {"ge": 0, "le": 1}:
            said = "a fraction in [0, 1]"
        return f"{said} or None" if self.or_none else said


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of the groups: whoever makes one with values out of bounds gets one error that names all of them."""

    _prefix: ClassVar[str] = ""

    def __init_subclass__(cls, prefix: str | None = None) -> None:
        """Note what errors put before the name of a field."""
        cls._prefix = cls._prefix if prefix is None else prefix

    def __post_init__(self) -> None:
        if problems := self._out_of_bounds():
            raise InvalidParameterError(*problems)

    def validate(self) -> list[str]:
        """Everything that is wrong with the settings, one line each; empty if nothing is."""
        return self._out_of_bounds()

    def _out_of_bounds(self) -> list[str]:
        problems: list[str] = []
        for name, bounds in bounds_of(type(self)).items():
            if not bounds.allow(value := getattr(self, name)):
                problems.append(f"{self._prefix}{name} = {quoted(value)}; expected {bounds}")
        for name, group in groups_of(type(self)).items():
            if not isinstance(value := getattr(self, name), group):
                problems.append(f"{self._prefix}{name} = {value!r}; expected {group.__name__}(...)")
        return problems


def bounds_of(settings: type[Settings]) -> dict[str, Bounds]:
    """The bounds of every field that has some, by its name."""
    return {name: bounds for name, hint in _hints(settings).items() if (bounds := _bounds_in(hint)) is not None}


def _bounds_in(hint: Any) -> Bounds | None:
    limits: dict[str, float] = {}
    for item in getattr(hint, "__metadata__", ()):
        for bound in item if isinstance(item, Interval) else (item,):
            limits |= {key: value for key in _COMPARISONS if (value := getattr(bound, key, None)) is not None}
    if limits:
        return Bounds(hint.__origin__, limits)
    options = get_args(hint)
    found = next((bounds for option in options if (bounds := _bounds_in(option)) is not None), None)
    return replace(found, or_none=True) if found is not None and type(None) in options else found


def groups_of(settings: type[Settings]) -> dict[str, type[Settings]]:
    """The fields that are groups of settings themselves, with their classes."""
    hints = _hints(settings).items()
    return {name: hint for name, hint in hints if isinstance(hint, type) and issubclass(hint, Settings)}


def flat_names(settings: type[Settings]) -> dict[str, tuple[str, str]]:
    """The group and the field in it that each flat name stands for."""
    return {
        flat: (group, member)
        for group, cls in groups_of(settings).items()
        for member, hint in _hints(cls).items()
        for item in getattr(hint, "__metadata__", ())
        if isinstance(item, Flat)
        for flat in item.names
    }


def takes_flat_keywords(settings: type[SettingsType]) -> type[SettingsType]:
    """Let a class of settings take the fields of its groups by their flat names too; all errors are raised at once."""
    takes_groups: Any = settings.__init__
    defaults = {item.name: item.default_factory for item in fields(settings) if item.default_factory is not MISSING}

    @wraps(takes_groups)
    def takes_both(self: SettingsType, **given: object) -> None:
        named, problems = flat_names(settings), list[object]()
        flat = {name: value for name, value in given.items() if name in named and not isinstance(value, Settings)}
        own = {name: value for name, value in given.items() if name not in flat}
        for group in dict.fromkeys(named[name][0] for name in flat):
            members = {named[name][1]: value for name, value in flat.items() if named[name][0] == group}
            try:
                start: Any = own[group] if group in own else defaults[group]()
                own[group] = replace(start, **members)
            except InvalidParameterError as error:
                problems += error.args
        try:
            takes_groups(self, **own)
        except InvalidParameterError as error:
            problems += error.args
        if problems:
            raise InvalidParameterError(*problems)

    type.__setattr__(settings, "__init__", takes_both)
    return settings


def _hints(settings: type[Settings]) -> dict[str, Any]:
    names = {item.name for item in fields(settings)}
    return {name: hint for name, hint in get_type_hints(settings, include_extras=True).items() if name in names}
