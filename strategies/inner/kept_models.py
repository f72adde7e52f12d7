"""Models that a strategy keeps, such as the best one so far: the model that serves takes their place at a commit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from flwr.serverapp.strategy import Strategy

from fed_unlearn.arrays import Arrays
from fed_unlearn.strategies.inner.contents import MOST_LEVELS, Path, is_own_class, parts, walk, with_parts
from fed_unlearn.strategies.inner.known_models import KnownModels, known_models
from fed_unlearn.strategies.inner.model_forms import in_form_of, model_digest, read_model
from fed_unlearn.strategies.inner.own_start import has_own_start
from fed_unlearn.strategies.inner.state import flowers_state, own_attributes, paths, reset_server_state
from fed_unlearn.strategies.inner.values import is_number

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass
class _Attribute:
    """An attribute of the strategy, or of one that it wraps, and what in it has the names and shapes of the model.

    Its owner is the layer itself, or a class of the user's own: what lies in a class belongs to all its instances. Its
    models are found with the keys that lead to them and their digests; ``older`` are the identities of those that give
    way to the model that serves.
    """

    layer: Strategy
    owner: Strategy | type
    path: str
    name: str
    value: object
    models: list[tuple[Path, object, str]] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)
    older: set[int] = field(default_factory=set)
    has_others: bool = False

    def __str__(self) -> str:
        return f"{type(self.layer).__name__}.{self.name}"

    def put(self, value: object) -> None:
        """Give it another value."""
        if isinstance(self.owner, type):
            type.__setattr__(self.owner, self.name, value)
        else:
            vars(self.owner)[self.name] = value

    def look(self, known: KnownModels) -> None:
        """Find what has the names and shapes of the model, with its digest."""

        def visit(path: Path, value: object) -> bool:
            arrays = read_model(value, known.shapes)
            if arrays is not None:
                self.models.append((path, value, model_digest(arrays)))
            return arrays is not None

        walk(self.value, (self.path,), visit, self.failed)


def note_given_models(inner: Strategy) -> None:
    """Note which models the user has put on a strategy so far: they are left alone while they stay as they are.

    Call it before the first round of a process, once it is known which model serves; does nothing the second time.
    """
    known = known_models(inner)
    if not known.knows_given:
        known.note_given({path: digest for item in _attributes(inner, known) for path, _, digest in item.models})


def replace_kept_models(inner: Strategy, served: Arrays) -> None:
    """Put the model that serves in the place of every older one that a strategy keeps, and reset what else it carries.

    A model is what has the names and shapes of the one that serves, and the bytes of one that has served or that a
    round has made. It is looked for in all that the strategy's attributes hold: containers, dataclasses and objects of
    the user's own. What takes its place has the same form, and what lies beside it, such as its accuracy, stays. Left
    alone are models that the user gave to the strategy, as long as nothing has changed them. What has the names and
    shapes and other bytes is named in the log, for it may carry what was forgotten: a running average of models does.

    Objects of the user's own that raise are named in the log: the request is committed already.

    Parameters
    ----------
    inner : Strategy
    served : dict of ndarray
        The model that serves from now on.
    """
    known, current = known_models(inner), model_digest(served)
    known.note_served(served)
    attributes = list(_attributes(inner, known))
    given = {id(value) for item in attributes for path, value, digest in item.models if known.is_given(path, digest)}
    exchange = _Exchange(served)
    for item in attributes:
        others = {id(value): digest for _, value, digest in item.models if digest != current}
        item.older = {key for key, digest in others.items() if key not in given and known.has(digest)}
        item.has_others = bool(others.keys() - given - item.older)
        exchange.older |= item.older
    for item in attributes:
        if item.older:
            item.put(exchange.of(item.value, item.failed))
            if item.older & exchange.done:
                logger.info("%s was replaced by the model that serves", item)
    was_reset = reset_to(inner, served, "at a commit: it may carry what was forgotten")
    for item in attributes:
        if item.has_others and item.path not in was_reset:
            logger.warning(
                "%s holds arrays of the model's names and shapes that are no model of this training; it stays as it is,"
                " and it may carry what was forgotten",
                item,
            )
        for error in item.failed:
            logger.warning(
                "%s was not wholly looked through at a commit, and it may carry what was forgotten: %s",
                item,
                _words(error),
            )


def reset_to(inner: Strategy, model: Arrays, why: str) -> set[str]:
    """Reset what a strategy carries; models that are its attributes become another one, in the same form.

    What a ``start()`` of the user's own counts is as before afterwards: numbers and texts, such as the best accuracy.

    Parameters
    ----------
    inner : Strategy
    model : dict of ndarray
        The model that is trained on from here.
    why : str
        Reason that the log gives for attributes that are reset and look like a model, or that a ``start()`` misses.

    Returns
    -------
    set of str
        The attributes that were reset, with ``strategy.`` before those of a wrapped strategy.
    """
    known, has_start = known_models(inner), has_own_start(inner)
    before = {prefix: dict(vars(layer)) for prefix, layer in paths(inner).items()}
    was_reset = set()
    reset_server_state(inner)
    for prefix, layer in paths(inner).items():
        now = vars(layer)
        for name, value in before.get(prefix, {}).items():
            if name in flowers_state(layer) or (name in now and now[name] is value):
                continue
            arrays = read_model(value, known.shapes)
            digest = model_digest(arrays) if arrays is not None else ""
            if known.is_given((prefix + name,), digest):
                now[name] = value
            elif known.has(digest):
                now[name] = in_form_of(value, {array: model[array] for array in known.shapes})
            elif has_start and is_number(value):
                now[name] = value
            else:
                was_reset.add(prefix + name)
                if arrays is not None or (has_start and name not in now):
                    logger.warning("%s.%s was reset %s", type(layer).__name__, name, why)
    return was_reset


@dataclass
class _Exchange:
    """Puts a model in the place of older ones; what lies in two places is exchanged once."""

    served: Arrays
    older: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    _made: dict[int, tuple[object, object]] = field(default_factory=dict)

    def of(self, value: object, failed: list[Exception], levels: int = MOST_LEVELS) -> object:
        """The value, or what takes its place."""
        key = id(value)
        if key in self._made or levels < 0:
            return self._made.get(key, (value, value))[1]
        self._made[key] = value, value  # so that a value that lies in itself is left alone there
        try:
            if key in self.older:
                made = in_form_of(value, self.served)
                self.done.add(key)
            else:
                changed = {}
                for name, part in parts(value):
                    if (other := self.of(part, failed, levels - 1)) is not part:
                        changed[name] = other
                made = with_parts(value, changed) if changed else value
        except Exception as error:  # whatever an object of the user's own raises
            failed.append(error)
            return value
        self._made[key] = value, made
        return made


def _attributes(inner: Strategy, known: KnownModels) -> Iterator[_Attribute]:
    for prefix, layer in paths(inner).items():
        owned: dict[str, tuple[Strategy | type, object]] = {
            name: (cls, value)
            for cls in reversed(type(layer).__mro__)
            if is_own_class(cls)
            for name, value in vars(cls).items()
            if not name.startswith("__")
        }
        owned |= {name: (layer, value) for name, value in own_attributes(layer).items()}
        for name, (owner, value) in owned.items():
            if name not in flowers_state(layer):
                item = _Attribute(layer, owner, prefix + name, name, value)
                item.look(known)
                yield item


def _words(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # an error of the user's own, too, may have no words
        return type(error).__name__
