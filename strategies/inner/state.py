"""What a strategy carries from round to round: read it, put it back, forget it.

Momenta and copies of the model still carry what was forgotten, so they are reset on commit; a rollback and a restart
put them back, bit for bit.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum, auto
from typing import Any

from flwr.app import ArrayRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.fedopt import FedOpt

from fed_unlearn.arrays import Arrays
from fed_unlearn.strategies.inner.frozen_head import FrozenHead
from fed_unlearn.strategies.inner.known_models import PREFIX, known_models
from fed_unlearn.strategies.inner.values import (
    Layout,
    is_number,
    is_record_of_numbers,
    is_same,
    is_scalar,
    is_state,
    put_together,
    taken_apart,
)

logger = logging.getLogger("fed_unlearn.strategies")

StateScalar = bool | int | float | str | None
"""What JSON has besides lists and objects."""

_AT_CONSTRUCTION = f"{PREFIX}at_construction"
_CLASS = "class"
_LAYOUT = ":layout"
_ACCOUNTANT = "accountant:state"

_EMPTY: tuple[tuple[type[Strategy], dict[str, object]], ...] = (
    (FedOpt, {"current_arrays": None, "m_t": None, "v_t": None}),
    (flower.FedAvgM, {"current_arrays": None, "momentum_vector": None}),
    (flower.QFedAvg, {"current_arrays": None}),
    (FrozenHead, {"current_arrays": None}),
    (flower.DifferentialPrivacyServerSideFixedClipping, {"current_arrays": ArrayRecord()}),
    (flower.DifferentialPrivacyServerSideAdaptiveClipping, {"current_arrays": ArrayRecord()}),
)
"""Values with which Flower's own strategies start. One that was used before it was wrapped is reset to them too."""


class _Marker(Enum):
    """In place of a value; copies of an enumeration's member are itself."""

    NO_STATE = auto()
    ABSENT = auto()


def layers(inner: Strategy) -> Iterator[Strategy]:
    """A strategy, and those that it wraps, outermost first."""
    yield from paths(inner).values()


def paths(inner: Strategy, prefix: str = "") -> dict[str, Strategy]:
    """A strategy by the empty name, and those that it wraps by ``strategy.``, ``strategy.strategy.`` and so on."""
    found = {prefix: inner}
    for name, value in vars(inner).items():
        if isinstance(value, Strategy) and value is not inner:
            found.update(paths(value, f"{prefix}{name}."))
    return found


def remember_construction(inner: Strategy) -> None:
    """Note what a strategy holds now as what it holds without any state; does nothing the second time."""
    _remember(layers(inner))


def note_settings(inner: Strategy) -> None:
    """Count numbers and texts that were set on a strategy since its construction as set at it: they are the user's."""
    for layer in layers(inner):
        settings = vars(layer).keys() - kept_numbers(layer)
        vars(layer)[_AT_CONSTRUCTION] |= {name: vars(layer)[name] for name in settings if is_scalar(vars(layer)[name])}


def _remember(inner_layers: Iterable[Strategy]) -> None:
    for layer in inner_layers:
        if _AT_CONSTRUCTION not in vars(layer):
            held = {
                name: copy.deepcopy(value) if is_state(value) else _Marker.NO_STATE
                for name, value in vars(layer).items()
            }
            for cls, empty in _EMPTY:
                if isinstance(layer, cls):
                    held.update(empty)
            vars(layer)[_AT_CONSTRUCTION] = held


def flowers_state(layer: Strategy) -> set[str]:
    """Names of the attributes in which Flower's own classes carry something from round to round."""
    return {name for cls, empty in _EMPTY if isinstance(layer, cls) for name in empty}


def own_attributes(layer: Strategy) -> dict[str, object]:
    """A strategy's attributes, without those that the library has put on it."""
    return {name: value for name, value in vars(layer).items() if not name.startswith(PREFIX)}


def server_state(inner: Strategy) -> tuple[dict[str, Arrays], dict[str, StateScalar]]:
    """Everything that a strategy, and the one it wraps, carries from round to round.

    That is every attribute that differs from what it was at construction and is an array, a list, tuple or dictionary
    of arrays, an ArrayRecord, or a scalar of JSON. Of Flower's strategies: ``m_t`` and ``v_t`` of the adaptive server
    optimisers, ``momentum_vector`` of FedAvgM, copies of the model (``current_arrays``), the clipping norm of adaptive
    clipping. Adam's bias correction counts rounds by the number that :class:`Trainer` gives it, which is not state.

    Parameters
    ----------
    inner : Strategy

    Returns
    -------
    tuple of (dict of str to dict of ndarray, dict of str to scalar)
        Arrays by attribute, ``strategy.NAME`` for what is wrapped, and then by name; scalars, among them how arrays are
        put together. Both are copies.
    """
    remember_construction(inner)
    known = known_models(inner)
    arrays: dict[str, Arrays] = {}
    scalars: dict[str, StateScalar] = {_CLASS: _class_of(inner)}
    for prefix, layer in paths(inner).items():
        for name, value in _changed(layer):
            path = prefix + name
            if is_scalar(value):
                scalars[path] = value  # type: ignore[assignment]
            else:
                layout, arrays[path] = taken_apart(value)
                is_model = name not in flowers_state(layer) and known.is_model(value)
                scalars[path + _LAYOUT] = layout.model_copy(update={"is_model": is_model}).model_dump_json()
        accountant = _accountant_of(layer)
        if accountant is not None:
            scalars[prefix + _ACCOUNTANT] = json.dumps(accountant.state_dict())
    return arrays, scalars


def restore_server_state(inner: Strategy, arrays: Mapping[str, Arrays], scalars: Mapping[str, object]) -> None:
    """Put a strategy into the state that :func:`server_state` read, whatever it is in now.

    Attributes that are so already stay the objects that they are. A model that the strategy keeps is known as one from
    then on, in a new process too. What Flower's own privacy accountant has counted never goes back: a release that was
    rolled back was seen.

    Parameters
    ----------
    inner : Strategy
        Constructed as the one that was read. A strategy of another class takes no state, with a line in the log: the
        user has exchanged it.
    arrays, scalars : mapping
        What :func:`server_state` returned; the order of the entries does not matter.

    Raises
    ------
    InvalidModelError
        If arrays are missing.
    """
    remember_construction(inner)
    if scalars.get(_CLASS, _class_of(inner)) != _class_of(inner):
        _reset(inner, everything=True)
        logger.warning("the stored state is of strategy %s; %s begins anew", scalars[_CLASS], _class_of(inner))
        return
    known = known_models(inner)
    for prefix, layer in paths(inner).items():
        stored: dict[str, object] = {}
        for path, value in scalars.items():
            name = path.removeprefix(prefix)
            if not path.startswith(prefix) or "." in name or path == _CLASS:
                continue
            if path == prefix + _ACCOUNTANT:
                _restore_accountant(layer, str(value))
            elif name.endswith(_LAYOUT):
                name = name.removesuffix(_LAYOUT)
                layout = Layout.model_validate_json(str(value))
                stored[name] = put_together(layout, arrays.get(prefix + name, {}), name)
                # Earlier versions did not write which of the records were models; they took all of them for some.
                if layout.is_model or (layout.is_model is None and layout.kind == "record"):
                    known.note_kept(stored[name])
            else:
                stored[name] = value
        _reset_layer(layer, everything=True, besides=stored)
        for name, value in stored.items():
            now = vars(layer).get(name, _Marker.ABSENT)
            if not (is_state(now) and is_same(now, value)):
                vars(layer)[name] = value


def reset_server_state(inner: Strategy) -> None:
    """Forget what carries data: momenta, copies of the model, counters of a strategy of the user's own.

    Kept are numbers that are named as a parameter of a constructor, such as a learning rate with a schedule, and the
    norm of adaptive clipping: it is one number, itself released with noise, and going back to the first one would cost
    every later round for nothing. Kept are lists and dictionaries of numbers too, such as the accuracy of each round.
    """
    remember_construction(inner)
    _reset(inner, everything=False)


def fresh_copy(inner: Strategy) -> Strategy:
    """A copy of a strategy as it was constructed, without anything of earlier rounds."""
    remember_construction(inner)
    copied = copy.deepcopy(inner)
    _reset(copied, everything=True)
    return copied


def _reset(inner: Strategy, *, everything: bool) -> None:
    for layer in layers(inner):
        _reset_layer(layer, everything=everything)


def _reset_layer(layer: Strategy, *, everything: bool, besides: Collection[str] = ()) -> None:
    at_construction: dict[str, object] = vars(layer)[_AT_CONSTRUCTION]
    for name, value in list(_changed(layer)):
        is_kept = is_record_of_numbers(value) or (is_number(value) and name in kept_numbers(layer))
        if name in besides or (is_kept and not everything):
            continue
        if name in at_construction:
            vars(layer)[name] = copy.deepcopy(at_construction[name])
        else:
            del vars(layer)[name]


def kept_numbers(layer: Strategy) -> set[str]:
    """Names of the numbers that no reset changes: parameters of the constructor, and an adaptive clipping norm."""
    constructors = [vars(cls)["__init__"] for cls in type(layer).__mro__ if "__init__" in vars(cls)]
    return {"clipping_norm"}.union(*(inspect.signature(constructor).parameters for constructor in constructors))


def _changed(layer: Strategy) -> Iterator[tuple[str, object]]:
    at_construction: dict[str, object] = vars(layer)[_AT_CONSTRUCTION]
    for name, value in vars(layer).items():
        before = at_construction.get(name, _Marker.ABSENT)
        if name == _AT_CONSTRUCTION or before is _Marker.NO_STATE or not is_state(value):
            continue
        if before is _Marker.ABSENT or not is_same(value, before):
            yield name, value


def _class_of(inner: Strategy) -> str:
    return "/".join(type(layer).__name__ for layer in layers(inner))


def _accountant_of(layer: Strategy) -> Any:
    accountant = getattr(layer, "accountant", None)
    return accountant if hasattr(accountant, "load_state_dict") else None


def _restore_accountant(layer: Strategy, text: str) -> None:
    accountant, state = _accountant_of(layer), json.loads(text)
    counted = sum(composition["count"] for composition in state.get("compositions", []))
    if accountant is not None and accountant.num_releases < counted:
        accountant.load_state_dict(state)
