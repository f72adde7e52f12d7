"""The head over retained samples is the retrained one, whatever was learned and forgotten before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from trained_digits import FORGOTTEN, Digits, state_bytes

from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import create
from fed_unlearn.methods.frozen_head import FrozenHead
from fed_unlearn.methods.parts.frozen_features import frozen_features
from fed_unlearn.methods.parts.heads import find_head
from fed_unlearn.models import build_model
from fed_unlearn.seeding import isolated_random


def at(samples: ImageSet, chosen: Tensor) -> ImageSet:
    return samples.subset(chosen.nonzero().flatten())


def backbone() -> nn.Sequential:
    with isolated_random(1):
        return nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 48), nn.ReLU(), nn.Linear(48, 10)
        )


def test_the_head_is_that_of_scikit_learn_over_the_features(digits: Digits) -> None:
    model = backbone()
    head = find_head("test", model, digits.retain)
    features = frozen_features("test", model, head, digits.retain).numpy()
    features = np.rint(features * 2**12) / 2**12
    penalty = 0.01 * float((features**2).sum()) / features.shape[1]
    other = Ridge(alpha=penalty, solver="svd").fit(features, np.eye(10)[digits.retain.labels.numpy()])
    outcome = create("frozen-head", ridge=0.01).unlearn(model, digits.forget, digits.retain)
    layer = outcome.model[-1]
    given = [int(item) for item in digits.retain.labels.unique()]
    assert np.abs(layer.weight.detach().numpy()[given] - other.coef_[given]).max() < 1e-6 * np.abs(other.coef_).max()
    assert not layer.weight[FORGOTTEN].any()
    assert not (predict_logits(outcome.model, digits.test_retain).argmax(1) == FORGOTTEN).any()


def test_it_reads_each_retained_sample_once_and_nothing_depends_on_the_forget_set(digits: Digits) -> None:
    outcome = create("frozen-head").unlearn(backbone(), digits.forget, digits.retain)
    assert outcome.forward_passes == len(digits.retain)
    assert (outcome.backward_passes, outcome.converged, outcome.guard_labels) == (0, True, None)
    other = create("frozen-head").unlearn(backbone(), digits.test_retain, digits.retain)
    assert state_bytes(outcome.model) == state_bytes(other.model)


def test_thirty_mixed_requests_end_with_the_retrained_head_bit_for_bit(digits: Digits) -> None:
    samples = concatenate(digits.forget, digits.retain)
    owners = torch.arange(len(samples)) % 10
    generator = torch.Generator().manual_seed(4)
    present = torch.ones(len(samples), dtype=torch.bool)
    served = create("frozen-head").unlearn(backbone(), digits.forget, samples).model
    for turn in range(30):
        kind = ("samples", "client", "samples", "addition", "class", "samples")[turn % 6]
        drawn = int(torch.randint(10, (1,), generator=generator))
        asked = torch.zeros_like(present)
        match kind:
            case "samples":
                asked[torch.randperm(len(samples), generator=generator)[:4]] = True
            case "client":
                asked = owners == drawn
            case "class":
                asked = samples.labels == drawn
            case "addition":  # what was forgotten is learned again, by consent
                present |= torch.rand(len(samples), generator=generator) < 0.5
        if kind == "addition" or not (asked & present).any():
            asked = torch.zeros_like(present).index_fill(0, present.nonzero()[0], True)
        forget, present = at(samples, asked & present), present & ~asked
        served = create("frozen-head").unlearn(served, forget, at(samples, present)).model
        order = torch.randperm(int(present.sum()), generator=generator)
        retrained = create("frozen-head").unlearn(backbone(), forget, at(samples, present).subset(order)).model
        assert state_bytes(served) == state_bytes(retrained), (turn, kind)


class OfAUser(nn.Module):
    """A body of the user's own whose output layer is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = nn.Linear(20, 10, bias=False)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh())

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.answers(self.body(images))
        return answers


def users_own() -> nn.Module:
    with isolated_random(2):
        return OfAUser()


def resnet() -> nn.Module:
    return build_model("torchvision:resnet18", class_count=10, image_shape=(1, 8, 8), seed=0)


@pytest.mark.parametrize(("made", "head"), [(resnet, "fc"), (users_own, "answers")])
def test_any_backbone_serves_and_stays(digits: Digits, made: Callable[[], nn.Module], head: str) -> None:
    retain, forget = digits.retain.subset(torch.arange(24)), digits.forget.subset(torch.arange(6))
    served = create("frozen-head").unlearn(made(), forget, concatenate(retain, forget)).model
    after = create("frozen-head").unlearn(served, forget, retain).model
    order = torch.randperm(len(retain), generator=torch.Generator().manual_seed(0))
    retrained = create("frozen-head").unlearn(made(), forget, retain.subset(order)).model
    assert state_bytes(after) == state_bytes(retrained) != state_bytes(served)
    below = {name: value for name, value in after.state_dict().items() if not name.startswith(head)}
    given = made().state_dict()
    assert len(below) >= 2 and all(torch.equal(value, given[name]) for name, value in below.items())
    right = (predict_logits(after, retain).argmax(1) == retain.labels).float().mean()
    assert right > 0.9


def test_a_broken_output_layer_is_made_anew(digits: Digits) -> None:
    broken = backbone()
    broken[-1].bias.data[5] = torch.nan
    mended, fresh = (create("frozen-head").unlearn(each, digits.forget, digits.retain) for each in (broken, backbone()))
    assert state_bytes(mended.model) == state_bytes(fresh.model)


def test_features_that_are_no_numbers_are_refused(digits: Digits) -> None:
    model = backbone()
    with torch.no_grad():
        model[0].weight.fill_(1e20)
    with pytest.raises(InvalidDataError, match="expected finite features"):
        create("frozen-head").unlearn(model, digits.forget, digits.retain)


def test_it_needs_retained_samples_and_a_power_of_two(digits: Digits) -> None:
    with pytest.raises(InvalidDataError, match="frozen-head: no retain set was given"):
        create("frozen-head").unlearn(backbone(), digits.forget)
    with pytest.raises(InvalidParameterError, match=r"frozen-head: step = 0\.3 was given; expected a power of two"):
        FrozenHead(step=0.3)
    with pytest.raises(InvalidParameterError, match="ridge"):
        FrozenHead(ridge=0.0)
    assert FrozenHead().stronger() == FrozenHead()
