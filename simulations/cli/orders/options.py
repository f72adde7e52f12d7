"""Commands that take a dataclass: each of its fields is an option of the command line.

A setting stands once. Its field carries the default, and its ``Annotated`` type the help text and the bounds.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, StrEnum
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

Result = TypeVar("Result")

LedgerKey = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The file of the ledger's key; without it, the one beside it: ledger.key for ledger.db."
    ),
]

ReceiptKey = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The file of the private key that signs receipts; without it, receipts.key in the run folder.",
    ),
]


def with_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Turn a function into one that typer can make a command of.

    A parameter whose type is a dataclass becomes one option for each field. Other parameters stay. These types are
    translated, in parameters and in fields:

    - ``tuple[T, ...]`` is an option that may be repeated, unless its ``typer.Option`` has a ``parser``, which also
      reads a default, its values joined by commas; it takes text where T is ``int | str``;
    - ``Literal`` is a choice;
    - a dataclass or None is a flag ``--NAME/--no-NAME``, and an option ``--NAME-FIELD`` for each field.

    Parameters
    ----------
    command : callable
        The function. Its parameters are annotated.
    """
    hints = get_type_hints(command, include_extras=True)
    own = inspect.signature(command).parameters

    def called(**values: object) -> Result:
        return command(**_given({name: hints[name] for name in own}, values))

    parameters = [new for name, old in own.items() for new in _parameters(name, hints[name], old.default)]
    functools.update_wrapper(called, command)
    called.__annotations__ = {}
    vars(called)["__signature__"] = inspect.Signature(parameters)
    return called


def _parameters(name: str, hint: Any, default: object) -> Iterator[inspect.Parameter]:
    """The parameters that typer is shown in place of one."""
    settings, is_optional = _settings_class(hint)
    if settings is None or is_optional:
        kind, option = get_args(hint)[:2]
        shown = bool if is_optional else str | None if option.parser is not None else _typer_type(kind)
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if is_optional else _typer_default(shown, default),
            annotation=Annotated[shown, option],
        )
    for field_name, field_hint, field_default in () if settings is None else _fields(settings):
        yield from _parameters(f"{name}_{field_name}" if is_optional else field_name, field_hint, field_default)


def _given(hints: Mapping[str, Any], values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Values by name, from what typer found. What was left out is not among them, so that the code's defaults hold."""
    found = {name: _value(prefix + name, hint, values) for name, hint in hints.items()}
    return {name: value for name, value in found.items() if value is not None}


def _value(name: str, hint: Any, values: Mapping[str, object]) -> object:
    settings, is_optional = _settings_class(hint)
    if settings is None:
        value = values[name]
        return value.value if isinstance(value, Enum) else tuple(value) if isinstance(value, list) else value
    if is_optional and not values[name]:
        return None
    hints = {field: field_hint for field, field_hint, _ in _fields(settings)}
    return settings(**_given(hints, values, f"{name}_" if is_optional else ""))


def _settings_class(hint: Any) -> tuple[Any, bool]:
    """The dataclass that a type names, if any, and whether the type also allows None."""
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    found = next((part for part in parts if dataclasses.is_dataclass(part)), None)
    return found, found is not None and len(parts) > 1


def _fields(settings: Any) -> list[tuple[str, Any, object]]:
    hints = get_type_hints(settings, include_extras=True)
    return [(field.name, hints[field.name], field.default) for field in dataclasses.fields(settings)]


def _typer_type(kind: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:  # a label is text as it was typed, be it a number or not
        return GenericAlias(list, str if inner[0] == int | str else inner[0]) | None
    if origin is Literal:
        return StrEnum("Choice", {value.upper(): value for value in inner})
    if origin in (Union, UnionType):
        return functools.reduce(operator.or_, map(_typer_type, inner))
    return kind


def _typer_default(kind: Any, default: object) -> object:
    if default is dataclasses.MISSING:
        return inspect.Parameter.empty
    if default == ():
        return None
    if isinstance(default, tuple) and kind == str | None:  # typer hands an option's default to its parser, as text
        return ",".join(map(str, default))
    return kind(default) if inspect.isclass(kind) and issubclass(kind, Enum) else default
