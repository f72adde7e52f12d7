"""A model that reads task labels, as one that reads inputs which carry their task and gives joint logits."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from fed_unlearn.avalanche.tasks.joint_labels import JointLabels
from fed_unlearn.avalanche.tasks.task_inputs import places_of

FLOOR = -1000.0
"""Logit of classes of other tasks than the sample's, and of outputs that a head does not have."""


class TaskAwareModel(nn.Module):
    """Calls a model with the inputs and the task labels that are in them, and gives joint logits.

    The model is shared and not copied, so that training this module trains the model. Task labels pass no gradient on.

    Parameters
    ----------
    model : nn.Module
        The model. It is called with inputs of shape (n, ...) and task labels of shape (n,), int64.
    labels : JointLabels
        What the outputs stand for. The model's output ``c`` for a sample of task ``t`` becomes the logit of ``(t, c)``.
        The largest of its other outputs becomes the logit of ``labels.none``.
    ready : collection of int
        Tasks that the model has outputs for. For others the model is not called, since heads of tasks that have not
        arrived do not exist; their samples are predicted as ``labels.none``.
    """

    def __init__(self, model: nn.Module, labels: JointLabels, ready: Collection[int]) -> None:
        super().__init__()
        self.model = model
        self.labels = labels
        self._none = labels.none
        tasks = torch.tensor(labels.tasks)
        known, numbers = torch.tensor(labels.pairs).unbind(1)
        columns = torch.where(known[None] == tasks[:, None], numbers[None], -1)
        self.register_buffer("_tasks", tasks, persistent=False)
        self.register_buffer("_ready", torch.isin(tasks, torch.tensor(sorted(ready), dtype=torch.int64)), False)
        self.register_buffer("_columns", columns, persistent=False)

    _tasks: Tensor
    _ready: Tensor
    _columns: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """Return joint logits of shape (n, len(labels.pairs) + 1).

        Parameters
        ----------
        inputs : Tensor of shape (n, channels + 1, ...)
            Inputs with the place of their task, as :class:`~fed_unlearn.avalanche.tasks.TaskSet` gives them.
        """
        places = places_of(inputs, len(self._tasks))
        images = inputs[:, :-1].contiguous()
        ready = self._ready[places]
        if bool(ready.all()):
            return self._joint(self.model(images, self._tasks[places]), places)
        logits = images.new_full((len(inputs), self._none + 1), FLOOR, dtype=torch.get_default_dtype())
        logits[:, self._none] = 0.0
        if bool(ready.any()):
            found = self._joint(self.model(images[ready], self._tasks[places[ready]]), places[ready])
            logits = logits.to(found.dtype).index_put((ready.nonzero()[:, 0],), found)
        return logits

    def _joint(self, outputs: Tensor, places: Tensor) -> Tensor:
        columns, width = self._columns[places], outputs.shape[1]
        missing = (columns < 0) | (columns >= width)
        logits = outputs.gather(1, columns.clamp(0, width - 1)).masked_fill(missing, FLOOR)
        others = outputs.masked_fill(_marked(columns.masked_fill(missing, -1), width), FLOOR)
        return torch.cat([logits, others.amax(dim=1, keepdim=True)], dim=1)


def _marked(columns: Tensor, width: int) -> Tensor:
    """Whether each of ``width`` outputs is among a sample's columns; -1 marks none."""
    marks = torch.zeros(len(columns), width + 1, dtype=torch.bool, device=columns.device)
    return marks.scatter(1, columns + 1, True)[:, 1:]
