"""Outputs that a strategy has stored with its samples, after its model has unlearned.

DER (Buzzega et al., NeurIPS 2020) replays samples together with the logits that its model gave for them. These logits
rank forgotten classes as the model before the request did, and training on them would bring the classes back.
"""

from __future__ import annotations

from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.data_attribute import DataAttribute
from avalanche.benchmarks.utils.flat_data import FlatData
from torch import Tensor
from torch.utils.data import DataLoader

LOGITS = "logits"
"""Name of the data attribute in which DER stores outputs."""


def renew_outputs(strategy: Any) -> None:
    """Compute the logits that DER stores with its samples again, by its model as it is now.

    Parameters
    ----------
    strategy : DER
        The data sets of its buffer are replaced. Samples, their order and their weights stay.
    """
    for group in strategy.storage_policy.buffer_groups.values():
        if len(group.buffer) > 0:
            group.buffer = _with_logits(group.buffer, _logits(strategy, group.buffer))


@torch.no_grad()
def _logits(strategy: Any, dataset: AvalancheDataset) -> list[Tensor]:
    """Return one row of logits for each sample, read as DER reads it: with the transformations of evaluation."""
    strategy.model.eval()
    loader = DataLoader(dataset.eval(), batch_size=strategy.train_mb_size)
    return [row.clone() for batch in loader for row in strategy.model(batch[0].to(strategy.device)).cpu()]


def _with_logits(dataset: AvalancheDataset, rows: list[Tensor]) -> AvalancheDataset:
    stored = FlatData([rows], discard_elements_not_in_indices=True)
    attribute: DataAttribute[Tensor] = DataAttribute(stored, LOGITS, use_in_getitem=True)
    renewed = dataset.update_data_attribute(LOGITS, attribute)
    setattr(renewed, LOGITS, attribute)  # Avalanche leaves the old attribute in this place
    return renewed
