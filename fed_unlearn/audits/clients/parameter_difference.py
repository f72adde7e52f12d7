"""What somebody who has the model before and the model after learns from the difference of their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.clients.gradients import cosine, floating_parameters, loss_gradient, norm
from fed_unlearn.audits.membership import membership_auc, membership_interval
from fed_unlearn.audits.readings import Central
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.seeding import seeded_generator

MOST_GROUPS = 40
GROUP_SIZE = 8
"""Groups of samples of either side, and samples of one; of few samples there are smaller groups."""

THIRDS = ("first", "middle", "last")
"""The layers in their order, in thirds by number."""


@AUDITS.register("parameter_difference")
@dataclass(frozen=True)
class ParameterDifference(CentralAudit):
    """How much the request changed the parameters, where, and whether the change points at the forgotten samples.

    An observer of both models sees more than one of the model after alone (Salem et al., USENIX Security 2020; Chen et
    al., CCS 2021, who compare outputs). The change is taken for a gradient of what was unlearned (Hu et al., IEEE S&P
    2024; Bertran et al., NeurIPS 2024).

    Figures: ``parameter_change``, the L2 norm of the change over that of the parameters before; the same of the layers
    in thirds, ``parameter_change_first``, ``parameter_change_middle`` and ``parameter_change_last``;
    ``difference_cosine``, the cosine of the change with the gradient of the loss on D_f at the model before, above 0
    where the change raises that loss; and ``difference_auc``, by which an observer with candidate data tells what was
    forgotten: the chance that this cosine of a group of forgotten samples is above that of a group of unseen samples of
    the same classes in the same shares. 0.5 means that the change does not tell them apart, and far below 0.5 tells as
    much as above. An oracle tells something, too: its figure is the aim. The interval is that of
    :func:`~fed_unlearn.audits.membership.membership_interval`.

    Attributes
    ----------
    overall : float or None
        ``parameter_change``; None where all parameters before are 0.
    thirds : tuple of (float or None)
        ``parameter_change`` of the first, the middle and the last third of the layers; None for a third without layers.
    cosine : float or None
        Value of ``difference_cosine``.
    forgotten, unseen : tuple of float
        Cosines of the groups; empty where there are no samples to compare.
    """

    cost: ClassVar[str] = f"up to {2 * MOST_GROUPS * GROUP_SIZE} samples forward and backward through the model before"

    overall: float | None = None
    thirds: tuple[float | None, ...] = ()
    cosine: float | None = None
    forgotten: tuple[float, ...] = ()
    unseen: tuple[float, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The figures of one model; nothing without the model before."""
        central = seen.central
        if central is None or central.original is None:
            return cls()
        before, change = _change(central.original.model, central.readings.model)
        thirds = _thirds(list(before))
        overall, *by_third = (_relative(change, before, names) for names in (list(before), *thirds))
        groups = _groups(central, seeded_generator(seen.seed, cls.name))
        forgotten, unseen = ([loss_gradient(central.original.model, group) for group in side] for side in groups)
        read = sum(len(group) for side in groups for group in side)
        central.readings.passes.add(forward=read, backward=read)
        whole = {name: sum((part[name] for part in forgotten), torch.zeros(())) for name in before}
        return cls(
            overall,
            tuple(by_third),
            cosine(change, whole) if forgotten else None,
            tuple(cosine(change, part) for part in forgotten),
            tuple(cosine(change, part) for part in unseen),
        )

    @property
    def value(self) -> float | None:
        """``parameter_change``."""
        return self.overall

    @property
    def figures(self) -> Mapping[str, Measured]:
        """All by name; nothing without the model before."""
        if not self.thirds:
            return {}
        parts = {f"parameter_change_{name}": part for name, part in zip(THIRDS, self.thirds, strict=True)}
        found = {"parameter_change": Measured(self.overall)}
        found |= {name: Measured(part) for name, part in parts.items() if part is not None}
        return found | {"difference_cosine": Measured(self.cosine), "difference_auc": self._auc()}

    def _auc(self) -> Measured:
        if not self.forgotten or not self.unseen:
            return Measured(None)
        ranks = np.unique((*self.forgotten, *self.unseen), return_inverse=True)[1].reshape(-1)
        count = int(ranks.max()) + 1
        sides = np.split(ranks, [len(self.forgotten)])
        histograms = [np.bincount(side, minlength=count).tolist() for side in sides]
        return Measured(membership_auc(*histograms), membership_interval(*histograms))


def _change(original: nn.Module, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters before, and what was added to them.

    Raises
    ------
    InvalidModelError
        If the two models have other parameters.
    """
    before, after = floating_parameters(original), floating_parameters(model)
    if {name: value.shape for name, value in before.items()} != {name: value.shape for name, value in after.items()}:
        raise InvalidModelError(
            f"parameter_difference: models with {len(before)} and {len(after)} parameters were given, which differ in"
            " names or shapes; expected the model after to have the parameters of the model before"
        )
    return before, {name: after[name].to(value.device).double() - value.double() for name, value in before.items()}


def _relative(change: dict[str, Tensor], before: dict[str, Tensor], names: Sequence[str]) -> float | None:
    """Norm of the change of some parameters over theirs; None where there is none."""
    size = norm({name: before[name] for name in names})
    return norm({name: change[name] for name in names}) / size if size else None


def _thirds(names: Sequence[str]) -> list[list[str]]:
    """Names of parameters by third of their layers; of fewer than three layers the last ones have one."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    places = {layer: 2 - (len(layers) - 1 - index) * 3 // len(layers) for index, layer in enumerate(layers)}
    return [[name for name in names if places[name.rpartition(".")[0]] == third] for third in range(3)]


def _groups(central: Central, generator: torch.Generator) -> tuple[list[SampleSet], list[SampleSet]]:
    """Groups of forgotten samples, and as many groups of unseen samples of the same classes.

    Both sides get the same number of samples of each class: as many as the smaller side has.
    """
    parts = central.data.parts
    forget, unseen = parts["forget"], parts["test_forget" if central.data.classes else "test_retain"]
    pairs: list[Tensor] = []
    for label in forget.labels.cpu().unique():
        sides = [(samples.labels.cpu() == label).nonzero().flatten() for samples in (forget, unseen)]
        count = min(map(len, sides))
        pairs.append(torch.stack([side[torch.randperm(len(side), generator=generator)[:count]] for side in sides]))
    matched = torch.cat(pairs, dim=1) if pairs else torch.empty(2, 0, dtype=torch.int64)
    matched = matched[:, torch.randperm(matched.shape[1], generator=generator)]
    size = max(1, min(GROUP_SIZE, matched.shape[1] // MOST_GROUPS))
    chosen = [part for part in matched.split(size, dim=1) if part.shape[1] == size][:MOST_GROUPS]
    return [forget.subset(part[0]) for part in chosen], [unseen.subset(part[1]) for part in chosen]
