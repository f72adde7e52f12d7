"""Flower's secure aggregation, which unlearning cannot work with: how it is recognised, and why it is refused."""

from __future__ import annotations

SECURE_AGGREGATION_KEY = "secaggplus_configs"
"""Name of the record that Flower's workflows of secure aggregation send."""

HIDDEN_REPLIES = (
    "SecAgg and SecAgg+ hide each client's model, weight and tombstones from the server, which must see them to bound a"
    " client and to name it; take the mod and the workflow out"
)
"""Why secure aggregation is refused."""


def is_secure_aggregation(part: object) -> bool:
    """Whether a mod, a workflow or a strategy is one of Flower's for secure aggregation.

    Parameters
    ----------
    part : object
        A function, a class or an instance of one.
    """
    module = getattr(part, "__module__", None) or type(part).__module__
    return "secure_aggregation" in str(module)
