"""Models that read task labels: one label space for all heads, and inputs that carry their task."""

from fed_unlearn.avalanche.tasks.asked import asked_of
from fed_unlearn.avalanche.tasks.joint_labels import JointLabels
from fed_unlearn.avalanche.tasks.task_aware_model import TaskAwareModel
from fed_unlearn.avalanche.tasks.task_reader import TaskReader, own_module, reader_for
from fed_unlearn.avalanche.tasks.task_set import TaskSet

__all__ = ["JointLabels", "TaskAwareModel", "TaskReader", "TaskSet", "asked_of", "own_module", "reader_for"]
