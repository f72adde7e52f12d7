"""Which samples the counts of an audit are of, and what of them a server can compare from client to client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

SideKind = Literal["forget", "test_forget", "test_retain", "held_out", "held_out_retain"]
"""Samples of one holder: D_f; test samples of the request's classes and of the staying ones; and validation samples of
both, where D_f stands in for the former at a holder that has none."""


@dataclass(frozen=True)
class Side:
    """Fields of an audit that are counted of the same samples.

    Attributes
    ----------
    kind : str
        Which samples.
    count : str
        Name of the field that holds their number, or a histogram of them.
    sums : tuple of str
        Names of the fields that hold sums over them: whole numbers.
    """

    kind: SideKind
    count: str
    sums: tuple[str, ...] = ()


class Compared(NamedTuple):
    """Samples of one holder that fulfil conditions, beside those of the others that fulfil the same ones.

    Attributes
    ----------
    what : str
        Names them, for instance ``"samples recognised without biases"``.
    hits, total : tuple of int
        Of the holder, by condition: how many samples fulfil it, and how many there are.
    others_hits, others_total : tuple of int
        Of all others together.
    """

    what: str
    hits: tuple[int, ...]
    total: tuple[int, ...]
    others_hits: tuple[int, ...]
    others_total: tuple[int, ...]

    @classmethod
    def joined(cls, what: str, parts: Sequence[Compared]) -> Compared:
        """Several under one name: a server looks at all their conditions at once."""
        return cls(
            what,
            tuple(value for part in parts for value in part.hits),
            tuple(value for part in parts for value in part.total),
            tuple(value for part in parts for value in part.others_hits),
            tuple(value for part in parts for value in part.others_total),
        )
