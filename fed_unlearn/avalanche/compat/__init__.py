"""What fed_unlearn works around in Avalanche 0.6, and what it refuses.

``save_checkpoint`` is not used: it pickles a whole strategy with its buffers. ``WandBLogger`` cannot be made with a
wandb that has no ``wandb.util.generate_id``; the text, interactive, TensorBoard and CSV loggers work.
"""

from fed_unlearn.avalanche.compat.support import UnsupportedStrategyError, check_supported
from fed_unlearn.avalanche.compat.synaptic_intelligence import mend_synaptic_intelligence
from fed_unlearn.avalanche.compat.task_labels import with_one_task

__all__ = ["UnsupportedStrategyError", "check_supported", "mend_synaptic_intelligence", "with_one_task"]
