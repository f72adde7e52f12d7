"""The ROC curve of the loss-threshold membership attack, from the histograms that its AUC comes from."""

from __future__ import annotations

from collections.abc import Sequence

from fed_unlearn.errors import EmptySetError

Corner = tuple[float, float]

DECIMALS = 6
"""Decimals of the rates that figures keep."""


def roc_corners(member_histogram: Sequence[int], outsider_histogram: Sequence[int]) -> tuple[Corner, ...]:
    """Corners of the ROC curve of :func:`~fed_unlearn.audits.membership.membership_auc`, from (0, 0) to (1, 1).

    The attack calls those samples members that the model is surest of, so the first corners are those of the most
    certain bins. Samples in one bin are ties: the curve joins both ends of the bin by a straight line, which counts
    them half. The area under the straight lines between the corners is the AUC.

    Parameters
    ----------
    member_histogram, outsider_histogram : sequence of int
        Histograms from :func:`~fed_unlearn.audits.membership.confidence_histogram`, from unlikely to certain, added
        over clients.

    Returns
    -------
    tuple of (float, float)
        False and true positive rate of each corner, both in [0, 1] and never falling. Points on the straight line
        between two others are left out.

    Raises
    ------
    EmptySetError
        If either side has no sample.
    """
    members, outsiders = sum(member_histogram), sum(outsider_histogram)
    if not members or not outsiders:
        raise EmptySetError(f"{members} members and {outsiders} outsiders; both need one at least")
    corners: list[tuple[int, int]] = [(0, 0)]
    false, true = 0, 0
    for inside, outside in zip(reversed(member_histogram), reversed(outsider_histogram), strict=True):
        if not inside and not outside:
            continue
        false, true = false + outside, true + inside
        if len(corners) > 1 and _on_a_line(corners[-2], corners[-1], (false, true)):
            corners.pop()
        corners.append((false, true))
    return tuple((false / outsiders, true / members) for false, true in corners)


def _on_a_line(first: tuple[int, int], middle: tuple[int, int], last: tuple[int, int]) -> bool:
    return (middle[0] - first[0]) * (last[1] - middle[1]) == (middle[1] - first[1]) * (last[0] - middle[0])
