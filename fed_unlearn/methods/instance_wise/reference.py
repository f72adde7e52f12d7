"""Targets of single samples from a reference: a model that is like the one that forgets, and never saw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fed_unlearn.errors import InvalidDataError

LOWEST_PLACE = 0.1
"""Below this share of the unseen samples a place says little of how hard a sample is; the log-odds themselves do."""
USUAL_SHARE = 0.95
"""Share of unseen samples whose own distance from their targets is usual."""


@dataclass(frozen=True)
class ReferenceTargets:
    """What the log-odds of forget samples should be, and which are too high.

    Attributes
    ----------
    targets : Tensor of shape (n,)
        Log-odds of each sample's own class that the model would have if it had never seen the sample.
    limits : Tensor of shape (n,)
        Log-odds from which on a sample stands above what chance explains: at most one in twenty unseen samples lies so
        far above the target that the reference gives it.
    """

    targets: Tensor
    limits: Tensor

    @classmethod
    def of(cls, members: Tensor, unseen_in_reference: Tensor, unseen_in_model: Tensor, tolerance: float) -> Self:
        """Find the targets.

        A sample's place is the share of the unseen samples that the reference is less confident in. Its target is the
        quantile of the model's confidences in the unseen samples at the same place, since a reference that was trained
        for fewer epochs is less sure of most samples. That of a sample below the place :data:`LOWEST_PLACE` is what the
        reference says: the log-odds of samples that a model has wrong hardly change with its epochs, and the model that
        forgets is no measure for them, because the hard samples that it was trained on made it surer of others like
        them.

        Parameters
        ----------
        members : Tensor of shape (n,)
            Log-odds of the forget samples' own classes in the reference.
        unseen_in_reference, unseen_in_model : Tensor of shape (m,)
            Log-odds of the unseen samples' own classes, in the reference and in the model that forgets.
        tolerance : float
            Least distance of a limit from its target.

        Raises
        ------
        InvalidDataError
            If there is no unseen sample.
        """
        if len(unseen_in_reference) == 0:
            raise InvalidDataError("no unseen sample was given; expected a hundred or more, of all classes")
        targets = _targets(members, unseen_in_reference, unseen_in_model)
        excess = unseen_in_model - _targets(unseen_in_reference, unseen_in_reference, unseen_in_model)
        usual = torch.quantile(excess, USUAL_SHARE).clamp(min=tolerance)
        return cls(targets, targets + usual)


def _targets(confidences: Tensor, unseen_in_reference: Tensor, unseen_in_model: Tensor) -> Tensor:
    place = (confidences[:, None] > unseen_in_reference).to(unseen_in_model.dtype).mean(dim=1)
    lowest = torch.quantile(unseen_in_reference, LOWEST_PLACE)
    return torch.where(confidences < lowest, confidences, torch.quantile(unseen_in_model, place))
