"""Seeds as they are typed: ``0-4``, ``0,3,7``, ``0-2,9``. Importing this module is cheap, since ``--help`` needs it."""

from __future__ import annotations

from typer import BadParameter

MOST_SEEDS = 10_000
"""Greatest number of seeds of one list."""


def parsed_seeds(text: str) -> tuple[int, ...]:
    """Seeds of a list such as ``100-104`` or ``0,3,7-9``, each once, in their order.

    Raises
    ------
    typer.BadParameter
        If a part is no seed and no range of seeds, or there are more than 10,000.
    """
    seeds: dict[int, None] = {}
    for part in (part.strip() for part in text.split(",")):
        low, dash, high = (piece.strip() for piece in part.partition("-"))
        if not _is_number(low) or (dash and not _is_number(high)):
            raise BadParameter(f"{part!r} was given; expected a seed or a range such as 100-104")
        first, last = int(low), int(high) if dash else int(low)
        if last < first:
            raise BadParameter(f"{part!r} was given; expected the smaller seed first")
        if last - first >= MOST_SEEDS or len(seeds) + last - first >= MOST_SEEDS:
            raise BadParameter(f"{part!r} was given; expected {MOST_SEEDS:,} seeds at most")
        seeds |= dict.fromkeys(range(first, last + 1))
    return tuple(seeds)


def parsed_names(text: str) -> tuple[str, ...]:
    """Names of a list such as ``delete,scrub``, each once, in their order."""
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def shown_seeds(seeds: tuple[int, ...]) -> str:
    """Seeds as they are typed, ranges as such.

    Examples
    --------
    >>> shown_seeds((0, 1, 2, 9, 5, 6))
    '0-2,9,5-6'
    """
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19  # of 63 bits
