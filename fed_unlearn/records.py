"""Frozen dataclasses to and from JSON: the one codec of what is written down between two steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from flwr.app import ConfigRecord
from pydantic import (
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)

from fed_unlearn.arrays import Arrays
from fed_unlearn.errors import FedUnlearnError

Record = TypeVar("Record")


def encode(record: object) -> tuple[dict[str, Any], Arrays]:
    """A dataclass as JSON, and the arrays of all its :data:`StoredArrays` fields together.

    Parameters
    ----------
    record : dataclass instance
        The dataclass. Its fields hold plain JSON types, dataclasses, enumerations, :data:`StoredArrays` and
        :data:`StoredConfig`.

    Returns
    -------
    tuple of (dict, dict of ndarray)
        The JSON object has the names and the order of the arrays, which files need not keep.
    """
    arrays: Arrays = {}
    return _adapter(type(record)).dump_python(record, mode="json", context=arrays), arrays


def decode(cls: type[Record], body: object, arrays: Arrays | None = None) -> Record:
    """Read what :func:`encode` wrote.

    Raises
    ------
    FedUnlearnError
        If the body is not that of such a record, or an array is missing.
    """
    try:
        record: Record = _adapter(cls).validate_python(body, context={} if arrays is None else arrays)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise FedUnlearnError(
            f"not a {cls.__name__} as this version writes it: {place}: {first['msg']}; restore it from a backup"
        ) from error
    return record


_ADAPTERS: dict[object, TypeAdapter[Any]] = {}


def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]


def config_to_json(config: ConfigRecord) -> dict[str, Any]:
    """A ConfigRecord as JSON; bytes are written in hexadecimal."""
    return {key: {"bytes": value.hex()} if isinstance(value, bytes) else value for key, value in config.items()}


def config_from_json(body: Mapping[str, Any]) -> ConfigRecord:
    """Read what :func:`config_to_json` wrote."""
    return ConfigRecord(
        {key: bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value for key, value in body.items()}
    )


def joined(groups: Mapping[str, Arrays]) -> Arrays:
    """Several groups of arrays as one; :func:`split` takes them apart."""
    return {f"{index}/{name}": value for index, group in enumerate(groups.values()) for name, value in group.items()}


def split(arrays: Arrays, names: Sequence[str]) -> dict[str, Arrays]:
    """The groups that were joined, by the names that they had, in the same order."""
    groups: dict[str, Arrays] = {name: {} for name in names}
    for key, value in arrays.items():
        index, _, name = key.partition("/")
        groups[names[int(index)]][name] = value
    return groups


def _put(group: Arrays, info: SerializationInfo) -> dict[str, Any]:
    """Add a group of arrays to those of the record, under a number of its own."""
    together: Arrays = info.context if info.context is not None else {}
    number = 1 + max((int(key.partition("/")[0]) for key in together), default=-1)
    together.update({f"{number}/{name}": value for name, value in group.items()})
    return {"group": number, "names": list(group)}


def _take(body: Any, info: ValidationInfo) -> Arrays:
    together: Arrays = info.context or {}
    try:
        return {name: together[f"{body['group']}/{name}"] for name in body["names"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"array {error} is missing") from error


if TYPE_CHECKING:
    StoredArrays = Arrays
    StoredConfig = ConfigRecord
else:
    StoredArrays = Annotated[Any, PlainSerializer(_put), PlainValidator(_take)]
    """A field of named arrays; they are stored apart from the JSON."""
    StoredConfig = Annotated[
        Any, PlainSerializer(config_to_json), PlainValidator(lambda body: config_from_json(dict(body)))
    ]
    """A field of type ConfigRecord."""
