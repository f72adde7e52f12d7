"""FedQUIT at the leaving client: the teacher, and what the model learns of it."""

from __future__ import annotations

import torch
from torch.nn import functional
from trained_digits import Digits

from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import create
from fed_unlearn.methods.fedquit import teacher_logits


def test_the_teacher_knows_the_true_class_least_and_the_others_as_before() -> None:
    logits = torch.tensor([[3.0, 1.0, -2.0], [0.5, 4.0, 0.0]])
    expected = torch.tensor([[-2.0, 1.0, -2.0], [0.5, 0.0, 0.0]])
    assert torch.equal(teacher_logits(logits, torch.tensor([0, 1])), expected)


def test_the_model_comes_nearer_to_its_teacher_and_forgets(digits: Digits) -> None:
    outcome = create("fedquit", epochs=20, learning_rate=0.05).unlearn(digits.model, digits.forget)
    before, after = (predict_logits(model, digits.forget) for model in (digits.model, outcome.model))
    taught = teacher_logits(before, digits.forget.labels).softmax(1)
    distances = [functional.kl_div(logits.log_softmax(1), taught, reduction="batchmean") for logits in (before, after)]
    assert distances[1] < 0.5 * distances[0]
    assert outcome.converged and float((after.argmax(1) == digits.forget.labels).double().mean()) <= 0.1
    assert outcome.guard_labels is None
