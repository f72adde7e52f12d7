"""DAMP (Hatami et al., "Class Unlearning via Depth-Aware Removal of Forget-Specific Directions", 2026).

Where the mean of a forgotten class points away from all means of the classes that stay, the weights of the next layer
no longer look. Nothing is trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError, InvalidModelError, UnlearningDivergedError
from fed_unlearn.methods.base import Applied, Method, Scope, Workspace
from fed_unlearn.methods.descent import accuracy_of
from fed_unlearn.methods.parts.directions import own_directions, separation, take_out
from fed_unlearn.methods.parts.heads import find_head
from fed_unlearn.methods.parts.layer_inputs import Layer, input_means, input_rows, plain_layers
from fed_unlearn.methods.parts.mean_rows import take_mean_rows
from fed_unlearn.methods.parts.validation import BelowOne, require
from fed_unlearn.methods.registry import register
from fed_unlearn.settings import FromOne


@register("damp")
@dataclass(frozen=True, kw_only=True)
class Damp(Method):
    """Project the forgotten class's own directions out of what every layer reads.

    The residual of a forgotten class's mean off the span of the means of the classes that stay gives a layer's
    directions ``Q``. The layer's weights become ``W (I - a Q Q^T)``. How much, ``a``, is the layer's own separation of
    forgotten from other samples: the balanced accuracy of the nearest class mean, from 0 at chance to 1. It is small in
    first layers and large in last ones. Forgotten classes are the excluded ones and those of which forget samples are
    given and no retained ones. At the end the forgotten classes' rows of the output layer are the mean of the
    others'. A layer that reads fewer features than there are classes left has no such direction and stays as it is.

    Parameters
    ----------
    samples_per_class : int, default 1000
        Maximum number of samples of a class that its means are computed of, drawn at random.
    probe_samples : int, default 1000
        Maximum number of the drawn forget samples, and of the retained ones, that the separation is measured on.
    scaled : bool, default True
        Whether ``a`` is the separation. If not, it is 1 in every layer.
    target_accuracy : float, default 0.01
        The aim: at most this share of the forget set is still predicted under its own label, and a layer was changed.
    head : str or None, default None
        Name of the linear layer or 1x1 convolution that outputs the logits. None means the one that does in a traced
        call.

    Notes
    -----
    The paper's text leaves open here how the inputs of convolutions are averaged and which probe gives the scale:
    means over positions, and the nearest mean, are this method's. So is the output layer's last step, without which
    the class is still predicted for some of its samples.
    """

    paper: ClassVar[str] = "Hatami et al., Class Unlearning via Depth-Aware Removal of Forget-Specific Directions, 2026"
    scopes: ClassVar[tuple[Scope, ...]] = ("class",)
    needs: ClassVar[str] = "forget, retain"
    requires_retain: ClassVar[bool] = True

    samples_per_class: FromOne = 1000
    probe_samples: FromOne = 1000
    scaled: bool = True
    target_accuracy: BelowOne = 0.01
    head: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head is not None:
            require("head", self.name, self.head, str)

    def stronger(self) -> Self:
        """The directions are taken out of every layer as a whole."""
        return replace(self, scaled=False)

    def _apply(self, work: Workspace) -> Applied:
        asked, kept_classes = (set(part.labels.unique().tolist()) for part in (work.forget, work.retained))
        forgotten = sorted(work.excluded_classes | (asked - kept_classes))
        if not forgotten:
            raise InvalidDataError(
                f"{self.name}: of each class of the {len(work.forget)} forget samples others are retained; expected all"
                " samples of a class: use 'instance-wise' for single samples"
            )
        layers = plain_layers(work.model)
        if not layers:
            raise InvalidModelError(
                f"{self.name}: the model has no linear layer or convolution whose weight may be trained; expected one"
            )
        head = find_head(self.name, work.model, work.forget, self.head)
        forget, kept = self._drawn(work, work.forget, []), self._drawn(work, work.retained, forgotten)
        changed = self._project(work, layers, forget, kept)
        take_mean_rows(self.name, head.layer, forgotten)
        is_met = accuracy_of(work, work.forget, step=1) <= self.target_accuracy
        return Applied(is_met and changed > 0, steps=int(changed > 0))

    def _drawn(self, work: Workspace, samples: SampleSet, without: list[int]) -> SampleSet:
        """At most so many samples of each class, but for some classes, in random order."""
        order = torch.randperm(len(samples), generator=work.generator)
        labels = samples.labels.cpu()[order]
        chosen = [
            order[labels == label][: self.samples_per_class] for label in labels.unique() if int(label) not in without
        ]
        if not chosen:
            raise InvalidDataError(
                f"{self.name}: classes {sorted(without)} are forgotten, and no retained sample is of another; give"
                " retained samples of the classes that stay"
            )
        drawn = torch.cat(chosen)
        mixed = drawn[torch.randperm(len(drawn), generator=work.generator)]
        return samples.subset(mixed.to(samples.labels.device))

    def _project(self, work: Workspace, layers: dict[str, Layer], forget: SampleSet, kept: SampleSet) -> int:
        """Change the layers; return how many were changed. All means are of the model as it was given."""
        of_forget, of_kept = (input_means(work.model, part, work.class_count) for part in (forget, kept))
        probes = [part.subset(torch.arange(min(len(part), self.probe_samples))) for part in (forget, kept)]
        rows_forget, rows_kept = (input_rows(work.model, part) for part in probes)
        work.passes.add(forward=sum(map(len, (forget, kept, *probes))))
        changed = 0
        for name, layer in layers.items():
            if name not in of_forget or name not in of_kept:
                continue
            means, staying = of_forget[name], of_kept[name]
            if not bool(torch.isfinite(torch.cat([means, staying])).all()):
                raise UnlearningDivergedError(
                    f"{self.name}: what layer {name!r} reads is not all finite; the given model is unchanged: check its"
                    " weights for values that are not numbers"
                )
            directions = own_directions(means, staying)
            share = separation(rows_forget[name], rows_kept[name], means, staying) if self.scaled else 1.0
            if directions.shape[1] and share > 0:
                take_out(layer, directions, share)
                changed += 1
        return changed
