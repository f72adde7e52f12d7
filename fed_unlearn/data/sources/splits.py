"""What the parts of a data set are called: the usual names of splits, in any case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from fed_unlearn.errors import InvalidDataError

Role = Literal["train", "validation", "test"]

_NAMES: dict[Role, frozenset[str]] = {
    "train": frozenset({"train", "training", "trn"}),
    "validation": frozenset({"val", "valid", "validation", "validate", "dev"}),
    "test": frozenset({"test", "testing", "tst", "eval", "evaluation", "holdout"}),
}
_ENDING = re.compile(r"[ _-](set|data|images|split)$")


def role_of(name: str) -> Role | None:
    """What a part of this name is for; None where the name is no split's.

    Upper and lower case make no difference, and neither does an ending such as in ``training_set``.

    Parameters
    ----------
    name : str
        Name of a split or a folder.

    Returns
    -------
    {"train", "validation", "test"} or None
    """
    plain = _ENDING.sub("", name.strip().lower())
    return next((role for role, names in _NAMES.items() if plain in names), None)


def train_and_held_out(names: Sequence[str], where: str) -> tuple[str, list[str]]:
    """Choose the training part of a data set, and order the parts that may be its test part.

    Parameters
    ----------
    names : sequence of str
        The names of its parts, at least one.
    where : str
        What to call the data set in an error.

    Returns
    -------
    tuple of str and list of str
        The name of the training part. The held-out parts: that for tests first, then that for validation. None of them
        where the data set has one part only, whatever its name.

    Raises
    ------
    InvalidDataError
        If there are several parts and none of them, or more than one, is for training, or two are for tests.
    """
    if len(names) == 1:
        return names[0], []
    by_role = {role: [name for name in names if role_of(name) == role] for role in _NAMES}
    read = ", ".join(map(repr, names))
    for role, found in by_role.items():
        if len(found) > 1:
            raise InvalidDataError(
                f"{where}: the parts {' and '.join(map(repr, found))} are both for {role}; expected one, such as"
                f" '{role}'"
            )
    if not by_role["train"]:
        raise InvalidDataError(f"{where}: no part for training among {read}; expected one called 'train' or 'training'")
    return by_role["train"][0], [*by_role["test"], *by_role["validation"]]
