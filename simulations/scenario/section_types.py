"""What the sections of a scenario file are made of: the base of every table, and the types of its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

from fed_unlearn.requests import ScopeKind
from fed_unlearn.settings import Settings, bounds_of

Scalar = bool | int | float | str
SettingValue = Scalar | tuple[Scalar, ...]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def kebab(name: str) -> str:
    """Key of a file for the name of a field: ``max-repair-rounds``, ``class``."""
    return name.rstrip("_").replace("_", "-")


def as_tuple(value: object) -> object:
    """A list as a tuple, anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def none_or(value: object) -> object:
    """None for ``"none"``, anything else as it is."""
    return None if value == "none" else value


def _setting(value: object) -> object:
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, bool | int | float | str) for item in items):
        raise PydanticCustomError("setting", "Input should be a number, a string, true, false or a list of these")
    return tuple(items) if isinstance(value, list | tuple) else value


def _snake_keys(value: object) -> object:
    return {str(key).replace("-", "_"): item for key, item in value.items()} if isinstance(value, dict) else value


def _names(value: object) -> object:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise PydanticCustomError("names", "Input should be a list of names")


Setting = Annotated[object, BeforeValidator(_setting)]
Parameters = Annotated[dict[str, Setting], BeforeValidator(_snake_keys)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Scopes = Annotated[tuple[ScopeKind, ...], BeforeValidator(_names)]
Positive = Annotated[int, Field(ge=1)]
FromZero = Annotated[int, Field(ge=0)]
FiniteFromZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
NumberOrNone = Annotated[float | None, BeforeValidator(none_or)]
BatchNorm = Literal["train", "frozen"]


class Section(BaseModel):
    """A table of the file: keys in kebab case, unknown ones refused, values never converted."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=kebab, populate_by_name=True, protected_namespaces=()
    )


SectionType = TypeVar("SectionType", bound=Section)


def like(settings: Settings | type[Settings], name: str, **narrower: Any) -> Any:
    """A field of a section with the default and the bounds of a field of some settings.

    Parameters
    ----------
    settings : Settings or its class
        Settings, or their class, that give the default and the bounds.
    name : str
        Name of the field.
    **narrower : Any
        What files must keep besides, as pydantic's ``Field`` takes it.
    """
    bounds = bounds_of(settings if isinstance(settings, type) else type(settings)).get(name)
    return Field(default=getattr(settings, name), **{**(bounds.limits if bounds is not None else {}), **narrower})


def filled_from(
    settings: Settings, *, without: tuple[str, ...] = ()
) -> Callable[[type[SectionType]], type[SectionType]]:
    """Give a section every field of some settings but some, with their values as defaults and ``"none"`` for None."""

    def filled(section: type[SectionType]) -> type[SectionType]:
        own: dict[str, Any] = {}
        for item in fields(settings):
            if item.name in without:
                continue
            kind = get_type_hints(type(settings))[item.name]
            own[item.name] = (NumberOrNone if kind == float | None else kind, like(settings, item.name))
        return create_model(section.__name__, __base__=section, __doc__=section.__doc__, **own)

    return filled


class OpenSection(Section):
    """A table that takes further keys: parameters of whatever the table names."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Setting]

    @property
    def parameters(self) -> Mapping[str, object]:
        """The further keys, in snake case."""
        return {key.replace("-", "_"): value for key, value in (self.__pydantic_extra__ or {}).items()}


class TrainingOverrides(Section):
    """Training settings that replace those of ``[training]`` where they are given."""

    local_epochs: Count | None = None
    learning_rate: Rate | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    weight_decay: FiniteFromZero | None = None
    batch_size: Count | None = None
    fraction: Share | None = None
    batch_norm: BatchNorm | None = None
    augment: bool | None = None
