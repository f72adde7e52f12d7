"""A class request's model as it is committed on one machine: with the mean of the retained classes' output rows."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from fed_unlearn.arrays import as_array
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.methods.parts.output_rows import plain_rows
from fed_unlearn.model_copies import copied
from fed_unlearn.output_rows import with_mean_rows


def with_rows_set(
    model: nn.Module, samples: SampleSet, classes: Collection[int], left_out: Collection[int]
) -> nn.Module | None:
    """A copy of a model in which some classes have the mean of the retained classes' output rows and biases.

    Parameters
    ----------
    model : nn.Module
        The model. It stays as it is.
    samples : SampleSet
        The first is passed through the model, to find the output layer.
    classes : collection of int
        Classes whose rows are set: those of the request, and those that were forgotten before. Rows of the latter hold
        a share of the rows that are forgotten now.
    left_out : collection of int
        Classes that are not retained, these included.

    Returns
    -------
    nn.Module or None
        None where the model has no plain rows, or fewer than two classes are retained: the mean of one row is that row.
    """
    state = model.state_dict()
    rows = plain_rows(model, samples, state)
    if rows is None:
        return None
    arrays = {name: as_array(state[name]) for name in rows.names}
    retained = [index for index in range(len(arrays[rows.weight])) if index not in set(left_out)]
    if len(retained) < 2:
        return None
    changed, values = copied(model), with_mean_rows(arrays, rows, dict.fromkeys(classes, retained))
    changed.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()}, strict=False)
    return changed
