"""Which samples the counts of an audit are of, so that a server can hold them against what a client has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SideKind = Literal["forget", "test_forget", "test_retain", "held_out", "held_out_retain"]
"""Samples of one holder: D_f; test samples of the request's classes and of the staying ones; and validation samples of
both, where D_f stands in for the former at a holder that has none."""


@dataclass(frozen=True)
class Side:
    """Fields of an audit that are counted of the same samples.

    Attributes
    ----------
    kind : str
        Kind of samples that are counted.
    count : str
        Name of the field that holds their number, or a histogram of them.
    sums : tuple of str
        Names of the fields that hold sums over them: whole numbers.
    """

    kind: SideKind
    count: str
    sums: tuple[str, ...] = ()
