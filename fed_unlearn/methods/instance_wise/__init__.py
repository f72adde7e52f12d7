"""Instance-wise unlearning (Cha et al., "Learning to Unlearn", AAAI 2024), bounded per sample.

Single samples are misclassified or relabelled, while the model's outputs on all other images stay. The paper ascends
the cross-entropy, which has no bound and would destroy the model. Here each sample has a hinge loss that is zero once
the sample is misclassified by a margin. The steps after that point hold the samples where they are and pull the
outputs on anchor images back to those of the original model.
"""

from fed_unlearn.methods.instance_wise.method import InstanceWise

__all__ = ["InstanceWise"]
