"""A plug-in with which any supervised strategy of Avalanche unlearns forget experiences."""

from fed_unlearn.avalanche.plugin.mixin import Unlearning, UnlearningCallbacks
from fed_unlearn.avalanche.plugin.service import RequestFailedError
from fed_unlearn.avalanche.plugin.unlearning_plugin import UnlearningPlugin

__all__ = ["RequestFailedError", "Unlearning", "UnlearningCallbacks", "UnlearningPlugin"]
