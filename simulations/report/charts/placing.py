"""Where words stand in a drawing, so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence

Place = tuple[float, float]

_HEIGHT, _LETTER, _GAP = 14.0, 7.0, 4.0
"""Pixels: of a line of bold letters of size 12, of a letter on average, and between two words."""

_ROUNDS = 200


def apart(words: Sequence[str], wanted: Sequence[Place], side: float) -> list[Place]:
    """Places near the wanted ones at which words do not cover each other.

    Words that overlap are pushed apart upwards and downwards alone, so that each stays over what it names. They may
    still overlap where the drawing has no room for all of them.

    Parameters
    ----------
    words : sequence of str
        The words, each drawn around its place.
    wanted : sequence of (float, float)
        Where each would stand by itself, in pixels from a corner of the drawing.
    side : float
        Width and height of the drawing in pixels.

    Returns
    -------
    list of (float, float)
        The places, in the order of the words; none is moved where nothing overlaps.
    """
    across = [x for x, _ in wanted]
    along = [y for _, y in wanted]
    widths = [_LETTER * len(word) + _GAP for word in words]
    order = sorted(range(len(words)), key=lambda index: (along[index], across[index], words[index]))
    pairs = [
        (low, high)
        for place, low in enumerate(order)
        for high in order[place + 1 :]
        if abs(across[low] - across[high]) < (widths[low] + widths[high]) / 2
    ]
    for _ in range(_ROUNDS):
        moved = False
        for low, high in pairs:
            lacking = _HEIGHT - (along[high] - along[low])
            if lacking > 1e-6:
                along[low], along[high], moved = along[low] - lacking / 2, along[high] + lacking / 2, True
        along = [min(max(y, _HEIGHT / 2), side - _HEIGHT / 2) for y in along]
        if not moved:
            break
    return list(zip(across, along, strict=True))
